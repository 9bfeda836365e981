"""The training loop: best weights, schedules, and what happens when training diverges."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from skneurovae.common.randomness import randn, seeded
from skneurovae.networks.base import LatentNetwork
from skneurovae.objectives import LossTerms
from skneurovae.training import EpochLog, TrainingSettings, gain_over, train
from skneurovae.training.schedules import learning_rate_at


class Toy(LatentNetwork):
    """Linear regression of the target (1, 2) on itself; `tricks` change the loss of a step."""

    def __init__(self, trick=None, start=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), float(start)))
        self.trick, self.steps, self.annealed = trick, 0, []

    def loss(self, batch):
        error = (self.weight - batch).square()
        loss = error.mean()
        if self.training:
            self.steps += 1
            if self.trick is not None:
                loss = self.trick(self, loss)
        return LossTerms(loss, {"error": error.mean(), "per_component": error})

    def anneal(self, epoch, max_iter):
        self.annealed.append((epoch, max_iter, self.training))


def two_batches():
    return iter([torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])])


def noisy_batches():
    for _ in range(3):
        yield torch.tensor([1.0, 2.0]) + randn(2)


def settings(max_iter=5, **changes):
    return TrainingSettings(max_iter=max_iter, **{"learning_rate": 0.1, **changes})


def distance(network):
    return lambda: (network.weight - torch.tensor([1.0, 2.0])).norm().item()


# -- course of a fit ---------------------------------------------------------------------------


def test_training_learns_and_keeps_a_history():
    network, logs = Toy(), []
    history = train(
        network, two_batches, settings=settings(40), validate=distance(network),
        on_epoch=logs.append,
    )  # fmt: skip
    assert distance(network)() < 0.3
    assert history.n_iter == len(history.loss_curve) == len(history.parts) == 40
    assert len(history.validation_scores) == 41
    assert history.n_rollbacks == 0
    assert history.validation_scores[0] == pytest.approx(math.sqrt(5))
    assert history.loss_curve[0] == pytest.approx(2.5, rel=1e-2)
    assert history.parts[0]["error"] == pytest.approx(history.loss_curve[0])
    assert history.parts[0]["per_component"].mean() == pytest.approx(history.loss_curve[0])
    assert [log.epoch for log in logs] == list(range(1, 41))
    assert logs[6].loss == history.loss_curve[6]
    assert logs[6].validation_loss == history.validation_scores[7]
    assert not network.training


def test_epoch_log_is_one_line():
    log = EpochLog(3, 40, 1.23456, 0.5, 1e-3, {}, seconds=6.0)
    assert str(log) == (
        "epoch 3/40: loss 1.2346, validation 0.5, learning rate 0.001, 6.0 s done, "
        "at most 1:14 min left"
    )
    log = EpochLog(3, 40, 1.23456, None, 1e-3, {}, seconds=600.0)
    assert str(log) == (
        "epoch 3/40: loss 1.2346, learning rate 0.001, 10:00 min done, at most 2:03:20 h left"
    )


@pytest.mark.parametrize("best", [0, 3, 6])
def test_best_weights_are_restored(best):
    network, seen = Toy(), []

    def validate():
        seen.append(network.weight.detach().clone())
        return abs(len(seen) - 1 - best)

    history = train(network, two_batches, settings=settings(6), validate=validate)
    assert history.best_epoch == best
    assert history.validation_scores[best] == 0
    assert len(seen) == 7
    assert torch.equal(network.weight, seen[best])
    assert not torch.equal(seen[best], seen[best - 1])


def test_last_weights_are_kept_without_validation():
    network, weights = Toy(), []
    history = train(
        network, two_batches, settings=settings(6, n_iter_no_change=1, tol=100.0),
        on_epoch=lambda log: weights.append(network.weight.detach().clone()),
    )  # fmt: skip
    assert history.validation_scores == []
    assert history.best_epoch == history.n_iter == 6
    assert torch.equal(network.weight, weights[-1])


def test_training_stops_without_improvement():
    network = Toy()
    options = settings(100, n_iter_no_change=5, warmup_epochs=3, tol=0.5)
    scores = iter([9.0, 8.0, 7.0, 6.0, 5.9, 5.8, *[5.7] * 100])
    history = train(network, two_batches, settings=options, validate=lambda: next(scores))
    assert history.n_iter == 3 + 5  # what came after the third epoch was within the tolerance
    assert history.best_epoch == 6


def test_epochs_of_the_warmup_do_not_count():
    network = Toy()
    options = settings(100, n_iter_no_change=5, warmup_epochs=10)
    history = train(network, two_batches, settings=options, validate=lambda: 1.0)
    assert history.n_iter == 15
    assert history.best_epoch == 0


def test_epochs_of_grace_do_not_count():
    options = settings(100, n_iter_no_change=5, warmup_epochs=3, grace_epochs=12)
    history = train(Toy(), two_batches, settings=options, validate=lambda: 1.0)
    assert history.n_iter == 12 + 5


def test_on_epoch_can_stop():
    history = train(
        Toy(), two_batches, settings=settings(9), on_epoch=lambda log: log.epoch == 4
    )  # fmt: skip
    assert history.n_iter == 4


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="no batch"):
        train(Toy(), list, settings=settings())


def test_the_network_is_annealed_and_validated_at_the_end_of_its_schedules():
    network, last = Toy(), []

    def validate():
        assert not network.training
        assert not torch.is_grad_enabled()
        last.append(network.annealed[-1])
        return 1.0

    train(network, two_batches, settings=settings(3), validate=validate)
    assert [epoch for epoch, _, training in network.annealed if training] == [0, 1, 2]
    assert last == [(3, 3, False)] * 4
    assert network.annealed[-1][:2] == (3, 3)


def test_validation_sees_the_same_noise_and_does_not_change_training():
    draws = []

    def fit(validate):
        network = Toy()
        with seeded(0):
            train(network, noisy_batches, settings=settings(3), validate=validate)
        return network.weight.tolist()

    def validate():
        draws.append(float(randn()))
        return -float(len(draws))

    assert fit(validate) == fit(None)
    assert len(draws) == 4
    assert len(set(draws)) == 1


def test_history_has_the_shares_of_the_start_and_of_what_is_kept():
    network = Toy()

    def validate():
        return (network.weight.detach() - torch.tensor([1.0, 2.0])).square()

    history = train(network, two_batches, settings=settings(5), validate=validate)
    assert history.start_shares.tolist() == [1.0, 4.0]
    torch.testing.assert_close(history.kept_shares, validate())
    assert not history.start_kept
    assert not history.interrupted
    gain, error = gain_over(torch.tensor([3.0, 5.0, 4.0]), torch.tensor([1.0, 4.0, 4.0]))
    assert gain == 3.0
    assert error == pytest.approx(math.sqrt(3))  # of [2, 1, 0]: deviation 1, of a sum of 3
    assert gain_over(torch.tensor([3.0]), torch.tensor([1.0])) == (2.0, 0.0)
    worse = train(Toy(), two_batches, settings=settings(3), validate=lambda: 1.0)
    assert worse.start_kept
    assert torch.equal(worse.kept_shares, worse.start_shares)


# -- optimizer ---------------------------------------------------------------------------------


def test_gradients_are_clipped():
    norms = []

    class Watched(Toy):
        def loss(self, batch):
            terms = super().loss(batch)
            return LossTerms(1e6 * terms.loss, {})

    def fit(clip):
        network = Watched()
        network.weight.register_post_accumulate_grad_hook(lambda p: norms.append(p.grad))
        train(network, two_batches, settings=settings(1, gradient_clip=clip))
        return [float(norm) for norm in torch.stack(norms).norm(dim=1)]  # clipped in place

    assert fit(0.5) == pytest.approx([0.5, 0.5], rel=1e-4)
    norms.clear()
    assert min(fit(1e9)) > 1e5


def test_the_network_says_what_decays():
    class Fixed(Toy):
        def __init__(self):
            super().__init__(start=1.0)
            self.matrix = nn.Parameter(torch.ones(2, 2))

        def loss(self, batch):
            return LossTerms(0 * (self.weight.sum() + self.matrix.sum()), {})

    network = Fixed()
    train(network, two_batches, settings=settings(3, weight_decay=0.5))
    assert network.weight.tolist() == [1, 1]
    assert (network.matrix < 1).all()


def test_learning_rate_follows_the_schedule_from_step_to_step():
    network, rates = Toy(), []
    options = settings(20, warmup_epochs=2, learning_rate=1e-2)

    class Recorder(torch.optim.AdamW):
        def step(self):
            rates.append([group["lr"] for group in self.param_groups])
            super().step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Recorder)
        train(network, two_batches, settings=options)
    expected = [learning_rate_at(step / 2, options) for step in range(40)]
    assert [rate[0] for rate in rates] == pytest.approx(expected)
    assert all(rate[0] == rate[1] for rate in rates)


def test_plateau_tail_lowers_the_learning_rate():
    rates = []
    options = settings(
        40, cosine_portion=0.5, plateau_patience=2, n_iter_no_change=100, warmup_epochs=0
    )
    train(
        Toy(), two_batches, settings=options, validate=lambda: 1.0,
        on_epoch=lambda log: rates.append(log.learning_rate),
    )  # fmt: skip
    floor = options.min_lr_ratio * options.learning_rate
    # Noted from epoch 20 on: one that sets the level, then three without improvement.
    assert rates[22] == pytest.approx(floor)
    assert rates[23] == pytest.approx(floor / 2)
    assert rates[26] == pytest.approx(floor / 4)


def test_bf16_runs_the_loss_under_autocast():
    kinds = []

    class Linear(Toy):
        def loss(self, batch):
            kinds.append((self.training, (torch.ones(2, 2) @ torch.ones(2, 2)).dtype))
            return super().loss(batch)

    network = Linear()

    def validate():
        return float(network.loss(torch.ones(2)).loss)

    train(network, two_batches, settings=settings(1, precision="bf16"), validate=validate)
    assert set(kinds) == {(True, torch.bfloat16), (False, torch.float32)}
    assert network.weight.dtype == torch.float32


# -- divergence --------------------------------------------------------------------------------


def explode(steps, value=math.nan):
    """A trick that spoils the loss, and with it the gradient, at some steps."""
    return lambda network, loss: loss * value if network.steps in steps else loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_training_goes_on_from_the_last_good_weights(value):
    network, rates = Toy(explode({6}, value)), []
    history = train(
        network, two_batches, settings=settings(30), validate=distance(network),
        on_epoch=lambda log: rates.append(log.learning_rate),
    )  # fmt: skip
    assert history.n_rollbacks == 1
    assert history.n_iter == 30
    assert np.isfinite(history.loss_curve).all()
    assert distance(network)() < distance(Toy())()
    untroubled = []
    train(
        Toy(), two_batches, settings=settings(30),
        on_epoch=lambda log: untroubled.append(log.learning_rate),
    )  # fmt: skip
    assert rates[:2] == untroubled[:2]
    assert rates[2:] == pytest.approx([rate / 2 for rate in untroubled[2:]])


def test_weights_and_optimizer_are_those_of_the_last_good_epoch():
    """Training that fails twice at once ends as training that begins with a quarter of the rate."""
    good, states = [], []

    class Recorder(torch.optim.AdamW):
        def step(self):
            states.append(copy.deepcopy(self.state_dict()["state"]))
            good.append(network.weight.detach().clone())
            super().step()

    network = Toy(explode({6, 8}))  # the second step of the third epoch, at its first two tries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Recorder)
        history = train(network, two_batches, settings=settings(4))
    assert history.n_rollbacks == 2
    # The first step of the third epoch is tried at 4, 5 and 6 of the steps that were made.
    for again in (5, 6):
        assert torch.equal(good[4], good[again])
        for name in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(states[4][0][name], states[again][0][name])
    assert not torch.equal(good[4], good[7])


def test_an_exploding_gradient_of_a_finite_loss_counts_too():
    def infinite_slope(network, loss):
        weight = network.weight
        spoiled = torch.sqrt(0.0 * weight.abs().sum()) if network.steps == 3 else 0.0
        return loss + spoiled

    network = Toy(infinite_slope, start=0.5)
    history = train(network, two_batches, settings=settings(5))
    assert history.n_rollbacks == 1
    assert network.steps == 2 * 5 + 1  # noticed at that very step
    assert torch.isfinite(network.weight).all()


def test_a_validation_loss_that_is_not_finite_counts_too():
    network, seen = Toy(), []

    def validate():
        seen.append(network.weight.detach().clone())
        return math.nan if len(seen) == 4 else -len(seen)

    history = train(network, two_batches, settings=settings(5), validate=validate)
    assert history.n_rollbacks == 1
    assert np.isfinite(history.validation_scores).all()
    assert len(history.validation_scores) == 6


def test_weights_that_the_last_step_spoiled_are_not_returned():
    class Cliff(Toy):
        def loss(self, batch):
            terms = super().loss(batch)
            beyond = bool((self.weight > 0.02).any())
            return LossTerms(terms.loss * (math.inf if beyond else 1.0), {})

    network = Cliff()
    with pytest.raises(FloatingPointError, match="the loss after an epoch is inf"):
        train(
            network, lambda: [torch.tensor([1.0, 2.0])],
            settings=settings(1, learning_rate=1.0, warmup_epochs=0),
        )  # fmt: skip
    assert network.weight.tolist() == [0, 0]


def test_a_fourth_divergence_is_an_error_and_leaves_good_weights():
    network, weights = Toy(lambda network, loss: loss * math.nan if network.steps > 4 else loss), []
    with pytest.raises(
        FloatingPointError,
        match=r"training diverged 4 times, last in epoch 3 at a learning rate of .* the loss is nan"
        ".*Lower learning_rate",
    ):
        train(
            network, two_batches, settings=settings(10),
            on_epoch=lambda log: weights.append(network.weight.detach().clone()),
        )  # fmt: skip
    assert network.steps == 4 + 4
    assert len(weights) == 2
    assert torch.equal(network.weight, weights[-1])


def test_three_divergences_are_survived():
    network = Toy(explode({1, 2, 3}))
    assert train(network, two_batches, settings=settings(10)).n_rollbacks == 3
    assert torch.isfinite(network.weight).all()


def test_a_start_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="validation loss of the network is nan before"):
        train(Toy(), two_batches, settings=settings(), validate=lambda: math.nan)


def test_same_seed_same_bits_and_the_global_state_is_untouched():
    def fit(seed):
        network = Toy()
        with seeded(seed):
            history = train(network, noisy_batches, settings=settings(5))
        return network.weight.tolist(), history.loss_curve

    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = fit(3)
    torch.rand(5)
    assert fit(3) == first != fit(4)
    torch.set_rng_state(torch_state)
    fit(3)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
