"""Lengths in gradient steps, the running mean of weights, what a start knows, bounded rates."""

import math

import numpy as np
import pytest
import torch
from sequential_cases import lfads, spikes
from torch import nn

from skneurovae import LFADS, NeuroBehaviorVAE, Recording
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.common.randomness import Dropout, dropout, seeded
from skneurovae.estimators import neuro_behavior_vae
from skneurovae.networks.base import LatentNetwork
from skneurovae.networks.pooled import PooledNetwork
from skneurovae.networks.precision import PrecisionNetwork
from skneurovae.networks.sequential import SequentialNetwork
from skneurovae.objectives import LossTerms, bounded_above, log_ceiling
from skneurovae.training import TrainingSettings, train

SMALL = {
    "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "random_state": 0,
    "device": "cpu",
}  # fmt: skip
LINEAR = {**SMALL, "shrinkage": 100.0, "prior": "normal"}


def simulated(n=300, n_neurons=10, rank=2, seed=0):
    rng = np.random.RandomState(seed)
    latents = np.sin(np.arange(n)[:, None] / np.linspace(3, 17, rank) + np.arange(rank))
    return latents @ rng.standard_normal((rank, n_neurons)) + 0.5 * rng.standard_normal(
        (n, n_neurons)
    )


# -- lengths in gradient steps -----------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch):
    """Numbers of steps that networks are trained for, by stage, at next to no cost."""
    counts = {"alone": 0, "together": 0}

    def loss(network, batch):
        if network.training:
            counts["together" if getattr(network, "refining", True) else "alone"] += 1
        matrix = max((p for p in network.parameters() if p.requires_grad), key=torch.numel)
        return LossTerms(0.0 * matrix.square().sum(), {})

    for network in (PrecisionNetwork, PooledNetwork, SequentialNetwork):
        monkeypatch.setattr(network, "loss", loss)
    return counts


LONG = {
    "one recording": lambda: simulated(2000),
    "recordings": lambda: [simulated(170, seed=s) for s in range(12)],
}


@pytest.mark.parametrize("name", LONG)
def test_auto_is_a_number_of_steps_whatever_the_size_of_the_data(steps, name):
    NeuroBehaviorVAE(2, early_stopping=False, **LINEAR).fit(LONG[name]())
    # Windows overlap, so that there are more strips of time steps than time steps would fill.
    assert 850 <= steps["alone"] <= 1250
    assert 850 <= steps["together"] <= 1250


def test_auto_is_at_least_ten_epochs(steps):
    model = NeuroBehaviorVAE(
        2, early_stopping=False, window_length=8, batch_size=1, **LINEAR
    ).fit(simulated(320, n_neurons=3))  # fmt: skip
    assert model.n_iter_ == 10  # of 40 windows, three times each, or of one more
    assert steps["together"] == pytest.approx(10 * 120, rel=0.05)


def test_a_short_epoch_is_gone_through_until_it_has_twenty_steps(steps):
    model = NeuroBehaviorVAE(2, early_stopping=False, **LINEAR).fit(simulated(300))
    # Five or six windows make one batch, three times, and that seven times.
    assert model.n_iter_ == math.ceil(1000 / 21)
    assert steps["together"] == 21 * model.n_iter_
    assert 850 <= steps["alone"] <= 1250


def test_a_number_of_epochs_is_that_number(steps):
    model = NeuroBehaviorVAE(2, max_iter=4, early_stopping=False, **LINEAR).fit(simulated(640))
    # Ten or eleven windows make two batches, each taken three times; 20 strips make three.
    assert model.n_iter_ == 4
    assert steps == {"alone": 4 * 3 * 3, "together": 4 * 3 * 2}


def test_other_estimators_count_steps_too(steps):
    pooled = NeuroBehaviorVAE(
        2, neuron_encoder="pooled", early_stopping=False, batch_size=2, **SMALL
    ).fit(simulated(640))  # fmt: skip
    assert pooled.n_iter_ == 42  # of six batches, four times
    assert steps["together"] == pytest.approx(1000, rel=0.15)
    assert steps["alone"] == 0
    steps["together"] = 0
    model = lfads(max_iter="auto", batch_size=4, early_stopping=False).fit(spikes(16))
    assert model.n_iter_ == 50  # of four batches, five times
    assert steps["together"] == 1000


def test_partial_fit_is_one_epoch(steps):
    model = NeuroBehaviorVAE(2, **LINEAR).partial_fit(simulated(640))
    assert model.n_iter_ == 1
    assert steps["together"] == 6


def test_patience_counts_steps(steps):
    model = NeuroBehaviorVAE(2, weight_decay=0.0, **LINEAR).fit(simulated(1000))
    # After the warm-up, 3 % of the epochs; after the first 30 % of them, in which beta rises.
    assert 250 <= steps["alone"] <= 250 + 0.03 * 1000 + 60
    assert 550 * 0.9 <= steps["together"] <= 550 * 1.2
    assert model.start_kept_


@pytest.mark.parametrize("n_steps", [1, 7, 90, 1000])
def test_lengths_by_the_steps_of_an_epoch(n_steps):
    def batches():
        raise AssertionError("nothing is drawn to count steps")

    batches.n_steps = n_steps
    for model in (NeuroBehaviorVAE(), LFADS()):
        n_epochs, patience = model._lengths("auto", batches)
        assert n_epochs == max(10, math.ceil(1000 / n_steps))
        assert patience == max(3, math.ceil(250 / n_steps))
        assert model.set_params(n_iter_no_change=6)._lengths(17, batches) == (17, 6)


# -- running mean of the weights ---------------------------------------------------------------


class Walk(LatentNetwork):
    """One weight under a quadratic loss, which an Adam without memory moves by equal steps."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.trained, self.tricks = [], set()

    def loss(self, batch):
        if self.training:
            self.trained.append(self.weight.item())
        trick = len(self.trained) in self.tricks
        loss = (self.weight - 100.0).square().sum()
        return LossTerms(loss * torch.nan if trick else loss, {})


RATE, N = 0.25, 4  # of a step, and steps per epoch


def walked(n_epochs, averaging, scores=None, **changes):
    network, seen = Walk(), []
    network.tricks = changes.pop("tricks", set())

    def validate():
        seen.append(network.weight.item())
        return -network.weight.item() if scores is None else scores[len(seen) - 1]

    settings = TrainingSettings(
        max_iter=n_epochs, learning_rate=RATE, betas=(0.0, 0.0), weight_decay=0.0,
        annealing=False, averaging=averaging, **changes,
    )  # fmt: skip
    history = train(network, lambda: iter(range(N)), settings=settings, validate=validate)
    return network, seen, history


def test_weights_themselves_walk_by_equal_steps():
    network, seen, _ = walked(5, averaging=0.0)
    np.testing.assert_allclose(seen, RATE * N * np.arange(6), rtol=1e-6)
    assert network.weight.item() == pytest.approx(RATE * N * 5)


def test_the_mean_of_a_walk_is_validated_and_kept():
    network, seen, history = walked(5, averaging=0.99)
    # m_n = (n m_{n-1} + 2 w_n) / (n + 2) with w_n = n r has the solution m_n = 2 n r / 3.
    np.testing.assert_allclose(seen, 2 / 3 * RATE * N * np.arange(6), rtol=1e-6)
    assert network.weight.item() == pytest.approx(2 / 3 * RATE * N * 5)
    np.testing.assert_allclose(history.validation_scores, -np.array(seen), rtol=1e-6)
    # The walk itself goes on from the weights, not from their mean.
    np.testing.assert_allclose(network.trained, RATE * np.arange(5 * N), rtol=1e-6)


def test_the_mean_forgets_by_its_decay():
    _, seen, _ = walked(30, averaging=0.5)
    # A mean of weights of age k has the weight (1 - d) d ** k: it is d / (1 - d) steps behind.
    assert seen[-1] == pytest.approx(RATE * (30 * N - 1), rel=1e-6)
    _, seen, _ = walked(30, averaging=0.8)
    assert seen[-1] == pytest.approx(RATE * (30 * N - 4), rel=1e-6)


def test_the_mean_of_the_best_epoch_is_kept():
    scores = [9.0, 8.0, 3.0, 5.0, 4.0, 6.0]
    network, seen, history = walked(5, averaging=0.99, scores=scores)
    assert history.best_epoch == 2
    assert network.weight.item() == seen[2]
    np.testing.assert_allclose(network.trained, RATE * np.arange(5 * N), rtol=1e-6)


def test_without_validation_the_last_mean_is_kept():
    network = Walk()
    settings = TrainingSettings(
        max_iter=3, learning_rate=RATE, betas=(0.0, 0.0), weight_decay=0.0, annealing=False,
        averaging=0.99,
    )  # fmt: skip
    train(network, lambda: iter(range(N)), settings=settings)
    assert network.weight.item() == pytest.approx(2 / 3 * RATE * N * 3)


def test_after_a_rollback_the_mean_begins_anew_from_the_weights():
    _, seen, history = walked(2, averaging=0.99, tricks={N + 2})
    assert history.n_rollbacks == 1
    begin, rate = RATE * N, RATE / 2  # the weights after the first epoch, at half the rate
    np.testing.assert_allclose(seen[:2], [0, 2 / 3 * RATE * N], rtol=1e-6)
    assert seen[-1] == pytest.approx(begin + 2 / 3 * rate * N, rel=1e-6)


@pytest.mark.parametrize("averaging", [-0.1, 1.0, 1.5])
def test_a_decay_is_below_one(averaging):
    with pytest.raises(ValueError, match="averaging must be from 0 to below 1"):
        TrainingSettings(max_iter=1, averaging=averaging)


# -- what the start knows ----------------------------------------------------------------------


@pytest.fixture
def starts(monkeypatch):
    """Weights of networks as `start_linear` leaves them, in order."""
    kept, start_linear = [], neuro_behavior_vae.start_linear

    def noted(network, *args, **kwargs):
        choice = start_linear(network, *args, **kwargs)
        kept.append({name: value.clone() for name, value in network.state_dict().items()})
        return choice

    monkeypatch.setattr(neuro_behavior_vae, "start_linear", noted)
    return kept


MEASURED = (
    "loadings", "center", "psi", "decoder_loadings", "output_offset", "output_scale",
    "input_offset", "input_scale", "information", "basis.low", "basis.high", "basis.offset",
)  # fmt: skip


@pytest.mark.parametrize("shrinkage", [100.0, "auto"])
def test_the_start_has_not_seen_what_validates(starts, shrinkage):
    X = simulated(200)
    behavior = np.sin(np.arange(200) / 5)[:, None]
    later, earlier = X.copy(), X.copy()
    later[-30:] = 5 + 3 * X[-30:][::-1]  # the tail, 15 %
    earlier[-31] += 5
    tail = behavior.copy()
    tail[-30:] = 7.0
    options = {**LINEAR, "shrinkage": shrinkage, "normalize": "identity", "max_iter": 1}
    for traces, driven in ((X, behavior), (later, tail), (earlier, behavior)):
        model = NeuroBehaviorVAE(2, behavior_kind="bounded", learning_rate=1e-9, **options)
        assert model.fit(traces, behavior=driven).start_kept_
    before, same, other = starts[::2]
    for name in MEASURED:
        assert torch.equal(before[name], same[name]), name
    assert not torch.equal(before["loadings"], other["loadings"])
    # Once it is kept, it is fitted to all.
    assert not torch.equal(starts[1]["loadings"], starts[3]["loadings"])


def test_a_recording_held_out_is_not_in_the_start(starts):
    made = [simulated(80, seed=0) + 0.1 * np.random.RandomState(s).randn(80, 10) for s in range(5)]
    for number in range(5):
        recordings = list(made)
        recordings[number] = made[number][:, ::-1].copy()
        NeuroBehaviorVAE(2, max_iter=1, learning_rate=1e-9, normalize="identity", **LINEAR).fit(
            recordings
        )
    NeuroBehaviorVAE(2, max_iter=1, learning_rate=1e-9, normalize="identity", **LINEAR).fit(made)
    *loadings, before = (start["loadings"] for start in starts[::2])
    changed = [not torch.equal(value, before) for value in loadings]
    assert sum(changed) == 4  # one of five was held out


def test_a_start_that_is_kept_is_the_linear_model_of_all_recordings():
    X = simulated(200)
    X[-30:] *= 2.0
    model = NeuroBehaviorVAE(2, max_iter=1, learning_rate=1e-9, **LINEAR).fit(X)
    assert model.start_kept_
    hidden = np.where(np.arange(10) % 3 == 0, np.nan, X)
    whole = MissingFactorAnalysis(2, shrinkage=100.0, smoothing=0.0, random_state=0)
    expected = whole.fit(X).predict(hidden)
    np.testing.assert_allclose(model.predict(hidden), expected, atol=0.02)
    part = whole.fit(X[:-30]).predict(hidden)
    assert np.abs(part - expected).max() > 0.1


@pytest.mark.parametrize("better", [True, False])
def test_neurons_of_the_validation_part_alone_are_learned(monkeypatch, better):
    X = simulated(300)
    unseen = X.copy()
    unseen[:-45, 4] = np.nan
    monkeypatch.setattr(
        neuro_behavior_vae, "gain_over", lambda *shares: (1.0 if better else -1.0, 0.0)
    )
    model = NeuroBehaviorVAE(2, max_iter=1, **LINEAR).fit(unseen)
    assert model.start_kept_ is not better
    hidden = X.copy()
    hidden[:, 4] = np.nan
    assert np.corrcoef(model.predict(hidden)[:, 4], X[:, 4])[0, 1] > 0.7


# -- number of components ----------------------------------------------------------------------


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_the_number_of_components_is_found(rank):
    rng = np.random.RandomState(rank)
    X = rng.standard_normal((600, rank)) @ rng.standard_normal((rank, 40))
    X = X + rng.standard_normal(X.shape)
    model = NeuroBehaviorVAE("auto", max_iter=1, **LINEAR).fit(X)
    assert model.n_components == "auto"
    assert model.n_components_ == rank
    assert model.transform(X).shape == (600, rank)


def test_components_are_fewer_than_neurons():
    model = NeuroBehaviorVAE("auto", max_iter=1, **LINEAR).fit(simulated(210, 4))
    assert 1 <= model.n_components_ <= 3
    model = NeuroBehaviorVAE("auto", neuron_encoder="pooled", max_iter=1, **SMALL)
    assert model.fit(simulated(210, 4)).n_components_ <= 3
    with pytest.raises(ValueError, match="n_components"):
        NeuroBehaviorVAE("many", max_iter=1, **LINEAR).fit(simulated(210))


# -- bounded rates -----------------------------------------------------------------------------


def test_log_rates_stay_and_then_level_off():
    values = torch.linspace(-30, 40, 400, dtype=torch.float64, requires_grad=True)
    ceiling = torch.tensor(1.5, dtype=torch.float64)
    bounded = bounded_above(values, ceiling)
    x = values.detach().numpy()
    above = np.maximum(x - 1.5, 0)
    expected = np.where(x <= 1.5, x, 1.5 + 1 / (1 / np.maximum(above, 1e-300) + 1 / np.log(2)))
    np.testing.assert_allclose(bounded.detach(), expected, atol=1e-12)
    assert bounded.max() < 1.5 + math.log(2)
    bounded.sum().backward()
    slope = np.where(x <= 1.5, 1.0, (np.log(2) / (above + np.log(2))) ** 2)
    np.testing.assert_allclose(values.grad, slope, atol=1e-12)
    free = bounded_above(values, torch.tensor(torch.inf, dtype=torch.float64))
    assert torch.equal(free, values)


def test_ceilings_of_neurons():
    largest = np.array([7.0, 1.0, 0.0, -np.inf, 0.25])
    counts = log_ceiling(largest, True)
    np.testing.assert_allclose(counts, [np.log(7), 0, 0, np.inf, 0])
    positive = log_ceiling(np.array([7.0, 0.25, -np.inf]), False)
    np.testing.assert_allclose(positive, [np.log(7), np.log(0.25), np.inf])


def counts():
    made = np.random.RandomState(0).poisson(np.exp(0.7 * simulated(240))).astype(float)
    made[:, 3] = 0.0
    return made


def test_rates_of_wild_latents_are_at_most_twice_the_largest_count():
    X = counts()
    with pytest.warns(UserWarning, match="never vary"):
        model = NeuroBehaviorVAE(2, likelihood="poisson", max_iter=1, **LINEAR).fit(X)
    ceiling = model.network_.ceiling.numpy()
    np.testing.assert_allclose(ceiling, np.log(np.maximum(X.max(0), 1.0)), rtol=1e-6)
    directions = np.random.RandomState(1).standard_normal((50, 2))
    rates = model.inverse_transform(1e4 * directions)
    assert np.isfinite(rates).all()
    limit = 2 * np.maximum(X.max(0), 1.0)
    assert (rates <= limit * (1 + 1e-5)).all()
    assert (rates.max(0) > 0.9 * limit).sum() > 5
    usual = model.inverse_transform(0.1 * directions)
    assert (usual < 0.5 * limit).mean() > 0.9


def test_rates_of_wild_factors_of_sequential_networks_are_bounded():
    trials = spikes(8)
    model = lfads(likelihood="poisson").fit(trials)
    largest = np.concatenate(trials).max(0)
    network = model.network_
    np.testing.assert_allclose(network.ceiling, np.log(largest), rtol=1e-6)
    batch = model._batch([Recording(trials[0])])
    factors = 1e5 * torch.randn(1, len(trials[0]), 3)
    with torch.no_grad():
        rates = network.likelihood.mean(*network.decode(factors, batch))[0].numpy()
    assert (rates <= 2 * largest * (1 + 1e-5)).all()
    assert (rates.max(0) > 1.9 * largest).all()
    # Only what exceeds the ceiling is moved.
    with torch.no_grad():
        small = network.decode(factors / 1e7, batch)[0]
        network.ceiling.fill_(torch.inf)
        torch.testing.assert_close(network.decode(factors / 1e7, batch)[0], small)
        assert network.decode(factors, batch)[0].max() > 100


# -- dropout -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.83])
def test_dropout_keeps_a_share_and_scales_it(rate):
    values = 3.0 * torch.ones(200_000)
    with seeded(0):
        kept = dropout(values, rate)
    share = (kept != 0).double().mean().item()
    assert share == pytest.approx(1 - rate, abs=4 * math.sqrt(rate * (1 - rate) / 200_000))
    rounded = round(rate * 65536) / 65536
    np.testing.assert_allclose(kept[kept != 0], 3.0 / (1 - rounded), rtol=1e-6)
    assert kept.mean().item() == pytest.approx(3.0, rel=0.02)


def test_entries_are_dropped_independently_of_their_neighbors():
    with seeded(1):
        kept = (dropout(torch.ones(400_000), 0.3) != 0).double().numpy() - 0.7
    for lag in (1, 2, 3, 4, 8):
        assert abs((kept[lag:] * kept[:-lag]).mean() / 0.21) < 0.01
    four = kept.reshape(-1, 4)  # of one draw
    np.testing.assert_allclose(four.mean(0), 0.0, atol=0.01)
    np.testing.assert_allclose(np.cov(four.T), 0.21 * np.eye(4), atol=0.005)


def test_dropout_is_drawn_from_the_seed():
    values = torch.ones(7, 13)
    with seeded(0):
        first, second = dropout(values, 0.4), dropout(values, 0.4)
    with seeded(0):
        again = Dropout(0.4)(values)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    with seeded(1):
        assert not torch.equal(first, dropout(values, 0.4))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5), (2, 0, 3), (3, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_of_any_shape_and_type(shape, dtype):
    values = torch.ones(shape, dtype=dtype)
    with seeded(0):
        kept = dropout(values, 0.5)
    assert (kept.shape, kept.dtype) == (shape, dtype)
    assert set(kept.flatten().tolist()) <= {0.0, 2.0}
    assert (values == 1).all()
    with seeded(0):  # of parts of a larger tensor too
        strided = dropout(torch.ones(*shape, 2, dtype=dtype)[..., 0], 0.5)
    assert torch.equal(strided, kept)


def test_gradients_pass_where_entries_are_kept():
    values = torch.randn(50, requires_grad=True)
    with seeded(0):
        kept = dropout(values, 0.25)
    kept.sum().backward()
    torch.testing.assert_close(values.grad, kept.detach() / values.detach())
    np.testing.assert_allclose(np.unique(values.grad), [0, 4 / 3], rtol=1e-6)


@pytest.mark.parametrize("rate", [1e-7, 1 - 1e-7, 0.999999])
def test_rates_next_to_none_and_all_are_finite(rate):
    with seeded(0):
        kept = dropout(torch.ones(1000), rate)
    assert torch.isfinite(kept).all()
    if rate < 0.5:
        assert torch.equal(kept, torch.ones(1000))
    else:
        assert (kept != 0).sum() <= 2


@pytest.mark.parametrize("kind", ["precision", "lfads"])
def test_rates_may_rise_to_what_further_recordings_hold(kind):
    rng = np.random.RandomState(0)
    few, many = rng.poisson(0.1, (300, 6)).astype(float), rng.poisson(20.0, (300, 6)).astype(float)
    model = (
        NeuroBehaviorVAE(1, likelihood="poisson", max_iter=2, window_length=50, random_state=0)
        if kind == "precision"
        else LFADS(1, generator_dim=8, window_length=50, max_iter=1, random_state=0)
    )
    model.fit(few)
    low = model.network_.ceiling.exp().numpy().copy()
    model.partial_fit(many)
    np.testing.assert_allclose(low, np.maximum(few.max(0), 1), rtol=1e-5)
    np.testing.assert_allclose(model.network_.ceiling.exp(), many.max(0), rtol=1e-5)


def test_the_ridge_of_counts_is_as_strong_as_held_out_blocks_want_it():
    from skneurovae.estimators.linear_start import FACTORS, _stronger

    rng = np.random.RandomState(0)
    latents = rng.standard_normal((900, 4))
    noise = {n: [latents, rng.poisson(0.3, 900).astype(float)] for n in range(5)}
    driven = {
        n: [latents, rng.poisson(np.exp(latents @ rng.standard_normal(4) * 0.8)).astype(float)]
        for n in range(5)
    }
    rates = np.array([0.3] * 5)
    assert _stronger(noise, rates, 30.0) == FACTORS[-1]
    assert _stronger(driven, rates, 30.0) == FACTORS[0]
    assert _stronger({}, rates, 30.0) == FACTORS[0]


def test_an_explicit_shrinkage_is_taken_as_it_is():
    traces = np.random.RandomState(0).poisson(0.3, (300, 6)).astype(float)
    options = {"likelihood": "poisson", "max_iter": 1, "window_length": 50, "random_state": 0}
    given = NeuroBehaviorVAE(2, shrinkage=30.0, **options).fit(traces)
    assert given.network_.shrinkage.item() == 30.0
    chosen = NeuroBehaviorVAE(2, **options).fit(traces)
    assert chosen.network_.shrinkage.item() > chosen.linear_choice_.shrinkage


def test_the_learning_rate_falls_with_the_length_of_short_recordings(monkeypatch):
    rates, real = [], neuro_behavior_vae.train

    def spy(*args, settings, **options):
        rates.append(settings.learning_rate)
        return real(*args, settings=settings, **options)

    monkeypatch.setattr(neuro_behavior_vae, "train", spy)
    traces = np.random.RandomState(0).standard_normal((500, 6))
    options = {"max_iter": 1, "early_stopping": False, "random_state": 0}
    NeuroBehaviorVAE(2, **options).fit(traces)
    NeuroBehaviorVAE(2, learning_rate=3e-3, **options).fit(traces)
    assert rates == pytest.approx([0.001, 0.001, 0.003, 0.003])  # 0.004 * (500 / 8000) ** 0.5
