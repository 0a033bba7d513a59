"""A failure: an error of the machine, such as a full disk or a lost process, that is explained in one line."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from viscy_train.atomic import is_disk_full
from viscy_train.exit_codes import EXIT_FAILED, EXIT_USER_ERROR

if TYPE_CHECKING:
    from collections.abc import Generator

_RESUME = "rerun `fit` with --checkpoint last to resume"
# torch reports a worker that has died in one of two ways.
_LOST_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (is killed by signal|exited unexpectedly)")
# What gloo and NCCL report when another process of the group has ended.
_LOST_PROCESS = re.compile(
    r"Connection (?:closed|reset) by peer|gloo.*(?:[Bb]roken pipe|[Rr]ead error|Socket closed)"
    r"|remote process exited",
    re.DOTALL,
)


def explain_failure(error: BaseException) -> tuple[str, int] | None:
    """Explain an error of the machine.

    Parameters
    ----------
    error : BaseException
        What ended a command.

    Returns
    -------
    tuple of (str, int), optional
        One line and the exit code; None if the error is not one of these, so that its traceback is of use.
    """
    text = " ".join(str(error).split())
    if is_disk_full(error):
        return f"the disk is full ({text}); free some space, and {_RESUME}", EXIT_USER_ERROR
    if isinstance(error, OSError) and error.errno and error.filename:
        return f"cannot read or write {_name_of(error.filename)}: {error.strerror}", EXIT_USER_ERROR
    if not isinstance(error, RuntimeError):
        return None
    if _LOST_WORKER.search(text):
        reason = "often for lack of memory: lower data.num_workers or the batch size"
        return f"a data worker has ended ({text}), {reason}; {_RESUME}", EXIT_FAILED
    if _LOST_PROCESS.search(str(error)):
        return f"another process of this run has ended, and its own message says why; {_RESUME}", EXIT_FAILED
    return None


@contextmanager
def quiet_threads() -> Generator[None]:
    """Print no traceback of a thread for an error that the command reports itself, such as TensorBoard's full disk."""
    previous = threading.excepthook

    def report(arguments: Any) -> None:
        if arguments.exc_value is None or explain_failure(arguments.exc_value) is None:
            previous(arguments)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = previous


def _name_of(filename: Any) -> str:
    return filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)
