"""Lightning warnings: those that are true of every run of this package, silenced while Lightning runs."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_MESSAGES = (
    # The number of loading workers is a choice of the user, in the configuration.
    ".*does not have many workers",
    # The data module resumes, not the loader.
    ".*your dataloader is not resumable",
    # A step is logged at the end of each epoch, too.
    "The number of training batches .* is smaller than the logging interval",
    # Both are expected when a run resumes, from its own directory or from that of another run.
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed from",
    # Validation and prediction need none of the callbacks of training.
    ".*callbacks used to create the checkpoint need to be provided",
    # SequentialBatches returns every row once.
    "You are using a custom batch sampler `SequentialBatches` for prediction",
    # A split without validation data is a choice of the user, in the configuration.
    "Total length of `list` across ranks is zero",
    # These are about how Lightning uses torch, which a user cannot change.
    ".*all_gather is deprecated",
    ".*LeafSpec.* is deprecated",
)
_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@contextmanager
def quiet_lightning() -> Generator[None]:
    """Silence the warnings and log messages that Lightning repeats on every run; all other warnings stay.

    Warning filters and log levels are those of before when the block ends. Log messages stay if the root logger shows
    them, as with ``--verbose``.
    """
    is_shown = logging.getLogger().level <= logging.INFO
    # If the root logger shows messages, that of `lightning` shows them as well.
    loggers = [logging.getLogger(name) for name in (*_LOGGERS, *(["lightning"] if is_shown else []))]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    with warnings.catch_warnings():
        for message in _MESSAGES:
            warnings.filterwarnings("ignore", message=message)
        try:
            for logger in loggers:
                if is_shown:  # by the handler of the root logger, once
                    logger.handlers.clear()
                else:
                    logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, (level, handlers) in zip(loggers, before, strict=True):
                logger.setLevel(level)
                logger.handlers[:] = handlers
