"""The anchor index: positions sorted once by group, condition and time, so that every pool of rows is a slice.

A *stratum* is the rows of one group and one condition. In the sorted order, the rows of a stratum are one slice, in
order of time, and a temporal window within a stratum is a slice of that slice. Whatever the number of anchors, a pool
is two integers. With `place_by`, rows of the same time are in order of their places. With `distinct_by` and without a
time axis, the rows of a stratum are in order of their values instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_data._options import axes_of, column, columns
from viscy_data._table import storage
from viscy_data._table.radix_sort import find_runs, radix_argsort
from viscy_data._table.values import Values, count_values, sort_by_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._options import SamplerOptions
    from viscy_data._table.columns import Codes
    from viscy_data._table.tables import Anchors, Table

MAX_STRATA = 2**24


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class AnchorIndex:
    """Where the anchors of each group, condition and time are.

    A sampler builds an index of its table. An index that was built beforehand and saved opens in milliseconds: all
    processes of a node share one copy of it, and later runs use it again. The batches are the same as with the table.

    Attributes
    ----------
    experiment_by, condition_by, time_by
        Columns of the axes: a name (for the first two, also a tuple of names), None for an axis that is off.
    groups, conditions
        The labels, in order; a single None where the axis is off.
    times
        Distinct times in hours, ascending, shape (n_times,); a single NaN where the axis is off.
    time_tolerance
        Relative difference up to which two times count as equal: the rounding of the time column's own type.
    order
        Positions of the anchors sorted by (group, condition, time, place, position), shape (n_anchors,), dtype uint32.
        With `distinct_by` and without times, sorted by (group, condition, number of rows of the value in the stratum,
        value, position).
    stratum_start, stratum_size
        The slice of `order` that holds each stratum, shape (n_groups, n_conditions).
    run_key, run_start
        For each distinct time of each stratum, the number `stratum * n_times + time` and where its rows start in
        `order`, shape (n_runs,); `run_start` has one more entry, the end.
    digest
        Hash of the labels, the times and the codes of every row: everything that the sampler knows about the table.
    distinct_by
        Column, or columns, whose values a batch holds only once; None if there is none.
    values
        The values of those columns; None if there are none.
    place_by
        Column, or columns, of the places that sort rows of the same time; None if there is none.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from viscy_data import AnchorIndex, FlexibleBatchSampler
    >>> anchors = pd.DataFrame({"experiment": ["monday", "tuesday"] * 50, "condition": ["mock"] * 50 + ["drug"] * 50})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     AnchorIndex.build(anchors, time_by=None).save(f"{folder}/index")
    ...     sampler = FlexibleBatchSampler(AnchorIndex.open(f"{folder}/index"), batch_size=8)
    ...     list(sampler) == list(FlexibleBatchSampler(anchors, batch_size=8))
    True
    """

    experiment_by: str | tuple[str, ...] | None
    condition_by: str | tuple[str, ...] | None
    time_by: str | None
    groups: tuple[Any, ...]
    conditions: tuple[Any, ...]
    times: NDArray[np.float64]
    time_tolerance: float
    order: NDArray[np.uint32]
    stratum_start: NDArray[np.int64]
    stratum_size: NDArray[np.int64]
    run_key: NDArray[np.int64]
    run_start: NDArray[np.int64]
    digest: str
    distinct_by: str | tuple[str, ...] | None = None
    values: Values | None = None
    place_by: str | tuple[str, ...] | None = None

    axes_of = staticmethod(axes_of)

    @classmethod
    def build(
        cls,
        valid_anchors: Anchors | Table,
        *,
        experiment_by: str | Sequence[str] | None = "experiment",
        condition_by: str | Sequence[str] | None = "condition",
        time_by: str | None = "hours_post_infection",
        distinct_by: str | Sequence[str] | None = None,
        place_by: str | Sequence[str] | None = None,
    ) -> AnchorIndex:
        """Index a table, which is neither modified nor kept.

        Parameters
        ----------
        valid_anchors : DataFrame, Table or path
            A table as `FlexibleBatchSampler` accepts it. Of a Parquet file or folder, only the named columns are read.
        experiment_by, condition_by : str, sequence of str or None
            Columns of groups and conditions; None for a sampler with ``experiment_aware=False`` or
            ``condition_balanced=False``.
        time_by : str or None
            Column of times in hours; None for a sampler with ``temporal_enrichment=False`` and ``locality=1``.
        distinct_by : str, sequence of str or None
            Column, or columns, for a sampler with the same `distinct_by`. It takes up to four more bytes per anchor.
        place_by : str, sequence of str or None
            Column, or columns, for a sampler with the same `place_by` and with `locality` above 1. Needs `time_by`.

        Returns
        -------
        AnchorIndex
            The index, in memory.

        Raises
        ------
        TypeError, ValueError, FileNotFoundError, ModuleNotFoundError
            If the table cannot be used, as for `FlexibleBatchSampler`, or if there is `place_by` and no `time_by`.
        """
        if place_by is not None and time_by is None:
            raise ValueError(
                f"place_by must come with a column of times, got place_by={place_by!r} and time_by=None: places "
                "sort the rows of a time; name the column of times"
            )
        axes: dict[str, Any] = {
            "experiment_by": None if experiment_by is None else columns("experiment_by", experiment_by),
            "condition_by": None if condition_by is None else columns("condition_by", condition_by),
            "time_by": None if time_by is None else column("time_by", time_by),
            "distinct_by": None if distinct_by is None else columns("distinct_by", distinct_by),
            "place_by": None if place_by is None else columns("place_by", place_by),
        }
        return cls.from_codes(*_read_axes(valid_anchors, **axes), **axes)

    @classmethod
    def for_options(cls, valid_anchors: Anchors | Table | AnchorIndex, options: SamplerOptions) -> AnchorIndex:
        """Index a table for a sampler, unless it is an index already.

        The time column is checked even where enrichment has no effect and the index does not need it.
        """
        if isinstance(valid_anchors, AnchorIndex):
            return valid_anchors
        checked = options.time_by if options.temporal_enrichment else None
        time_axis = "time" if options.enriched else "time of runs"
        codes = _read_axes(valid_anchors, **options.axes, checked_time_by=checked, time_axis=time_axis)
        return cls.from_codes(*codes, **options.axes)

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> AnchorIndex:
        """Open a saved index; its positions are mapped into memory, not read.

        Parameters
        ----------
        folder : str or Path
            Folder of the saved index.
        verify : bool, default False
            Whether to read all positions and compare their checksum as well. The lengths of all files, and the
            checksums of all other files, are always compared.

        Returns
        -------
        AnchorIndex
            The index, read-only.

        Raises
        ------
        FileNotFoundError
            If the folder contains no index.
        ValueError
            If a file is missing, incomplete or damaged, or the files do not belong together. Of the positions, only
            the length and a few pages are compared: without `verify`, a damaged byte elsewhere is an error when it
            leads to a position outside the table, and goes unnoticed otherwise. A file that is cut later is an error
            when positions are drawn.
        """
        found = storage.load(Path(folder), verify)
        values = {field.name: found.pop(field.name) for field in fields(Values) if field.name in found}
        return cls(**found, values=Values(**values) if values else None)

    def save(self, folder: str | Path) -> None:
        """Write the index into a new folder, atomically: an interrupted write leaves no folder.

        Parameters
        ----------
        folder : str or Path
            Folder to write, which must not exist yet.

        Raises
        ------
        FileExistsError
            If the folder exists.
        TypeError
            If a label is neither text, number, boolean, date, time nor a tuple of those.
        """
        self._check_mapped_files()
        saved = {field.name: getattr(self, field.name) for field in fields(self)}
        values = saved.pop("values")
        storage.save(Path(folder), saved | (values.as_dict() if values else {}))

    @classmethod
    def from_codes(
        cls,
        group: Codes,
        condition: Codes,
        time: Codes,
        value: Codes | None = None,
        place: Codes | None = None,
        **columns: Any,
    ) -> AnchorIndex:
        """Index rows whose group, condition, time and, if they are in use, value and place are given as codes."""
        shape = len(group.labels), len(condition.labels)
        n_strata, n_times = shape[0] * shape[1], len(time.labels)
        if n_strata > MAX_STRATA:
            raise ValueError(
                f"there must be at most {MAX_STRATA} pairs of group and condition, got {shape[0]} groups x {shape[1]} "
                "conditions; name coarser columns"
            )
        key = _joint_key((group, condition, time))
        order = radix_argsort(key, None if place is None else radix_argsort(place.codes))
        run_key, run_start = find_runs(key, order)
        stratum_bound = run_start[np.searchsorted(run_key, np.arange(n_strata + 1) * n_times)]
        digest = _digest(key, repr((group.labels, condition.labels)).encode(), np.asarray(time.labels, "<f8"))
        if place is not None:
            digest = _digest(place.codes, digest.encode(), b"places")
        values = None
        if value is not None:
            digest = _digest(value.codes, digest.encode())
            pair = _joint_key((group, condition, value)), value.codes, (*shape, len(value.labels))
            if columns.get("time_by") is None:
                order, values = sort_by_value(*pair)
            else:
                values = count_values(*pair, order)
        return cls(
            **{"experiment_by": None, "condition_by": None, "time_by": None} | columns,
            groups=tuple(group.labels),
            conditions=tuple(condition.labels),
            times=np.asarray(time.labels, np.float64),
            time_tolerance=time.tolerance,
            order=order,
            stratum_start=stratum_bound[:-1].reshape(shape),
            stratum_size=np.diff(stratum_bound).reshape(shape),
            run_key=run_key,
            run_start=run_start,
            digest=digest,
            values=values,
        )

    def __len__(self) -> int:
        """Return the number of anchors."""
        return len(self.order)

    def __getstate__(self) -> list[Any]:
        """Return the values of all fields, for pickle."""
        self._check_mapped_files()
        return [getattr(self, field.name) for field in fields(self)]

    def __repr__(self) -> str:
        """Return a short description, without the arrays."""
        return (
            f"AnchorIndex({len(self)} anchors, {len(self.groups)} groups by {self.experiment_by!r}, "
            f"{len(self.conditions)} conditions by {self.condition_by!r}, {len(self.times)} times by {self.time_by!r}"
            + (f", {self.values.n_values} values by {self.distinct_by!r}" if self.values else "")
            + (f", sorted by {self.place_by!r})" if self.place_by else ")")
        )

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the positions of rows of the sorted order, with the shape of `rows`.

        Raises
        ------
        ValueError
            If the index is a saved one whose file of positions was cut or damaged after it was opened.
        """
        return _take(self.order, rows, len(self), "positions of an index must be below its number of anchors")

    def value_codes(self, rows: NDArray[np.int64] | slice) -> NDArray[np.unsignedinteger]:
        """Return the codes of the values of rows of the sorted order; raise as `positions` does."""
        assert self.values is not None
        limit = self.values.n_values
        return _take(self.values.value_code, rows, limit, "codes of an index must be below its number of values")

    def _check_mapped_files(self) -> None:
        """Raise ValueError if a file that an array is mapped from was cut."""
        storage.check_mapped_file(storage.mapped_file(self.order))
        if self.values:
            storage.check_mapped_file(storage.mapped_file(self.values.value_code))

    def times_of_groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the distinct times of every group, one group after the other, and where each group's times start.

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
            Half-width of the window in hours.

        Returns
        -------
        start, size
            Slices of `order`, each of shape (n, n_conditions).
        """
        reach = half_width + self.time_tolerance * (np.abs(self.times[time]) + half_width)
        first = np.searchsorted(self.times, self.times[time] - reach, side="left")
        last = np.searchsorted(self.times, self.times[time] + reach, side="right")
        n_conditions = len(self.conditions)
        stratum_key = (group[:, None] * n_conditions + np.arange(n_conditions)) * len(self.times)
        start = self.run_start[np.searchsorted(self.run_key, stratum_key + first[:, None])]
        stop = self.run_start[np.searchsorted(self.run_key, stratum_key + last[:, None])]
        return start, stop - start


def _read_axes(
    anchors: Anchors | Table,
    *,
    experiment_by: str | tuple[str, ...] | None,
    condition_by: str | tuple[str, ...] | None,
    time_by: str | None,
    distinct_by: str | tuple[str, ...] | None,
    place_by: str | tuple[str, ...] | None,
    checked_time_by: str | None = None,
    time_axis: str = "time",
) -> tuple[Codes, Codes, Codes, Codes | None, Codes | None]:
    """Read the columns of a table's axes; `checked_time_by` is a column of times that only has to be valid."""
    # These modules import pandas, which only a table needs: a saved index opens without it.
    from viscy_data._table.columns import check_times, constant_codes, label_codes, time_codes
    from viscy_data._table.tables import check_table

    table = check_table(anchors)
    off = constant_codes(table.n_rows)
    codes = (
        off if experiment_by is None else label_codes(table, "experiment", experiment_by),
        off if condition_by is None else label_codes(table, "condition", condition_by),
        off if time_by is None else time_codes(table, time_by, time_axis),
        None if distinct_by is None else label_codes(table, "distinct", distinct_by),
        None if place_by is None else label_codes(table, "place", place_by),
    )
    if time_by is None and checked_time_by is not None:
        check_times(table, checked_time_by)
    return codes


def _take(array: NDArray, rows: NDArray[np.int64] | slice, limit: int, rule: str) -> NDArray:
    """Return the entries of an array that may be mapped from a file; ValueError if the file was cut or damaged."""
    storage.check_mapped_file(storage.mapped_file(array))
    entries = array[rows] if isinstance(rows, slice) else array.take(rows, mode="clip")
    if entries.max(initial=0) >= limit:
        raise ValueError(f"{rule}, {limit}, got {entries.max()}: the saved index is damaged; build and save it again")
    return entries


def _joint_key(axes: tuple[Codes, ...]) -> NDArray[np.unsignedinteger]:
    """Return the number of each row's combination of group, condition and time, in the narrowest type."""
    n_keys = np.prod([len(axis.labels) for axis in axes], dtype=np.float64)
    dtype = next(
        dtype for dtype in (np.uint16, np.uint32, np.uint64) if n_keys <= 2.0 ** (8 * np.dtype(dtype).itemsize)
    )
    key = np.zeros(len(axes[0].codes), dtype)
    for axis in axes:
        if len(axis.labels) > 1:
            key *= dtype(len(axis.labels))
            key += axis.codes.astype(dtype, copy=False)
    return key


def _digest(key: NDArray[np.unsignedinteger], *labels: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (*labels, key.astype(key.dtype.newbyteorder("<"), copy=False)):
        digest.update(part)
    return digest.hexdigest()
