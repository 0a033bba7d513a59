"""Locality: slots are filled by runs of rows that follow each other in time and place, and all counts stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.assertions._failure import check_false_alarm, fail, fail_where
from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize, plain
from viscy_sampling_testkit.assertions._windows import Window, WindowedBatches
from viscy_sampling_testkit.assertions.inclusion import judge_partitions

# What is left in a run that a part does not use, and runs that the end of a round cuts. In a temporal window there are
# two parts, each with a rest, and the ends of the window cut a run as well.
_MORE_RUNS, _MORE_RUNS_IN_WINDOW = 2, 4
_MORE_PIECES_IN_WINDOW = 3


def assert_runs(
    batches: Batches,
    times: np.ndarray,
    places: Labels | None = None,
    groups: Labels | None = None,
    conditions: Labels | None = None,
    *,
    locality: int,
    windowed: bool = False,
) -> None:
    """Assert that slots are filled by few runs of rows that follow each other in time and place.

    A part is the slots of a condition from the home group, or those from all other groups. The rows of a stratum
    (group and condition) are sorted by time, by place, and then by position; the first row follows the last one. A part
    of s slots has at most ``ceil(s / locality) + 1`` runs, and one more if a round of the stratum ends in it. With a
    temporal window it has three more, because window slots and global slots have runs of their own, and the ends of the
    window can cut one. Runs of a leak can be cut at the first row of each group. The assertion is exact. It does not
    detect runs that are longer than `locality`.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    times : numpy.ndarray
        The time of each row in hours, shape (n_anchors,).
    places : sequence, array, Series or DataFrame, optional
        The place of each row. Places are sorted; those that cannot be sorted are in the order in which they appear.
    groups, conditions : sequence, array, Series or DataFrame, optional
        The group and the condition of each row.
    locality : int
        Rows of a run.
    windowed : bool, default False
        Whether slots are drawn from a temporal window and from all times.

    Raises
    ------
    AssertionError
        If a part has more runs.

    Examples
    --------
    >>> assert_runs([[4, 5, 6, 0, 1, 2]], np.arange(20), locality=3)
    """
    parts = _Parts(batches, times, places, groups, conditions)
    runs, bound = parts.runs(), -(-parts.slots // locality)
    more = np.where(parts.is_home, _MORE_RUNS_IN_WINDOW if windowed else _MORE_RUNS, 1 + parts.n_others)
    parts.judge("slots must be filled by runs in the order of time and place", "runs", runs, bound + more, locality)


def assert_run_places(
    batches: Batches,
    times: np.ndarray,
    places: Labels,
    groups: Labels | None = None,
    conditions: Labels | None = None,
    *,
    locality: int,
    windowed: bool = False,
) -> None:
    """Assert that runs touch at most two places each, where every stratum has a complete run at each time and place.

    The runs of a part are counted as in `assert_runs`; the order of the rows of a place does not matter. The assertion
    is exact.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    times : numpy.ndarray
        The time of each row in hours, shape (n_anchors,).
    places : sequence, array, Series or DataFrame
        The place of each row.
    groups, conditions : sequence, array, Series or DataFrame, optional
        The group and the condition of each row.
    locality : int
        Rows of a run.
    windowed : bool, default False
        Whether slots are drawn from a temporal window and from all times.

    Raises
    ------
    AssertionError
        If a part has rows of more places.
    ValueError
        If a stratum has fewer rows than `locality` at a time and place where it has any.

    Examples
    --------
    >>> assert_run_places([[0, 1, 6, 7]], np.zeros(8), ["a", "a", "b", "b", "c", "c", "d", "d"], locality=2)
    """
    parts = _Parts(batches, times, places, groups, conditions)
    fewest = int(np.bincount(parts.place_codes).min())
    if fewest < locality:
        raise ValueError(
            f"every stratum must have at least {locality} rows at each time and place, got {fewest}; "
            "leave out places, or check a smaller locality"
        )
    more = np.where(parts.is_home, _MORE_PIECES_IN_WINDOW if windowed else _MORE_RUNS, 1)
    bound = 2 * (-(-parts.slots // locality) + more)
    parts.judge("runs must touch at most two places each", "places", parts.n_places(), bound, locality)


def assert_same_counts(
    batches: Batches,
    others: Batches,
    groups: Labels | None = None,
    conditions: Labels | None = None,
    window: Window | None = None,
) -> None:
    """Assert that two samplers fill equally many slots from each part of each batch.

    Batches of the same index have the same size, home group, leak, and number of slots of each condition, in the home
    group and outside of it. With a temporal window, some time may be the focal one of both. The assertion is exact.

    Parameters
    ----------
    batches, others : sequence of sequence of int
        Shapes (n_batches, batch_size), such as the batches with locality and without.
    groups, conditions : sequence, array, Series or DataFrame, optional
        The group and the condition of each row.
    window : Window, optional
        The rule of the temporal window; see `make_window`.

    Raises
    ------
    AssertionError
        If counts or focal times differ.

    Examples
    --------
    >>> assert_same_counts([[0, 1], [2, 3]], [[1, 0], [3, 2]], groups=["a", "a", "b", "b"])
    """
    if len(batches) != len(others):
        fail(
            "both samplers must have equally many batches",
            observed=f"{len(batches)} batches",
            expected=f"{len(others)} batches",
        )
    slots = Slots.of(batches)
    n_rows = int(max(slots.positions.max(), Slots.of(others).positions.max())) + 1
    groups = np.zeros(n_rows, np.int64) if groups is None else groups
    ours, theirs = (_Counts(each, groups, conditions) for each in (batches, others))
    fail_where(
        "the counts of a batch must not depend on locality",
        (ours.counts != theirs.counts).any(axis=1),
        lambda k: ours.describe(k),
        lambda k: theirs.describe(k),
    )
    if window is not None:
        first, second = (_possible_times(each, window) for each in (batches, others))
        fail_where(
            "the focal time of a batch must not depend on locality",
            ~(first & second).any(axis=1),
            lambda k: f"slots around one of the hours {_hours(window, first[k])}",
            lambda k: f"slots around one of the hours {_hours(window, second[k])}",
        )


def assert_run_inclusion(
    batches: Batches,
    times: np.ndarray,
    places: Labels | None = None,
    groups: Labels | None = None,
    conditions: Labels | None = None,
    *,
    locality: int,
    windowed: bool = False,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that the rows of a stratum are drawn equally often, wherever they are in time and place.

    A run holds one row of every `locality` that follow each other, so rows are compared with those that are a multiple
    of `locality` away: blocks of them, every second and third one, and those near the ends of a stratum with the
    others (chi-square, for runs that are drawn independently, or more evenly). It has power against runs that avoid the
    first or last rows, or that prefer times or places; `detectable_categories` quantifies it.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    times : numpy.ndarray
        The time of each row in hours, shape (n_anchors,).
    places : sequence, array, Series or DataFrame, optional
        The place of each row.
    groups, conditions : sequence, array, Series or DataFrame, optional
        The group and the condition of each row.
    locality : int
        Rows of a run.
    windowed : bool, default False
        Whether times are drawn unequally often, because slots are drawn from a temporal window.
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation, that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If some rows are drawn too often or too rarely.
    """
    check_false_alarm(false_alarm)
    pools = _SortedPools(times, places, groups, conditions)
    slots = Slots.of(batches)
    slots.check_bounds(len(times))
    drawn = np.bincount(slots.positions, minlength=len(times))
    labels = pd.DataFrame({"stratum": pools.strata, "time": np.asarray(times) if windowed else 0})
    strata, _ = factorize(labels)
    near_end = np.minimum(pools.rank, pools.size[pools.strata] - 1 - pools.rank) < locality
    for first in range(min(locality, len(times))):
        kept = pools.order[pools.rank[pools.order] % locality == first]
        codes, number = strata[kept], pools.rank[kept] // locality
        n_drawn, n_rows = np.bincount(codes, drawn[kept]), np.bincount(codes)
        due = (n_drawn / np.maximum(n_rows, 1))[codes]
        partitions = {
            "block": pools.rank[kept] * 8 // pools.size[pools.strata[kept]],
            "number modulo 2": number % 2,
            "number modulo 3": number % 3,
            "ends of strata": near_end[kept].astype(int),
        }
        judge_partitions(
            "rows must be drawn equally often, wherever they are in time and place",
            drawn[kept],
            due,
            partitions,
            false_alarm / locality,
            n=f"{len(slots.sizes)} batches, {len(slots.positions)} slots, every row {first} of {locality}",
            seed=seed,
        )


class _SortedPools:
    """The rows of each stratum in the order of time and place: a stratum for each row, and its rank in the stratum."""

    def __init__(
        self, times: np.ndarray, places: Labels | None, groups: Labels | None, conditions: Labels | None
    ) -> None:
        nothing = np.zeros(n := len(times), np.int64)
        self.groups = nothing if groups is None else factorize(groups)[0]
        self.conditions = nothing if conditions is None else factorize(conditions)[0]
        self.strata = factorize(pd.DataFrame({"group": self.groups, "condition": self.conditions}))[0]
        self.places = nothing if places is None else _sorted_codes(places)
        self.times = np.unique(np.asarray(times, float), return_inverse=True)[1]
        self.order = np.lexsort((self.places, self.times, self.strata))
        self.size = np.bincount(self.strata)
        self.number = np.empty(n, np.int64)
        self.number[self.order] = np.arange(n)
        self.rank = self.number - (np.cumsum(self.size) - self.size)[self.strata]


class _Parts:
    """The parts of batches: one for each batch, condition, and whether the rows are of the home group."""

    def __init__(
        self,
        batches: Batches,
        times: np.ndarray,
        places: Labels | None,
        groups: Labels | None,
        conditions: Labels | None,
    ) -> None:
        Slots.of(batches).check_bounds(len(times))
        self.pools = pools = _SortedPools(times, places, groups, conditions)
        homes = Homes(batches, pools.groups)
        n_conditions = int(pools.conditions.max()) + 1
        self.rows = homes.slots.positions
        code = (homes.slots.numbers * n_conditions + pools.conditions[self.rows]) * 2 + homes.is_home
        self.codes, self.of_slot, self.slots = np.unique(code, return_inverse=True, return_counts=True)
        self.is_home = self.codes % 2 == 1
        self.batch, condition = np.divmod(self.codes // 2, n_conditions)
        home = homes.of_batch[self.batch]
        is_stratum = np.zeros((n_conditions, len(homes.names)), bool)
        is_stratum[pools.conditions, homes.codes] = True
        self.n_others = is_stratum.sum(axis=1)[condition] - is_stratum[condition, home]
        self.n_batches = len(homes.slots.sizes)

    @property
    def place_codes(self) -> np.ndarray:
        """The stratum, time and place of each row as one code, shape (n_anchors,)."""
        pools = self.pools
        return factorize(pd.DataFrame({"stratum": pools.strata, "time": pools.times, "place": pools.places}))[0]

    def runs(self) -> np.ndarray:
        """Count the runs of each part; those of a home stratum around its end, shape (n_parts,)."""
        pools = self.pools
        part, number = np.unique(np.stack([self.of_slot, pools.number[self.rows]], 1), axis=0).T
        row = pools.order[number]
        stratum, rank = pools.strata[row], pools.rank[row]
        follows = np.zeros(len(row), bool)
        follows[1:] = (part[1:] == part[:-1]) & (number[1:] == number[:-1] + 1) & (stratum[1:] == stratum[:-1])
        runs = np.bincount(part[~follows], minlength=len(self.codes))
        has_first = np.bincount(part, rank == 0, len(self.codes)) > 0
        has_last = np.bincount(part, rank == pools.size[stratum] - 1, len(self.codes)) > 0
        return runs - (has_first & has_last & self.is_home & (runs > 1))

    def n_places(self) -> np.ndarray:
        """Count the times and places of each part, shape (n_parts,)."""
        pairs = np.unique(np.stack([self.of_slot, self.place_codes[self.rows]], 1), axis=0)
        return np.bincount(pairs[:, 0], minlength=len(self.codes))

    def judge(self, rule: str, name: str, observed: np.ndarray, bound: np.ndarray, locality: int) -> None:
        """Fail if a part has more of something than the bound, and name the first such batch."""
        offending = observed > bound
        in_batch = np.bincount(self.batch, offending, self.n_batches) > 0

        def first(k: int) -> int:
            return int(np.flatnonzero(offending & (self.batch == k))[0])

        def part(k: int) -> str:
            rows = self.rows[self.of_slot == first(k)].tolist()
            source = "the home group" if self.is_home[first(k)] else "other groups"
            return f"{observed[first(k)]} {name} in {len(rows)} slots from {source}, positions {rows}"

        fail_where(rule, in_batch, part, lambda k: f"at most {bound[first(k)]} {name}", locality=locality)


class _Counts:
    """The number of slots of each condition in each batch, from the home group and from other groups, and the group."""

    def __init__(self, batches: Batches, groups: Labels, conditions: Labels | None) -> None:
        homes = Homes(batches, groups)
        codes, names = (homes.codes * 0, [None]) if conditions is None else factorize(conditions)
        codes = codes[homes.slots.positions] * 2 + ~homes.is_home
        n_batches, n_counts = len(homes.of_batch), 2 * len(names)
        counts = np.bincount(homes.slots.numbers * n_counts + codes, minlength=n_batches * n_counts)
        self.counts = np.column_stack([homes.of_batch, counts.reshape(n_batches, n_counts)])
        self.groups, self.names = plain(homes.names), plain(names)

    def describe(self, k: int) -> str:
        """Return the home group of a batch, and its counts."""
        home, *counts = self.counts[k].tolist()
        return f"group {self.groups[home]!r}, slots and leak slots of conditions {self.names}: {counts}"


def _possible_times(batches: Batches, window: Window) -> np.ndarray:
    """Return which times of the table may be the focal one of each batch, shape (n_batches, n_times)."""
    every = np.unique(window.times)
    result = np.zeros((len(batches), len(every)), bool)
    for group, numbers, possible, _ in WindowedBatches(batches, window).candidates():
        result[numbers[:, None], np.searchsorted(every, window.times_of(group))] = possible
    return result


def _hours(window: Window, possible: np.ndarray) -> list[float]:
    return np.unique(window.times)[possible].tolist()


def _sorted_codes(labels: Labels) -> np.ndarray:
    """Return codes of labels in ascending order; in the order in which they appear if they cannot be compared."""
    codes, names = factorize(labels)
    try:
        order: Any = sorted(range(len(names)), key=names.__getitem__)
    except TypeError:
        return codes
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[codes]
