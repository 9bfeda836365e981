"""Simulators of trials: what they promise of their own truth."""

import numpy as np

from skneurovae.datasets import make_lorenz, make_static_dynamic


def test_counts_follow_the_rates():
    trials, truth = make_lorenz(4, 60, n_neurons=8, random_state=0)
    counts = np.stack([t.traces for t in trials])
    rates = np.stack(truth.rates)
    assert counts.shape == rates.shape == (240, 50, 8)
    unit = (counts - rates).mean(0) / np.sqrt(rates.mean(0) / 240)
    assert abs(unit.mean()) < 0.1
    assert 0.8 < unit.std() < 1.1
    assert counts.max() <= 20  # at most one in a millisecond
    assert trials[0].rate_hz == 50.0
    assert np.abs(np.concatenate(truth.latents)).max() <= 1.0


def test_log_rates_are_linear_in_the_states_and_trials_of_a_condition_alike():
    trials, truth = make_lorenz(3, 4, n_neurons=6, bin_width=1, duration=200, random_state=0)
    log_rates = np.log(-np.log1p(-np.concatenate(truth.rates)))
    expected = np.concatenate(truth.latents) @ truth.loadings + np.log(5 / 1000)
    np.testing.assert_allclose(log_rates, expected)
    np.testing.assert_array_equal(truth.conditions, np.repeat([0, 1, 2], 4))
    np.testing.assert_array_equal(truth.rates[0], truth.rates[3])
    assert not np.array_equal(trials[0].traces, trials[3].traces)
    assert not np.array_equal(truth.rates[0], truth.rates[4])
    assert ((np.abs(truth.loadings) >= 1) & (np.abs(truth.loadings) <= 2)).all()


def test_the_states_are_those_of_lorenz():
    """The three equations, of states x = a u + m whose scales and means have to be found."""
    _, truth = make_lorenz(2, 1, bin_width=1, random_state=0)
    path = truth.latents[0]
    (u, v, w), one = path[:-1].T, np.ones(999)
    slope = np.diff(path, axis=0) / 0.006
    terms = [[u, v, one], [u, v, w, u * w, one], [u, v, w, u * v, one]]
    fits = []
    for number, columns in enumerate(terms):
        fit, residual, *_ = np.linalg.lstsq(np.stack(columns, 1), slope[:, number], rcond=None)
        assert residual[0] < 1e-12
        fits.append(fit)
    first, second, third = fits
    np.testing.assert_allclose([first[0], second[1], third[2]], [-10, -1, -8 / 3], rtol=1e-6)
    b_by_a = first[1] / 10
    a = np.sqrt(-second[3] * third[3])  # (a c / b) (a b / c)
    c = -second[3] * b_by_a
    mean_z = 28 - second[0] * b_by_a
    mean_x, mean_y = third[1] * c / (a * b_by_a), third[0] * c / a
    np.testing.assert_allclose(second[2], -mean_x * c / (a * b_by_a), rtol=1e-6)
    np.testing.assert_allclose(third[4], (mean_x * mean_y - 8 / 3 * mean_z) / c, rtol=1e-6)


def test_static_and_dynamic_are_independent_and_make_the_rates():
    trials, truth = make_static_dynamic(300, n_neurons=5, n_conditions=3, random_state=0)
    for i in (0, 7):
        np.testing.assert_allclose(
            truth.expected(truth.static[i], truth.dynamic[i]), truth.rates[i]
        )
        np.testing.assert_array_equal(trials[i].behavior, truth.dynamic[i])
    for c in range(3):
        mine = np.concatenate([d for d, k in zip(truth.dynamic, truth.conditions) if k == c])
        assert abs(mine.mean()) < 0.15
        assert abs(mine.std() - 1) < 0.1
    assert len(np.unique(truth.static, axis=0)) == 3
    counts, rates = (np.concatenate(x) for x in ([t.traces for t in trials], truth.rates))
    np.testing.assert_allclose(counts.mean(0), rates.mean(0), rtol=0.03)


def test_same_seed_same_trials():
    for make in (lambda s: make_lorenz(2, 2, random_state=s)[0],
                 lambda s: make_static_dynamic(3, random_state=s)[0]):  # fmt: skip
        a, b, c = make(0), make(0), make(1)
        np.testing.assert_array_equal(a[1].traces, b[1].traces)
        assert not np.array_equal(a[1].traces, c[1].traces)
