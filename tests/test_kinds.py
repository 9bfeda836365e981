"""The likelihood that "auto" takes: from what traces are, and from how much counts vary."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.estimators.kinds import likelihood_of
from skneurovae.recordings.doubts import REAL_DATA

SMALL = {
    "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "max_iter": 1, "shrinkage": 100.0,
    "prior": "normal", "random_state": 0, "device": "cpu",
}  # fmt: skip


def rates(n=400, n_neurons=16, seed=0):
    """Rates that follow two signals, about two counts per time step."""
    rng = np.random.RandomState(seed)
    slow = np.sin(np.arange(n)[:, None] / [5, 13])
    return np.exp(0.6 + 0.5 * slow @ rng.standard_normal((2, n_neurons)))


def poisson(n=400, seed=1, **options):
    return np.random.RandomState(seed).poisson(rates(n, **options)).astype(float)


def overdispersed(excess=1.0, n=400, seed=1, **options):
    """Counts with the variance mean + excess * mean ** 2 around the same rates."""
    rng = np.random.RandomState(seed)
    means = rates(n, **options)
    return rng.poisson(means * rng.gamma(1 / excess, excess, means.shape)).astype(float)


# -- what traces are ---------------------------------------------------------------------------


def with_gaps(traces):
    return np.where(np.random.RandomState(5).rand(*traces.shape) < 0.2, np.nan, traces)


TRACES = {
    "counts": (poisson(), "poisson"),
    "counts with gaps": (with_gaps(poisson()), "poisson"),
    "single precision": (poisson().astype(np.float32), "poisson"),
    "integers": (poisson().astype(int), "poisson"),
    "floats": (np.log(rates()) + np.random.RandomState(0).standard_normal((400, 16)), "gaussian"),
    "rates": (rates(), "gaussian"),
    "one half": (np.where(np.arange(400 * 16).reshape(400, 16) == 6000, 0.5, poisson()),
                 "gaussian"),
    "one negative": (np.where(np.arange(400 * 16).reshape(400, 16) == 6000, -1, poisson()),
                     "gaussian"),
    "brightness": (poisson() + np.round(300 + 50 * np.log(rates())), "gaussian"),
    "few are 0 at times": (poisson() + (np.arange(16) < 9), "gaussian"),
    "most are 0 at times": (poisson() + (np.arange(16) < 7), "poisson"),
    "short": (poisson()[: REAL_DATA - 1], "gaussian"),
    "just long enough": (poisson()[:REAL_DATA], "poisson"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACES)
def test_counts_are_recognized(name):
    traces, expected = TRACES[name]
    assert likelihood_of("auto", "auto", [Recording(traces)]) == expected
    half = len(traces) // 2
    parts = [Recording(traces[:half]), Recording(traces[half:])]
    assert likelihood_of("auto", "auto", parts) == expected


@pytest.mark.parametrize("name", ["gaussian", "student_t", "huber", "negative_binomial", "poisson"])
def test_what_is_given_is_taken(name):
    assert likelihood_of(name, "auto", [Recording(poisson())]) == name
    model = NeuroBehaviorVAE(2, likelihood=name, **SMALL)
    if name in ("gaussian", "student_t", "huber"):
        model.fit(poisson() + 0.5)
    else:
        model.fit(overdispersed() if name == "poisson" else poisson())
    assert model.likelihood_ == name


@pytest.mark.parametrize("name", ["counts with gaps", "floats", "brightness", "short"])
def test_models_take_what_is_recognized(name):
    traces, expected = TRACES[name]
    model = NeuroBehaviorVAE(2, **SMALL).fit(traces)
    assert (model.likelihood, model.likelihood_) == ("auto", expected)
    assert model.network_.likelihood.is_count is (expected == "poisson")
    assert np.isfinite(model.score(traces))


# -- how much counts vary ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide():
    return NeuroBehaviorVAE(2, **SMALL).fit(overdispersed())


def test_counts_that_vary_more_than_poisson_are_negative_binomial(wide):
    assert wide.likelihood_ == "negative_binomial"
    assert NeuroBehaviorVAE(2, **SMALL).fit(poisson()).likelihood_ == "poisson"


def test_variance_that_other_neurons_explain_is_no_overdispersion():
    """Counts of shared, strongly varying rates: around their own mean they vary far more."""
    rng = np.random.RandomState(0)
    shared = rng.gamma(1.0, 1.0, (600, 1)) * np.linspace(1.0, 4.0, 20)
    counts = rng.poisson(shared).astype(float)
    assert np.median(counts.var(0) / counts.mean(0)) > 2.5
    assert NeuroBehaviorVAE(2, **SMALL).fit(counts).likelihood_ == "poisson"


def test_slightly_wider_counts_stay_poisson():
    """At a mean of about 2, an excess of 0.1 makes a variance 1.2 times that of Poisson counts."""
    assert NeuroBehaviorVAE(2, **SMALL).fit(overdispersed(0.1)).likelihood_ == "poisson"


def test_spread_of_predictions_is_that_of_the_counts(wide):
    new = overdispersed(seed=2)
    hidden = np.arange(16) % 4 == 0
    masked = np.where(hidden, np.nan, new)
    mean, std = wide.predict(masked, return_std=True)
    ratio = (((new - mean) / std)[:, hidden] ** 2).mean()
    assert 0.7 < ratio < 1.3
    poisson_model = clone(wide).set_params(likelihood="poisson").fit(overdispersed())
    mean, std = poisson_model.predict(masked, return_std=True)
    assert (((new - mean) / std)[:, hidden] ** 2).mean() > 1.6


def test_what_is_chosen_goes_with_the_fit_and_not_with_the_parameters(wide):
    again = pickle.loads(pickle.dumps(wide))
    assert again.likelihood_ == "negative_binomial"
    counts = overdispersed(seed=2)
    for a, b in zip(wide.predict(counts, return_std=True), again.predict(counts, return_std=True)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(wide.score_samples(counts), again.score_samples(counts))
    copy = clone(wide)
    assert copy.likelihood == "auto"
    assert not hasattr(copy, "likelihood_")
    copy.fit(poisson())
    assert copy.likelihood_ == "poisson"
    copy.fit(rates())
    assert (copy.likelihood_, copy.likelihood) == ("gaussian", "auto")
    with pytest.raises(ValueError, match="counts"):
        wide.predict(rates())


def test_training_goes_on_with_what_was_chosen():
    model = NeuroBehaviorVAE(2, warm_start=True, **SMALL).fit(overdispersed())
    model.fit(poisson())
    assert model.likelihood_ == "negative_binomial"
    model.partial_fit(poisson(seed=3))
    assert model.likelihood_ == "negative_binomial"
    assert np.isfinite(model.score(poisson(seed=4)))
    with pytest.raises(ValueError, match="needs counts"):
        model.partial_fit(rates())


def test_pooled_networks_take_poisson_and_judge_nothing():
    options = {**SMALL, "shrinkage": "auto"}
    model = NeuroBehaviorVAE(2, neuron_encoder="pooled", **options).fit(overdispersed())
    assert model.likelihood_ == "poisson"


def test_a_line_says_what_auto_came_to(capsys):
    behavior = np.random.RandomState(0).rand(400, 1)
    NeuroBehaviorVAE(2, verbose=1, **SMALL).fit(poisson(), behavior=behavior)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "[NeuroBehaviorVAE] likelihood='poisson', normalize='identity', n_components=2, "
        "behavior_kind=('bounded',)"
    )
    NeuroBehaviorVAE(3, verbose=1, **SMALL).fit(rates())
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith(
        "likelihood='gaussian', normalize='identity', n_components=3, behavior_kind=()"
    )
    NeuroBehaviorVAE(2, **SMALL).fit(rates())
    assert capsys.readouterr().out == ""


def test_noise_is_refused_where_traces_turn_out_as_counts():
    model = NeuroBehaviorVAE(2, noise="heteroscedastic", **SMALL)
    with pytest.raises(ValueError, match="noise='heteroscedastic' has no meaning for counts"):
        model.fit(poisson())
    assert model.fit(rates()).likelihood_ == "gaussian"
