"""Other processes: a sampler must draw the same batches there, whatever their hash seed, process id and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail_where_different
from viscy_sampling_testkit.assertions._forks import call_in_forks


def assert_same_in_other_processes(make_sampler: Callable[[], Any], n_epochs: int = 2) -> None:
    """Assert that a sampler draws the same batches in other processes.

    Ranks are processes, and so are the attempts of a run that is resumed. The batches are compared with those of two
    processes with other values of ``PYTHONHASHSEED``, which decides the hash of strings and the order of sets, other
    process ids, and a clock that is a hundred days ahead. The processes are forks of two helpers that start with the
    first call and end with this process.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with the same table and options each time. It is pickled by cloudpickle, so it may be a
        local function.
    n_epochs : int, default 2
        Number of epochs to draw.

    Raises
    ------
    AssertionError
        If a batch differs.
    ValueError
        If `make_sampler` cannot be pickled, or not be unpickled and called in another process.

    Examples
    --------
    >>> assert_same_in_other_processes(lambda: [[0, 1], [2, 3]])
    """
    expected = _draw(make_sampler, n_epochs)
    try:
        results = call_in_forks(_draw, make_sampler, n_epochs)
    except RuntimeError as error:
        raise ValueError(f"it must be possible to make the sampler in another process, got {error}") from None
    for drawn in results:
        rule = "a sampler must draw the same batches in another process, with another hash seed, process id and time"
        fail_where_different(rule, drawn, expected)


def _draw(make_sampler: Callable[[], Any], n_epochs: int) -> list[list[int]]:
    sampler = make_sampler()
    return [list(map(int, batch)) for _ in range(n_epochs) for batch in sampler]
