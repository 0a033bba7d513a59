"""Other threads: a sampler that is used by another thread, such as that of a data loader."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail, fail_where_different


def assert_same_in_other_threads(make_sampler: Callable[[], Any], n_epochs: int = 2) -> None:
    """Assert that a sampler yields the same batches when another thread iterates it.

    The same epochs are drawn by a sampler in this thread, by one that was made here and is iterated in another thread,
    and by one whose epochs are drawn in turn by this thread and others.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with the same arguments each time.
    n_epochs : int, default 2
        Number of epochs to draw.

    Raises
    ------
    AssertionError
        If a batch differs, or drawing raises an exception in another thread only.

    Examples
    --------
    >>> assert_same_in_other_threads(lambda: [[0, 1], [2, 3]])
    """
    here = make_sampler()
    expected = [_draw(here) for _ in range(n_epochs)]
    elsewhere, in_turn = make_sampler(), make_sampler()
    for epoch in range(n_epochs):
        rule = f"another thread must draw the same batches (epoch {epoch})"
        fail_where_different(rule, _draw_in_thread(elsewhere), expected[epoch])
    for epoch in range(n_epochs):
        draw = _draw_in_thread if epoch % 2 == 0 else _draw
        rule = f"threads that take turns must draw the same batches (epoch {epoch})"
        fail_where_different(rule, draw(in_turn), expected[epoch])


def _draw(sampler: Any) -> list[list[int]]:
    return [list(batch) for batch in iter(sampler)]


def _draw_in_thread(sampler: Any) -> list[list[int]]:
    """Return the batches of an epoch that is drawn in a new thread; its exception is a failure."""
    drawn: list[list[list[int]]] = []
    errors: list[Exception] = []

    def draw() -> None:
        try:
            drawn.append(_draw(sampler))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=draw, name="draws batches")
    thread.start()
    thread.join()
    if errors:
        if isinstance(errors[0], AssertionError):
            raise errors[0]
        observed = f"{type(errors[0]).__name__}: {errors[0]}"
        fail("drawing must not raise in another thread", observed=observed, expected="no exception")
    return drawn[0]
