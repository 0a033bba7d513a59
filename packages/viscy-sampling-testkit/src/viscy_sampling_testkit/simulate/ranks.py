"""The ranks of a distributed run: simulated one after another, or as real processes over gloo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from viscy_sampling_testkit.simulate._supervisor import Crew, payload_of


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
    check_replicas(num_replicas)
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

    Each process is started anew, with one thread for numerics, and calls ``function(rank, num_replicas, *args)`` once
    the default process group is initialised on all of them. However the call ends, the processes, and what they started
    themselves, are gone after it. For POSIX systems.

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

    Notes
    -----
    ``init_process_group`` is no barrier: a rank comes back from it as soon as its own connections stand. One whose
    function is short could be done, and gone, while another still connects, to whom it then is a "Connection closed by
    peer" (https://github.com/pytorch/pytorch/pull/61396). So all ranks wait for each other before the function is
    called. Where they cannot connect all the same, they are started anew, with another store, up to three times within
    the deadline, and a warning is logged; what the function raises is never tried again.
    """
    check_replicas(num_replicas)
    payload = payload_of(function, args)
    return Crew.run(payload, num_replicas, time.monotonic() + deadline).results(deadline)


def check_replicas(num_replicas: int) -> None:
    """Refuse a run of no ranks."""
    if num_replicas < 1:
        raise ValueError(f"num_replicas must be at least 1, got {num_replicas}")
