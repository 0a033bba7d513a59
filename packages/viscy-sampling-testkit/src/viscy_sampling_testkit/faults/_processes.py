"""Processes of this machine, as Linux shows them in ``/proc``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Processes that multiprocessing starts besides workers.
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@dataclass(frozen=True)
class Process:
    """A process: its id, its parent and session, its state as one letter, and when it started, in clock ticks."""

    pid: int
    parent: int
    session: int
    state: str
    started: int

    @property
    def key(self) -> tuple[int, int]:
        """What no other process has: ids are used again, but not at the same time."""
        return self.pid, self.started

    @property
    def is_running(self) -> bool:
        """Whether the process had not ended; a zombie has."""
        return self.state not in ("Z", "X")

    @property
    def command(self) -> str:
        """The command line, or an empty string if the process has ended."""
        return _read(self.pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()

    @property
    def is_helper(self) -> bool:
        """Whether this is a process of multiprocessing itself, which is not a worker."""
        return any(name in self.command for name in _HELPERS)

    @property
    def environment(self) -> bytes:
        """The environment with which the program was started, as ``name=value`` strings, each ended by a zero byte."""
        return _read(self.pid, "environ")

    def __str__(self) -> str:
        """Return the id and the command line."""
        return f"process {self.pid}: {self.command[:200]}"

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended or is not ours."""
        now = read_process(self.pid)
        if now is not None and now.key == self.key:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)


def read_process(pid: int) -> Process | None:
    """Read a process; None if it has been removed."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    if not fields:
        return None
    return Process(pid, int(fields[1]), int(fields[3]), fields[0].decode(), int(fields[19]))


def list_processes() -> list[Process]:
    """Return all processes, the oldest first."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = [process for pid in pids if (process := read_process(pid)) is not None]
    return sorted(found, key=lambda process: (process.started, process.pid))


def descendants(processes: Iterable[Process], pids: Iterable[int]) -> list[Process]:
    """Return the processes that some processes have started, and those that they have started, and so on."""
    listed, reached, found = list(processes), set(pids), []
    while new := [process for process in listed if process.parent in reached and process.pid not in reached]:
        reached |= {process.pid for process in new}
        found += new
    return found


def kill_all(processes: Iterable[Process]) -> None:
    """Kill processes."""
    for process in processes:
        process.send(signal.SIGKILL)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
