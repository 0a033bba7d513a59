"""Launch: start the training processes of a run, wait for them, and leave none behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
_SECONDS_TO_END = 5.0
_SECONDS_BETWEEN_LOOKS = 0.1


class TrainingFailedError(RuntimeError):
    """A training process ended with an error, which it has shown itself."""


def launch_command(arguments: list[str], processes: int) -> None:
    """Run a command of the command line on some processes of this machine, which are the ranks of a process group.

    Parameters
    ----------
    arguments : list of str
        As after ``viscy-train``.
    processes : int
        How many.

    Raises
    ------
    TrainingFailedError
        If one fails.
    """
    launch([sys.executable, "-m", "viscy_train.cli.rank", *arguments], processes)


def launch(command: list[str], processes: int) -> None:
    """Run a command as the ranks of a process group and wait for them; none outlives this call or this process.

    Parameters
    ----------
    command : list of str
        What each rank runs; it finds its rank and the address of the others in the environment, and ends when its
        standard input is closed.
    processes : int
        How many.

    Raises
    ------
    TrainingFailedError
        If one fails; the others are ended first.
    """
    port = _free_port()
    with _sigterm_as_exit():
        ranks: list[subprocess.Popen] = []
        try:
            for rank in range(processes):
                environment = _environment(rank, processes, port)
                # A session of its own: Ctrl-C reaches this process alone, which ends the others in order.
                process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
                ranks.append(process)
            _wait(ranks)
        finally:
            _end(ranks)


def _environment(rank: int, processes: int, port: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    return os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": str(threads),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(ranks: list[subprocess.Popen]) -> None:
    """Wait until all have ended well or one has not."""
    while any(process.poll() is None for process in ranks):
        _raise_if_failed(ranks)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    _raise_if_failed(ranks)


def _raise_if_failed(ranks: list[subprocess.Popen]) -> None:
    for rank, process in enumerate(ranks):
        if process.poll():
            raise TrainingFailedError(f"training process {rank} of {len(ranks)} ended with code {process.returncode}")


def _end(ranks: list[subprocess.Popen]) -> None:
    """Ask those that still run to end, and make them."""
    for process in ranks:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _SECONDS_TO_END
    for process in ranks:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()


@contextmanager
def _sigterm_as_exit() -> Generator[None]:
    """Turn SIGTERM into SystemExit, so that processes are ended on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
