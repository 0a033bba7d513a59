"""Shards: the files of a crop store, each read from the plates and written by one process, in one step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.atomic import atomic_write
from viscy_train.crop_store.crop_array import encode_shard
from viscy_train.errors import UserError
from viscy_train.loading.plate_source import PlateSource
from viscy_train.output import OutputKind, claimed
from viscy_train.positives.lineages import starts_run
from viscy_train.process_pool import name_of_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.loading.crop_source import CropSource
    from viscy_train.packing.plan import PackingPlan

# Whichever process writes a shard, its content is the same.
_SHARD = OutputKind("a shard of a crop store", lambda path: True)
# Of the frames that are read at the same time, all decoded chunks are in memory.
_FRAMES_PER_READ = 4


class _InUseError(Exception):
    """Another process packs a shard."""


class ShardPacker:
    """Reads the crops of shards and writes their files.

    Parameters
    ----------
    table : AnchorTable
        The table.
    plan : PackingPlan
        Which crop is where.
    path : pathlib.Path
        Directory of the store.
    cache_mb : int
        Memory for decoded chunks, for each process, in MB.
    """

    def __init__(self, table: AnchorTable, plan: PackingPlan, path: Path, *, cache_mb: int) -> None:
        self.plan, self._path = plan, path
        self._sources = tuple(
            PlateSource(_with_all_slices(table, array.shape[2]), cache_mb=cache_mb, positions=plan.positions)
            for array in plan.header.arrays
        )

    def pack(self, number: int, shard: int, on_wait: Callable[[str], None] | None = None) -> int | None:
        """Write a shard unless it exists.

        Parameters
        ----------
        number : int
            Index of the array.
        shard : int
            Number of the shard in the array.
        on_wait : callable, optional
            If another process packs the shard, wait for it, and call this with a sentence that says so.

        Returns
        -------
        int, optional
            The bytes that were written, 0 if the shard exists; None if another process packs it and
            `on_wait` is not given.

        Raises
        ------
        UserError
            If a crop cannot be read, or the file cannot be written.
        """
        array = self.plan.header.arrays[number]
        file = self._path / array.name / array.shard_name(shard)
        if file.exists():
            return 0
        try:
            with claimed(file, _SHARD, "pack", on_wait or _refuse_to_wait):
                if file.exists():
                    return 0
                content = encode_shard(array, self.read(number, self.plan.rows_of(number, shard)))
                # A name of its own, for file systems without locks.
                with atomic_write(file, by=name_of_writer()) as unfinished:
                    unfinished.write_bytes(content)
                return len(content)
        except _InUseError:
            return None

    def read(self, number: int, rows: NDArray[np.int64]) -> NDArray:
        """Read crops, those of a few frames at a time.

        Parameters
        ----------
        number : int
            Index of the array.
        rows : numpy.ndarray
            Rows of the anchor table, in the order of the slots of the array.
        """
        array, positions = self.plan.header.arrays[number], self.plan.positions
        pixels = np.empty((len(rows), *array.shape[1:]), dtype=array.data_type)
        starts = np.flatnonzero(starts_run(positions.position[rows]) | starts_run(positions.frame[rows]))
        for part in np.split(np.arange(len(rows)), starts[_FRAMES_PER_READ::_FRAMES_PER_READ]):
            _read_into(pixels, self._sources[number], rows, part)
        return pixels


def _read_into(pixels: NDArray, source: CropSource, rows: NDArray[np.int64], part: NDArray[np.int64]) -> None:
    for crops in source.read(rows[part]):
        if crops.pixels.dtype != pixels.dtype or crops.pixels.shape[1:] != pixels.shape[1:]:
            raise UserError("plates must not change while crops are packed; restore them, and run the command again")
        pixels[part[crops.slots]] = crops.pixels


def _with_all_slices(table: AnchorTable, n_slices: int) -> AnchorTable:
    """Return a table whose crops have all slices that random ones may have; the table itself for other crops."""
    if table.crops.z != "random":
        return table
    return replace(table, crops=replace(table.crops, z="middle", z_slices=n_slices, depth_um=None))


def _refuse_to_wait(_: str) -> None:
    raise _InUseError
