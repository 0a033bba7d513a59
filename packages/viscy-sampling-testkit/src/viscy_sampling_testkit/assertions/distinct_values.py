"""Distinct values: no two rows of a batch share a value of a column, such as a lineage, while there are others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from viscy_sampling_testkit.assertions._failure import fail
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize, plain

_HOURS_TOLERANCE = 1e-6


def assert_distinct_values(
    batches: Batches,
    values: Labels,
    groups: Labels | None = None,
    conditions: Labels | None = None,
    times: np.ndarray | None = None,
    window_hours: float | None = None,
    window_fraction: float = 1.0,
    *,
    excluded: Sequence[object] = (),
) -> None:
    """Assert that no two rows of a batch share a value while the pool of one of them has a value that the batch lacks.

    The pool of a slot of the home group is its stratum (group and condition), or the rows of the stratum in the
    temporal window. The pool of a leak slot is the rows of all other groups with the same condition. The assertion is
    exact. With a temporal window it does not know the focal time of a batch: a batch breaks the rule only if it does
    for every time that may be the focal one.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    values : sequence, array, Series or DataFrame
        The value of each row, shape (n_anchors,).
    groups, conditions : sequence, array, Series or DataFrame, optional
        The group and the condition of each row.
    times : numpy.ndarray, optional
        The time of each row in hours, shape (n_anchors,).
    window_hours : float, optional
        Half-width of the temporal window.
    window_fraction : float, default 1.0
        Fraction of the slots that are in the window at least, rounded down.
    excluded : sequence
        Groups that must not leak.

    Raises
    ------
    AssertionError
        If a value is repeated although a row with a new value could have been drawn.

    Examples
    --------
    >>> assert_distinct_values([[0, 2], [1, 3]], ["x", "x", "y", "y"])
    """
    pools = _Pools(values, groups, conditions, times, window_hours, window_fraction, excluded)
    n_offending, first = 0, None
    for k, batch in enumerate(batches):
        found = pools.first_offence(list(batch))
        if found is not None:
            n_offending += 1
            first = first or (k, *found)
    if first is not None:
        k, rows, value, row = first
        fail(
            "no two rows of a batch must share a value while there are rows with others",
            observed=f"positions {rows} share {value!r}",
            expected=f"a row with another value, such as position {row}",
            n=f"{len(batches)} batches, {n_offending} of them offending",
            first_offending_batch=k,
        )


class _Pools:
    """The rows that could fill each slot of a batch, by home group, condition and focal time."""

    def __init__(
        self,
        values: Labels,
        groups: Labels | None,
        conditions: Labels | None,
        times: np.ndarray | None,
        window_hours: float | None,
        window_fraction: float,
        excluded: Sequence[object],
    ) -> None:
        self.values, names = factorize(values)
        self.names = plain(names)
        nothing = np.zeros(len(self.values), np.int64)
        self.groups, self.group_names = (nothing, [None]) if groups is None else factorize(groups)
        self.conditions = nothing if conditions is None else factorize(conditions)[0]
        self.times = None if times is None or window_hours is None else np.asarray(times, float)
        self.hours, self.fraction = (window_hours or 0.0) + _HOURS_TOLERANCE, window_fraction
        self.may_leak = ~np.isin(self.groups, [k for k, name in enumerate(self.group_names) if name in excluded])

    def first_offence(self, batch: list[int]) -> tuple[list[int], object, int] | None:
        """Return rows that share a value, the value, and a row that could have replaced one; None if there are none."""
        Slots.of([batch]).check_bounds(len(self.values))
        counts = Counter(self.values[batch].tolist())
        shared = [row for row in batch if counts[int(self.values[row])] > 1]
        if not shared:
            return None
        fresh = ~np.isin(self.values, list(counts))
        home = int(np.bincount(self.groups[batch]).argmax())
        found = None
        for focal in self.possible_focal_times(batch, home):
            found = self.replaceable(shared, fresh, home, focal)
            if found is None:
                return None
        if found is None:
            return None
        row, other = found
        value = int(self.values[row])
        return [r for r in batch if self.values[r] == value], self.names[value], other

    def replaceable(
        self, shared: list[int], fresh: np.ndarray, home: int, focal: float | None
    ) -> tuple[int, int] | None:
        """Return a row that shares its value and another one of its pool with a new value, if there is such a row."""
        for row in shared:
            others = np.flatnonzero(fresh & self.pool(row, home, focal))
            if others.size:
                return row, int(others[0])
        return None

    def pool(self, row: int, home: int, focal: float | None) -> np.ndarray:
        """Return the rows that could fill the slot of a row, as a mask; the smallest pool that the row may be from."""
        same = self.conditions == self.conditions[row]
        if self.groups[row] != home:
            return same & (self.groups != home) & self.may_leak
        near = self.is_near(focal)
        return same & (self.groups == home) & (near if near[row] else True)

    def is_near(self, focal: float | None) -> np.ndarray:
        """Return which rows are in the window around a focal time; all if there is no window."""
        if self.times is None or focal is None:
            return np.ones(len(self.values), bool)
        return np.abs(self.times - focal) <= self.hours

    def possible_focal_times(self, batch: list[int], home: int) -> Iterator[float | None]:
        """Yield the times of the home group in whose window enough slots are; all times if there are none."""
        if self.times is None:
            yield None
            return
        focal = np.unique(self.times[self.groups == home])
        own = self.times[[row for row in batch if self.groups[row] == home]]
        near = (np.abs(own[:, None] - focal[None]) <= self.hours).sum(axis=0)
        possible = focal[near >= int(len(batch) * self.fraction + 1e-9)]
        yield from (possible if possible.size else focal).tolist()
