"""Beyond the end: the batches after the last one of an epoch, with which ranks complete their last step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail, fail_where_different
from viscy_sampling_testkit.assertions._slots import Batches
from viscy_sampling_testkit.simulate.ranks import interleave


def assert_fresh_padding(
    ranks: Sequence[Batches],
    epoch: Batches,
    others: Iterable[Sequence[int]] = (),
    *,
    expected: Batches = (),
    ordered: bool = False,
) -> None:
    """Assert that ranks complete their last step with fresh batches, which continue the sequence of a single process.

    Parameters
    ----------
    ranks : sequence of sequence of sequence of int
        The batches of each rank in one epoch.
    epoch : sequence of sequence of int
        The batches of a single process in the epoch.
    others : iterable of sequence of int, optional
        Batches of other epochs, which must not occur in the padding either.
    expected : sequence of sequence of int, optional
        The batches after the end of the epoch as far as they are known, for example from another number of ranks.
    ordered : bool, default False
        Whether a batch counts as repeated only if its slots are in the same order, for tables so small that two batches
        may have the same rows by chance.

    Raises
    ------
    AssertionError
        If the padding repeats a batch of the epoch, of another epoch, or of the padding itself, or differs from
        `expected`.

    Examples
    --------
    >>> assert_fresh_padding([[[0, 1], [4, 5]], [[2, 3], [1, 4]]], [[0, 1], [2, 3], [4, 5]])
    """
    padding = interleave(ranks)[len(epoch) :]
    identify: Callable[[Sequence[int]], Any] = tuple if ordered else frozenset
    known: dict[Any, str] = {}
    for source, batches in (("another epoch", others), ("the epoch", epoch)):
        known |= {identify(batch): f"a batch of {source}" for batch in batches}
    for i, batch in enumerate(padding):
        k = len(epoch) + i
        repeated = known.get(identify(batch))
        if repeated is not None:
            fail(
                "the last step must be completed with fresh batches",
                observed=f"batch {k} of the sequence repeats {repeated}: {list(batch)}",
                expected="a batch that did not occur before",
                n=f"{len(epoch)} batches in the epoch, {len(padding)} more on {len(ranks)} ranks",
                first_offending_batch=k,
            )
        known[identify(batch)] = f"batch {k}"
    length = min(len(padding), len(expected))
    rule = f"after the end of the epoch, {len(ranks)} ranks must have the batches that other numbers of ranks have"
    fail_where_different(rule, padding[:length], list(expected[:length]))


def assert_replays_beyond(make_sampler: Callable[[], Any], expected: Batches, first: int) -> None:
    """Assert that batches after the end of an epoch can be requested by index, and are those of the global sequence.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``batch``, for a single process.
    expected : sequence of sequence of int
        The batches after the end as far as they are known, as ranks draw them; they may be none.
    first : int
        Index of the first batch after the end: the number of batches of an epoch.

    Raises
    ------
    AssertionError
        If a batch differs, or batches far beyond the end repeat each other.
    """
    sampler = make_sampler()
    requested = [list(sampler.batch(first + i)) for i in range(len(expected))]
    fail_where_different("batches after the end of an epoch must be those that ranks draw", requested, list(expected))
    known: dict[tuple[int, ...], int] = {}
    for k in sorted({0, 1, first - 1, *(turn * first + i for turn in (1, 2, 3, 10, 1000) for i in (0, 1))}):
        batch = tuple(sampler.batch(k))
        if known.setdefault(batch, k) != k:
            fail(
                "batches after the end of an epoch must be fresh",
                observed=f"batch {k} repeats batch {known[batch]}",
                expected="different batches",
                n=f"{first} batches in an epoch",
                first_offending_batch=k,
            )


def assert_replays_epochs(make_sampler: Callable[[], Any], epochs: Sequence[int] = (0, 1, 3)) -> None:
    """Assert that ``batch(k, epoch=e)`` is batch k of epoch e, whatever the sampler draws meanwhile.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``batch`` and ``set_epoch``, for a single process.
    epochs : sequence of int, default (0, 1, 3)
        Epochs to request.

    Raises
    ------
    AssertionError
        If a batch differs, or requests change what an iterator draws.
    """
    expected = {}
    for epoch in (*epochs, 2):
        sampler = make_sampler()
        sampler.set_epoch(epoch)
        expected[epoch] = [list(batch) for batch in sampler]
    sampler = make_sampler()
    sampler.set_epoch(2)
    drawn = []
    for k, batch in enumerate(sampler):
        drawn.append(list(batch))
        for epoch in epochs if k in (0, 1, len(expected[2]) - 2) else ():
            for index in {0, k, len(expected[epoch]) - 1} & set(range(len(expected[epoch]))):
                rule = f"batch({index}, epoch={epoch}) must be that batch, also while the sampler is iterated"
                got = list(sampler.batch(index, epoch=epoch))
                fail_where_different(rule, [got], [expected[epoch][index]])
    fail_where_different("requests must not change what an iterator draws", drawn, expected[2])
