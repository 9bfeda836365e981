"""Sequential models of sessions with different neurons."""

import pickle

import numpy as np
import pytest
import torch
from sequential_cases import dsae, fhvae, lfads, sessions

from skneurovae import Recording
from skneurovae.datasets import make_static_dynamic
from skneurovae.estimators.sequential_start import component_regression
from skneurovae.networks.sequential import TABLES, UNITS


@pytest.mark.parametrize("make", [lfads, dsae, fhvae], ids=["lfads", "dsae", "fhvae"])
def test_a_new_session_with_the_core_frozen(make):
    trials = sessions()
    first = [r for r in trials if r.session == "a"]
    second = [r for r in trials if r.session == "b"]
    model = make(early_stopping=False, learning_rate=0.05).fit(first)
    before = model.predict(first)
    weights = {k: v.clone() for k, v in model.network_.state_dict().items()}
    model.set_params(freeze_core=True).partial_fit(second)
    for a, b in zip(before, model.predict(first)):
        np.testing.assert_array_equal(a, b)
    for name, value in model.network_.state_dict().items():
        if name == "static_prior.table":  # of the sequences that are trained on
            assert not torch.equal(value, weights[name])
            continue
        old = weights[name]
        grown = value.shape != old.shape
        assert torch.equal(value[: len(old)] if grown else value, old), name
    start = model.predict(second)[0]
    model.set_params(freeze_core=False).partial_fit(second)
    assert not np.array_equal(model.predict(second)[0], start)
    assert not np.array_equal(model.predict(first)[0], before[0])
    # The core was trained with both sessions now.
    for how in ("partial_fit", "fit"):
        with pytest.raises(ValueError, match="freeze_core=True trains neurons"):
            getattr(model.set_params(freeze_core=True, warm_start=True), how)(second)


@pytest.mark.parametrize("make", [lfads, dsae, fhvae], ids=["lfads", "dsae", "fhvae"])
def test_a_new_session_learns_from_call_to_call_with_the_core_frozen(make):
    trials, _ = make_static_dynamic(30, n_neurons=16, mean_count=2.0, random_state=0)
    old = [Recording(t.traces[:, :8], session="a") for t in trials[:15]]
    new = [Recording(t.traces[:, 8:], session="b") for t in trials[15:]]
    third = [Recording(t.traces[:, 4:12], session="c") for t in trials]
    model = make(
        early_stopping=False, max_iter=20, encoder_dim=16, read_in_dim=8, generator_dim=16,
        beta_static=0.1, beta_dynamic=0.1, learning_rate=2e-2,
    ).fit(old)  # fmt: skip
    before = {k: v.clone() for k, v in model.network_.state_dict().items()}

    def check_core(n_rows):
        for name, value in model.network_.state_dict().items():
            if name in (*TABLES, *UNITS):
                assert torch.equal(value[:8], before[name]), name
                assert len(value) == n_rows
            elif name != "static_prior.table":  # of the sequences that are trained on
                assert torch.equal(value, before[name]), name

    model.set_params(freeze_core=True, learning_rate=6e-2)
    scores = []
    for _ in range(8):
        model.partial_fit(new)
        model = pickle.loads(pickle.dumps(model))
        scores.append(model.score(new[:8]))
        check_core(16)
    assert np.mean(scores[-3:]) > scores[0] + 0.05
    model.partial_fit(third)
    second = model.predict(new)
    with pytest.raises(ValueError, match="freeze_core=True trains neurons"):
        model.partial_fit(old)
    model.partial_fit([*new, *third])  # rows of two later sessions
    assert not np.array_equal(model.predict(new)[0], second[0])
    model.set_params(warm_start=True, max_iter=1).fit(third)
    check_core(24)


@pytest.mark.parametrize("frozen", [False, True])
def test_sequences_that_a_fitted_model_meets_have_vectors_of_their_own(frozen):
    trials = sessions()
    first, second = ([r for r in trials if r.session == s] for s in "ab")
    model = fhvae(early_stopping=False).fit(first)
    model.set_params(learning_rate=1e-12, freeze_core=frozen).partial_fit(second)
    table = model.network_.static_prior.table.detach().numpy()
    np.testing.assert_allclose(table, model.sequence_vectors(second), rtol=1e-4, atol=1e-6)
    model.set_params(learning_rate=0.1, freeze_core=False).partial_fit(second)
    assert not np.allclose(model.network_.static_prior.table.detach(), table, rtol=1e-2)


def test_new_neurons_learn_with_the_core_frozen():
    trials, _ = make_static_dynamic(40, n_neurons=16, mean_count=2.0, random_state=0)
    old = [Recording(t.traces[:, :8], session="a") for t in trials[:20]]
    new = [Recording(t.traces[:, 8:], session="b") for t in trials[20:]]
    model = dsae(
        early_stopping=False, max_iter=40, learning_rate=1e-2, encoder_dim=16, read_in_dim=8,
        generator_dim=16,
    ).fit(old)  # fmt: skip
    assert model.score(old) > 0.02
    drawn = pickle.loads(pickle.dumps(model)).set_params(freeze_core=True, learning_rate=1e-9)
    start = drawn.partial_fit(new).score(new)
    model.set_params(warm_start=True, freeze_core=True, learning_rate=3e-2).fit(new)
    assert model.score(new) > start + 0.02
    assert len(model.identities_) == 16


def test_component_regression_aligns_sessions():
    """Neurons of two sessions that mix the same signals read in to the same signals."""
    rng = np.random.RandomState(0)
    t = np.linspace(0, 6, 80)
    signals = [np.stack([np.sin(t + c), np.cos(2 * t + c)], 1) for c in range(3)]
    mixes = [rng.standard_normal((2, 6)), rng.standard_normal((2, 9))]
    rows = [np.arange(6), np.arange(6, 15)]
    traces, row, labels = [], [], []
    for session in range(2):
        for _ in range(4):
            for c, signal in enumerate(signals):
                noise = rng.standard_normal((80, rows[session].size))
                traces.append(signal @ mixes[session] + 0.1 * noise)
                row.append(rows[session])
                labels.append(f"condition {c}")
    weights = component_regression(traces, row, labels, 15, 2)
    assert weights.shape == (15, 2)
    read = [np.concatenate(signals) @ mixes[s] @ weights[rows[s]] for s in range(2)]
    read = [r - r.mean(0) for r in read]
    for k in range(2):
        assert np.corrcoef(read[0][:, k], read[1][:, k])[0, 1] > 0.98
        assert 0.7 < read[0][:, k].std() < 1.3
    with pytest.raises(ValueError, match="share no condition"):
        component_regression(traces, row, [i % 3 + 3 * (i > 11) for i in range(24)], 15, 2)


@pytest.mark.parametrize("initialization", ["pcr", "conditions"])
def test_starts_of_the_read_in(initialization):
    trials = sessions()
    labels = [i % 3 for i in range(len(trials))]
    model = lfads(initialization=initialization, max_iter=1).fit(trials, labels)
    plain = lfads(max_iter=1).fit(trials)
    assert not torch.allclose(model.network_.read_in, plain.network_.read_in, atol=1e-2)
    assert np.isfinite(model.predict(trials)[0]).all()
