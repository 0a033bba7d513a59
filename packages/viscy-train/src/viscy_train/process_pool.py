"""Process pool: processes of this machine that do the work of a command, and end with it.

They are spawned, because a process that is forked cannot use tensorstore after its parent has.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.connection import Connection


def name_of_writer() -> str:
    """Return a name that no other process or thread has, also on machines that share a file system."""
    return f"{socket.gethostname()}.{os.getpid()}.{threading.get_native_id()}"


@contextmanager
def process_pool(
    processes: int,
    command: str,
    *,
    start: Callable[..., object] | None = None,
    arguments: tuple[Any, ...] = (),
    again: str = "",
) -> Generator[ProcessPoolExecutor]:
    """Start processes that end with the block, or if this process is killed.

    Parameters
    ----------
    processes : int
        Number of processes.
    command : str
        Name of the command, for an error message.
    start : callable, optional
        Function that each process calls first.
    arguments : tuple
        Its arguments.
    again : str, default ""
        What the remedy of that message ends with.

    Yields
    ------
    concurrent.futures.ProcessPoolExecutor
        The processes. Their functions need no `KeyboardInterrupt`: after an error of the block, also at Ctrl-C, they
        are ended at once.

    Raises
    ------
    UserError
        If a process ends unexpectedly, for example because it is killed.
    """
    context = multiprocessing.get_context("spawn")
    ends, end = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(processes, context, initializer=_start_process, initargs=(ends, start, arguments))
    try:
        yield executor
    except BaseException as error:
        end.close()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                f"a process of `viscy-train {command}` ended unexpectedly, maybe for lack of memory; run the command "
                f"again with fewer --processes{again}"
            ) from error
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        end.close()
        ends.close()


def _start_process(ends: Connection, start: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    # At Ctrl-C, a terminal sends the signal to all processes, and the parent ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(ends,), daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent(ends: Connection) -> None:
    """End this process if its parent closes its end of the connection, or is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel, ends])
    os._exit(1)
