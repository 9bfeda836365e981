"""Wrong calls of LFADS, DSAE, FHVAE and their simulators: one line that names the argument."""

import numpy as np
import pytest
from sequential_cases import dsae, fhvae, lfads, spikes
from sklearn.exceptions import NotFittedError

from skneurovae import Recording
from skneurovae.datasets import make_lorenz, make_static_dynamic
from skneurovae.objectives import get_likelihood

TRIALS = spikes(4)
STIMULI = [np.zeros((len(t), 1)) for t in TRIALS]


@pytest.fixture(scope="module")
def models():
    return {
        "lfads": lfads(max_iter=1).fit(TRIALS),
        "dsae": dsae(max_iter=1).fit(TRIALS),
        "fhvae": fhvae(max_iter=1).fit(TRIALS),
        "gaussian": lfads(max_iter=1, likelihood="gaussian").fit(TRIALS),
        "driven": lfads(max_iter=1).fit(TRIALS, stimulus=STIMULI),
    }


PARAMETERS = {
    "no static latents": (lfads, {"static_dim": 0}, "static_dim"),
    "negative inputs": (lfads, {"dynamic_dim": -1}, "dynamic_dim"),
    "no dynamic latents": (dsae, {"dynamic_dim": 0}, "dynamic_dim"),
    "likelihood": (lfads, {"likelihood": "huber"}, "likelihood"),
    "variant": (dsae, {"variant": "half"}, "variant"),
    "prior": (dsae, {"prior": "normal"}, "prior"),
    "sequences": (fhvae, {"sequences": "trial"}, "sequences"),
    "all dropped": (lfads, {"coordinated_dropout": 1.0}, "coordinated_dropout"),
    "all withheld": (lfads, {"sample_validation": 1.0}, "sample_validation"),
    "nothing to validate": (
        lfads, {"sample_validation": 0.2, "early_stopping": False}, "without early_stopping",
    ),
    "weight": (lfads, {"beta_static": -1.0}, "beta_static"),
    "ramp": (lfads, {"kl_warmup": 1.5}, "kl_warmup"),
    "bounds": (lfads, {"hide_neurons": (0.5, 0.1)}, "hide_neurons must be .*low.*high"),
    "bounds in a list": (lfads, {"hide_neurons": [0.5, 0.1]}, "hide_neurons must be .*low.*high"),
    "bounds of words": (dsae, {"hide_neurons": ("a", "b")}, "hide_neurons must be .*low"),
    "acausal start": (lfads, {"causal": True}, "causal=True needs static_length"),
    "causal windows": (
        lfads, {"causal": True, "static_length": 9, "window_length": 12}, "stride of at most .*=3",
    ),
    "acausal start, no look ahead": (
        dsae, {"variant": "factorized", "causal": True}, "causal=True needs static_length",
    ),
    "static window": (
        lfads, {"static_length": 20, "window_length": 20}, "static_length must be below window",
    ),
    "forward window": (fhvae, {"forward_bins": 10}, "forward_bins must be below window_length=10"),
    "lag without controller": (
        lfads, {"dynamic_dim": 0, "controller_dim": 64, "lag": 2}, "lag has no meaning",
    ),
    "controller without inputs": (lfads, {"dynamic_dim": 0}, "controller_dim has no meaning"),
    "two ways to validate": (
        dsae, {"sample_validation": 0.2, "validation_fraction": 0.3}, "validation_fraction has no",
    ),
    "time constant": (lfads, {"time_constant": 0.0}, "time_constant"),
    "prior units": (dsae, {"prior": "ar1", "prior_dim": 9}, "prior_dim has no meaning"),
    "one sequence at once": (
        fhvae, {"n_sequences_at_once": 1}, "alpha has no meaning with n_sequences_at_once=1",
    ),
    "vectors without use": (fhvae, {"alpha": 0.0, "beta_static": 0.0}, "alpha=0 leave"),
    "frozen before it was fitted": (lfads, {"freeze_core": True}, "freeze_core=True goes on with"),
    "start": (lfads, {"initialization": "pca"}, "initialization"),
    "conditions": (lfads, {"initialization": "conditions"}, "needs y, one condition .*got none"),
    "samples": (lfads, {"n_samples": 0}, "n_samples"),
    "stride": (lfads, {"stride": 300}, "stride must be at most"),
    "positive traces": (lfads, {"likelihood": "gamma"}, "needs positive traces, but .* hold 0"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "parameters", "message"), PARAMETERS.values(), ids=PARAMETERS)
def test_wrong_parameters(make, parameters, message):
    refuses(lambda: make(**parameters).fit(TRIALS), message)


CALLS = {
    "not fitted": (lambda m: lfads().infer(TRIALS), "not fitted"),
    "not fitted, swap": (lambda m: dsae().swap(TRIALS), "not fitted"),
    "nothing to freeze": (
        lambda m: lfads(max_iter=1).fit(TRIALS).set_params(freeze_core=True).fit(TRIALS),
        "freeze_core=True goes on with a fitted model",
    ),
    "fractions": (lambda m: lfads().fit([t + 0.5 for t in TRIALS]), "needs counts, but traces"),
    "labels of some": (
        lambda m: lfads(initialization="conditions").fit(TRIALS, [0, 1]), "got 2 labels",
    ),
    "labels that are none": (
        lambda m: lfads(initialization="conditions").fit(TRIALS, [[0], [1], [0], [1]]),
        "needs as y one condition per recording, .*recording 0 is of type list",
    ),
    "other neurons": (lambda m: m["lfads"].predict([t[:, :5] for t in TRIALS]), "neurons"),
    "units": (lambda m: m["lfads"].infer(TRIALS, units="ms"), "units must be"),
    "Hz without a rate": (
        lambda m: m["lfads"].infer(TRIALS, units="hz"), "needs rate_hz, which recording 0 lacks",
    ),
    "Hz of no counts": (
        lambda m: m["gaussian"].infer(TRIALS, units="hz"), "no meaning for likelihood='gaussian'",
    ),
    "stimulus missing": (lambda m: m["driven"].transform(TRIALS), "stimulus of recording 0"),
    "stimulus to sample": (lambda m: m["driven"].sample(9), "stimulus must be .*shape"),
    "stimulus too much": (
        lambda m: m["lfads"].sample(9, stimulus=np.zeros(9)), "stimulus must be .*shape",
    ),
    "no time": (lambda m: m["lfads"].sample(0), "n_timesteps"),
    "unknown names": (lambda m: m["lfads"].sample(9, identities=["x"]), "identities"),
    "too many factors": (
        lambda m: m["lfads"].inverse_transform(np.zeros((4, 9))), r"must have shape \(n_timesteps",
    ),
    "order": (lambda m: m["dsae"].swap(TRIALS, order=[0, 1]), "order must be 4 numbers"),
    "order beyond": (lambda m: m["dsae"].swap(TRIALS, order=[0, 1, 2, 4]), "order must be"),
    "long trial": (
        lambda m: dsae(window_length=5, max_iter=1).fit(TRIALS).swap(TRIALS), "than one window",
    ),
    "fix": (lambda m: m["dsae"].generate(TRIALS[0], "both"), "fix must be"),
    "generate of many": (
        lambda m: m["dsae"].generate(TRIALS[:1]), "trial must be one recording, .* got list",
    ),
    "generate of a stack": (
        lambda m: m["dsae"].generate(np.zeros((2, 9, 7))), r"one recording, .* shape \(2, 9, 7\)",
    ),
    "generate of nothing": (
        lambda m: m["dsae"].generate(0), "trial must be one recording, .* got int",
    ),
    "mask of generate": (
        lambda m: m["dsae"].generate(TRIALS[0], mask=np.ones((3, 7))), "mask of recording 0 must",
    ),
    "stimulus of generate": (
        lambda m: m["dsae"].generate(TRIALS[0], stimulus=STIMULI[0]), "stimulus",
    ),
    "draws": (lambda m: m["dsae"].generate(TRIALS[0], n_samples=0), "n_samples"),
    "other core": (
        lambda m: lfads(max_iter=1).fit(TRIALS).set_params(generator_dim=9).partial_fit(TRIALS),
        "generator_dim is 9, but the last fit had 6",
    ),
    "Lorenz bins": (lambda m: make_lorenz(bin_width=30), "duration=1000 must be a multiple"),
    "Lorenz trials": (lambda m: make_lorenz(n_trials=0), "n_trials must be positive"),
    "static strength": (lambda m: make_static_dynamic(strength=-1), "strength must be positive"),
    "likelihood name": (lambda m: get_likelihood("beta"), "likelihood must be one of"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_wrong_calls(call, message, models):
    refuses(lambda: call(models), message)


def refuses(call, message):
    with pytest.raises((ValueError, TypeError, NotFittedError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_failed_fit_leaves_the_model_as_it_was(models):
    before = models["lfads"].predict(TRIALS)[0]
    with pytest.raises(ValueError, match="stimulus"):
        models["lfads"].partial_fit([Recording(TRIALS[0], stimulus=STIMULI[0])])
    np.testing.assert_array_equal(models["lfads"].predict(TRIALS)[0], before)
