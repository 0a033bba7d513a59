"""Fork: whether this process was forked from one that had used tensorstore, and can therefore not use it.

The threads of tensorstore do not survive a fork: it aborts a child process that uses it after its parent has
(google/tensorstore, issue 61). Children started by `spawn` or `forkserver`, or forked before the parent has used it,
are not affected.
"""

from __future__ import annotations

import os

import tensorstore

_STARTED_THREADS = "/tensorstore/thread_pool/started"


class _Fork:
    """Counts, whenever Python forks this process, the threads of tensorstore that the child will not have."""

    def __init__(self) -> None:
        self._n_lost = self._n_started = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_child=self._after_in_child)

    @property
    def lost_threads(self) -> bool:
        """Whether tensorstore had threads in a process that this one was forked from."""
        return self._n_lost > 0

    def _before(self) -> None:
        self._n_started = _count_started_threads()

    def _after_in_child(self) -> None:
        self._n_lost = self._n_started


def _count_started_threads() -> int:
    """Return how many threads tensorstore has started in this process and those that it was forked from."""
    metrics = tensorstore.experimental_collect_matching_metrics(_STARTED_THREADS)
    return sum(value["value"] for metric in metrics for value in metric["values"])


_fork = _Fork()


def may_use_tensorstore() -> bool:
    """Return whether this process can use tensorstore: not if it was forked from one that had used it."""
    return not _fork.lost_threads
