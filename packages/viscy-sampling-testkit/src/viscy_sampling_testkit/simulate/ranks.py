"""The ranks of a distributed run: simulated one after another, or run in real processes over gloo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from viscy_sampling_testkit.simulate._supervisor import Supervisor, make_payload
from viscy_sampling_testkit.tables._sizes import check_count


def simulate_ranks(
    make_sampler: Callable[[int, int], Iterable[Sequence[int]]], num_replicas: int
) -> list[list[list[int]]]:
    """Draw one epoch from each rank's sampler, one rank after another in this process.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns the sampler of that rank.
    num_replicas : int
        Number of ranks.

    Returns
    -------
    list of list of list of int
        The batches of each rank, shape (num_replicas, n_steps, batch_size); ranks may differ in their number of steps.

    Raises
    ------
    TypeError
        If `num_replicas` is not an integer.
    ValueError
        If `num_replicas` is less than 1.

    Examples
    --------
    >>> simulate_ranks(lambda rank, num_replicas: [[k] for k in range(rank, 5, num_replicas)], 2)
    [[[0], [2], [4]], [[1], [3]]]
    """
    check_count("num_replicas", num_replicas)
    return [[list(batch) for batch in make_sampler(rank, num_replicas)] for rank in range(num_replicas)]


def interleave(ranks: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Return the batches of all ranks in one list, ordered by step and, within a step, by rank.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank, as `simulate_ranks` returns them.

    Returns
    -------
    list of list of int
        All batches, shape (n_batches, batch_size). A rank that has ended is skipped.

    Examples
    --------
    >>> interleave([[[0], [2], [4]], [[1], [3]]])
    [[0], [1], [2], [3], [4]]
    """
    steps = max(map(len, ranks), default=0)
    return [list(batches[step]) for step in range(steps) for batches in ranks if step < len(batches)]


def spawn_ranks(function: Callable[..., Any], num_replicas: int, *args: Any, deadline: float = 60.0) -> list[Any]:
    """Run a function in real processes, connected by `torch.distributed` over gloo on the loopback interface.

    Each rank is a new process with one numerical thread. It calls ``function(rank, num_replicas, *args)`` once the
    default process group is initialized on all ranks. However the call ends, the processes, and any that they started,
    are gone when it returns. What the ranks write to standard error appears on that of the caller once they have ended.
    Needs a POSIX system.

    Parameters
    ----------
    function : callable
        A function at the top level of a module in a file. Each process loads the file again, so a script needs an
        ``if __name__ == "__main__"`` guard; a test module does not.
    num_replicas : int
        Number of processes.
    *args
        Further arguments of the function; arguments and results are pickled.
    deadline : float, default 60.0
        Seconds within which all ranks must have returned, including the start of the processes, which import torch.

    Returns
    -------
    list
        What the function returned, in rank order.

    Raises
    ------
    Exception
        The first exception that the function raised on a rank, with a note that gives the rank and its traceback; a
        RuntimeError instead if the exception cannot be pickled.
    RuntimeError
        If a process died without returning a result; the message gives its rank, exit code and standard error.
    TimeoutError
        If the deadline passed; the message names the ranks that had not finished and gives their standard error.
    TypeError
        If `function` is not a function, or `num_replicas` is not an integer.
    ValueError
        If `function` is not at the top level of a module in a file, or `num_replicas` is less than 1.

    Notes
    -----
    ``init_process_group`` is not a barrier: it returns on a rank once that rank's own connections are established. A
    rank with a short function could finish and exit while another rank is still connecting, which then fails with
    "Connection closed by peer" (https://github.com/pytorch/pytorch/pull/61396). So all ranks wait for each other before
    the function is called. If the ranks still fail to connect, all of them are started again with a new store, up to
    three times within the deadline, and a warning is logged. An exception of the function is never retried.
    """
    check_count("num_replicas", num_replicas)
    payload = make_payload(function, args)
    return Supervisor.run(payload, num_replicas, time.monotonic() + deadline).results(deadline)
