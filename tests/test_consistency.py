"""Consistency against scikit-learn, on planted maps and on noise."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from skneurovae.metrics import consistency, consistency_score


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((300, 3))
    return [
        shared @ rng.standard_normal((3, d)) + 0.5 * rng.standard_normal((300, d))
        for d in (2, 3, 4)
    ]


def test_in_sample_consistency_is_the_r2_of_scikit_learn(runs):
    matrix, mean = consistency(runs, cross_fitted=False)
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    for i, j in pairs:
        expected = LinearRegression().fit(runs[i], runs[j]).score(runs[i], runs[j])
        assert matrix[i, j] == pytest.approx(expected, abs=1e-9)
    assert np.isnan(np.diag(matrix)).all()
    assert mean == pytest.approx(np.mean([matrix[p] for p in pairs]))


def test_cross_fitted_consistency_scores_blocks_that_the_map_did_not_see(runs):
    matrix, _ = consistency(runs, n_blocks=6)
    even = np.repeat([True, False] * 3, 50)
    prediction = np.empty_like(runs[1])
    for half in (even, ~even):
        model = LinearRegression().fit(runs[0][~half], runs[1][~half])
        prediction[half] = model.predict(runs[0][half])
    assert matrix[0, 1] == pytest.approx(r2_score(runs[1], prediction), abs=1e-9)


def test_affine_maps_are_consistent_and_noise_only_in_sample():
    rng = np.random.default_rng(0)
    run = rng.standard_normal((100, 8))
    moved = run @ rng.standard_normal((8, 8)) - 5
    for cross_fitted in (True, False):
        assert consistency([run, moved], cross_fitted=cross_fitted)[1] == pytest.approx(1)
    noise = [rng.standard_normal((100, 8)) for _ in range(10)]
    assert consistency(noise, cross_fitted=False)[1] == pytest.approx(8 / 99, abs=0.02)
    assert consistency(noise)[1] < 0


def bins_by_loops(embedding, label, grid):
    """Averages in bins, empty ones widened, each divided by its length."""
    digits, rows = np.digitize(label, grid), []
    for b in range(1, len(grid)):
        near = next(m for w in (0, 1, 2) if (m := np.abs(digits - b) <= w).any())
        rows.append(embedding[near].mean(0) / np.linalg.norm(embedding[near].mean(0)))
    return np.array(rows)


@pytest.fixture
def animals():
    """Embeddings of position in two animals, of different length."""
    rng = np.random.default_rng(1)
    labels = [np.r_[0, 1, rng.random(n)] for n in (250, 400)]
    curves = [np.column_stack([np.cos(3 * p), np.sin(3 * p), p]) for p in labels]
    return [c + 0.3 * rng.standard_normal(c.shape) for c in curves], labels


def test_labels_align_different_data_in_bins(animals):
    embeddings, labels = animals
    grid = np.linspace(0, 1, 100)
    assert len(np.unique(np.digitize(labels[0], grid))) < 100  # some bins are empty
    binned = [bins_by_loops(e, p, grid) for e, p in zip(embeddings, labels)]
    matrix, _ = consistency(embeddings, labels=labels, cross_fitted=False)
    for i, j in [(0, 1), (1, 0)]:
        expected = LinearRegression().fit(binned[i], binned[j]).score(binned[i], binned[j])
        assert matrix[i, j] == pytest.approx(expected, abs=1e-9)


def test_labels_and_halves_of_blocks(animals):
    embeddings, labels = animals
    grid = np.linspace(0, 1, 20)
    halves = [np.arange(len(p)) * 8 // len(p) % 2 for p in labels]
    parts = [
        [bins_by_loops(e[h == k], p[h == k], grid) for k in (0, 1)]
        for e, p, h in zip(embeddings, labels, halves)
    ]
    (a0, a1), (b0, b1) = parts
    prediction = [
        LinearRegression().fit(a1, b1).predict(a0),
        LinearRegression().fit(a0, b0).predict(a1),
    ]
    expected = r2_score(np.concatenate([b0, b1]), np.concatenate(prediction))
    matrix, _ = consistency(embeddings, labels=labels, n_bins=20, n_blocks=8)
    assert matrix[0, 1] == pytest.approx(expected, abs=1e-9)


def test_a_collapsed_dimension_does_not_count_as_consistent(runs):
    collapsed = np.column_stack([runs[0], np.full(300, 0.1)])
    matrix, _ = consistency([runs[1], collapsed], cross_fitted=False)
    plain, _ = consistency([runs[1], runs[0]], cross_fitted=False)
    assert matrix[0, 1] == pytest.approx(plain[0, 1])
    with pytest.raises(ValueError, match="embedding 1 is constant"):
        consistency([runs[0], np.ones((300, 2))])


def test_score_embeds_with_every_run():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 6))
    X += 0.1 * rng.standard_normal(X.shape)
    models = [PCA(2).fit(X), PCA(3).fit(X[:100])]
    expected = consistency([m.transform(X) for m in models])[1]
    assert consistency_score(models, X) == pytest.approx(expected)

    class OverRecordings:
        def __init__(self, model):
            self.model = model

        def transform(self, X):
            return [self.model.transform(r.traces) for r in X]

    wrapped = [OverRecordings(m) for m in models]
    assert consistency_score(wrapped, [X[:80], X[80:]]) == pytest.approx(expected)


def test_wrong_input_is_refused(runs, animals):
    embeddings, labels = animals
    with pytest.raises(ValueError, match="two or more"):
        consistency(runs[:1])
    with pytest.raises(ValueError, match="252 and 402 samples"):
        consistency(embeddings)
    with pytest.raises(ValueError, match="embedding 1 must be finite"):
        consistency([runs[0], np.full((300, 2), np.nan)])
    with pytest.raises(ValueError, match="n_blocks must lie between 2"):
        consistency(runs, n_blocks=1)
    with pytest.raises(ValueError, match="labels has 1 entries for 2"):
        consistency(embeddings, labels=labels[:1])
    with pytest.raises(ValueError, match="labels of embedding 0"):
        consistency(embeddings, labels=[labels[0][1:], labels[1]])
    with pytest.raises(ValueError, match="embedding 1 has no sample with a label near"):
        consistency(embeddings, labels=[labels[0], labels[1] * 0.5])
    with pytest.raises(ValueError, match="n_bins"):
        consistency(embeddings, labels=labels, n_bins=2)
