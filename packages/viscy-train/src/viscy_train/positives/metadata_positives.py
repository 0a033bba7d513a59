"""Metadata positives: other observations with equal values in some columns and different values in others.

Observations are put in an order: by their values in the columns that must match, and within equal values by hours. In
this order, the candidates of an anchor are one or two ranges, without the observations that share a value of a column
that must differ. How many of these come before a place of the order is counted by a binary search in the sorted places
of the observations with that value. With several such columns, the observations that share any of the values are
counted by inclusion and exclusion: those that share the first, and those that share the second, minus those that share
both. So the k-th candidate is found by bisection, whatever the number of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.positives.choice import scale
from viscy_train.positives.column_codes import combine_codes, determined_by, encode_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig

_ROWS_PER_CHUNK = 2**20
# Hours that differ by less are equal, because they are computed.
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class _Sharing:
    """The observations that share the values of some columns that must differ.

    Parameters
    ----------
    code : numpy.ndarray
        Number of the shared values of each observation, shape (n_observations,); the columns that must match count.
    keys : numpy.ndarray
        ``code * n + place`` of all observations with a place, ascending.
    sign : int
        1 if they are subtracted from the candidates, -1 if they are added again.
    """

    code: NDArray[np.int32]
    keys: NDArray[np.int64]
    sign: int


@dataclass(frozen=True, kw_only=True)
class MetadataPositives:
    """The possible positives of each observation, by metadata.

    Parameters
    ----------
    match, time : numpy.ndarray
        Number of the values that must match, and of the hours, of each observation, shape (n_observations,). Without
        bounds in hours, all have time 0.
    windows : numpy.ndarray
        Times of the candidates of an anchor of each time: first and end of an earlier range, and of a later one, shape
        (4, n_times).
    row : numpy.ndarray
        Observation at each place of the order. Observations with a missing value have no place.
    keys : numpy.ndarray
        ``match * n_times + time`` at each place, ascending.
    sharing : tuple
        The observations that are not candidates.
    is_known : numpy.ndarray
        Whether an observation has a value in all columns, shape (n_observations,).
    """

    match: NDArray[np.int32]
    time: NDArray[np.int32]
    windows: NDArray[np.int64]
    row: NDArray[np.int32]
    keys: NDArray[np.int64]
    sharing: tuple[_Sharing, ...]
    is_known: NDArray[np.bool_]

    @classmethod
    def of(
        cls, observations: pd.DataFrame, positive: PositiveConfig, part: NDArray[np.int64] | None = None
    ) -> MetadataPositives:
        """Find the possible positives of the observations of a table.

        Parameters
        ----------
        observations : pandas.DataFrame
            The observations of an `AnchorTable`, with the columns that `positive` names.
        positive : PositiveConfig
            Which observations may be positives.
        part : numpy.ndarray, optional
            Number of the part that each observation belongs to, shape (n_observations,); anchors and positives are of
            the same part. By default, there is one part.

        Returns
        -------
        MetadataPositives
            The possible positives.
        """
        match, differ = used_columns(observations, positive)
        match_codes = [encode_column(observations, name) for name in match]
        differ_codes = [encode_column(observations, name) for name in differ] or [np.arange(len(observations))]
        is_known = np.logical_and.reduce([codes >= 0 for codes in [*match_codes, *differ_codes]])
        code = combine_codes([*match_codes, *([] if part is None else [part])])
        time, windows = _times(observations, positive)
        key = code * windows.shape[1] + time
        row = np.flatnonzero(is_known)
        row = row[np.argsort(key[row], kind="stable")]
        place = np.full(len(observations), -1, dtype=np.int64)
        place[row] = np.arange(len(row))
        return cls(
            match=code.astype(np.int32),
            time=time.astype(np.int32),
            windows=windows,
            row=row.astype(np.int32),
            keys=key[row],
            sharing=tuple(_sharings(code, differ_codes, place, row)),
            is_known=is_known,
        )

    def has_positive(self) -> NDArray[np.bool_]:
        """Return which observations have at least one possible positive, shape (n_observations,)."""
        found = np.zeros(len(self.match), dtype=bool)
        kind, examples = self._kinds()
        of_kind = np.zeros(len(examples), dtype=bool)
        for start in range(0, len(examples), _ROWS_PER_CHUNK):
            rows = examples[start : start + _ROWS_PER_CHUNK]
            of_kind[start : start + len(rows)] = sum(self._count(rows, *window) for window in self._windows(rows)) > 0
        found[self.row] = of_kind[kind]
        return found

    def _kinds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the kind of the observation at each place, and one of each kind: equal in all columns and hours."""
        key = np.cumsum(np.diff(self.keys, prepend=self.keys[:1]) > 0)
        code = self.sharing[-1].code[self.row].astype(np.int64)  # of all columns that must differ
        kind, kinds = pd.factorize(key * (int(code.max(initial=0)) + 1) + code)
        examples = np.empty(len(kinds), dtype=np.int64)
        examples[kind[::-1]] = self.row[::-1]
        return kind, examples

    def choose(
        self, rows: NDArray[np.int64], draws: NDArray[np.float64], _: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """Choose a positive for each anchor; all that are possible are equally likely.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the anchors, shape (n,).
        draws : numpy.ndarray
            Uniform random numbers in [0, 1), shape (n,).

        Returns
        -------
        numpy.ndarray
            Rows of the positives, shape (n,). Each depends only on its own row and random number.

        Raises
        ------
        ValueError
            If a row has no positive.
        """
        (first, end), (later, later_end) = self._windows(rows)
        n_earlier = self._count(rows, first, end)
        n = n_earlier + self._count(rows, later, later_end)
        n[~self.is_known[rows]] = 0
        if not n.all():
            raise ValueError(f"rows must have a positive, row {rows[np.argmin(n)]} has none")
        number = scale(draws, n)
        is_later = number >= n_earlier
        number -= np.where(is_later, n_earlier, 0)
        place = self._find(rows, np.where(is_later, later, first), np.where(is_later, later_end, end), number)
        return self.row[place].astype(np.int64)

    def choose_together(
        self, rows: NDArray[np.int64], _: object, draws: NDArray[np.float64], __: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """Choose as `choose` does: the candidates of an anchor are cells of any position, not frames of a lineage."""
        return self.choose(rows, draws)

    def _windows(self, rows: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return the first place and the end of the earlier and of the later candidates of some anchors."""
        key = self.match[rows].astype(np.int64) * self.windows.shape[1]
        bounds = [np.searchsorted(self.keys, key + times) for times in self.windows[:, self.time[rows]]]
        return [(bounds[0], bounds[1]), (bounds[2], bounds[3])]

    def _count(self, rows: NDArray[np.int64], first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of candidates of anchors at the places of a range."""
        n = np.maximum(end - first, 0)
        for one in self.sharing:
            key = one.code[rows].astype(np.int64) * len(self.row)
            between = np.searchsorted(one.keys, key + end) - np.searchsorted(one.keys, key + first)
            n -= one.sign * np.maximum(between, 0)
        return n

    def _find(
        self, rows: NDArray[np.int64], first: NDArray[np.int64], end: NDArray[np.int64], number: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the place of a candidate by its number among those of a range, counted from 0."""
        low, high = first, end - 1
        while (low < high).any():
            middle = (low + high) // 2
            is_before = self._count(rows, first, middle + 1) > number
            low, high = np.where(is_before, low, middle + 1), np.where(is_before, middle, high)
        return low


def used_columns(observations: pd.DataFrame, positive: PositiveConfig) -> tuple[list[str], list[str]]:
    """Return the columns that must match and those that must differ, including that of the channel.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations of an `AnchorTable`. With a column ``marker``, a row is a cell in one channel.
    positive : PositiveConfig
        Which observations may be positives.

    Returns
    -------
    match, differ : list of str
        Names of columns.
    """
    match, differ = list(positive.match), list(positive.differ)
    if "marker" in observations and not {"channel", "marker"} & {*match, *differ}:
        match += ["marker"] * (positive.channel == "same")
        differ += ["marker"] * (positive.channel == "other")
    return match, differ


def _times(observations: pd.DataFrame, positive: PositiveConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of the hours of each observation, and the ranges of times of the candidates of each."""
    if not positive.in_hours:
        return np.zeros(len(observations), dtype=np.int64), np.array([[0], [1], [1], [1]])
    hours, time = np.unique(observations["hours_post_infection"].to_numpy(), return_inverse=True)
    smallest = 0.0 if positive.min_hours is None else positive.min_hours
    largest = np.inf if positive.max_hours is None else positive.max_hours
    first, end = hours - largest - _TOLERANCE, hours - smallest + _TOLERANCE
    later, later_end = hours + smallest - _TOLERANCE, hours + largest + _TOLERANCE
    bounds: list[tuple[Any, Any]] = [(first, "left"), (end, "right"), (later, "left"), (later_end, "right")]
    windows = np.stack([np.searchsorted(hours, values, side) for values, side in bounds])
    windows[2] = np.maximum(windows[1], windows[2])  # with a smallest distance of 0, both contain the anchor's own time
    return time.astype(np.int64), windows


def _sharings(
    match: NDArray[np.int64], differ: list[NDArray[np.int64]], place: NDArray[np.int64], row: NDArray[np.int64]
) -> list[_Sharing]:
    """Return the observations to subtract and to add for each combination of columns that must differ."""
    # Two observations that differ in a column also differ in one that determines it.
    kept: list[NDArray[np.int64]] = []
    for number, codes in enumerate(differ):
        others = [*kept, *differ[number + 1 :]]
        if not any(determined_by(other[row], codes[row]) for other in others):
            kept.append(codes)
    sharings = []
    for size in range(1, len(kept) + 1):
        for columns in combinations(kept, size):
            code = combine_codes([match, *columns])
            keys = np.sort(code[row] * len(row) + place[row])
            sharings.append(_Sharing(code=code.astype(np.int32), keys=keys, sign=-((-1) ** size)))
    return sharings
