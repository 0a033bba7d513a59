"""A crew: the processes of all ranks, from their start until none of them is left."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from viscy_sampling_testkit.simulate._process import Outcome, main

# After the first trouble: how long to listen for what the other ranks have to say about it, in seconds.
_SETTLE = 0.2
# After the last result: how long a rank may take to leave, in seconds.
_LEAVE = 10.0
# How often processes are started anew where they could not connect to each other.
_ATTEMPTS = 3

_logger = logging.getLogger(__name__)


@dataclass
class Crew:
    """The processes of all ranks, and what each has answered so far; those that `may_die` are in no trouble if so."""

    processes: list[SpawnProcess]
    connections: list[Connection]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    may_die: bool = False

    @classmethod
    def run(cls, payload: bytes, num_replicas: int, ends: float, *, may_die: bool = False) -> Crew:
        """Start all ranks, collect their answers and end them, at the latest at `ends` of the monotonic clock.

        Gloo gives up for good where one connection fails, so ranks that did not come together are started anew, with
        another store; no function has run on any of them then.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            with tempfile.TemporaryDirectory(prefix="spawn-ranks-") as folder:
                timeout = max(0.1, ends - time.monotonic())
                crew = cls.start(payload, num_replicas, str(Path(folder) / "store"), timeout, may_die=may_die)
                try:
                    crew.listen(ends)
                    if crew.in_trouble:
                        crew.listen(time.monotonic() + _SETTLE, to_all=True)
                    elif not crew.silent:
                        crew.leave(_LEAVE)
                finally:
                    crew.end()
            if attempt == _ATTEMPTS or not crew.is_apart or time.monotonic() >= ends:
                break
            error = next(outcome.error for outcome in crew.outcomes.values() if outcome.error is not None)
            _logger.warning(
                "%d ranks could not be joined, attempt %d of %d: %s", num_replicas, attempt, _ATTEMPTS, error
            )
        return crew

    @classmethod
    def start(cls, payload: bytes, num_replicas: int, store: str, timeout: float, *, may_die: bool = False) -> Crew:
        """Start the process of each rank, or none."""
        context = multiprocessing.get_context("spawn")
        crew = cls([], [], may_die=may_die)
        try:
            # Children read it when they load torch; later is too late.
            with environment(OMP_NUM_THREADS="1"):
                for rank in range(num_replicas):
                    ours, theirs = context.Pipe(duplex=False)
                    crew.connections.append(ours)
                    process = context.Process(target=main, args=(theirs, payload, rank, num_replicas, store, timeout))
                    process.start()
                    theirs.close()
                    crew.processes.append(process)
        except BaseException:
            crew.end()
            raise
        return crew

    @property
    def in_trouble(self) -> bool:
        """Whether a rank has raised, or died where it may not."""
        has_died = bool(self.dead) and not self.may_die
        return has_died or any(outcome.error is not None for outcome in self.outcomes.values())

    @property
    def is_apart(self) -> bool:
        """Whether the only trouble is that ranks could not connect to each other."""
        errors = [outcome for outcome in self.outcomes.values() if outcome.error is not None]
        return bool(errors) and not self.dead and all(outcome.is_apart for outcome in errors)

    @property
    def silent(self) -> list[int]:
        """The ranks that have neither answered nor died."""
        return [rank for rank in range(len(self.processes)) if rank not in self.dead | self.outcomes.keys()]

    def listen(self, ends: float, *, to_all: bool = False) -> None:
        """Collect answers until all ranks have given one, one is in trouble (unless to all), or time is up."""
        while (ranks := self.silent) and (to_all or not self.in_trouble):
            # What a rank has started may keep its pipe open after its death; so its own end is waited for, too.
            ended = [self.processes[rank].sentinel for rank in ranks]
            ready = wait([*ended, *(self.connections[rank] for rank in ranks)], max(0.0, ends - time.monotonic()))
            if not ready:
                return
            for rank in ranks:
                self._look_at(rank, self.processes[rank].sentinel in ready)

    def _look_at(self, rank: int, has_ended: bool) -> None:
        """Take the answer of a rank if there is one; if there is none and its process has ended, it is dead."""
        try:
            if self.connections[rank].poll():
                self.outcomes[rank] = Outcome.loads(self.connections[rank].recv_bytes())
            elif has_ended:
                self.dead.add(rank)
        except (EOFError, OSError):
            self.dead.add(rank)

    def leave(self, seconds: float) -> None:
        """Let ranks that have answered end by themselves; they stay unreaped, so that their process ids stay theirs."""
        ends = time.monotonic() + seconds
        for process in self.processes:
            wait([process.sentinel], max(0.0, ends - time.monotonic()))

    def end(self) -> None:
        """Kill what still runs, with all that it started, and wait for it."""
        for process in self.processes:
            # Each rank leads a process group of its own, except in its first moments.
            if process.pid is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()
        for connection in self.connections:
            connection.close()

    def results(self, deadline: float) -> list[Any]:
        """Return the results in order of ranks (None of the dead that may be so), or raise what went wrong first."""
        if self.dead and not self.may_die:
            raise RuntimeError(self.obituary)
        errors = [outcome for outcome in self.outcomes.values() if outcome.error is not None]
        if errors:
            raise min(errors, key=lambda outcome: outcome.at).exception(len(self.processes))
        if late := self.silent:
            raise TimeoutError(f"ranks {late} of {len(self.processes)} did not finish within {deadline:g} s")
        return [self.outcomes[rank].result if rank in self.outcomes else None for rank in range(len(self.processes))]

    @property
    def obituary(self) -> str:
        """Which ranks died, and how; to be read once all have ended."""
        codes = {rank: self.processes[rank].exitcode for rank in sorted(self.dead)}
        deaths = ", ".join(f"rank {rank} died with exit code {code}" for rank, code in codes.items())
        return f"{deaths}, without an answer, of {len(self.processes)} ranks"


def payload_of(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """Return what the process of a rank needs to call a function."""
    return pickle.dumps((*reference(function), pickle.dumps(args)))


def reference(function: Callable[..., Any]) -> tuple[str, str, str]:
    """Return file, module and name under which another process finds a function."""
    if not inspect.isfunction(function):
        raise TypeError(f"function must be a plain function, got {function!r}")
    file = inspect.getsourcefile(function)
    if "<" in function.__qualname__ or file is None or not Path(file).is_file():
        raise ValueError(f"function must be at the top level of a module in a file, got {function!r}; move it there")
    return str(Path(file).resolve()), function.__module__, function.__qualname__


@contextmanager
def environment(**variables: str) -> Generator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
