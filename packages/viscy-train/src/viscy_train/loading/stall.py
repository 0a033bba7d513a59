"""Stall: a wait that lasts too long, of which the console says for what the process waits."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.console import say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@dataclass
class _Wait:
    describe: Callable[[], str | None]
    since: float
    warn_after: float


class StallWatch:
    """Print a line when a wait lasts long, and again each time it has lasted twice as long.

    Parameters
    ----------
    seconds : float
        How long a wait lasts before the first line.
    report : callable, optional
        Called with the line.

    Notes
    -----
    A thread that starts with the first wait looks after them, so that a wait costs no more than storing its start.
    """

    def __init__(self, seconds: float, report: Callable[[str], None] = say) -> None:
        self._seconds, self._report = seconds, report
        self._wait: _Wait | None = None
        self._thread: threading.Thread | None = None
        self._closed: threading.Event | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a wait is in progress."""
        return self._wait is not None

    @contextmanager
    def waiting(self, describe: Callable[[], str | None]) -> Generator[None]:
        """Wait in the block.

        Parameters
        ----------
        describe : callable
            Returns for what the process waits, such as ``data worker 0``, or None if nothing is to be said. Called in
            another thread.
        """
        self.start(describe)
        try:
            yield
        finally:
            self._wait = None

    def start(self, describe: Callable[[], str | None]) -> None:
        """Start a wait, which ends with the start of another or with `close`."""
        self._wait = _Wait(describe, time.monotonic(), self._seconds)
        if self._thread is None:
            self._closed = threading.Event()
            self._thread = threading.Thread(target=self._look, args=(self._closed,), name="stall watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._wait = None
        if self._thread is not None and self._closed is not None:
            self._closed.set()
            self._thread.join()
            self._thread = self._closed = None

    def _look(self, closed: threading.Event) -> None:
        while not closed.wait(min(1.0, self._seconds / 4)):
            wait = self._wait
            lasted = 0.0 if wait is None else time.monotonic() - wait.since
            if wait is not None and lasted >= wait.warn_after and (what := wait.describe()) is not None:
                wait.warn_after = 2 * lasted
                if self._wait is wait:  # still
                    self._report(f"Waiting for {what} for {lasted:.0f} s")


def describe_worker(batches: Any) -> str:
    """Return which worker of a data loader is to deliver the next batch.

    Parameters
    ----------
    batches : iterator
        What ``iter`` of a `torch.utils.data.DataLoader` returns.
    """
    try:
        worker = batches._task_info[batches._rcvd_idx][0]
        pid = batches._workers[worker].pid
    except (AttributeError, LookupError):  # no workers, or another version of torch
        return "data"
    stopped = f", which is stopped; `kill -CONT {pid}` continues it" if is_stopped(pid) else ""
    return f"data worker {worker} (process {pid}{stopped})"


def describe_reader(batches: Any) -> str:
    """Return which batch the threads of a loader are to deliver next.

    Parameters
    ----------
    batches : ReadAhead
        The batches.
    """
    batch = batches.next_batch
    number, epoch = getattr(batch, "index", None), getattr(batch, "epoch", None)
    if not isinstance(number, int) or epoch is None:  # single crops, or another thread has just used the last batch
        return "data, which threads read,"
    return f"batch {number} of epoch {epoch + 1}, which a thread reads,"


def is_stopped(pid: int) -> bool:
    """Return whether a process of this machine is stopped, as by SIGSTOP; False where that is unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False
