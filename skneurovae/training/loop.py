"""The only training loop: it knows of a network no more than its loss and its schedules."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning

from skneurovae.common.interruption import interrupts_end_training
from skneurovae.common.randomness import seeded
from skneurovae.recordings.batches import Batch
from skneurovae.training.history import EpochLog, History
from skneurovae.training.schedules import Plateau, learning_rate_at
from skneurovae.training.settings import TrainingSettings

__all__ = ["gain_over", "train"]

_MAX_ROLLBACKS = 3


class _Diverged(Exception):
    """A loss or gradient is not finite."""


class _Weights(NamedTuple):
    """Weights and state of the optimizer after an epoch, and the validation loss they have."""

    epoch: int
    snapshot: tuple
    score: float = math.inf
    shares: torch.Tensor | None = None


def train(
    network: torch.nn.Module,
    batches: Callable[[], Iterable[Batch]],
    *,
    settings: TrainingSettings,
    validate: Callable[[], float | torch.Tensor] | None = None,
    on_epoch: Callable[[EpochLog], bool | None] | None = None,
    trust_start: bool = False,
) -> History:
    """Train a network in place and leave it with its best weights, in evaluation mode.

    With `validate` these are the weights with the lowest validation loss, and with `trust_start`
    those of the start unless that loss is lower than the start's by more than the standard error of
    the difference; without, all epochs are run and the last weights are kept, since a training loss
    whose terms are annealed does not tell which are better. Validation runs in evaluation mode,
    with the schedules of the network at their final values and with the same random numbers each
    time: its losses differ by the weights alone.

    When a loss or gradient is not finite, training goes back to the weights and the state of the
    optimizer after the last epoch that went well, and on with half the learning rate.

    A `KeyboardInterrupt` ends the training with a warning, and the network keeps the best weights
    so far. One that comes before the first epoch, or after another, goes on to the caller, and so
    does every one under `skneurovae.common.interruption.interrupts_go_on`.

    Parameters
    ----------
    network : LatentNetwork
        On its device. Of it, `loss`, `anneal` and `parameter_groups` are used.
    batches : callable
        ``batches()`` gives the batches of one epoch. Their number, about, is its attribute
        `n_steps`, or it is called once more before training, to count them.
    settings : TrainingSettings
    validate : callable, default=None
        ``validate()`` returns the validation loss of the network as it is: a float, or a tensor of
        shape (n_units,) whose sum it is, with the shares of units that are about independent
        (neurons of recordings, say), for the standard error. No gradient is kept.
    on_epoch : callable, default=None
        ``on_epoch(log)`` is called after every epoch; training stops when it returns True.
    trust_start : bool, default=False
        The network starts as a fitted model, to be left only for what is better beyond chance.

    Returns
    -------
    History

    Warns
    -----
    ConvergenceWarning
        If training is interrupted.

    Raises
    ------
    ValueError
        If there are no batches.
    FloatingPointError
        If the start has no finite validation loss, or training diverges a fourth time. The network
        then has the weights it had when all was well.
    """
    begun = time.perf_counter()
    n_steps = getattr(batches, "n_steps", None)
    if n_steps is None:
        n_steps = sum(1 for _ in batches())
    if n_steps == 0:
        raise ValueError("batches() gives no batch; there is nothing to train on.")
    run = _Run(network, batches, settings, n_steps, validate)
    history = History()
    start = _Weights(0, run.snapshot())
    if validate is not None:
        history.validation_scores.append(run.check(None))
        if not math.isfinite(history.validation_scores[0]):
            raise FloatingPointError(
                f"the validation loss of the network is {history.validation_scores[0]} before "
                "training; the data or the start of the network are not finite."
            )
        start = start._replace(score=history.validation_scores[0], shares=run.shares)
    # The start is not among the best: it is compared with them at the end.
    good, best, n_done = start.snapshot, None, 0
    reference, improved_at = start.score, 0
    interrupted = False
    try:
        while history.n_iter < settings.max_iter:
            try:
                loss, parts, score = run.epoch(history.n_iter)
            except _Diverged as error:
                run.restore(good)
                if history.n_rollbacks == _MAX_ROLLBACKS:
                    raise FloatingPointError(
                        f"training diverged {_MAX_ROLLBACKS + 1} times, last in epoch "
                        f"{history.n_iter + 1} at a learning rate of {run.learning_rate:.2g}: "
                        f"{error}. Lower learning_rate, or bring the traces to a scale near 1."
                    ) from error
                history.n_rollbacks += 1
                run.scale /= 2
                continue
            latest, validated = run.snapshots()
            done = _Weights(history.n_iter + 1, validated, score, run.shares)
            history.loss_curve.append(loss)
            history.parts.append(parts)
            if validate is not None:
                history.validation_scores.append(score)
            changing = validate is None or done.epoch <= settings.ramp_epochs
            better = best is None or changing or score < best.score
            # Together: an interrupt falls before or after the whole of an epoch.
            good, best, n_done = latest, done if better else best, done.epoch
            if changing or score < reference - settings.tol:
                reference, improved_at = score, n_done
            if settings.annealing and n_done >= settings.cosine_end:
                run.plateau.update(loss if validate is None else score)
            stop = False
            if on_epoch is not None:
                shown = None if validate is None else score
                stop = on_epoch(
                    EpochLog(
                        n_done, settings.max_iter, loss, shown, run.learning_rate, parts,
                        time.perf_counter() - begun,
                    )
                )  # fmt: skip
            since = n_done - max(improved_at, settings.warmup_end, settings.grace_epochs)
            if stop or (validate is not None and since >= settings.n_iter_no_change):
                break
    except KeyboardInterrupt:
        if not interrupts_end_training():
            raise
        interrupted = True
        history.cut(n_done)
    history.interrupted = interrupted
    kept = start if best is None else best
    if best is not None and validate is not None:
        history.start_gain = gain_over(start.shares, best.shares)
        if trust_start:
            kept = best if history.start_gain[0] > history.start_gain[1] else start
        elif not settings.ramp_epochs:
            kept = best if best.score < start.score else start
    history.start_shares, history.kept_shares = start.shares, kept.shares
    run.restore(kept.snapshot)
    run.finish_schedules()
    history.start_kept = kept is start
    history.best_epoch, history.tried_epoch = kept.epoch, 0 if best is None else best.epoch
    if interrupted:
        weights = f"those after epoch {kept.epoch}" if kept.epoch else "those of the start"
        warnings.warn(
            f"Training was interrupted after {n_done} of {settings.max_iter} epochs; the best "
            f"weights so far are kept, {weights}.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return history


def gain_over(before, after):
    """By how much a validation loss fell, with standard error, from its shares before and after."""
    fall = before - after
    error = fall.std() * math.sqrt(len(fall)) if len(fall) > 1 else 0.0
    return float(fall.sum()), float(error)


class _Run:
    """Network, optimizer and learning rate of one fit."""

    def __init__(self, network, batches, settings, n_steps, validate):
        self.network, self.batches, self.settings = network, batches, settings
        self.n_steps, self.validate = n_steps, validate
        self.device = next(network.parameters()).device
        self.optimizer = torch.optim.AdamW(
            network.parameter_groups(settings.weight_decay),
            betas=settings.betas,
            # One kernel for all of an update; where that is not sure to exist, PyTorch chooses.
            fused=self.device.type in ("cpu", "cuda") or None,
        )
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.plateau = Plateau(settings.plateau_factor, settings.plateau_patience, settings.tol)
        self.scale, self.learning_rate = 1.0, 0.0
        self.average, self.n_averaged = [p.detach().clone() for p in self.trained], 0

    def epoch(self, number):
        """Train for one epoch; mean loss, mean parts, and the loss of what came out."""
        self.network.train()
        end = self.settings.max_iter
        self.network.anneal(number if self.settings.annealing else end, end)
        total, sums, count = 0.0, {}, 0
        for batch in self.batches():
            terms = self.step(batch, number + min(count / self.n_steps, 1.0))
            total, count = total + terms.loss.item(), count + 1
            for name, value in terms.parts.items():
                sums[name] = sums.get(name, 0) + value
        # No step has seen the weights that the last one made.
        with self.averaged():
            score = self.check(batch)
        if not math.isfinite(score):
            raise _Diverged(f"the loss after an epoch is {score}")
        means = {name: (value / count).cpu().float() for name, value in sums.items()}
        parts = {name: v.numpy() if v.ndim else v.item() for name, v in means.items()}
        return total / count, parts, score

    def step(self, batch, position):
        """One step of AdamW on one batch."""
        rate = learning_rate_at(position, self.settings) * self.plateau.scale * self.scale
        self.learning_rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        half = self.settings.precision == "bf16"
        # Without its cache of cast weights, which is one for all threads.
        with torch.autocast(self.device.type, torch.bfloat16, half, cache_enabled=False):
            terms = self.network.loss(batch)
        self.optimizer.zero_grad()
        terms.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.settings.gradient_clip)
        # Both at once: on a GPU every look at a number waits for it.
        if not torch.isfinite(terms.loss.detach() + norm):
            raise _Diverged(f"the loss is {terms.loss.item():g}, the norm of its gradient {norm:g}")
        self.optimizer.step()
        self.n_averaged += 1
        if self.settings.averaging:
            decay = min(self.settings.averaging, 1 - 1 / (1 + self.n_averaged / 2))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.trained], 1 - decay)
        return terms

    def check(self, batch):
        """Validation loss, or without validation the loss of `batch`."""
        self.network.eval()
        self.finish_schedules()
        assess = self.validate or (lambda: self.network.loss(batch).loss)
        with seeded(0), torch.no_grad():
            self.shares = torch.atleast_1d(torch.as_tensor(assess()))
            return float(self.shares.sum())

    def finish_schedules(self):
        """Bring what the network anneals to its final value."""
        self.network.anneal(self.settings.max_iter, self.settings.max_iter)

    @contextmanager
    def averaged(self):
        """Put the running mean in the place of the weights for a while, if there is one."""
        if self.settings.averaging:
            self._swap()
        try:
            yield
        finally:
            if self.settings.averaging:
                self._swap()

    @torch.no_grad()
    def _swap(self):
        for weights, mean in zip(self.trained, self.average):
            kept = weights.clone()
            weights.copy_(mean)
            mean.copy_(kept)

    def snapshots(self):
        """Copies to go on from, and of what is validated."""
        latest = self.snapshot()
        if not self.settings.averaging:
            return latest, latest
        with self.averaged():
            return latest, (copy.deepcopy(self.network.state_dict()), latest[1])

    def snapshot(self):
        """Copies of the weights and of the state of the optimizer."""
        return copy.deepcopy((self.network.state_dict(), self.optimizer.state_dict()))

    def restore(self, snapshot):
        """Go back; the snapshot stays as it is."""
        weights, state = snapshot
        self.network.load_state_dict(weights)
        # The optimizer would go on in these very tensors.
        self.optimizer.load_state_dict(copy.deepcopy(state))
        self.average, self.n_averaged = [p.detach().clone() for p in self.trained], 0
        self.network.eval()
