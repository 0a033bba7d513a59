"""The ranks of a distributed run: simulated one after another, or as real processes over gloo."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from viscy_sampling_testkit._process import Outcome, main

# After the first trouble: how long to listen for what the other ranks have to say about it, in seconds.
_SETTLE = 0.2
# After the last result: how long a rank may take to leave, in seconds.
_LEAVE = 10.0


def simulate_ranks(
    make_sampler: Callable[[int, int], Iterable[Sequence[int]]], num_replicas: int
) -> list[list[list[int]]]:
    """Draw one epoch of each rank's sampler, one rank after another in this process.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns the sampler of that rank.
    num_replicas : int
        Number of ranks.

    Returns
    -------
    list of list of list of int
        For each rank its batches, shape (num_replicas, n_steps, batch_size); ranks may differ in steps.

    Raises
    ------
    ValueError
        If `num_replicas` is less than 1.

    Examples
    --------
    >>> simulate_ranks(lambda rank, num_replicas: [[k] for k in range(rank, 5, num_replicas)], 2)
    [[[0], [2], [4]], [[1], [3]]]
    """
    _check_replicas(num_replicas)
    return [[list(batch) for batch in make_sampler(rank, num_replicas)] for rank in range(num_replicas)]


def interleave(ranks: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Put the batches of all ranks into the order of steps, and within a step of ranks.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank, as `simulate_ranks` returns them.

    Returns
    -------
    list of list of int
        All batches, shape (n_batches, batch_size). A rank that has ended is passed over.

    Examples
    --------
    >>> interleave([[[0], [2], [4]], [[1], [3]]])
    [[0], [1], [2], [3], [4]]
    """
    steps = max(map(len, ranks), default=0)
    return [list(batches[step]) for step in range(steps) for batches in ranks if step < len(batches)]


def spawn_ranks(function: Callable[..., Any], num_replicas: int, *args: Any, deadline: float = 60.0) -> list[Any]:
    """Run a function in real processes, joined by `torch.distributed` over gloo on the loopback interface.

    Each process is started anew, with one thread for numerics, and calls ``function(rank, num_replicas, *args)`` after
    the default process group is initialised. However the call ends, the processes, and what they started themselves,
    are gone after it. For POSIX systems.

    Parameters
    ----------
    function : callable
        A function at the top level of a module that is in a file. The file is loaded again in each process, so a script
        needs its ``if __name__ == "__main__"``; a test module needs nothing.
    num_replicas : int
        Number of processes.
    *args
        Further arguments of the function; they are pickled, as are the results.
    deadline : float, default 60.0
        Seconds within which all ranks must have returned, their start included (importing torch takes some).

    Returns
    -------
    list
        What the function returned, in order of ranks.

    Raises
    ------
    Exception
        What the function raised on a rank (the first to do so), with a note that gives the rank and its traceback. A
        RuntimeError in its place where it cannot be pickled.
    RuntimeError
        If a process died without an answer; the message has rank and exit code.
    TimeoutError
        If the deadline passed; the message names the ranks that had not finished.
    TypeError
        If `function` is not a function.
    ValueError
        If it is not at the top level of a module in a file, or `num_replicas` is less than 1.
    """
    _check_replicas(num_replicas)
    payload = pickle.dumps((*_reference(function), pickle.dumps(args)))
    ends = time.monotonic() + deadline
    with tempfile.TemporaryDirectory(prefix="spawn-ranks-") as folder:
        crew = _Crew.start(payload, num_replicas, str(Path(folder) / "store"), deadline)
        try:
            crew.listen(ends)
            if crew.in_trouble:
                crew.listen(time.monotonic() + _SETTLE, to_all=True)
            elif not crew.silent:
                crew.leave(_LEAVE)
        finally:
            crew.end()
    return crew.results(deadline)


@dataclass
class _Crew:
    """The processes of all ranks, and what each has answered so far."""

    processes: list[SpawnProcess]
    connections: list[Connection]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)

    @classmethod
    def start(cls, payload: bytes, num_replicas: int, store: str, deadline: float) -> _Crew:
        context = multiprocessing.get_context("spawn")
        crew = cls([], [])
        try:
            # Children read it when they load torch; later is too late.
            with _environment(OMP_NUM_THREADS="1"):
                for rank in range(num_replicas):
                    ours, theirs = context.Pipe(duplex=False)
                    crew.connections.append(ours)
                    process = context.Process(target=main, args=(theirs, payload, rank, num_replicas, store, deadline))
                    process.start()
                    theirs.close()
                    crew.processes.append(process)
        except BaseException:
            crew.end()
            raise
        return crew

    @property
    def in_trouble(self) -> bool:
        return bool(self.dead) or any(outcome.error is not None for outcome in self.outcomes.values())

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
        """Return the results in order of ranks, or raise what went wrong first."""
        if self.dead:
            raise RuntimeError(self._obituary())
        errors = [outcome for outcome in self.outcomes.values() if outcome.error is not None]
        if errors:
            raise min(errors, key=lambda outcome: outcome.at).exception(len(self.processes))
        if late := self.silent:
            raise TimeoutError(f"ranks {late} of {len(self.processes)} did not finish within {deadline:g} s")
        return [self.outcomes[rank].result for rank in range(len(self.processes))]

    def _obituary(self) -> str:
        codes = {rank: self.processes[rank].exitcode for rank in sorted(self.dead)}
        deaths = ", ".join(f"rank {rank} died with exit code {code}" for rank, code in codes.items())
        return f"{deaths}, without an answer, of {len(self.processes)} ranks"


def _check_replicas(num_replicas: int) -> None:
    if num_replicas < 1:
        raise ValueError(f"num_replicas must be at least 1, got {num_replicas}")


def _reference(function: Callable[..., Any]) -> tuple[str, str, str]:
    """Return file, module and name under which another process finds a function."""
    if not inspect.isfunction(function):
        raise TypeError(f"function must be a plain function, got {function!r}")
    file = inspect.getsourcefile(function)
    if "<" in function.__qualname__ or file is None or not Path(file).is_file():
        raise ValueError(f"function must be at the top level of a module in a file, got {function!r}; move it there")
    return str(Path(file).resolve()), function.__module__, function.__qualname__


@contextmanager
def _environment(**variables: str) -> Generator[None]:
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
