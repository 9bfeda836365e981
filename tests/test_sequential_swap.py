"""Latents taken from trials: which arguments say what a trial is, and in which precision."""

import numpy as np
import pytest
from sequential_cases import dsae, fhvae, spikes, stirred

from skneurovae import Recording

TRIALS = [t[:12] for t in spikes(6, (12, 20))]


@pytest.mark.parametrize("fix", ["static", "dynamic"])
def test_generate_takes_arrays_as_other_methods_do(fix):
    rng = np.random.RandomState(0)
    stimuli = [rng.standard_normal((12, 2)) for _ in TRIALS]
    names = [*"abcdefg"]
    given = [Recording(t, stimulus=s, identities=names) for t, s in zip(TRIALS, stimuli)]
    model = stirred(dsae().fit(given))
    mask = rng.random_sample((12, 7)) < 0.6
    masked = given[0].replace(traces=np.where(mask, TRIALS[0], np.nan))
    expected = model.generate(masked, fix, n_samples=3, random_state=0)
    rates = model.generate(
        TRIALS[0], fix, mask=mask, stimulus=stimuli[0], identities=names, n_samples=3,
        random_state=0,
    )  # fmt: skip
    np.testing.assert_array_equal(rates, expected)
    others = [
        {"mask": ~mask}, {"stimulus": stimuli[1]}, {"identities": names[::-1]},
    ]  # fmt: skip
    for other in others:
        inputs = {"mask": mask, "stimulus": stimuli[0], "identities": names, **other}
        changed = model.generate(TRIALS[0], fix, **inputs, n_samples=3, random_state=0)
        assert not np.allclose(changed, rates, rtol=1e-4)


def made(model, trials, fix):
    """Many draws: PyTorch draws few numbers alike in both precisions."""
    return model.generate(trials[0], fix, n_samples=40, random_state=0)


ASKED = {
    "swap": (dsae, lambda m, trials: m.swap(trials)),
    "swap of segments": (fhvae, lambda m, trials: m.swap(trials)),
    "static of generate": (dsae, lambda m, trials: made(m, trials, "static")),
    "dynamic of generate": (dsae, lambda m, trials: made(m, trials, "dynamic")),
    "vectors": (fhvae, lambda m, trials: m.sequence_vectors(trials)),
}


@pytest.mark.parametrize(("make", "ask"), ASKED.values(), ids=ASKED)
def test_arithmetic_is_in_the_precision_of_the_traces(make, ask):
    model = stirred(make().fit(TRIALS))
    double = np.asarray(ask(model, TRIALS))
    single = np.asarray(ask(model, [t.astype(np.float32) for t in TRIALS]))
    assert (double.dtype, single.dtype) == (np.float64, np.float32)
    assert not np.array_equal(double.astype(np.float32), double)
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-5)
    # A permutation of neurons changes the order of sums: by rounding alone, that of float64.
    turned = [Recording(t[:, ::-1], identities=np.arange(7)[::-1] + 1) for t in TRIALS]
    straight = [Recording(t, identities=np.arange(7) + 1) for t in TRIALS]
    model = stirred(make().fit(straight))
    a, b = np.asarray(ask(model, straight)), np.asarray(ask(model, turned))
    np.testing.assert_allclose(b if a.shape[-1] == 2 else b[..., ::-1], a, rtol=1e-10)


def test_a_swap_of_trials_of_two_precisions():
    model = stirred(dsae().fit(TRIALS))
    mixed = [t.astype(np.float32) if i % 2 else t for i, t in enumerate(TRIALS)]
    swapped = model.swap(mixed)
    assert [r.dtype for r in swapped] == [t.dtype for t in mixed]
    for a, b in zip(swapped, model.swap(TRIALS)):
        np.testing.assert_allclose(a, b, rtol=1e-6)
