"""Contrastive objectives against their formulas written out."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from skneurovae.metrics import infonce_bits
from skneurovae.objectives.contrastive import (
    Temperature,
    contrastive_loss,
    goodness_of_fit,
    log_ratios,
    unit_vectors,
)


def brute_force(r, p, n, kind, scale):
    def psi(a, b):
        if kind == "euclidean":
            return -scale * sum((x - y) ** 2 for x, y in zip(a, b))
        return scale * np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)

    return [psi(a, b) - logsumexp([psi(a, c) for c in n]) for a, b in zip(r, p)]


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_log_ratios_leave_the_positive_out_of_the_sum(kind):
    rng = np.random.default_rng(0)
    r, p, n = (
        rng.standard_normal((2, 4, 3)),
        rng.standard_normal((2, 4, 3)),
        rng.normal(size=(2, 7, 3)),
    )
    found = log_ratios(*map(torch.from_numpy, (r, p, n)), similarity=kind, scale=2.5)
    expected = [brute_force(r[i], p[i], n[i], kind, 2.5) for i in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize(("n", "sessions"), [(5, 1), (512, 1), (64, 3)])
def test_a_collapsed_embedding_has_0_bits_for_any_number_of_negatives(kind, n, sessions):
    same = torch.ones(sessions * n, 4, dtype=torch.float64) / 2
    u = log_ratios(same, same, same, similarity=kind, scale=3.0)
    assert goodness_of_fit(u, len(same)).item() == pytest.approx(0, abs=1e-12)
    loss = contrastive_loss(u).mean().item()
    assert infonce_bits(loss, n, sessions) == pytest.approx(0, abs=1e-12)


def test_goodness_of_fit_is_what_the_metric_says():
    u = torch.randn(20, dtype=torch.float64)
    assert goodness_of_fit(u, 9).item() == pytest.approx(infonce_bits(-u.mean().item(), 9))


def test_goodness_of_fit_hardly_depends_on_the_number_of_negatives():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=rng)
    r, p = x[:1000], x[:1000] + 0.1 * torch.randn(1000, 3, generator=rng)
    bits = [
        goodness_of_fit(log_ratios(r, p, x[-m:], similarity="cosine", scale=1.0), m).item()
        for m in (100, 3000)
    ]
    assert bits[0] > 0.5
    assert bits[0] == pytest.approx(bits[1], abs=0.05)


def test_focal_losses_are_their_formulas():
    u = torch.tensor([-3.0, -0.5, 0.0, 0.74, 4.0], dtype=torch.float64)
    p = 1 / (1 + np.exp(-u.numpy()))
    np.testing.assert_allclose(contrastive_loss(u), -u)
    np.testing.assert_allclose(contrastive_loss(u, "focal", 2.0), -((1 - p) ** 2) * np.log(p))
    published = contrastive_loss(u, "focal_published", 2.0)
    np.testing.assert_allclose(published, -u.numpy() * (1 - p) ** 2, atol=1e-12)
    np.testing.assert_allclose(contrastive_loss(u, "focal_published", 0.0), -u, atol=1e-12)


def test_the_published_focal_form_penalizes_separated_pairs_and_ours_does_not():
    u = torch.linspace(-10, 20, 3001, dtype=torch.float64)
    published = contrastive_loss(u, "focal_published", 2.0)
    assert u[published.argmin()].item() == pytest.approx(0.74, abs=0.02)
    assert published[-1] > published.min() + 0.07
    assert (contrastive_loss(u, "focal", 2.0).diff() < 0).all()


def test_a_zero_vector_stays_finite_in_value_and_gradient():
    x = torch.zeros(3, 4, requires_grad=True)
    u = log_ratios(x, x, x, similarity="cosine", scale=1.0)
    u.sum().backward()
    assert torch.isfinite(u).all()
    assert torch.isfinite(x.grad).all()
    assert torch.equal(unit_vectors(x), x)


def test_temperature_is_learned_down_to_its_floor():
    fixed, learned = Temperature(0.5), Temperature(0.5, 0.25)
    assert fixed().item() == pytest.approx(2.0)
    assert not list(fixed.parameters())
    (parameter,) = learned.parameters()
    assert learned().item() == pytest.approx(2.0)
    parameter.data.fill_(10.0)
    assert learned().item() == pytest.approx(4.0)
    parameter.data.fill_(math.log(3))
    learned().backward()
    assert parameter.grad.item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: log_ratios(x, x, x, similarity="taxi", scale=1.0),
        lambda x: contrastive_loss(x, "no"),
    ],
)
def test_unknown_names_are_refused(call):
    with pytest.raises(ValueError, match="must be"):
        call(torch.ones(2, 2))
