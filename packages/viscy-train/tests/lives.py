"""Lives of a run: processes that train, are killed or asked to stop at some moment, and are started again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DEADLINE = 120.0
# Lightning takes seconds to load: once, in a server that the processes are forked from.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["viscy_train.commands", "viscy_train.fit", "viscy_train.report"])
_CODE = """
import os, sys
os.environ.update({environment!r})
os.chdir({folder!r})
sys.stdout = sys.stderr = open({output!r}, "a", buffering=1)
os.dup2(sys.stderr.fileno(), 2)
from viscy_train.cli import main
sys.exit(main({arguments!r}))
"""


@contextlib.contextmanager
def life(folder: Path, arguments: list[str], processes: int = 1) -> Iterator[list[Any]]:
    """Start the processes of a run in a folder; none is left at the end.

    What they print goes to ``output.txt`` in the folder.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = []
    for rank in range(processes):
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        code = _CODE.format(
            environment=environment, folder=str(folder), output=str(folder / "output.txt"), arguments=arguments
        )
        ranks.append(_SERVER.Process(target=exec, args=(code,)))
    try:
        for process in ranks:
            process.start()
        yield ranks
    finally:
        for process in ranks:
            if process.is_alive():
                process.kill()
            process.join()


def end(ranks: list[Any]) -> list[int]:
    """Wait for the processes to end by themselves; return their exit codes."""
    deadline = time.monotonic() + _DEADLINE
    for process in ranks:
        process.join(max(0.0, deadline - time.monotonic()))
        assert process.exitcode is not None, "a process did not end in time"
    return [process.exitcode for process in ranks]


def wait_for(holds: Callable[[], bool], ranks: list[Any]) -> None:
    """Wait until something holds, or the processes have ended."""
    deadline = time.monotonic() + _DEADLINE
    while not holds() and any(process.is_alive() for process in ranks):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def kill(ranks: list[Any], number: signal.Signals = signal.SIGKILL) -> None:
    """Send all of them a signal."""
    for process in ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
