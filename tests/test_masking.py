"""What is hidden: at the rates that were asked for, in one piece, and never all there is."""

import numpy as np
import pytest
import torch

from skneurovae.recordings import Recording
from skneurovae.recordings.batches import RecordingStore
from skneurovae.recordings.masking import HidingSchedule

NOTHING = {"neurons": (0, 0), "spans": (0, 0), "behavior": 0, "everything": 0}


def make_batch(n_windows=60, n_timesteps=80, n_neurons=40, n_behaviors=3, missing=0.0):
    rng = np.random.default_rng(0)
    traces = rng.normal(size=(n_timesteps, n_neurons))
    traces[rng.random(traces.shape) < missing] = np.nan
    behavior = rng.normal(size=(n_timesteps, n_behaviors)) if n_behaviors else None
    store = RecordingStore(
        [Recording(traces, behavior=behavior)],
        [np.arange(n_neurons)],
        device="cpu",
        dtype=torch.float32,
    )
    return store.batch([(0, 0, n_timesteps)] * n_windows)


def hide(batch, seed=0, **rates):
    generator = torch.Generator().manual_seed(seed)
    return HidingSchedule(**{**NOTHING, **rates}).hide(batch, generator)


def share(mask, dim=None):
    return mask.float().mean(dim)


def run_lengths(column):
    """Lengths of runs of True that touch neither end."""
    edges = np.flatnonzero(np.diff(column.astype(int)))
    starts = edges[~column[edges]] + 1
    return [e - s for s in starts for e in edges[edges >= s][:1] + 1]


def test_nothing_is_hidden_at_rates_of_zero():
    batch = make_batch(missing=0.3)
    hidden = hide(batch)
    assert torch.equal(hidden.shown, batch.observed)
    assert torch.equal(hidden.behavior_shown, batch.behavior_observed)


def test_the_batch_itself_and_its_data_stay_as_they_are():
    batch = make_batch(missing=0.3)
    before = batch.shown.clone()
    result = HidingSchedule().hide(batch, torch.Generator().manual_seed(0))
    assert torch.equal(batch.shown, before)
    assert result.hidden.any()
    assert result.traces is batch.traces
    assert torch.equal(result.observed, batch.observed)
    assert not (result.shown & ~batch.observed).any()
    assert not (result.behavior_shown & ~batch.behavior_observed).any()


def test_only_what_was_shown_can_be_shown():
    batch = make_batch()
    once = hide(batch, neurons=(0.5, 0.5))
    twice = hide(once, seed=1, neurons=(0.5, 0.5))
    assert not (twice.shown & ~once.shown).any()
    assert twice.shown.sum() < once.shown.sum()


def test_whole_neurons_are_hidden_at_a_rate_of_the_window():
    batch = make_batch(n_windows=400)
    gone = hide(batch, neurons=(0.1, 0.6)).hidden
    assert torch.equal(gone.any(1), gone.all(1))
    rates = share(gone, (1, 2))
    assert float(rates.mean()) == pytest.approx(0.35, abs=0.02)
    # A rate that is uniform and a binomial of it: both variances add up.
    expected = 0.5**2 / 12 + (0.35 * 0.65 - 0.5**2 / 12) / 40
    assert float(rates.var()) == pytest.approx(expected, rel=0.2)
    assert float(share(hide(batch, neurons=(0.3, 0.3)).hidden)) == pytest.approx(0.3, abs=0.01)


def test_spans_are_contiguous_and_as_frequent_and_long_as_asked():
    batch = make_batch(n_windows=200)
    gone = hide(batch, spans=(0.1, 0.1), span_length=(4, 16)).hidden
    assert float(share(gone)) == pytest.approx(0.1, abs=0.005)
    # As many at the edges of a window as in its middle.
    assert float(share(gone[:, :4])) == pytest.approx(0.1, abs=0.01)
    assert float(share(gone[:, -4:])) == pytest.approx(0.1, abs=0.01)
    columns = gone[:50].permute(0, 2, 1).reshape(-1, gone.shape[1]).numpy()
    lengths = np.array([n for column in columns for n in run_lengths(column)])
    assert lengths.min() == 4
    short = np.bincount(lengths, minlength=17)[4:17] / len(lengths)
    assert short.sum() > 0.9  # few spans touch another one
    assert short.max() < 2.5 * short.min()


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_spans_overlap_where_the_rate_is_high(rate):
    gone = hide(make_batch(), spans=(rate, rate), span_length=(3, 5)).hidden
    assert float(share(gone)) == pytest.approx(rate, abs=0.06)


def test_time_steps_are_hidden_in_all_neurons_at_once():
    hidden = hide(make_batch(200), bins=(0.2, 0.2))
    step = hidden.shown.any(2)
    assert torch.equal(step[..., None].expand_as(hidden.shown), hidden.shown)
    assert share(~step) == pytest.approx(0.2, abs=0.02)
    assert share(~step[:, 0]) == pytest.approx(0.2, abs=0.08)  # as often at either end
    assert share(~step[:, -1]) == pytest.approx(0.2, abs=0.08)
    assert min(n for column in ~step.numpy() for n in run_lengths(column)) >= 4
    rates = share(~hide(make_batch(200), bins=(0.0, 0.6)).shown.any(2), 1)
    assert rates.min() == 0
    assert rates.max() > 0.4


def test_spans_of_one_length():
    gone = hide(make_batch(), spans=(0.02, 0.02), span_length=(6, 6)).hidden
    columns = gone.permute(0, 2, 1).reshape(-1, gone.shape[1]).numpy()
    lengths = [n for column in columns for n in run_lengths(column)]
    assert np.mean(np.array(lengths) == 6) > 0.9
    assert min(lengths) == 6


def test_behavior_channels_are_hidden_as_a_whole():
    batch = make_batch(n_windows=1000, n_timesteps=5, n_neurons=2)
    gone = ~hide(batch, behavior=0.3).behavior_shown
    assert torch.equal(gone.any(1), gone.all(1))
    assert float(share(gone)) == pytest.approx(0.3, abs=0.03)
    assert not hide(batch, behavior=1.0).behavior_shown.any()


def test_all_behavior_of_a_window_is_hidden_together():
    batch = make_batch(n_windows=2000, n_timesteps=5, n_neurons=2)
    gone = ~hide(batch, all_behavior=0.4).behavior_shown.any(1)
    assert torch.equal(gone.any(1), gone.all(1))
    assert float(share(gone)) == pytest.approx(0.4, abs=0.04)
    gone = ~hide(batch, all_behavior=0.4, behavior=0.2).behavior_shown.any(1)
    assert float(share(gone)) == pytest.approx(1 - 0.6 * 0.8, abs=0.04)
    assert float(share(gone.all(1))) == pytest.approx(0.4 + 0.6 * 0.2**3, abs=0.04)


def test_without_neurons_there_is_always_behavior():
    batch = make_batch(n_windows=1000, n_timesteps=5, n_neurons=4)
    for rates in ({"behavior": 0.9}, {"behavior": 0.5, "all_behavior": 0.9}):
        result = hide(batch, neurons=(0.1, 0.6), everything=0.2, **rates)
        alone = ~result.shown.any((1, 2))
        assert float(share(alone)) == pytest.approx(0.2, abs=0.04)
        assert result.behavior_shown[alone].any((1, 2)).all()
        assert not result.behavior_shown[~alone].any((1, 2)).all()


def test_neurons_stay_where_no_behavior_could_stand_in():
    batch = make_batch(n_behaviors=0)
    assert hide(batch, everything=1.0).shown.any((1, 2)).all()
    batch = make_batch()
    batch.behavior_shown = torch.zeros_like(batch.behavior_observed)
    assert hide(batch, everything=1.0).shown.any((1, 2)).all()


@pytest.mark.parametrize(
    "rates", [{"neurons": (1, 1)}, {"spans": (1, 1)}, {"neurons": (0.9, 1), "spans": (0.9, 1)}]
)
@pytest.mark.parametrize("n_neurons", [1, 5])
def test_something_of_one_neuron_stays_shown(rates, n_neurons):
    batch = make_batch(n_windows=200, n_neurons=n_neurons, missing=0.5)
    batch.shown = batch.observed.clone()
    batch.shown[:, :, : n_neurons // 2] = False  # these could not stay
    result = hide(batch, **rates)
    assert result.shown.any((1, 2)).all()
    if rates == {"neurons": (1, 1)}:
        assert (result.shown.any(1).sum(1) == 1).all()


def test_a_window_without_any_trace_is_no_trouble():
    batch = make_batch(missing=1.1)
    assert not HidingSchedule().hide(batch).shown.any()


def test_same_seed_same_masks():
    batch = make_batch(n_windows=8)
    first, again, other = (HidingSchedule().hide(batch, torch.Generator().manual_seed(seed))
                           for seed in (0, 0, 1))  # fmt: skip
    assert torch.equal(first.shown, again.shown)
    assert torch.equal(first.behavior_shown, again.behavior_shown)
    assert not torch.equal(first.shown, other.shown)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"neurons": (0.6, 0.1)}, "neurons must be"),
        ({"spans": (0.0, 1.2)}, "spans must be"),
        ({"span_length": (0, 4)}, "span_length must be"),
        ({"behavior": -0.1}, "behavior must be between 0 and 1, got -0.1"),
        ({"all_behavior": 1.5}, "all_behavior must be between 0 and 1, got 1.5"),
        ({"everything": 2}, "everything must be between 0 and 1, got 2"),
    ],
)
def test_wrong_rates_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        HidingSchedule(**bad)
