"""The training loop of a generator, from a checkpoint or from nothing to the best weights.

The state between two optimiser steps is a value (`state.TrainingState` and the tensors of a
checkpoint), and everything random is a function of (seed, epoch, image): so a run that was killed
goes on exactly.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from neuroaug.errors import DivergenceError, TrainingInterrupted
from neuroaug.models.flow import Noise
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.system.interruption import StopRequest
from neuroaug.system.progress import Progress
from neuroaug.training import random_order
from neuroaug.training.batches import BatchReader
from neuroaug.training.checkpoint import (
    Checkpoint,
    flatten,
    load_weights,
    read_checkpoint,
    restore,
    write_checkpoint,
)
from neuroaug.training.distributed import Processes
from neuroaug.training.early_stopping import EarlyStopping
from neuroaug.training.random_order import Rows
from neuroaug.training.state import Sums, TrainingPlan, TrainingResult, TrainingState

log = logging.getLogger("neuroaug")

CHECKPOINT_SHARE = 0.03
"""Writing checkpoints may take at most this share of the time."""

CLIP = 3.0
"""A gradient longer than this many times the typical one is shortened to it."""

TYPICAL_DECAY = 0.95
MOST_RETREATS = 5
"""Times that a training that diverges is taken up again from its best weights, each time at half
the learning rate."""

EXPLODED = 10.0
"""Times the first epoch's loss (in absolute value) above which a finite loss counts as diverged."""

_ELBO = "elbo"


class Loop:
    """Trains one model in one process (of possibly several).

    Parameters
    ----------
    model : GenerativeModel
        On its device.
    reader : BatchReader
        All images, fitted and held out.
    plan : TrainingPlan
        What to do.
    processes : Processes
        This process among its peers.
    autocast : callable
        Context in which networks run (Fabric's precision).
    stop : StopRequest
        Asked between steps.
    progress : Progress or None
        Told of every epoch.
    """

    def __init__(
        self,
        model: GenerativeModel,
        reader: BatchReader,
        plan: TrainingPlan,
        processes: Processes,
        autocast: Callable[[], Any],
        stop: StopRequest,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.reader, self.plan = model, reader, plan
        self.processes, self.autocast, self.stop, self.progress = (
            processes,
            autocast,
            stop,
            progress,
        )
        groups = model.parameter_groups()
        self.parameters = [p for group in groups for p in group["params"]]
        self.position = TrainingState()
        self.optimizer = self._optimizer(groups)
        # Between two evaluations of the ELBO there is nothing that could have become better.
        self.stopping = EarlyStopping(max(plan.config.patience, plan.config.validate_every))
        self.best: dict[str, Tensor] = {}
        self._written = time.monotonic()
        self._write_cost = 0.0
        self._clock = time.monotonic()

    def _optimizer(self, groups: Any) -> torch.optim.Adam:
        """Adam in its first state, at half the rate for every retreat."""
        rate = self.plan.config.learning_rate
        if rate is None:
            raise ValueError("the plan's configuration must have a learning rate")
        return torch.optim.Adam(groups, lr=rate / 2**self.position.retreats, fused=True)

    # -- checkpoints ------------------------------------------------------------------------

    def resume(self) -> bool:
        """Go back to the last checkpoint, if there is one."""
        found = read_checkpoint(self.plan.checkpoints)
        if found is None:
            return False
        self.position = TrainingState.from_state(found.state["position"])
        self.optimizer = self._optimizer(self.model.parameter_groups())
        restore(self.model, self.optimizer, found.last, self.plan.checkpoints)
        self.stopping = replace(self.stopping, **found.state["early_stopping"])
        self.best = found.best
        return True

    def save(self) -> None:
        """Write a checkpoint of this moment (first process only)."""
        if not self.processes.is_first:
            return
        start = time.monotonic()
        checkpoint = Checkpoint(
            last=flatten(self.model, self.optimizer),
            best=self.best,
            best_epoch=self.stopping.best_epoch,
            state={
                "identity": self.plan.identity,
                "position": self.position.state(),
                "early_stopping": self.stopping.state(),
            },
        )
        write_checkpoint(self.plan.checkpoints, checkpoint, self.position.optimiser_steps)
        self._written = time.monotonic()
        self._write_cost = self._written - start

    def _is_due(self) -> bool:
        waited = time.monotonic() - self._written
        return waited >= max(self.plan.checkpoint_seconds, self._write_cost / CHECKPOINT_SHARE)

    def _tick(self) -> float:
        """Seconds since the last call, added to the time trained."""
        now = time.monotonic()
        elapsed, self._clock = now - self._clock, now
        self.position = replace(self.position, seconds=self.position.seconds + elapsed)
        return elapsed

    def found_at_once(self) -> TrainingResult:
        """Judge a model that `start_from` has given its best weights; nothing is trained."""
        self._clock = time.monotonic()
        elbo = self.evaluate()
        self._tick()
        seconds = self.position.seconds
        row = {"epoch": 0, "loss": -elbo, "elbo": elbo, "reconstruction": elbo, "seconds": seconds}
        return TrainingResult("closed form", 0, 0, elbo, seconds, (row,))

    # -- one epoch --------------------------------------------------------------------------

    def run(self) -> TrainingResult:
        """Train until patience, epochs or time are used up; the model then has the best weights.

        Raises
        ------
        DivergenceError
            If loss or gradient stop being finite, or the loss explodes; the last checkpoint is from
            before.
        TrainingInterrupted
            If asked to stop; a checkpoint has been written.
        """
        self._clock = time.monotonic()
        config = self.plan.config
        if not self.position.optimiser_steps:
            self.save()  # so that there is something good to go back to from the start
        while (reason := self._finished()) is None:
            epoch = self.position.epoch + 1
            try:
                self._epoch()
                if epoch % config.validate_every == 0 or epoch == config.max_epochs:
                    self._validate()
            except DivergenceError as error:
                self._retreat(epoch, error)
            if self._agree(self._is_due()):
                self.save()
        self.save()
        load_weights(self.model, self.best, self.plan.checkpoints)
        best = self.stopping.best
        return TrainingResult(
            reason=reason,
            epochs=self.position.epoch,
            best_epoch=self.stopping.best_epoch,
            elbo=math.nan if best is None else best,
            seconds=self.position.seconds,
            history=self.position.history,
            retreats=self.position.retreats,
        )

    def _retreat(self, epoch: int, error: DivergenceError) -> None:
        """Go back to the best weights at half the learning rate, a few times; then it has diverged.

        Published networks are trained as published: they diverge at once.
        """
        position = self.position
        if not (self.plan.clips_gradients and self.best and position.retreats < MOST_RETREATS):
            raise error
        load_weights(self.model, self.best, self.plan.checkpoints)
        # The epoch that diverged counts, so that this ends, and no number is drawn again.
        self.position = replace(
            position,
            epoch=epoch,
            step=0,
            sums=Sums(),
            typical_norm=0.0,
            retreats=position.retreats + 1,
        )
        self.optimizer = self._optimizer(self.model.parameter_groups())
        if self.processes.is_first:
            rate = self.optimizer.param_groups[0]["lr"]
            log.warning(
                "training diverged at epoch %d; going on from the weights of epoch %d at half the "
                "learning rate (%.3g)",
                epoch,
                self.stopping.best_epoch,
                rate,
            )
        self.save()

    def _finished(self) -> str | None:
        epoch, limit = self.position.epoch, self.plan.max_seconds
        if epoch >= self.plan.config.max_epochs:
            return "max_epochs"
        if self.position.step == 0 and self.best:
            if self.stopping.exhausted(epoch) and not self.plan.to_the_end:
                return "patience"
            if self._agree(limit is not None and self.position.seconds >= limit):
                return "max_minutes"
        return None

    def _epoch(self) -> None:
        """The rest of the current epoch."""
        plan, epoch = self.plan, self.position.epoch + 1
        rows = plan.fitted[random_order.order(plan.seed, epoch, len(plan.fitted))]
        batches = random_order.batches(rows, plan.batch_size)
        n_group = plan.config.accumulate
        self.model.train()
        todo = batches[self.position.step :]
        stream = self.reader.batches([self.processes.share(batch) for batch in todo])
        with closing(stream):
            self._steps(epoch, batches, stream, n_group)
        self.position = replace(self.position, epoch=epoch, step=0)
        if self.progress is not None:
            best = self.stopping.best
            rate = self.position.sums.images / max(self.position.sums.seconds, 1e-9)
            shown = {"best_ELBO": f"{best:.1f}"} if best is not None else {}
            self.progress.advance(1, **shown, images_per_s=f"{rate:.1f}")

    def _steps(
        self, epoch: int, batches: Sequence[Rows], stream: Iterator[Tensor], n_group: int
    ) -> None:
        """Take what is left of an epoch's steps."""
        for start in range(self.position.step, len(batches), n_group):
            group = batches[start : start + n_group]
            sums = self._step(epoch, group, stream)
            sums = replace(sums, seconds=self._tick())
            self.position = replace(
                self.position,
                step=start + len(group),
                optimiser_steps=self.position.optimiser_steps + 1,
                sums=self.position.sums.plus(sums),
            )
            if self._agree(bool(self.stop)):
                self._interrupt()
            if self.position.step < len(batches) and self._agree(self._is_due()):
                self.save()

    def _step(self, epoch: int, group: Sequence[Rows], stream: Iterator[Tensor]) -> Sums:
        """One optimiser step over a group of micro-batches, each with a metric of its own."""
        n_images = sum(len(batch) for batch in group)
        self.optimizer.zero_grad(set_to_none=True)
        measured = torch.zeros(3, dtype=torch.float64)
        for batch in group:
            x, mine = next(stream), self.processes.share(batch)
            gather = partial(self.processes.gather, n_rows=len(batch))
            with self.autocast():
                output = self.model.loss(x, self._noise(epoch, mine), gather=gather)
            # The loss is a mean over this process's images; the step follows the mean over the
            # group.
            ((output.loss + self.model.penalty()) * (len(mine) / n_images)).backward()
            parts = (
                output.loss.detach() * len(mine),
                output.reconstruction.sum(),
                output.n_halvings.sum(),
            )
            measured += torch.stack([part.double() for part in parts]).cpu()
        self.processes.sum_gradients(self.parameters)
        norm = float(
            torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        )
        loss, reconstruction, halvings = self.processes.totals(measured.tolist())
        self._check(epoch, loss / n_images, norm)
        self._clip(norm)
        self.optimizer.step()
        return Sums(n_images, loss, reconstruction, halvings, norm, 1.0)

    def _noise(self, epoch: int | str, rows: Rows) -> Noise:
        drawn = random_order.noise(self.plan.seed, epoch, rows, self.model.latent_dim).to(
            self.reader.device
        )
        return Noise(drawn[:, 0], drawn[:, 1])

    def _clip(self, norm: float) -> None:
        """Shorten a gradient far longer than usual: one image must not throw the others out."""
        typical = self.position.typical_norm or norm
        limit = CLIP * typical
        if self.plan.clips_gradients and norm > limit:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, torch.tensor(norm))
        typical = TYPICAL_DECAY * typical + (1 - TYPICAL_DECAY) * min(norm, limit)
        self.position = replace(self.position, typical_norm=typical)

    def _check(self, epoch: int, loss: float, norm: float) -> None:
        first = self.position.first_loss
        exploded = first is not None and loss - first > EXPLODED * (abs(first) + 1)
        if math.isfinite(loss) and math.isfinite(norm) and not exploded:
            return
        settings = self.plan.config.model_dump()
        advice = " or ".join(
            f"generator.{name} (now {settings[name]:g})" for name in self.model.tempering_settings
        )
        raise DivergenceError(
            f"training diverged at epoch {epoch} (loss {loss:.4g}, gradient {norm:.3g}); lower "
            f"{advice} and train into another --out; the last good checkpoint is kept in "
            f"{self.plan.checkpoints}"
        )

    def _interrupt(self) -> None:
        self.save()
        raise TrainingInterrupted(
            f"training stopped at epoch {self.position.epoch + 1}, step {self.position.step}; "
            f"everything is in {self.plan.checkpoints}, the same command goes on from there"
        )

    # -- validation -------------------------------------------------------------------------

    def _validate(self) -> None:
        """Compute the metric over all training images, then the ELBO; add a row to the history."""
        sums, epoch = self.position.sums, self.position.epoch
        elbo = self.evaluate()
        if not math.isfinite(elbo):
            self._check(epoch, elbo, math.nan)
        if self.stopping.improves(elbo) or self.plan.to_the_end:
            self.best = {
                name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()
            }
        self.stopping = self.stopping.update(epoch, elbo, whatever=self.plan.to_the_end)
        self._tick()
        judged = {"elbo": elbo} if self.model.has_bound else {"criterion": -elbo}
        told = sums.row(judged, self.model.diagnostics())
        row = {"epoch": epoch, **told, "seconds": round(self.position.seconds, 3)}
        loss, first = row["loss"], self.position.first_loss
        self.position = replace(
            self.position,
            sums=Sums(),
            history=(*self.position.history, row),
            first_loss=loss if first is None else first,
        )

    def update_metric(self) -> None:
        """Metric over all training images, in evaluation mode and in a fixed order."""
        batches = random_order.batches(self.plan.fitted, self.plan.batch_size)
        self.model.update_metric(self.reader.batches(batches))

    def evaluate(self) -> float:
        """Mean ELBO (minus the criterion) per image, with the same noise at every epoch."""
        self.update_metric()
        self.model.eval()
        shares = [
            self.processes.share(b)
            for b in random_order.batches(self.plan.evaluated, self.plan.batch_size)
        ]
        shares = [rows for rows in shares if len(rows)]
        total = 0.0
        for rows, x in zip(shares, self.reader.batches(shares), strict=True):
            total -= float(self.model.criterion(x, self._noise(_ELBO, rows)).double().sum())
        return self.processes.totals([total])[0] / len(self.plan.evaluated)

    def _agree(self, wish: bool) -> bool:
        """Whether any process wishes it, so that all do the same."""
        return self.processes.totals([float(wish)])[0] > 0
