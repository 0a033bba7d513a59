"""A supervisor: starts the processes of all ranks, collects their outcomes, and stops every one of them."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import os
import pickle
import signal
import sys
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

# After the first failure: how long to wait for the outcomes of the other ranks, in seconds.
_SETTLE_SECONDS = 0.2
# After the last result: how long a rank may take to exit, in seconds.
_EXIT_SECONDS = 10.0
# How often the processes are started if they cannot connect to each other.
_MAX_STARTS = 3
# How much of a rank's standard error a message quotes, in characters from its end.
_QUOTED_STDERR = 4000

_logger = logging.getLogger(__name__)


@dataclass
class Supervisor:
    """The processes of all ranks and what is known of each: its outcome, its death, its standard error.

    If `may_die` is True, the death of a rank is not a failure.
    """

    processes: list[SpawnProcess]
    connections: list[Connection]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    stderr: dict[int, str] = field(default_factory=dict)
    may_die: bool = False

    @classmethod
    def run(cls, payload: bytes, num_replicas: int, ends: float, *, may_die: bool = False) -> Supervisor:
        """Start all ranks, collect their outcomes and stop them, at `ends` on the monotonic clock at the latest.

        Gloo does not retry a failed connection. So if ranks fail to connect, all of them are started again with a new
        store; at that point the function has not been called on any rank.
        """
        for n_starts in range(1, _MAX_STARTS + 1):
            with tempfile.TemporaryDirectory(prefix="spawn-ranks-") as folder:
                timeout = max(0.1, ends - time.monotonic())
                supervisor = cls.start(payload, num_replicas, folder, timeout, may_die=may_die)
                try:
                    supervisor.collect(ends)
                    if supervisor.has_failed:
                        supervisor.collect(time.monotonic() + _SETTLE_SECONDS, after_failure=True)
                    elif not supervisor.pending:
                        supervisor.wait_for_exit(_EXIT_SECONDS)
                finally:
                    supervisor.stop()
                supervisor.read_stderr(folder)
            if n_starts == _MAX_STARTS or not supervisor.failed_to_join or time.monotonic() >= ends:
                break
            error = next(outcome.error for outcome in supervisor.outcomes.values() if outcome.error is not None)
            _logger.warning(
                "%d ranks failed to connect (start %d of %d): %s", num_replicas, n_starts, _MAX_STARTS, error
            )
        return supervisor

    @classmethod
    def start(cls, payload: bytes, num_replicas: int, folder: str, timeout: float, *, may_die: bool) -> Supervisor:
        """Start the processes of all ranks; if one cannot be started, stop the others.

        The store of the process group and the standard error of the ranks are files in `folder`.
        """
        context = multiprocessing.get_context("spawn")
        supervisor = cls([], [], may_die=may_die)
        store = str(Path(folder) / "store")
        try:
            # The children read the variable when they load torch, so it must be set before they start.
            with set_environment(OMP_NUM_THREADS="1"):
                for rank in range(num_replicas):
                    ours, theirs = context.Pipe(duplex=False)
                    supervisor.connections.append(ours)
                    stderr = str(_stderr_file(folder, rank))
                    process = context.Process(
                        target=main, args=(theirs, payload, rank, num_replicas, store, stderr, timeout)
                    )
                    process.start()
                    theirs.close()
                    supervisor.processes.append(process)
        except BaseException:
            supervisor.stop()
            raise
        return supervisor

    @property
    def has_failed(self) -> bool:
        """Whether a rank has raised an exception, or died although it must not."""
        has_died = bool(self.dead) and not self.may_die
        return has_died or any(outcome.error is not None for outcome in self.outcomes.values())

    @property
    def failed_to_join(self) -> bool:
        """Whether ranks failed for no other reason than that they could not connect to each other."""
        errors = [outcome for outcome in self.outcomes.values() if outcome.error is not None]
        return bool(errors) and not self.dead and all(outcome.failed_to_join for outcome in errors)

    @property
    def pending(self) -> list[int]:
        """The ranks that have neither sent an outcome nor died."""
        return [rank for rank in range(len(self.processes)) if rank not in self.dead | self.outcomes.keys()]

    def collect(self, ends: float, *, after_failure: bool = False) -> None:
        """Collect outcomes until no rank is pending, time is up, or a rank fails (unless `after_failure` is True)."""
        while (ranks := self.pending) and (after_failure or not self.has_failed):
            # A child of a rank may keep the rank's pipe open after the rank has died, so also wait for the process.
            sentinels = [self.processes[rank].sentinel for rank in ranks]
            ready = wait([*sentinels, *(self.connections[rank] for rank in ranks)], max(0.0, ends - time.monotonic()))
            if not ready:
                return
            for rank in ranks:
                self._poll(rank, self.processes[rank].sentinel in ready)

    def _poll(self, rank: int, has_ended: bool) -> None:
        """Receive the outcome of a rank if it has sent one; a rank that has ended without an outcome is dead."""
        try:
            if self.connections[rank].poll():
                self.outcomes[rank] = Outcome.loads(self.connections[rank].recv_bytes())
            elif has_ended:
                self.dead.add(rank)
        except (EOFError, OSError):
            self.dead.add(rank)

    def wait_for_exit(self, seconds: float) -> None:
        """Let ranks that have sent an outcome exit; they are not reaped, so the system cannot reuse their ids."""
        ends = time.monotonic() + seconds
        for process in self.processes:
            wait([process.sentinel], max(0.0, ends - time.monotonic()))

    def stop(self) -> None:
        """Kill every process that still runs, and everything that it has started, and reap it."""
        for process in self.processes:
            # Each rank leads its own process group, except right after its start.
            if process.pid is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()
        for connection in self.connections:
            connection.close()

    def read_stderr(self, folder: str) -> None:
        """Read what the ranks wrote to standard error, and write it to that of this process."""
        for rank in range(len(self.processes)):
            file = _stderr_file(folder, rank)
            self.stderr[rank] = file.read_text(errors="replace") if file.exists() else ""
            sys.stderr.write(self.stderr[rank])

    def results(self, deadline: float) -> list[Any]:
        """Return the results in rank order, None for ranks that died as planned, or raise the first failure."""
        if self.dead and not self.may_die:
            raise self.death("without returning a result")
        errors = [outcome for outcome in self.outcomes.values() if outcome.error is not None]
        if errors:
            raise min(errors, key=lambda outcome: outcome.at).exception(len(self.processes))
        if pending := self.pending:
            n_ranks = len(self.processes)
            message = f"ranks {pending} of {n_ranks} did not finish within {deadline:g} s"
            raise TimeoutError(message + self._quote_stderr(pending))
        return [self.outcomes[rank].result if rank in self.outcomes else None for rank in range(len(self.processes))]

    def death(self, when: str) -> RuntimeError:
        """Return an error that names the dead ranks, their exit codes and standard error; call it after `stop`."""
        ranks, n_ranks = sorted(self.dead), len(self.processes)
        deaths = [f"rank {rank} of {n_ranks} died with exit code {self.processes[rank].exitcode}" for rank in ranks]
        return RuntimeError(f"{', '.join(deaths)} {when}{self._quote_stderr(ranks)}")

    def _quote_stderr(self, ranks: list[int]) -> str:
        """Return the end of the standard error of some ranks, as lines to append to a message."""
        tails = {rank: self.stderr.get(rank, "").strip()[-_QUOTED_STDERR:] for rank in ranks}
        return "".join(f"\nstandard error of rank {rank}:\n{tail}" for rank, tail in tails.items() if tail)


def make_payload(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """Return what the process of a rank needs to call a function."""
    return pickle.dumps((*locate(function), pickle.dumps(args)))


def locate(function: Callable[..., Any]) -> tuple[str, str, str]:
    """Return the file, the module and the name by which another process finds a function."""
    if not inspect.isfunction(function):
        raise TypeError(f"function must be a plain function, got {function!r}")
    file = inspect.getsourcefile(function)
    if "<" in function.__qualname__ or file is None or not Path(file).is_file():
        raise ValueError(f"function must be at the top level of a module in a file, got {function!r}; move it there")
    return str(Path(file).resolve()), function.__module__, function.__qualname__


@contextmanager
def set_environment(**variables: str) -> Generator[None]:
    """Set environment variables within a context, then restore them."""
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


def _stderr_file(folder: str, rank: int) -> Path:
    return Path(folder) / f"stderr-{rank}"
