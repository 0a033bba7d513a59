"""Verbosity: how much a command says, which is one setting of the console and of all loggers."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from viscy_train.config.suggestions import CommandLineError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

VERBOSE, QUIET = ("-v", "--verbose"), ("-q", "--quiet")
_FORMAT = "%(seconds)8.2f s  %(name)s: %(message)s"
_ADVERTISEMENT = "Tip: For seamless"  # of Lightning, for other software
_logger = logging.getLogger(__name__)


@contextmanager
def verbosity(words: Sequence[str]) -> Generator[list[str]]:
    """Say as much in the block as words of the command line ask, and yield the other words.

    Parameters
    ----------
    words : sequence of str
        The command line. ``-v`` shows what is done and why, with the seconds since the start, and what libraries log,
        on standard error. ``-q`` shows only results, warnings, notes and errors.

    Raises
    ------
    CommandLineError
        If both are given.
    """
    others = [word for word in words if word not in (*VERBOSE, *QUIET)]
    is_verbose, is_quiet = (any(word in flags for word in words) for flags in (VERBOSE, QUIET))
    if is_verbose and is_quiet:
        raise CommandLineError("a command is either --verbose or --quiet, got both")
    if is_verbose:
        with _shown_logs():
            yield others
    elif is_quiet:
        from viscy_train.console import quiet_console

        with quiet_console(), _hidden_iohub():
            yield others
    else:
        with _hidden_iohub():
            yield others


def is_verbose() -> bool:
    """Return whether what is logged is shown."""
    return logging.getLogger().isEnabledFor(logging.INFO)


@contextmanager
def _hidden_iohub() -> Generator[None]:
    """Hide the warnings of iohub, which our own errors cover."""
    iohub = logging.getLogger("iohub")
    level = iohub.level
    iohub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        iohub.setLevel(level)


@contextmanager
def _shown_logs() -> Generator[None]:
    """Show what this package and its libraries log, and at the end how long it took."""
    root, handler, start = logging.getLogger(), logging.StreamHandler(), time.monotonic()
    level, cpu = root.level, time.process_time()
    handler.setFormatter(_SinceStart(start))
    handler.addFilter(lambda record: _ADVERTISEMENT not in str(record.msg))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        _logger.info(
            "ended after %.2f s, of which %.2f s on a processor", time.monotonic() - start, time.process_time() - cpu
        )
        root.setLevel(level)
        root.removeHandler(handler)


class _SinceStart(logging.Formatter):
    """Give the seconds since the start of the command."""

    def __init__(self, start: float) -> None:
        super().__init__(_FORMAT)
        self._start = start

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.seconds = time.monotonic() - self._start
        return super().format(record)
