import numpy as np
import pytest
from scipy.stats import poisson
from sklearn.metrics import r2_score

from skneurovae.metrics import (
    behavior_prediction_score,
    bits_per_spike,
    co_smoothing_bits,
    co_smoothing_bits_per_neuron,
    co_smoothing_r2,
    co_smoothing_score,
    hide_neurons,
    hide_spans,
    imputation_score,
    neuron_folds,
    r2_per_neuron,
    reconstruction_score,
)
from skneurovae.recordings import Recording


class Spy:
    """Predicts `answer(recording)` and keeps what it was shown."""

    def __init__(self, answer, identities=None):
        self.answer = answer
        self.calls = []
        if identities is not None:
            self.identities_ = np.array(identities, dtype=object)

    def predict(self, X):
        self.calls.append(X)
        return (
            [self.answer(i, r) for i, r in enumerate(X)]
            if isinstance(X, list)
            else np.zeros_like(X)
        )


@pytest.fixture
def recordings():
    rng = np.random.default_rng(0)
    names = [["a", "a", "b", "c", "d", "e"], ["c", "b", "e", "f", ""]]
    return [
        Recording(
            rng.standard_normal((200, len(n))),
            behavior=rng.standard_normal((200, 2)),
            identities=np.array(n, dtype=object),
            session=f"s{i}",
        )
        for i, n in enumerate(names)
    ]


def test_r2_agrees_with_scikit_learn_on_evaluated_entries():
    rng = np.random.default_rng(0)
    traces = rng.standard_normal((60, 4)) + 5
    prediction = traces + 0.5 * rng.standard_normal((60, 4))
    traces[:10, 0] = np.nan
    prediction[:10, 0] = np.nan  # not evaluated, so it may be anything
    mask = rng.random((60, 4)) < 0.5
    score = r2_per_neuron(traces, prediction, mask)
    for n in range(4):
        rows = mask[:, n] & ~np.isnan(traces[:, n])
        assert score[n] == pytest.approx(r2_score(traces[rows, n], prediction[rows, n]))


def test_r2_of_a_constant_or_empty_neuron_is_nan():
    traces = np.random.default_rng(0).standard_normal((50, 3))
    traces[:, 0], traces[:, 1] = 0.1, np.nan
    score = r2_per_neuron(traces, np.zeros((50, 3)))
    assert np.isnan(score[:2]).all()
    assert np.isfinite(score[2])


def test_r2_refuses_what_would_flatter():
    traces = np.random.default_rng(0).standard_normal((50, 3))
    prediction = traces.copy()
    prediction[3, 1] = np.nan
    with pytest.raises(ValueError, match="prediction of neuron 1 is NaN"):
        r2_per_neuron(traces, prediction)
    with pytest.raises(ValueError, match=r"\(50, 2\).*\(50, 3\)"):
        r2_per_neuron(traces, prediction[:, :2])


def test_bits_per_spike_is_the_poisson_log_likelihood_ratio():
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.1, 2, (300, 3))
    counts = rng.poisson(rates).astype(float)
    counts[:20, 0] = np.nan
    seen = ~np.isnan(counts)
    null = np.broadcast_to(np.nanmean(counts, 0), counts.shape)
    gain = poisson.logpmf(counts[seen], rates[seen]) - poisson.logpmf(counts[seen], null[seen])
    expected = gain.sum() / np.log(2) / np.nansum(counts)
    assert bits_per_spike(counts, rates) == pytest.approx(expected)
    assert bits_per_spike(counts, null) == pytest.approx(0, abs=1e-12)
    trials = bits_per_spike(counts.reshape(3, 100, 3), rates.reshape(3, 100, 3))
    assert trials == pytest.approx(expected)
    given = bits_per_spike(counts, rates, null=[1.0, 1.0, 1.0])
    gain = poisson.logpmf(counts[seen], rates[seen]) - poisson.logpmf(counts[seen], 1.0)
    assert given == pytest.approx(gain.sum() / np.log(2) / np.nansum(counts))


def test_bits_per_spike_clips_zero_rates_and_refuses_nonsense():
    counts = np.array([[0.0, 1.0], [2.0, 0.0]])
    assert np.isfinite(bits_per_spike(counts, np.zeros((2, 2))))
    with pytest.raises(ValueError, match="negative"):
        bits_per_spike(counts - 1, np.ones((2, 2)))
    with pytest.raises(ValueError, match="rates must be finite"):
        bits_per_spike(counts, np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="no spike"):
        bits_per_spike(np.zeros((2, 2)), np.ones((2, 2)))


def test_folds_keep_twins_together_and_are_balanced(recordings):
    fold = neuron_folds(recordings[0], n_folds=3)
    assert fold[0] == fold[1]
    assert sorted(np.bincount(fold[1:], minlength=3)) == [1, 2, 2]
    np.testing.assert_array_equal(fold, neuron_folds(recordings[0], n_folds=3))
    seeds = {tuple(neuron_folds(recordings[0], random_state=s)) for s in range(10)}
    assert len(seeds) > 3
    unlabelled = Recording(np.zeros((5, 7)))
    assert sorted(np.bincount(neuron_folds(unlabelled))) == [2, 2, 3]


def test_a_single_identity_cannot_be_co_smoothed(recordings):
    twins = Recording(np.zeros((5, 2)), identities=np.array(["a", "a"], dtype=object))
    with pytest.raises(ValueError, match="two or more different neurons"):
        neuron_folds(twins)


def test_hide_neurons_leaves_the_recording_alone(recordings):
    before = recordings[0].traces.copy()
    hidden = neuron_folds(recordings[0]) == 1
    shown = hide_neurons(recordings[0], hidden)
    assert np.isnan(shown.traces[:, hidden]).all()
    np.testing.assert_array_equal(shown.traces[:, ~hidden], before[:, ~hidden])
    np.testing.assert_array_equal(recordings[0].traces, before)
    assert shown.session == "s0"
    assert shown.behavior is recordings[0].behavior


def test_hidden_spans_are_contiguous_and_of_the_asked_share():
    recording = Recording(np.zeros((805, 30)))
    shown, hidden = hide_spans(recording, fraction=0.2, span_length=20)
    np.testing.assert_array_equal(np.isnan(shown.traces), hidden)
    assert abs(hidden.mean() - 0.2) < 0.02
    edges = np.diff(np.pad(hidden, ((1, 1), (0, 0))).astype(int), axis=0)
    assert len(set(np.argwhere(edges == 1)[:, 0] % 20)) > 10  # neurons do not share their edges
    for column in edges.T:
        lengths = np.flatnonzero(column == -1) - np.flatnonzero(column == 1)
        assert (lengths % 20 == 0).all()
    assert len({tuple(np.flatnonzero(h)) for h in hidden.T}) == 30
    with pytest.raises(ValueError, match="span_length=20 needs recordings of 40"):
        hide_spans(Recording(np.zeros((39, 2))))


def test_co_smoothing_hides_every_neuron_once_and_scores_only_hidden(recordings):
    spy = Spy(lambda i, r: np.where(np.isnan(r.traces), recordings[i].traces, 1e6))
    assert co_smoothing_score(spy, recordings) == pytest.approx(1)
    assert len(spy.calls) == 3
    for i, recording in enumerate(recordings):
        times = sum(np.isnan(call[i].traces) for call in spy.calls)
        np.testing.assert_array_equal(times, np.ones(recording.traces.shape))
    twin = [np.isnan(call[0].traces).any(0)[:2] for call in spy.calls]
    assert all(a == b for a, b in twin)


def test_co_smoothing_cannot_be_won_by_copying(recordings):
    spy = Spy(lambda i, r: np.nan_to_num(r.traces))
    assert co_smoothing_score(spy, recordings) < 0.01
    assert reconstruction_score(spy, recordings) == pytest.approx(1)


def test_only_neurons_that_the_estimator_knows_are_scored(recordings):
    def answer(i, recording):
        known = np.isin(recording.identities.astype(str), ["a", "b", "c", "d", "e"])
        return np.where(known, recordings[i].traces, np.nan)

    spy = Spy(answer, identities=["a", "b", "c", "d", "e"])
    scores = co_smoothing_r2(spy, recordings)
    assert np.isnan(scores[1]).tolist() == [False, False, False, True, True]
    assert co_smoothing_score(spy, recordings) == pytest.approx(1)
    private = Spy(lambda i, r: recordings[i].traces, identities=["a", "s1:4"])
    assert np.isnan(co_smoothing_r2(private, recordings)[1]).tolist() == [True] * 4 + [False]
    with pytest.raises(ValueError, match="no neuron can be scored"):
        co_smoothing_score(Spy(answer, identities=["z"]), recordings)


def test_every_entry_weighs_the_same_whichever_recording_it_is_in(recordings):
    # Six neurons are predicted perfectly, the five of the other recording at their means.
    spy = Spy(lambda i, r: recordings[0].traces if i == 0 else np.tile(means, (200, 1)))
    means = recordings[1].traces.mean(0)
    std = np.concatenate([r.traces.std(0) for r in recordings])
    share = (std / np.maximum(std, np.median(std))) ** 2  # nobody tells spreads in training
    expected = share[:6].sum() / share.sum()
    assert co_smoothing_score(spy, recordings) == pytest.approx(expected)
    assert expected == pytest.approx(6 / 11, abs=0.01)


def test_imputation_scores_hidden_spans_only(recordings):
    spy = Spy(lambda i, r: np.where(np.isnan(r.traces), recordings[i].traces, 1e6))
    assert imputation_score(spy, recordings) == pytest.approx(1)
    share = np.mean([np.isnan(r.traces).mean() for r in spy.calls[0]])
    assert 0.05 < share < 0.15


def test_behavior_prediction_shows_behavior_only(recordings):
    spy = Spy(lambda i, r: recordings[i].traces)
    assert behavior_prediction_score(spy, recordings) == pytest.approx(1)
    for call, recording in zip(spy.calls[0], recordings, strict=True):
        assert np.isnan(call.traces).all()
        np.testing.assert_array_equal(call.behavior, recording.behavior)
    with pytest.raises(ValueError, match="recording 1 has no behavior"):
        behavior_prediction_score(spy, [recordings[0], recordings[1].replace(behavior=None)])


def test_arrays_are_asked_for_as_arrays():
    X = np.random.default_rng(0).standard_normal((100, 5))
    spy = Spy(None)
    assert co_smoothing_score(spy, X) == pytest.approx(0, abs=0.1)
    assert {call.shape for call in spy.calls} == {(100, 5)}
    assert co_smoothing_score(spy, np.stack([X, X])) == pytest.approx(0, abs=0.1)
    assert spy.calls[-1].shape == (2, 100, 5)


def test_co_smoothing_bits_pools_hidden_neurons_of_all_recordings():
    rng = np.random.default_rng(0)
    rates = [rng.uniform(0.2, 3, shape) for shape in [(60, 4), (90, 3)]]
    recordings = [
        Recording(
            rng.poisson(r).astype(float),
            identities=np.arange(1, r.shape[1] + 1),
            session=f"animal {len(r)}",
        )
        for r in rates
    ]
    recordings[0].traces[:10, 0] = np.nan
    # Shown entries are predicted absurdly: only hidden ones may count.
    spy = Spy(lambda i, r: np.where(np.isnan(r.traces).all(0), rates[i], 1e6), identities=[1, 2, 4])
    gain, n_spikes = 0.0, 0.0
    for recording, rate, known in zip(recordings, rates, [[0, 1, 3], [0, 1]]):
        counts = recording.traces[:, known]
        spikes = np.nansum(counts)
        gain += bits_per_spike(counts, rate[:, known]) * spikes
        n_spikes += spikes
    assert gain > 0
    assert co_smoothing_bits(spy, recordings) == pytest.approx(gain / n_spikes)
    assert len(spy.calls) == 3
    with pytest.raises(ValueError, match="counts must not be negative"):
        co_smoothing_bits(spy, [Recording(-r.traces) for r in recordings[:1]])


def test_co_smoothing_bits_of_each_neuron_add_up_to_the_pooled_value():
    rng = np.random.default_rng(0)
    rates = [rng.uniform(0.2, 3, shape) for shape in [(60, 4), (90, 3)]]
    recordings = [
        Recording(
            rng.poisson(r).astype(float),
            identities=np.arange(1, r.shape[1] + 1),
            session=f"animal {len(r)}",
        )
        for r in rates
    ]
    recordings[1].traces[:, 0] = 0
    spy = Spy(lambda i, r: np.where(np.isnan(r.traces).all(0), rates[i], 1e6), identities=[1, 2, 4])
    bits = co_smoothing_bits_per_neuron(spy, recordings)
    assert [np.isnan(b).tolist() for b in bits] == [
        [False, False, True, False],
        [True, False, True],
    ]
    alone = [bits_per_spike(r.traces[:, [1]], q[:, [1]]) for r, q in zip(recordings, rates)]
    np.testing.assert_allclose([b[1] for b in bits], alone)
    spikes = np.concatenate([r.traces.sum(0) for r in recordings])
    # The silent neuron has no bits per spike, but what it was predicted costs the pooled value.
    cost = rates[1][:, 0].sum() / np.log(2)
    gain = np.nansum(np.concatenate(bits) * spikes) - cost
    known = np.array([True, True, False, True, True, True, False])
    assert co_smoothing_bits(spy, recordings) == pytest.approx(gain / spikes[known].sum(), abs=1e-6)


def test_bits_of_trials_are_those_of_the_session_in_one_piece():
    """The null is a neuron's mean over all trials; that of each trial would know their rates."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.5, 2, (20, 1, 4)) * np.ones((20, 30, 4))
    counts = rng.poisson(rates).astype(float)
    counts[3, :5, 1] = np.nan
    trials = [Recording(c, session="one") for c in counts]
    spy = Spy(lambda i, r: rates[i])
    whole = bits_per_spike(counts.reshape(-1, 4), rates.reshape(-1, 4))
    assert whole > 0.1
    assert co_smoothing_bits(spy, trials) == pytest.approx(whole, abs=1e-12)


def test_a_prediction_of_nan_is_no_perfect_imputation():
    trace = Recording(np.random.default_rng(0).standard_normal((200, 3)))
    with pytest.raises(ValueError, match="prediction of recording 0 is NaN or infinite"):
        imputation_score(Spy(lambda i, r: np.full(r.traces.shape, np.nan)), [trace])


def test_spans_of_constant_neurons_cannot_be_scored():
    with pytest.raises(ValueError, match="no neuron can be scored"):
        imputation_score(Spy(lambda i, r: np.ones(r.traces.shape)), [Recording(np.ones((200, 3)))])


def test_twins_hide_the_same_spans(recordings):
    _, hidden = hide_spans(recordings[0])  # its first two neurons share a name
    np.testing.assert_array_equal(hidden[:, 0], hidden[:, 1])
    assert (hidden[:, 0] != hidden[:, 2]).any()
