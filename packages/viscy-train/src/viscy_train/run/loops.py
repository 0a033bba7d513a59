"""Loops: Lightning's counts of epochs and batches, set so that training continues at a given batch.

Lightning saves its counts with each checkpoint and derives from them where to continue. What it derives depends on the
hook in which the checkpoint was saved, and for epochs that a limit ends or `max_steps` interrupts, it skips batches and
validations. The functions here leave it no choice: they set all counts, from the batches that were trained on.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_STAGES = ("ready", "started", "processed", "completed")
_SPANS = ("total", "current")
_BATCHES = "epoch_loop.batch_progress"
_VALIDATION = "epoch_loop.val_loop.batch_progress"
_OPTIMIZER = "epoch_loop.automatic_optimization.optim_progress"

type Counts = dict[str, Any]


def start_epoch(fit_loop: Any, counts: Counts, epoch: int) -> None:
    """Let Lightning continue with an epoch that it has not started.

    Parameters
    ----------
    fit_loop : lightning.pytorch.loops._FitLoop
        The loop of the trainer.
    counts : dict
        The state of such a loop, as a checkpoint contains it under ``loops``, ``fit_loop``.
    epoch : int
        The epoch.
    """
    counts = deepcopy(counts)
    counts["epoch_progress"] = _progress(epoch, epoch)
    counts[_BATCHES] = _batches(counts, 0, is_last=False)
    counts[_VALIDATION] = _progress(0, 0) | {"is_last_batch": False}
    _load(fit_loop, counts)
    for loop in _all_loops(fit_loop):
        # As in a trainer that has just ended the epoch before: nothing of this one is to be restored.
        loop.on_iteration_done()


def enter_epoch(fit_loop: Any, counts: Counts, epoch: int, n_done: int, *, is_last: bool) -> None:
    """Let Lightning continue within an epoch, with the validation that was due after the last batch, if it is missing.

    Parameters
    ----------
    fit_loop : lightning.pytorch.loops._FitLoop
        The loop of the trainer.
    counts : dict
        The state of such a loop.
    epoch : int
        The epoch.
    n_done : int
        How many batches of the epoch this process has done. Negative if more are left than an epoch has on the present
        number of processes.
    is_last : bool
        Whether these were all batches of the epoch.
    """
    is_validated = not _saved_before_validation(counts)
    counts = deepcopy(counts)
    counts["epoch_progress"] = {name: dict(zip(_STAGES, 2 * [epoch + 1] + 2 * [epoch], strict=True)) for name in _SPANS}
    counts[_BATCHES] = _batches(counts, n_done, is_last=is_last)
    # One batch that was started and not processed: Lightning repeats such a validation.
    pending = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    counts[_VALIDATION] = _progress(0, 0) | {"is_last_batch": False}
    if not is_validated:
        counts[_VALIDATION]["total"] = pending
    _load(fit_loop, counts)


def validation_is_pending(trainer: Any) -> bool:
    """Return, when training starts, whether it starts with a validation that was due before the run was interrupted."""
    return _validation_is_due(trainer) and trainer.fit_loop.epoch_loop.val_loop.restarted_mid_evaluation


def correct_logged_step(trainer: Any) -> None:
    """Set, when training starts, the step with which Lightning logs next; a validation is logged with the last step."""
    loop = trainer.fit_loop.epoch_loop
    if trainer.lightning_module.automatic_optimization:
        # Lightning passes the end of the last batch again if a validation was due after it, and counts its step there.
        is_counted_again = _validation_is_due(trainer) and not loop._should_accumulate()
        loop._batches_that_stepped = trainer.global_step - is_counted_again


def forget_earlier_validation(trainer: Any) -> None:
    """Reset, when a validation starts, the count by which Lightning recognizes an incomplete one."""
    trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset()


def epochs_ended(counts: Counts) -> int:
    """Return how many epochs had ended when counts were saved."""
    return counts["epoch_progress"]["current"]["processed"]


def _progress(total: int, current: int) -> dict[str, Any]:
    return {"total": dict.fromkeys(_STAGES, total), "current": dict.fromkeys(_STAGES, current)}


def _batches(counts: Counts, n_done: int, *, is_last: bool) -> dict[str, Any]:
    """Return the progress of batches; batches after the last complete step are not counted."""
    saved = counts[_BATCHES]
    total = saved["total"]["processed"]
    if n_done > 0:
        total -= max(0, saved["current"]["processed"] - n_done)
    return _progress(total, n_done) | {"is_last_batch": is_last}


def _saved_before_validation(counts: Counts) -> bool:
    """Return whether counts were saved at the end of a batch, before the validation after it, or during that."""
    batches, validation = counts[_BATCHES]["total"], counts[_VALIDATION]["total"]
    return batches["completed"] < batches["processed"] or validation["completed"] < validation["ready"]


def _validation_is_due(trainer: Any) -> bool:
    loop = trainer.fit_loop.epoch_loop
    return loop.restarting and loop._should_check_val_fx(trainer.fit_loop._data_fetcher)


def _load(fit_loop: Any, counts: Counts) -> None:
    fit_loop.load_state_dict(counts)
    optimizer = fit_loop.epoch_loop.automatic_optimization.optim_progress
    fit_loop.epoch_loop._batches_that_stepped = optimizer.optimizer_steps or counts["epoch_loop.state_dict"].get(
        "_batches_that_stepped", 0
    )


def _all_loops(loop: Any) -> Iterator[Any]:
    yield loop
    for child in vars(loop).values():
        if hasattr(child, "on_iteration_done"):
            yield from _all_loops(child)
