"""The one definition of R2 behind the scores: no silent neuron and no short trial rules it."""

import dataclasses

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.decoding import decoding_quality
from skneurovae.metrics import (
    behavior_prediction_score,
    circular_r2,
    co_smoothing_score,
    crps_score,
    forecast_errors,
    forecast_score,
    imputation_score,
    psth_r2,
    psth_score,
    r2_per_neuron,
    reconstruction_score,
)
from skneurovae.metrics.forecast import _skill
from skneurovae.model_selection import ContiguousSpeckles, HeldOutNeurons, held_out_score
from skneurovae.recordings import Recording


class Told(BaseEstimator):
    """Fitted model that predicts the given answers, one per recording of the same length."""

    def __init__(self, answers, scale=None, identities=None):
        self.answers = {len(a): a for a in answers}
        if scale is not None:
            self.neuron_scale_, self.identities_ = np.asarray(scale), np.asarray(identities)

    def fit(self, X, y=None):
        """For the pipeline."""

    def predict(self, X, return_std=False):
        means = [self.answers[len(getattr(r, "traces", r))] for r in X]
        return (means, [np.ones(m.shape) for m in means]) if return_std else means


def made(lengths=(150, 40), n_neurons=4, seed=0):
    """Recordings of one session, and predictions that are right but for noise."""
    rng = np.random.default_rng(seed)
    traces = [rng.standard_normal((n, n_neurons)).cumsum(0) / 3 + 2 for n in lengths]
    guesses = [x + 0.4 * rng.standard_normal(x.shape) for x in traces]
    behavior = [np.arange(float(n)) for n in lengths]
    recordings = [Recording(x, behavior=b, session="s") for x, b in zip(traces, behavior)]
    return recordings, guesses


def by_hand(truths, guesses, training=None):
    """Pooled R2 with a plain loop over neurons; all recordings are of one session."""
    error = total = 0.0
    spreads = [
        np.nanstd(np.concatenate([t[:, n] for t in truths])) for n in range(len(truths[0].T))
    ]
    least = [np.median(spreads)] * len(spreads) if training is None else training
    for n, spread in enumerate(spreads):
        x = np.concatenate([t[:, n] for t in truths])
        p = np.concatenate([g[:, n] for g in guesses])
        x, p = x[~np.isnan(x)], p[~np.isnan(x)]
        unit = max(spread, least[n])
        error += ((x - p) ** 2).sum() / unit**2
        total += ((x - x.mean()) ** 2).sum() / unit**2
    return 1 - error / total


def test_co_smoothing_sums_before_it_divides():
    recordings, guesses = made()
    recordings[0].traces[:30, 1] = np.nan
    truths = [r.traces for r in recordings]
    score = co_smoothing_score(Told(guesses), recordings)
    assert score == pytest.approx(by_hand(truths, guesses), abs=1e-12)
    for name, over in (("mean", np.mean), ("median", np.median)):
        classical = []
        for n in range(4):
            x, p = (np.concatenate([a[:, n] for a in part]) for part in (truths, guesses))
            classical.append(r2_score(x[~np.isnan(x)], p[~np.isnan(x)]))
        assert co_smoothing_score(Told(guesses), recordings, average=name) == pytest.approx(
            over(classical), abs=1e-12
        )
    assert reconstruction_score(Told(guesses), recordings) == pytest.approx(score, abs=1e-12)
    assert behavior_prediction_score(Told(guesses), recordings) == pytest.approx(score, abs=1e-12)


def test_sessions_have_means_of_their_own():
    """What differs between sessions is not explained by telling them apart."""
    recordings, guesses = made()
    apart = [r.replace(session=f"s{i}") for i, r in enumerate(recordings)]
    moved = apart[0].replace(traces=apart[0].traces + 100)
    score = co_smoothing_score(Told(guesses), apart)
    shifted = co_smoothing_score(Told([guesses[0] + 100, guesses[1]]), [moved, apart[1]])
    assert shifted == pytest.approx(score, abs=1e-9)
    together = [moved.replace(session="s"), recordings[1]]
    assert co_smoothing_score(Told([guesses[0] + 100, guesses[1]]), together) > score


def test_units_are_spreads_in_training_where_they_are_larger():
    recordings, guesses = made()
    truths = [r.traces for r in recordings]
    training = np.array([0.01, 1.0, 5.0, 50.0])
    labels = [f"s:{n}" for n in range(4)]
    told = Told(guesses, training, labels)
    expected = by_hand(truths, guesses, training)
    assert co_smoothing_score(told, recordings) == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(by_hand(truths, guesses), abs=1e-3)
    # By name, and by column where there is nothing else.
    named = [r.replace(identities=np.array(list("abcd"))) for r in recordings]
    told = Told(guesses, training[[2, 0, 1, 3]], list("cabd"))
    assert co_smoothing_score(told, named) == pytest.approx(expected, abs=1e-12)
    plain = [r.replace(session=None) for r in recordings]
    told = Told(guesses, training, np.array([0, 1, 2, 3], dtype=object))
    assert co_smoothing_score(told, plain) == pytest.approx(expected, abs=1e-12)
    # A step before the model may change the units of traces.
    pipeline = make_pipeline(FunctionTransformer(), told)
    assert co_smoothing_score(pipeline, plain) == pytest.approx(by_hand(truths, guesses), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("constant", [1234.567, 0.1])
def test_a_constant_neuron_changes_no_score(constant, dtype):
    """Rounding once made it -1e14, and in float32 raised the score."""
    recordings, guesses = made((200, 120))
    flat = [np.full((r.n_timesteps, 1), constant) for r in recordings]
    with_constant = [
        r.replace(traces=np.hstack([r.traces, column]).astype(dtype))
        for r, column in zip(recordings, flat)
    ]
    answers = [np.hstack([g, column * (1 + 1e-6)]) for g, column in zip(guesses, flat)]
    for scorer in (co_smoothing_score, imputation_score, reconstruction_score, forecast_score,
                   crps_score):  # fmt: skip
        plain = scorer(Pointwise(guesses), recordings)
        assert scorer(Pointwise(answers), with_constant) == pytest.approx(plain, abs=0.02), scorer


class Pointwise(Told):
    """Segments of the recordings too are answered, by the least of what was told."""

    def predict(self, X, return_std=False):
        found = []
        for r in X:
            n = len(getattr(r, "traces", r))
            longest = self.answers[max(self.answers)]
            found.append(self.answers.get(n, longest[:n]))
        return (found, [np.ones(m.shape) for m in found]) if return_std else found


def test_a_neuron_that_is_all_but_silent_in_the_test_counts_by_its_share():
    recordings, guesses = made((300,), n_neurons=10)
    (recording,), (guess,) = recordings, guesses
    score = co_smoothing_score(Told([guess]), [recording])
    quiet = recording.traces.copy()
    quiet[:, 0] = 0.0
    quiet[7, 0] = 1e-3
    spread = np.append(recording.traces.std(0)[:1], np.ones(9))
    told = Told([guess], spread, [f"s:{n}" for n in range(10)])
    assert co_smoothing_score(told, [Recording(quiet, session="s")]) > score - 1.0
    # Nor does it rule where nothing is known of training, as behind a pipeline.
    blind = co_smoothing_score(Told([guess]), [Recording(quiet, session="s")])
    assert blind > score - 1.0
    # The classical mean is ruled by it.
    mean = co_smoothing_score(told, [Recording(quiet, session="s")], average="mean")
    assert mean < -1e3
    median = co_smoothing_score(told, [Recording(quiet, session="s")], average="median")
    assert median == pytest.approx(score, abs=0.1)


def test_a_neuron_that_fires_only_in_the_test_counts_by_its_share():
    """Its unit would be next to nothing if it were its spread in training alone."""
    recordings, guesses = made((300,), n_neurons=10)
    (recording,), (guess,) = recordings, guesses
    training = recording.traces.std(0)
    training[0] = 1e-4
    guess[:, 0] = 0.0  # what a model must say of a neuron that was silent
    told = Told([guess], training, [f"s:{n}" for n in range(10)])
    rest = Told([guess[:, 1:]], training[1:], [f"s:{n}" for n in range(9)])
    without = co_smoothing_score(rest, [Recording(recording.traces[:, 1:], session="s")])
    share = 1 + recording.traces[:, 0].mean() ** 2 / recording.traces[:, 0].var()
    expected = (9 * without + 1 - share) / 10
    assert co_smoothing_score(told, [recording]) == pytest.approx(expected, abs=1e-9)


def test_a_trial_of_two_steps_counts_by_its_share():
    recordings, guesses = made((200, 150))
    short = Recording(np.array([[1.0, 2, 3, 4], [1.0001, 2, 3, 4]]), session="s")
    bad = np.zeros((2, 4))
    score = co_smoothing_score(Told(guesses), recordings)
    both = co_smoothing_score(Told([*guesses, bad]), [*recordings, short])
    assert abs(both - score) < 0.1
    assert abs(both - score) > 1e-6


def test_spans_are_compared_with_the_mean_of_what_is_shown():
    (recording,), (guess,) = made((200,))
    seen = []

    class Means:
        def predict(self, X):
            seen.append(X[0].traces)
            return [np.tile(np.nanmean(X[0].traces, 0), (200, 1))]

    assert imputation_score(Means(), [recording]) == pytest.approx(0, abs=1e-12)
    hidden, center = np.isnan(seen[0]), np.nanmean(seen[0], 0)
    unit = np.maximum(recording.traces.std(0), np.median(recording.traces.std(0)))
    error = (((recording.traces - guess) / unit) ** 2)[hidden].sum()
    total = (((recording.traces - center) / unit) ** 2)[hidden].sum()
    score = imputation_score(Told([guess]), [recording])
    assert score == pytest.approx(1 - error / total, abs=1e-12)


def test_held_out_entries_are_pooled_over_views():
    recordings, guesses = made((200,))
    views = HeldOutNeurons(2).views(recordings)
    tests = [view for view in views if view.held_out is not None]
    assert held_out_score(Told(guesses), tests) == pytest.approx(
        by_hand([r.traces for r in recordings], guesses), abs=1e-12
    )
    speckles = [v for v in ContiguousSpeckles(2).views(recordings) if v.held_out is not None]
    pair, held_out = (recordings[0].traces, guesses[0]), speckles[0].held_out
    expected = np.mean([r2_score(*(a[held_out[:, n], n] for a in pair)) for n in range(4)])
    score = held_out_score(Told(guesses), speckles[:1], average="mean")
    assert score == pytest.approx(expected, abs=1e-12)


def test_errors_of_forecasts_are_pooled():
    recordings, guesses = made((200, 120))
    errors = forecast_errors(Pointwise(guesses), recordings, horizon=3, context=10)
    silent = [r.replace(traces=r.traces.copy()) for r in recordings]
    for r in silent:  # one blip, in a hidden end: a ratio of its own would be millions
        r.traces[:, 0] = 0.1
        r.traces[11, 0] += 1e-3
    moved = forecast_errors(Pointwise(guesses), silent, horizon=3, context=10)
    np.testing.assert_allclose(moved.r2, errors.r2, atol=2)
    np.testing.assert_allclose(moved.skill, errors.skill, rtol=1)


def test_a_copy_that_makes_no_error_cannot_be_beaten():
    ends, last, unit = np.full((4, 2), 0.1), np.full((4, 2), 0.1 + 1e-16), np.ones(2)
    assert np.isnan(_skill([ends], [ends + 1], [last], [unit]))
    assert _skill([ends], [ends + 1], [last + 0.5], [unit]) == pytest.approx(-3)


def test_a_block_that_is_constant_where_it_is_scored_has_no_variance():
    """What a mean leaves of it is rounding, by which an R2 of -1e30 once came about."""
    recordings, guesses = made((200,), n_neurons=3)
    view = next(v for v in ContiguousSpeckles(2).views(recordings) if v.held_out is not None)
    traces = view.traces.copy()
    traces[view.held_out] = 0.1
    with pytest.raises(ValueError, match="no neuron can be scored"):
        held_out_score(Told(guesses), [dataclasses.replace(view, traces=traces)])


def test_animals_without_a_session_have_means_of_their_own():
    """Knowing how loud each animal is would be no skill."""
    rng = np.random.default_rng(0)
    animals = [
        Recording(rng.standard_normal((50 + i, 3)) + 10 * i, identities=np.array(list("abc")))
        for i in range(4)
    ]
    means = [np.tile(r.traces.mean(0), (r.n_timesteps, 1)) for r in animals]
    assert co_smoothing_score(Told(means), animals) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("jitter", [1e-9, 1e-8, 1e-5])
def test_angles_that_hardly_vary_lose_no_digits(jitter):
    angles = 1 + jitter * np.random.default_rng(0).standard_normal(500)
    guess = angles + jitter * np.random.default_rng(1).standard_normal(500)
    expected = r2_score(angles, guess)  # the arc is straight there
    assert circular_r2(angles, guess) == pytest.approx(expected, abs=0.01)
    decoded = decoding_quality(angles, guess, "circular")
    assert decoded[0] == pytest.approx(expected, abs=0.01)


def test_rounding_of_single_precision_is_no_variance():
    trace = np.full((100, 2), 0.1, dtype=np.float32)
    trace[::2, 0] = np.nextafter(np.float32(0.1), np.float32(1))
    trace[:, 1] = np.arange(100)
    assert np.isnan(r2_per_neuron(trace, np.zeros((100, 2)))).tolist() == [True, False]


def test_a_nearly_constant_psth_does_not_rule():
    rng = np.random.default_rng(0)
    conditions = np.repeat([0, 1, 2], 8)
    rates = rng.standard_normal((3, 20, 5))[conditions]
    traces = rates + 0.5 * rng.standard_normal(rates.shape)
    guess = rates + 0.2 * rng.standard_normal(rates.shape)
    score = psth_r2(guess, traces, conditions)
    flat = traces.copy()
    flat[..., 0] = 1.0
    flat[0, 0, 0] += 1e-6
    assert psth_r2(guess, flat, conditions, average="mean") < -1e6
    assert abs(psth_r2(guess, flat, conditions) - score) < 1
    without = psth_r2(guess[..., 1:], traces[..., 1:], conditions)
    assert score == pytest.approx(without, abs=0.2)
    assert psth_r2(guess, flat, conditions, average="median") > 0
    recordings = [Recording(t, session="s") for t in traces]
    told = Told([guess[0]])
    told.predict = lambda X: list(guess)
    assert psth_score(told, recordings, conditions) == pytest.approx(score)


def test_wrong_averages_and_nothing_to_score_are_refused():
    recordings, guesses = made()
    for scorer in (co_smoothing_score, reconstruction_score, imputation_score,
                   behavior_prediction_score, forecast_score):  # fmt: skip
        with pytest.raises(ValueError, match="average must be one of pooled, mean, median"):
            scorer(Told(guesses), recordings, average="weighted")
    flat = [r.replace(traces=np.full(r.traces.shape, 0.1)) for r in recordings]
    told = Told(guesses, np.ones(4), [f"s:{n}" for n in range(4)])
    for average in ("pooled", "mean", "median"):
        with pytest.raises(ValueError, match="no neuron can be scored"):
            co_smoothing_score(told, flat, average=average)


def test_baselines_tell_their_spreads():
    rng = np.random.default_rng(0)
    X = [rng.standard_normal((80, 3)) * [1, 10, 0], rng.standard_normal((40, 3)) * [1, 10, 0] + 1]
    expected = np.concatenate(X).std(0)
    expected[2] = np.concatenate(X)[:, 2].std()
    for model in (Pooled(PCA(1)), MissingFactorAnalysis(1, shrinkage=10.0)):
        np.testing.assert_allclose(model.fit(X).neuron_scale_, expected, rtol=1e-12)
