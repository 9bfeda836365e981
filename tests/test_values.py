"""Bits per spike, angles and InfoNCE against hand-computed values."""

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import circvar

from skneurovae.metrics import (
    bits_per_spike,
    bits_per_spike_per_neuron,
    circular_error,
    circular_r2,
    infonce_bits,
)

NAN = np.nan
LN2, LN3 = np.log(2), np.log(3)
# Evaluated: neuron 0 in bins 0, 1, 3 (mean 2), neuron 1 in bins 0, 2 (mean 2); 2 is silent.
COUNTS = np.array([[0, 1, 0], [2, NAN, 0], [NAN, 3, 0], [4, NAN, NAN]])
RATES = np.array([[1, 1, 0], [2, 99, 0], [NAN, 3, 0], [4, -5, 7]])
GAIN = [
    (-7 + 2 * LN2 + 4 * 2 * LN2) - (-6 + 6 * LN2),  # sum of n ln r - r, minus that at rate 2
    (-4 + 3 * LN3) - (-4 + 4 * LN2),
]


def nll(rates, counts):
    """Poisson negative log-likelihood with every term, as the benchmark defines it."""
    return np.sum(rates - counts * np.log(rates) + gammaln(counts + 1))


def test_bits_per_spike_by_hand_with_bins_that_are_not_evaluated():
    expected = sum(GAIN) / (10 * LN2)
    assert bits_per_spike(COUNTS, RATES) == pytest.approx(expected, abs=1e-9)
    # Whether bins are rows or trials of bins, the null is one mean per neuron.
    trials = COUNTS.reshape(2, 2, 3), RATES.reshape(2, 2, 3)
    assert bits_per_spike(*trials) == pytest.approx(expected, abs=1e-9)


def test_bits_per_spike_of_each_neuron_by_hand():
    bits = bits_per_spike_per_neuron(COUNTS, RATES)
    np.testing.assert_allclose(bits[:2], [GAIN[0] / (6 * LN2), GAIN[1] / (4 * LN2)], atol=1e-9)
    assert np.isnan(bits[2])
    weighted = (6 * bits[0] + 4 * bits[1]) / 10
    assert bits_per_spike(COUNTS, RATES) == pytest.approx(weighted, abs=1e-9)
    given = bits_per_spike_per_neuron(COUNTS, RATES, null=[1, 3, 1])
    assert given[1] == pytest.approx(((-4 + 3 * LN3) - (-6 + 4 * LN3)) / (4 * LN2))


def test_bits_per_spike_is_the_benchmarks_ratio_of_likelihoods():
    rng = np.random.default_rng(0)
    rates = rng.gamma(1.0, 0.4, (5, 40, 6))
    counts = rng.poisson(rates).astype(float)
    counts[rng.random(counts.shape) < 0.1] = NAN
    rates[0, :, 0] = 0
    seen = ~np.isnan(counts)
    null = np.broadcast_to(np.nanmean(counts, axis=(0, 1)), counts.shape)
    lifted = np.where(rates == 0, 1e-9, rates)
    difference = nll(null[seen], counts[seen]) - nll(lifted[seen], counts[seen])
    expected = difference / np.nansum(counts) / LN2
    assert bits_per_spike(counts, rates) == pytest.approx(expected, abs=1e-9)


def test_a_spike_at_rate_zero_costs_what_the_clipped_rate_says():
    bits = bits_per_spike([[1.0], [1.0]], [[0.0], [1.0]])
    assert bits == pytest.approx((np.log(1e-9) - 1e-9 - 1 + 2) / (2 * LN2))


def test_angles_are_compared_around_the_circle():
    degrees = np.pi / 180
    true = np.array([350, 10, 90, NAN]) * degrees
    predicted = np.array([10, 350 + 360, 180, 5]) * degrees
    assert circular_error(true, predicted) == pytest.approx((20 + 20 + 90) / 3 * degrees)
    assert circular_error([0.0], [np.pi]) == pytest.approx(np.pi)
    with pytest.raises(ValueError, match="no evaluated entry"):
        circular_error([NAN], [0.0])
    with pytest.raises(ValueError, match="finite"):
        circular_error([0.0], [NAN])
    with pytest.raises(ValueError, match=r"\(2,\).*\(1,\)"):
        circular_error([0.0], [0.0, 1.0])


def test_circular_r2_is_one_zero_and_minus_one_where_it_should_be():
    rng = np.random.default_rng(0)
    true = rng.vonmises(1.0, 0.7, 500)
    mean = np.angle(np.exp(1j * true).mean())
    assert circular_r2(true, true + 4 * np.pi) == pytest.approx(1)
    assert circular_r2(true, np.full(500, mean)) == pytest.approx(0, abs=1e-9)
    even = np.arange(36) * np.pi / 18
    assert circular_r2(even, even + np.pi) == pytest.approx(-1)
    predicted = true + 0.5 * rng.standard_normal(500)
    points = [np.column_stack([np.cos(a), np.sin(a)]) for a in (true, predicted)]
    half_square = ((points[0] - points[1]) ** 2).sum(1).mean() / 2
    expected = 1 - half_square / circvar(true)
    assert circular_r2(true, predicted) == pytest.approx(expected, abs=1e-9)
    two = circular_r2(np.column_stack([true, true]), np.column_stack([true, predicted]))
    assert two == pytest.approx((1 + expected) / 2)
    with pytest.raises(ValueError, match="constant"):
        circular_r2(np.ones(5), np.ones(5))
    with pytest.raises(ValueError, match="no evaluated entry"):
        circular_r2([[0.0, NAN], [1.0, NAN]], np.zeros((2, 2)))


def test_infonce_bits_of_chance_and_of_a_pair_that_is_told_apart():
    assert infonce_bits(np.log(512), 512) == pytest.approx(0)
    assert infonce_bits(np.log(1024), 512, n_sessions=2) == pytest.approx(0)
    assert infonce_bits(np.log(64), 512) == pytest.approx(3)
    np.testing.assert_allclose(infonce_bits([np.log(8), np.log(4)], 8), [0, 1], atol=1e-12)
    # From similarities: the positive at 2, eight negatives at 0.
    loss = -2 + np.log(np.exp(np.zeros(8)).sum())
    assert infonce_bits(loss, 8) == pytest.approx(2 / LN2)
    with pytest.raises(ValueError, match="1 or more"):
        infonce_bits(0.0, 0)
