"""Epochs: which epoch an iterator draws, with and without `set_epoch`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail_where_different


def assert_epochs_advance(make_sampler: Callable[[], Any]) -> None:
    """Assert that without ``set_epoch`` each iteration draws the epoch after the last one, starting with epoch 0.

    An iteration that is abandoned counts. Two iterators that are drawn from alternately have successive epochs, and do
    not disturb each other.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``set_epoch``, with the same table and options each time.

    Raises
    ------
    AssertionError
        If an epoch is skipped, repeated, continued or disturbed.

    Examples
    --------
    >>> class Counts:
    ...     epoch = -1
    ...     def set_epoch(self, epoch):
    ...         self.epoch = epoch - 1
    ...     def __iter__(self):
    ...         self.epoch += 1
    ...         yield from [[self.epoch, k] for k in range(3)]
    >>> assert_epochs_advance(Counts)
    """
    epochs = [_chosen(make_sampler(), epoch) for epoch in range(4)]
    sampler = make_sampler()
    for epoch in range(3):
        rule = f"iteration {epoch} of a new sampler must draw epoch {epoch}"
        fail_where_different(rule, [list(batch) for batch in sampler], epochs[epoch])
    sampler.set_epoch(1)
    drawn = [list(batch) for _ in range(2) for batch in sampler]
    fail_where_different(
        "the iteration after set_epoch(1) and an epoch must draw epoch 2", drawn, epochs[1] + epochs[2]
    )
    sampler = make_sampler()
    abandoned = [list(batch) for batch in islice(sampler, 1)]
    fail_where_different("an iteration must start with the first batch", abandoned, epochs[0][:1])
    rule = "the iteration after an abandoned one must draw the next epoch from its start"
    fail_where_different(rule, [list(batch) for batch in sampler], epochs[1])
    sampler = make_sampler()
    pairs = [(list(a), list(b)) for a, b in zip(sampler, sampler, strict=False)]
    for number in (0, 1):
        rule = f"iterator {number} of two that are drawn from alternately must draw epoch {number}"
        fail_where_different(rule, [pair[number] for pair in pairs], epochs[number])


def assert_epoch_of_first_draw(make_sampler: Callable[[], Any]) -> None:
    """Assert that an iterator draws the epoch that is set when its first batch is drawn.

    Lightning calls ``iter()`` before ``set_epoch``. A state that is loaded in between counts as well.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``set_epoch``, with the same table and options each time.

    Raises
    ------
    AssertionError
        If the iterator draws another epoch.

    Examples
    --------
    >>> class Chosen:
    ...     epoch = 0
    ...     def set_epoch(self, epoch):
    ...         self.epoch = epoch
    ...     def __iter__(self):
    ...         yield from [[self.epoch, k] for k in range(3)]
    >>> assert_epoch_of_first_draw(Chosen)
    """
    expected = _chosen(make_sampler(), 3)
    sampler = make_sampler()
    iterator = iter(sampler)
    sampler.set_epoch(3)
    rule = "an iterator must draw the epoch that was set before its first batch"
    fail_where_different(rule, [list(batch) for batch in iterator], expected)


def assert_set_epoch_keeps_state(make_sampler: Callable[[], Any]) -> None:
    """Assert that ``set_epoch`` with the epoch of a loaded state resumes in it, and with another epoch starts that.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``set_epoch``, ``state_dict`` and ``load_state_dict``, with the same table and
        options each time. An epoch must have at least two batches.

    Raises
    ------
    AssertionError
        If a batch is repeated or skipped.
    """
    stopped = make_sampler()
    stopped.set_epoch(1)
    iterator = iter(stopped)
    next(iterator)
    state = stopped.state_dict()
    for epoch, start in ((1, 1), (2, 0), (0, 0)):
        resumed = make_sampler()
        resumed.load_state_dict(state)
        resumed.set_epoch(epoch)
        rule = f"set_epoch({epoch}) after loading a state of epoch 1 must start with batch {start} of epoch {epoch}"
        fail_where_different(rule, [list(batch) for batch in resumed], _chosen(make_sampler(), epoch)[start:])
    chosen = make_sampler()
    chosen.set_epoch(2)
    resumed = make_sampler()
    resumed.load_state_dict(chosen.state_dict())
    rule = "a state saved after set_epoch(2) must resume with epoch 2"
    fail_where_different(rule, [list(batch) for batch in resumed], _chosen(make_sampler(), 2))


def _chosen(sampler: Any, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [list(batch) for batch in sampler]
