"""Refusals: options that Lightning refuses or that leave nothing to train on, as errors of one line."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from viscy_train.config.checks import require, require_at_least
from viscy_train.errors import UserError
from viscy_train.loading.progress import count_limited

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

_LIGHTNING = Path(lightning.__file__).parent
# The module of Lightning that restores what a checkpoint contains.
_RESTORES = "checkpoint_connector.py"


def check_limits(trainer: Any, n_train: int, n_validation: int) -> None:
    """Refuse limits that Lightning would refuse only after the run has begun.

    Parameters
    ----------
    trainer : lightning.pytorch.Trainer
        The trainer.
    n_train, n_validation : int
        Number of batches of an epoch and of a validation, for each process.

    Raises
    ------
    UserError
        If no batch is left to train on or to validate with, or too few until the first validation.
    """
    limit, every = trainer.limit_train_batches, getattr(trainer, "val_check_interval", None)
    for name in ("max_epochs", "max_steps"):
        require(getattr(trainer, name) != 0, f"trainer.{name} must be at least 1, or -1 for no limit", 0)
    require_at_least("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, 1)
    if trainer.check_val_every_n_epoch is not None:
        require_at_least("trainer.check_val_every_n_epoch", trainer.check_val_every_n_epoch, 1)
    if isinstance(every, int):
        require_at_least("trainer.val_check_interval", every, 1)
    name = "overfit_batches" if trainer.overfit_batches else "limit_train_batches"
    n_train = count_limited(n_train, limit)
    require(n_train > 0, f"trainer.{name} must leave at least one batch of an epoch", limit)
    if not n_validation or not trainer.limit_val_batches:
        return
    name = "overfit_batches" if trainer.overfit_batches else "limit_val_batches"
    enough = count_limited(n_validation, trainer.limit_val_batches) > 0
    require(enough, f"trainer.{name} must leave at least one batch for validation", trainer.limit_val_batches)
    if isinstance(every, int) and trainer.check_val_every_n_epoch is not None:
        rule = f"trainer.val_check_interval must be at most {n_train}, the number of batches of an epoch"
        require(every <= n_train, f"{rule}, unless trainer.check_val_every_n_epoch is null", every)


@contextmanager
def explained_refusals() -> Generator[None]:
    """Explain an error that Lightning itself raises, or that a checkpoint causes, as one of the user's.

    Raises
    ------
    UserError
        In place of such an error. Other errors keep their traceback.
    """
    try:
        yield
    except UserError:
        raise
    except (MisconfigurationException, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        files, text = _files(error.__traceback__), " ".join(str(error).split())
        if any(file.name == _RESTORES for file in files):
            raise UserError(
                f"the checkpoint is damaged, or of another version, and cannot be restored ({type(error).__name__}: "
                f"{text}); name another with --checkpoint"
            ) from error
        is_refusal = isinstance(error, MisconfigurationException | ValueError | RuntimeError)
        if is_refusal and files[-1].is_relative_to(_LIGHTNING):
            raise UserError(f"trainer: {text}") from error
        raise


def _files(traceback: TracebackType | None) -> list[Path]:
    """Return the files of the frames of a traceback, the last one is that where the error was raised."""
    files = []
    while traceback is not None:
        files.append(Path(traceback.tb_frame.f_code.co_filename))
        traceback = traceback.tb_next
    return files
