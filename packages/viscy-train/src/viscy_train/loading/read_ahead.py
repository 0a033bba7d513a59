"""Read ahead: batches that threads of this process read before they are needed, in order."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Batches that are read or waiting to be used, for each thread.
_AHEAD = 2
# A read that takes longer than this many seconds does not delay the end of the process.
_PATIENCE = 10.0


class ReadAhead:
    """Read batches in threads, and return them in the order in which they are composed.

    Parameters
    ----------
    read : callable
        Reads a batch, given what to read. Called in several threads at the same time.
    batches : iterable
        What to read for each batch. It is iterated in the thread that uses the batches.
    n_threads : int
        Number of threads.
    prepare : callable, optional
        Called in each thread before its first batch.

    Notes
    -----
    Python, NumPy and the readers of chunks release the lock of the interpreter while they decode and copy, so threads
    read at the same time and share what is decoded. The threads are daemons, because a read may hang as long as a file
    system does; they end after their current read when the batches are closed, and at the latest when the process ends.
    """

    def __init__(
        self,
        read: Callable[[Any], Any],
        batches: Iterable[Any],
        n_threads: int,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._batches = iter(batches)
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._pending: deque[_Task] = deque()
        self._is_complete = False
        self._threads = [
            threading.Thread(target=_work, args=(self._tasks, read, prepare), name=f"reader {number}", daemon=True)
            for number in range(n_threads)
        ]
        _unclosed.add(self)
        for thread in self._threads:
            thread.start()
            _started.add(thread)
        for _ in range(_AHEAD * n_threads):
            self._request()

    @property
    def next_batch(self) -> Any:
        """What is read for the next batch, None after the last one. May be asked in any thread."""
        try:
            return self._pending[0].batch
        except IndexError:
            return None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Wait for the next batch.

        Raises
        ------
        Exception
            The error of this batch, if there was one; there are no further batches.
        """
        if not self._pending:
            self.close()
            raise StopIteration
        try:
            result = self._pending[0].future.result()
        except BaseException:
            self.close()
            raise
        self._pending.popleft()
        self._request()
        return result

    def _request(self) -> None:
        """Let a thread read one more batch. An error of the composition is raised when its batch is due."""
        if self._is_complete:
            return
        task = _Task()
        try:
            task.batch = next(self._batches)
        except StopIteration:
            self._is_complete = True
            return
        except Exception as error:
            self._is_complete = True
            task.future.set_exception(error)
        else:
            self._tasks.put(task)
        self._pending.append(task)

    def close(self) -> None:
        """Read no further batches, and let the threads end."""
        self._is_complete = True
        for task in self._pending:
            task.future.cancel()
        self._pending.clear()
        for _ in self._threads:
            self._tasks.put(None)
        _unclosed.discard(self)


class _Task:
    """A batch to read."""

    def __init__(self) -> None:
        self.batch: Any = None
        self.future: Future[Any] = Future()


def _work(tasks: SimpleQueue[_Task | None], read: Callable[[Any], Any], prepare: Callable[[], None]) -> None:
    """Read batches until there is None instead of one."""
    is_prepared = False
    while (task := tasks.get()) is not None:
        if not task.future.set_running_or_notify_cancel():
            continue
        try:
            if not is_prepared:
                prepare()
                is_prepared = True
            result = read(task.batch)
        except BaseException as error:
            task.future.set_exception(error)
        else:
            task.future.set_result(result)
            del result
        del task


_unclosed: weakref.WeakSet[ReadAhead] = weakref.WeakSet()
_started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _end_at_exit() -> None:
    """End all threads before the interpreter is taken down, which native code in a daemon thread does not survive."""
    for one in list(_unclosed):
        one.close()
    deadline = time.monotonic() + _PATIENCE
    for thread in list(_started):
        thread.join(max(0.0, deadline - time.monotonic()))
