"""An exact law of batches: a property that every single batch must have."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._failure import fail, fail_where
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, count_within, factorize, rounded

HOURS_TOLERANCE = 1e-6


def assert_positions(batches: Batches, n_anchors: int) -> None:
    """Assert that batches are lists of Python ints in [0, n_anchors).

    Parameters
    ----------
    batches : sequence of sequence of int
        Batches as the sampler yields them, shape (n_batches, batch_size); they may differ in length.
    n_anchors : int
        Number of rows of the table.

    Raises
    ------
    AssertionError
        If a position has another type (including ``numpy.int64`` and ``bool``) or is outside the range, if a batch is
        empty, or if there are no batches.
    """
    slots = Slots.of(batches)
    if set(map(type, chain.from_iterable(batches))) != {int}:
        foreign = np.array([any(type(position) is not int for position in batch) for batch in batches])
        fail_where(
            "positions must be Python ints",
            foreign,
            lambda k: sorted({type(position).__name__ for position in batches[k]}),
            lambda _: "int",
        )
    slots.check_bounds(n_anchors)


def assert_batch_sizes(batches: Batches, batch_size: int, last: int | None = None) -> None:
    """Assert that every batch has `batch_size` slots, except the last batch if `last` gives another size for it.

    Parameters
    ----------
    batches : sequence of sequence of int
        All batches of an epoch, shape (n_batches, batch_size).
    batch_size : int
        Slots of a full batch.
    last : int, optional
        Slots of the last batch, from 1 to `batch_size`; by default `batch_size`.

    Raises
    ------
    AssertionError
        If a batch has more or fewer slots, or there are no batches.
    ValueError
        If `batch_size` or `last` is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
    last = batch_size if last is None else last
    if not 1 <= last <= batch_size:
        raise ValueError(f"last must be in [1, {batch_size}], the slots of a full batch, got {last!r}")
    sizes = Slots.of(batches).sizes
    due = np.full(len(sizes), batch_size)
    due[-1] = last
    fail_where(
        f"a batch must have {batch_size} slots" + ("" if last == batch_size else f", the last one {last}"),
        sizes != due,
        lambda k: f"{sizes[k]} slots",
        lambda k: f"{due[k]} slots",
    )


def assert_one_group(batches: Batches, groups: Labels) -> None:
    """Assert that all slots of a batch belong to one group.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    groups : sequence, array, Series or DataFrame
        The group of each row, shape (n_anchors,); for a DataFrame, the combination of its columns.

    Raises
    ------
    AssertionError
        If a batch mixes groups.
    """
    slots = Slots.of(batches)
    codes, labels = factorize(groups)
    counts = slots.counts(codes, len(labels))
    fail_where(
        "a batch must hold one group",
        (counts > 0).sum(axis=1) > 1,
        lambda k: _count_by_name(counts[k], labels),
        lambda _: "slots of one group only",
    )


def assert_leak(batches: Batches, groups: Labels, leaky: float) -> None:
    """Assert that the number of slots from outside a batch's home group matches the leak.

    The home group is the group with the most slots. If `leaky` is above a half, that may not be so; a batch then passes
    if the rule is true for any group taken as its home.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    groups : sequence, array, Series or DataFrame
        The group of each row, shape (n_anchors,).
    leaky : float
        Fraction of the slots from other groups, in [0, 1). The count in a batch must be the floor or the ceiling.

    Raises
    ------
    AssertionError
        If a batch leaks fewer or more slots.
    ValueError
        If `leaky` is outside its range.
    """
    if not 0 <= leaky < 1:
        raise ValueError(f"leaky must be in [0, 1), got {leaky!r}")
    slots = Slots.of(batches)
    codes, labels = factorize(groups)
    counts = slots.counts(codes, len(labels))
    least, most = rounded(slots.sizes * leaky)
    outside = slots.sizes[:, None] - counts
    is_home = (counts > 0) & (outside >= least[:, None]) & (outside <= most[:, None])
    fail_where(
        "the leak must be the floor or the ceiling of its quota",
        ~is_home.any(axis=1),
        lambda k: f"{outside[k].min()} slots outside the home group: {_count_by_name(counts[k], labels)}",
        lambda k: f"{slots.sizes[k] * leaky:g} slots",
        bound=f"floor or ceiling of {leaky:g} of the slots",
    )


def assert_rounded(batches: Batches, labels: Labels, quotas: Mapping[Any, float], *, slack: int = 0) -> None:
    """Assert that each label has the floor or the ceiling of its quota in every batch, and that no other label occurs.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    labels : sequence, array, Series or DataFrame
        The label of each row, shape (n_anchors,).
    quotas : mapping of label to float
        Target fraction of a batch's slots for each label; the fractions add up to 1.
    slack : int, default 0
        Number of slots by which a count may be below the floor or above the ceiling.

    Raises
    ------
    AssertionError
        If a count is outside its bounds, or a label without a quota occurs.
    ValueError
        If the quotas are negative or do not add up to 1.
    """
    slots = Slots.of(batches)
    codes, names = factorize(labels)
    fractions = _parse_shares("quotas", quotas, names)
    counts = slots.counts(codes, len(names))
    counts = np.pad(counts, ((0, 0), (0, len(fractions) - len(names))))
    names = [*names, *(label for label in quotas if label not in set(names))]
    due = slots.sizes[:, None] * fractions
    least, most = rounded(due)
    # A label without a quota must not occur, whatever the slack.
    slacks = np.where(fractions > 0, slack, 0)
    wrong = (counts < least - slacks) | (counts > most + slacks)
    fail_where(
        "each label must have the floor or the ceiling of its quota",
        wrong.any(axis=1),
        lambda k: _count_by_name(counts[k], names),
        lambda k: {name: round(float(quota), 6) for name, quota in zip(names, due[k], strict=True) if quota},
        bound=f"floor or ceiling, slack {slack}",
    )


def assert_shares(batches: Batches, groups: Labels, shares: Mapping[Any, float], within: float = 1) -> None:
    """Assert that each group is the home group of its share of the batches.

    The home group of a batch is the group with the most slots.

    Parameters
    ----------
    batches : sequence of sequence of int
        All batches of an epoch, shape (n_batches, batch_size).
    groups : sequence, array, Series or DataFrame
        The group of each row, shape (n_anchors,).
    shares : mapping of group to float
        Target fraction of the batches for each group; the fractions add up to 1.
    within : float, default 1
        Number of batches by which a group may deviate from its share.

    Raises
    ------
    AssertionError
        If a group has more or fewer batches, or a group without a share has any.
    ValueError
        If the shares are negative or do not add up to 1.
    """
    slots = Slots.of(batches)
    codes, names = factorize(groups)
    fractions = _parse_shares("shares", shares, names)
    homes = slots.counts(codes, len(names)).argmax(axis=1)
    counts = np.bincount(homes, minlength=len(fractions))
    names = [*names, *(label for label in shares if label not in set(names))]
    due = len(batches) * fractions
    # A group without a share must not have any batch.
    reach = np.where(fractions > 0, within, 0)
    wrong = np.abs(counts - due) > reach + 1e-9
    if wrong.any():
        g = int(wrong.argmax())
        fail(
            "each group must have its share of the batches",
            observed=f"{counts[g]} batches of {names[g]!r}: {_count_by_name(counts, names)}",
            expected=f"{due[g]:g} batches",
            bound=f"within {reach[g]:g}",
            n=f"{len(batches)} batches",
            first_offending_batch=_first_beyond(homes == g, due[g] + reach[g]),
        )


def assert_in_window(
    batches: Batches,
    times: Sequence[float] | np.ndarray,
    window: float,
    at_least: float = 1.0,
    focal_times: Sequence[float] | np.ndarray | None = None,
) -> None:
    """Assert that each batch has enough slots in a temporal window around a focal time.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    times : sequence of float
        Time of each row in hours, shape (n_anchors,).
    window : float
        Half-width of the temporal window in hours, inclusive, with a tolerance of 1e-6 hours.
    at_least : float, default 1.0
        Fraction of the slots, in [0, 1], that must be in the window, rounded down to an integer number of slots.
    focal_times : sequence of float, optional
        Times that may be focal, in hours; by default the times of the batch's own slots.

    Raises
    ------
    AssertionError
        If a batch has no focal time with enough slots in its window.
    ValueError
        If `window` is negative or `at_least` outside its range.
    """
    if not window >= 0:
        raise ValueError(f"window must be at least 0 hours, got {window!r}")
    if not 0 <= at_least <= 1:
        raise ValueError(f"at_least must be in [0, 1], got {at_least!r}")
    hours = np.asarray(times, float)
    slots = Slots.of(batches)
    slots.check_bounds(len(hours))
    most = np.array([_most_in_window(hours[np.asarray(batch)], window, focal_times) for batch in batches])
    needed = rounded(slots.sizes * at_least)[0]
    fail_where(
        f"slots must be within {window:g} h of a focal time",
        most < needed,
        lambda k: f"at most {most[k]} of {slots.sizes[k]} slots in one window",
        lambda k: f"at least {needed[k]} slots",
        bound=f"{at_least:g} of the slots, rounded down",
    )


def _count_by_name(counts: np.ndarray, names: Sequence[Hashable]) -> dict[Hashable, int]:
    """Return the labels that occur, with their counts."""
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}


def _parse_shares(what: str, shares: Mapping[Any, float], names: Sequence[Hashable]) -> np.ndarray:
    """Return the fraction of each label of the table (0 if not given), then of the labels missing from the table."""
    values = np.array(list(shares.values()), float)
    if not (values >= 0).all() or abs(values.sum() - 1) > 1e-9:
        raise ValueError(
            f"{what} must be non-negative and add up to 1, got {dict(shares)!r}; name every label that may occur"
        )
    known = set(names)
    return np.array([*(shares.get(n, 0.0) for n in names), *(f for n, f in shares.items() if n not in known)])


def _first_beyond(mask: np.ndarray, most: float) -> int | None:
    """Return the first batch at which a running count exceeds its bound; None if it never does."""
    is_beyond = np.cumsum(mask) > most + 1e-9
    return int(is_beyond.argmax()) if is_beyond.any() else None


def _most_in_window(times: np.ndarray, window: float, focal_times: Sequence[float] | np.ndarray | None) -> int:
    """Return the largest number of times in the window around one focal time."""
    focal = times if focal_times is None else np.asarray(focal_times, float)
    return int(count_within(times, focal, window + HOURS_TOLERANCE).max())
