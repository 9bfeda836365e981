"""FHVAE's sequences while it trains: their vectors, their segments, and telling them apart."""

import warnings

import numpy as np
import pytest
import torch
from sequential_cases import fhvae, sessions, spikes

TRIALS = spikes(5, (12, 27))


def watched(model, trials, monkeypatch):
    """Copies of what the table of sequences holds at every loss of a fit, and the model."""
    seen, loss = [], model._network_class.loss

    def spy(network, batch):
        if network.training:
            table = network.static_prior.table.detach().clone()
            seen.append((network.row_of.numpy().copy(), table.numpy(), network.n_segments.tolist()))
        return loss(network, batch)

    monkeypatch.setattr(model._network_class, "loss", spy)
    return model.fit(trials), seen


@pytest.mark.parametrize("at_once", [None, 2])
def test_priors_of_vectors_are_spread_over_the_segments_of_their_sequences(at_once, monkeypatch):
    model = fhvae(n_sequences_at_once=at_once, max_iter=4, early_stopping=False)
    _, seen = watched(model, TRIALS, monkeypatch)
    # Windows of 10, every 5 steps, the last one moved back to the end.
    segments = [1 + -(-(len(t) - 10) // 5) for t in TRIALS]
    assert len(set(segments)) > 1
    for row_of, _, n_segments in seen:
        known = np.flatnonzero(row_of >= 0)
        assert len(known) == (at_once or 5)
        for i in known:
            assert n_segments[row_of[i]] == segments[i]


def test_segments_of_a_session_are_those_of_its_trials(monkeypatch):
    model = fhvae(sequences="session", early_stopping=False)
    _, seen = watched(model, sessions(), monkeypatch)  # four trials of 15 steps in each
    assert all(n_segments == [8, 8] for _, _, n_segments in seen)


def test_hierarchical_sampling_starts_from_closed_forms(monkeypatch):
    """Each epoch gives the table to other sequences, whose vectors follow from their segments."""
    model = fhvae(
        n_sequences_at_once=2, max_iter=6, early_stopping=False, learning_rate=1e-12, dropout=0.0,
        coordinated_dropout=0.0, hide_neurons=(0.0, 0.0),
    )  # fmt: skip
    model, seen = watched(model, TRIALS, monkeypatch)
    vectors = model.sequence_vectors([t.astype(np.float32) for t in TRIALS])
    assert np.abs(vectors).min(1).max() > 1e-3
    met = set()
    for row_of, table, _ in seen:
        chosen = np.flatnonzero(row_of >= 0)
        met.update(chosen.tolist())
        np.testing.assert_allclose(table[row_of[chosen]], vectors[chosen], rtol=1e-4, atol=1e-6)
    assert len(met) > 2


# Telling sequences apart


def test_one_sequence_has_nothing_to_be_told_from():
    """The only recording, or session, of a fit: the weight of the term does not matter there."""
    alone = TRIALS[0]
    fits = []
    for alpha in (10.0, 50.0):
        with pytest.warns(UserWarning, match="alpha has no effect .* one sequence"):
            fits.append(fhvae(alpha=alpha).fit(alone))
    np.testing.assert_array_equal(fits[0].loss_curve_, fits[1].loss_curve_)
    with pytest.warns(UserWarning, match="alpha has no effect"):
        fhvae(sequences="session").fit([r for r in sessions() if r.session == "a"])
    with pytest.warns(UserWarning, match="alpha has no effect"):
        fits[0].partial_fit(alone)


def test_several_sequences_and_no_weight_are_fitted_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fhvae(alpha=0.0).fit(TRIALS[0])
        fhvae(alpha=0.0, n_sequences_at_once=1).fit(TRIALS)
        a, b = (fhvae(alpha=alpha, random_state=0).fit(TRIALS) for alpha in (10.0, 50.0))
    assert not np.allclose(a.loss_curve_, b.loss_curve_)
    assert a.history_[0]["discrimination"] > 0
    assert torch.isfinite(b.network_.static_prior.table).all()
