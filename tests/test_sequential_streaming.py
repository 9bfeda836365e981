"""With causal=True, what is inferred of a recording so far is what the whole one would give."""

import numpy as np
import pytest
from sequential_cases import dsae, lfads, spikes, stirred

from skneurovae import Recording

LONG = np.concatenate(spikes(4, (20, 20)))[:75]  # seven windows
STIMULUS = np.random.RandomState(1).standard_normal((75, 2))
CASES = {
    "lfads": (lfads, {}),
    "lfads without controller": (lfads, {"dynamic_dim": 0, "controller_dim": 64}),
    "dsae full": (dsae, {}),
    "dsae factorized": (dsae, {"variant": "factorized"}),
}


def fitted(name, **parameters):
    """A stirred model of a long recording."""
    make, own = CASES[name]
    model = make(max_iter=1, window_length=20, static_length=4, **own, **parameters)
    return stirred(model.fit([Recording(LONG, stimulus=STIMULUS)]))


def outputs(model, n):
    """All that has one value per time step, of the first n steps."""
    recording = Recording(LONG[:n], stimulus=STIMULUS[:n])
    (mean,), (std,) = model.transform([recording], return_std=True)
    (rates,), (spread,) = model.predict([recording], return_std=True)
    static = model._names["static"]
    named = {k: v[0] for k, v in model.infer([recording]).items() if not k.startswith(static)}
    return {"mean": mean, "std": std, "predicted": rates, "predicted_std": spread, **named}


@pytest.mark.parametrize("name", CASES)
def test_a_prefix_gives_what_the_whole_recording_gives(name):
    model = fitted(name, causal=True)
    whole = outputs(model, 75)
    for n in (4, 5, 12, 20, 21, 24, 33, 40, 61, 74):
        for key, values in outputs(model, n).items():
            np.testing.assert_allclose(values, whole[key][:n], 1e-6, 1e-8, err_msg=f"{key}, {n}")


@pytest.mark.parametrize("name", CASES)
def test_without_causal_it_does_not(name):
    model = fitted(name)
    whole = outputs(model, 75)
    part = outputs(model, 33)
    for key in ("mean", "predicted", "rates"):
        assert not np.allclose(part[key], whole[key][:33], rtol=1e-3), key
