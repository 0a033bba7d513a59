"""Progress: the next batch to train on, from which Lightning's own counts are set when training resumes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from viscy_train.run.loops import (
    correct_logged_step,
    enter_epoch,
    epochs_ended,
    forget_earlier_validation,
    start_epoch,
    validation_is_pending,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch import LightningModule, Trainer


@dataclass(frozen=True)
class Cursor:
    """The next batch to train on.

    Parameters
    ----------
    epoch : int
        The epoch, as the trainer counts.
    position : int
        Index of the batch in the epoch's global sequence, over all processes.
    """

    epoch: int = 0
    position: int = 0


@dataclass(frozen=True)
class Span:
    """How much of the global sequence an epoch covers.

    Parameters
    ----------
    end : int
        Number of its batches, over all processes.
    limit : int or float
        ``trainer.limit_train_batches``, which determined it.
    num_replicas : int
        How many batches of the sequence all processes train on at once: one each, or a single one that they share.
    batches_per_step : int
        How many times they do so in an optimizer step, which accumulates the gradients.
    """

    end: int
    limit: int | float
    num_replicas: int
    batches_per_step: int


class Progress(Callback):
    """Keep the cursor of a training run.

    The data module adds this callback to the trainer, before all others, so that it also works in a `Trainer` that was
    not made by the command line.

    Parameters
    ----------
    n_batches : int
        Number of batches of an epoch without a limit, over all processes.
    trainer : lightning.pytorch.Trainer
        The trainer.
    split_batches : bool, default False
        Whether all processes share each batch, instead of having a batch each.

    Notes
    -----
    The cursor advances when an optimizer step is complete, since a checkpoint does not contain accumulated gradients:
    batches of an incomplete step are trained on again. An epoch ends where Lightning ends it: after
    ``limit_train_batches`` batches on each process, for instance. A run that stops within an epoch, because of
    ``max_steps`` or ``max_time``, resumes within it. An epoch that resumes on another number of processes ends where it
    would have ended on the earlier number, unless the limit was changed.
    """

    def __init__(self, n_batches: int, trainer: Any, *, split_batches: bool = False) -> None:
        self._n_batches, self._trainer = n_batches, trainer
        self._split_batches = split_batches
        self.cursor = Cursor()
        self._resumed: tuple[int, Span] | None = None
        self._steps_differ = self._is_past_last_step = False

    @property
    def state(self) -> dict[str, Any]:
        """The cursor, at the start of the next epoch if this one has ended, and the span of the epoch."""
        epoch, position, span = self.cursor.epoch, self.cursor.position, self._span(self.cursor.epoch)
        if position and (position >= span.end or self._epoch_was_ended()):
            epoch, position, span = epoch + 1, 0, self._span(epoch + 1)
        return {"epoch": epoch, "position": position, "span": asdict(span)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a state; it takes effect when the trainer restores its own."""
        self.cursor = Cursor(state["epoch"], state["position"])
        span = Span(**state["span"]) if "span" in state else None
        # Compared as text, because a limit of 1 is one batch, and one of 1.0 is all batches.
        is_kept = span is not None and repr(span.limit) == repr(self._trainer.limit_train_batches)
        self._resumed = (self.cursor.epoch, span) if span is not None and is_kept else None
        own = self._span(-1)
        self._steps_differ = span is None or replace(own, end=span.end) != span

    def first_batch(self, epoch: int) -> int:
        """Return the index of the first batch to load for an epoch of the trainer; past the end if it is complete."""
        if epoch < self.cursor.epoch:
            return self._n_batches
        return self.cursor.position if epoch == self.cursor.epoch else 0

    def count_done(self) -> int:
        """Return how many batches of the cursor's epoch each process has done, if all of them are of the present size.

        It is negative if more batches are left than an epoch has on the present number of processes.
        """
        left = max(0, self._span(self.cursor.epoch).end - self.cursor.position)
        return self._batches_per_process() - -(-left // self._num_replicas)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Continue within an epoch that an earlier call of ``fit`` did not end."""
        if stage == "fit" and self.cursor.position:
            self._continue(trainer.fit_loop.state_dict())

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set Lightning's counts, in place of Lightning."""
        if trainer.training:
            self._continue(checkpoint.pop("loops")["fit_loop"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the step with which Lightning logs, and the step of a learning rate schedule.

        A schedule lasts for as many steps as Lightning estimates for all epochs. With another limit or number of
        processes, earlier attempts had steps of another size, so they are counted in steps of this attempt.
        """
        correct_logged_step(trainer)
        if not validation_is_pending(trainer):
            self._restore_max_steps()
        steps = self._steps(trainer)
        for config in trainer.lr_scheduler_configs:
            is_by_step = config.interval == "step" and config.frequency == 1 and not config.reduce_on_plateau
            # A schedule that the checkpoint does not contain is at 0.
            if is_by_step and (self._steps_differ or not config.scheduler.last_epoch):
                config.scheduler.last_epoch = steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the cursor."""
        if step_is_complete(trainer, batch_idx):
            first = int(batch["batch"]) - (0 if self._split_batches else trainer.global_rank)
            position = first + self._num_replicas
            self.cursor = Cursor(trainer.current_epoch, min(position, self._n_batches))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier validation, so that a checkpoint shows whether this one is complete."""
        self._restore_max_steps()
        forget_earlier_validation(trainer)

    def _continue(self, counts: dict[str, Any]) -> None:
        """Set Lightning's counts to the cursor."""
        fit_loop, n_done = self._trainer.fit_loop, self.count_done()
        n_batches = self._batches_per_process()
        if self.cursor.position and n_done >= n_batches:  # the limit has become smaller
            self.cursor, n_done = Cursor(self.cursor.epoch + 1), 0
        elif not self.cursor.position and epochs_ended(counts) == self.cursor.epoch - 1:
            # All batches of an epoch were trained on, but Lightning has not ended it.
            enter_epoch(fit_loop, counts, self.cursor.epoch - 1, n_batches, is_last=True)
            return self._allow_validation_after_last_step()
        if n_done:
            enter_epoch(fit_loop, counts, self.cursor.epoch, n_done, is_last=False)
            return self._allow_validation_after_last_step()
        return start_epoch(fit_loop, counts, self.cursor.epoch)

    def _allow_validation_after_last_step(self) -> None:
        """Let Lightning enter its loop after `max_steps` steps: the validation after the last one may be missing."""
        self._is_past_last_step = 0 <= self._trainer.max_steps <= self._trainer.global_step
        self._trainer.fit_loop.epoch_loop.max_steps += self._is_past_last_step

    def _restore_max_steps(self) -> None:
        self._trainer.fit_loop.epoch_loop.max_steps -= self._is_past_last_step
        self._is_past_last_step = False

    @property
    def _num_replicas(self) -> int:
        """How many batches of the sequence all processes train on at once."""
        return 1 if self._split_batches else self._trainer.world_size

    def _span(self, epoch: int) -> Span:
        if self._resumed is not None and self._resumed[0] == epoch:
            return self._resumed[1]
        trainer = self._trainer
        end = min(self._batches_per_process() * self._num_replicas, self._n_batches)
        return Span(end, trainer.limit_train_batches, self._num_replicas, trainer.accumulate_grad_batches)

    def _batches_per_process(self) -> int:
        """Return how many batches of an epoch Lightning trains on in each process."""
        length = -(-self._n_batches // self._num_replicas)
        return count_limited(length, self._trainer.limit_train_batches)

    def _epoch_was_ended(self) -> bool:
        """Return whether Lightning has ended the cursor's epoch before its last batch, without stopping the run."""
        trainer = self._trainer
        is_stopped = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        return trainer.fit_loop.epoch_progress.current.processed > self.cursor.epoch and not is_stopped

    def _steps(self, trainer: Trainer) -> int:
        if trainer.max_steps >= 0:  # a schedule then lasts for max_steps, however many batches they train on
            return trainer.global_step
        per_step = trainer.accumulate_grad_batches
        in_epoch = math.ceil(self._batches_per_process() / per_step)
        return self.cursor.epoch * in_epoch + math.ceil(self.count_done() / per_step)


def step_is_complete(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether a batch completes an optimizer step, so that no accumulated gradients are pending."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


def count_limited(n_batches: int, limit: int | float) -> int:
    """Return how many of a loader's batches Lightning uses, given a limit as a number or a fraction."""
    return min(n_batches, limit) if isinstance(limit, int) else int(n_batches * limit)
