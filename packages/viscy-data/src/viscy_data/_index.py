"""The anchor index: positions sorted once by group, condition and time, so that every pool of rows is a slice.

A *cell* is the rows of one group and one condition. In the sorted order the rows of a cell are one slice, in order of
time, and a window of time within a cell is a slice of that slice. Whatever the number of anchors, a pool is two
integers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_data._columns import Codes, constant_codes, label_codes, time_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._options import SamplerOptions

MAX_ANCHORS = 2**30
MAX_CELLS = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class AnchorIndex:
    """Where the anchors of each group, condition and time are.

    Attributes
    ----------
    groups, conditions
        The labels, in order; a single None where the axis is off.
    times
        Distinct times in hours, ascending, shape (n_times,); a single NaN where the axis is off.
    time_tolerance
        Hours by which two times may differ and count as equal: the rounding of the time column's own type.
    order
        Positions of the anchors sorted by (group, condition, time, position), shape (n_anchors,), dtype uint32.
    cell_start, cell_size
        The slice of `order` that each cell is, shape (n_groups, n_conditions).
    run_key, run_start
        For each distinct time of each cell its number `cell * n_times + time` and where its rows start in `order`,
        shape (n_runs,); `run_start` has one entry more, the end.
    digest
        Hash of the labels, the times and the codes of every row: of all that the sampler knows of the table.
    """

    groups: tuple[Any, ...]
    conditions: tuple[Any, ...]
    times: NDArray[np.float64]
    time_tolerance: float
    order: NDArray[np.uint32]
    cell_start: NDArray[np.int64]
    cell_size: NDArray[np.int64]
    run_key: NDArray[np.int64]
    run_start: NDArray[np.int64]
    digest: str

    @classmethod
    def of(cls, table: pd.DataFrame, options: SamplerOptions) -> AnchorIndex:
        """Index a table by the columns whose axes are on; the table is neither modified nor kept."""
        group = label_codes(table, "experiment", options.experiment_by) if options.experiment_aware else None
        condition = label_codes(table, "condition", options.condition_by) if options.condition_balanced else None
        time = time_codes(table, options.time_by) if options.temporal_enrichment else None
        off = constant_codes(len(table))
        return cls.of_codes(group or off, condition or off, time if time and options.enriched else off)

    @classmethod
    def of_codes(cls, group: Codes, condition: Codes, time: Codes) -> AnchorIndex:
        """Index rows whose group, condition and time are given as codes."""
        shape = len(group.labels), len(condition.labels)
        n_cells, n_times = shape[0] * shape[1], len(time.labels)
        if n_cells > MAX_CELLS:
            raise ValueError(
                f"there must be at most {MAX_CELLS} pairs of group and condition, got {shape[0]} groups x {shape[1]} "
                "conditions; name coarser columns"
            )
        key = _joint_key((group, condition, time))
        run_key, run_size = _count(key, n_cells * n_times)
        run_start = np.concatenate([[0], np.cumsum(run_size)])
        cell_bound = run_start[np.searchsorted(run_key, np.arange(n_cells + 1) * n_times)]
        return cls(
            groups=tuple(group.labels),
            conditions=tuple(condition.labels),
            times=np.asarray(time.labels, np.float64),
            time_tolerance=time.tolerance,
            order=_sorted_positions(key),
            cell_start=cell_bound[:-1].reshape(shape),
            cell_size=np.diff(cell_bound).reshape(shape),
            run_key=run_key,
            run_start=run_start,
            digest=_digest(key, repr((group.labels, condition.labels)).encode(), np.asarray(time.labels, "<f8")),
        )

    def __len__(self) -> int:
        """Return the number of anchors."""
        return len(self.order)

    def times_of_groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the distinct times of every group, one group after the other, and where each group's start.

        Returns
        -------
        times
            Indices into `times`.
        start
            Shape (n_groups + 1,): the times of group g are `times[start[g]:start[g + 1]]`.
        """
        n_times = len(self.times)
        group_time = np.unique(self.run_key // (n_times * len(self.conditions)) * n_times + self.run_key % n_times)
        start = np.searchsorted(group_time, np.arange(len(self.groups) + 1) * n_times)
        return group_time % n_times, start

    def window(
        self, group: NDArray[np.int64], time: NDArray[np.int64], half_width: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows within `half_width` hours (inclusive) of a time, for every condition of a group.

        Parameters
        ----------
        group, time
            Group codes and indices into `times`, shape (n,).
        half_width
            In hours.

        Returns
        -------
        start, size
            Slices of `order`, each of shape (n, n_conditions).
        """
        reach = half_width + self.time_tolerance
        first = np.searchsorted(self.times, self.times[time] - reach, side="left")
        last = np.searchsorted(self.times, self.times[time] + reach, side="right")
        n_conditions = len(self.conditions)
        cell_key = (group[:, None] * n_conditions + np.arange(n_conditions)) * len(self.times)
        start = self.run_start[np.searchsorted(self.run_key, cell_key + first[:, None])]
        stop = self.run_start[np.searchsorted(self.run_key, cell_key + last[:, None])]
        return start, stop - start


def _joint_key(axes: tuple[Codes, ...]) -> NDArray[np.unsignedinteger]:
    """Give the rows numbers by (group, condition, time) in the narrowest type that holds the numbers."""
    n_keys = np.prod([len(axis.labels) for axis in axes], dtype=np.float64)
    kind = next(kind for kind in (np.uint16, np.uint32, np.uint64) if n_keys <= 2.0 ** (8 * np.dtype(kind).itemsize))
    key = np.zeros(len(axes[0].codes), kind)
    for axis in axes:
        if len(axis.labels) > 1:
            key *= kind(len(axis.labels))
            key += axis.codes.astype(kind, copy=False)
    return key


def _count(key: NDArray[np.unsignedinteger], n_keys: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct keys, ascending, and how often each occurs."""
    if n_keys <= 2 * len(key) + 2**16:
        count = np.bincount(key.view(np.int64) if key.itemsize == 8 else key, minlength=n_keys)
        distinct = np.flatnonzero(count)
        return distinct, count[distinct]
    distinct, count = np.unique(key, return_counts=True)
    return distinct.astype(np.int64), count


def _sorted_positions(key: NDArray[np.unsignedinteger]) -> NDArray[np.uint32]:
    """Return the stable sorting order of the keys.

    NumPy's stable argsort of 16-bit keys is a radix sort, so wider keys are sorted digit by digit, the lowest first.
    """
    digits = [(key >> key.dtype.type(shift)).astype(np.uint16) for shift in range(0, 8 * key.itemsize, 16)]
    order = np.argsort(digits[0], kind="stable").astype(np.uint32)
    for digit in digits[1:]:
        if digit.any():
            order = order[np.argsort(digit[order], kind="stable")]
    return order


def _digest(key: NDArray[np.unsignedinteger], *labels: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (*labels, key.astype(key.dtype.newbyteorder("<"), copy=False)):
        digest.update(part)
    return digest.hexdigest()
