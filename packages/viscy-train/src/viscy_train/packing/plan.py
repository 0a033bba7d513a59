"""Packing plan: which crop is where in a store, in an order in which every frame is decoded once."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.console import track
from viscy_train.crop_store.address import address_of
from viscy_train.crop_store.crop_array import crops_per_shard
from viscy_train.crop_store.header import CropArray, Run, StoreHeader
from viscy_train.crops.window import CropWindow, crop_window
from viscy_train.loading.observed_positions import ObservedPositions
from viscy_train.plates.plate import open_plate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.plates.plate import Plate


@dataclass(frozen=True)
class _Kind:
    """What the crops of a position have in common."""

    data_type: str
    size: tuple[int, ...]
    window: CropWindow


@dataclass(frozen=True, kw_only=True)
class PackingPlan:
    """Which crop is where in a store.

    Parameters
    ----------
    header : StoreHeader
        Arrays, and what their crops cover.
    rows : numpy.ndarray
        Row of the anchor table of each slot, shape (n_crops,): those of an array by experiment, position, frame and
        row.
    slots : numpy.ndarray
        Slot of each row, shape (n_crops,).
    positions : ObservedPositions
        Position and frame of each row.
    """

    header: StoreHeader
    rows: NDArray[np.int64]
    slots: NDArray[Any]
    positions: ObservedPositions

    def rows_of(self, number: int, shard: int) -> NDArray[np.int64]:
        """Return the rows of the crops in a shard, given the index of its array and its number in it."""
        array = self.header.arrays[number]
        first = shard * array.crops_per_shard
        last = min(first + array.crops_per_shard, array.shape[0])
        return self.rows[array.first_slot + first : array.first_slot + last]


def make_plan(table: AnchorTable) -> PackingPlan:
    """Plan the store of a table.

    Parameters
    ----------
    table : AnchorTable
        The table. All its observations are packed, because any of them may be a positive or be predicted.

    Returns
    -------
    PackingPlan
        The same for the same table and plates.

    Raises
    ------
    UserError
        If a position does not exist or is damaged, or a crop does not fit into its image.
    """
    positions = ObservedPositions(table)
    kinds = _kinds_of_positions(table, positions)
    stored = list(dict.fromkeys((kind.data_type, kind.size) for kind in kinds))
    windows = list(dict.fromkeys(kind.window for kind in kinds))
    array_of_position = np.array([stored.index((kind.data_type, kind.size)) for kind in kinds])
    array = array_of_position[positions.position[:]]
    rows = np.lexsort((positions.frame, positions.position[:], array))  # stable, so ascending within a frame
    slots = np.empty(len(rows), dtype=np.int32 if len(rows) < 2**31 else np.int64)
    slots[rows] = np.arange(len(rows))
    header = StoreHeader(
        address=address_of(table.fingerprint),
        arrays=_arrays(stored, np.bincount(array, minlength=len(stored))),
        windows=windows,
        runs=_runs(kinds, windows, positions.position[rows], array[rows]),
        slots_checksum=zlib.crc32(slots),
    )
    return PackingPlan(header=header, rows=rows, slots=slots, positions=positions)


def _kinds_of_positions(table: AnchorTable, positions: ObservedPositions) -> list[_Kind]:
    plates: dict[Path, Plate] = {}
    kinds = []
    for position, name in enumerate(track(positions.name_of_position, "positions")):
        experiment = positions.experiment(position)
        if experiment.plate not in plates:
            plates[experiment.plate] = open_plate(experiment.plate)
        image = plates[experiment.plate].image(name)
        window = crop_window(image, experiment, table.crops)
        n_channels = len(experiment.channels) if positions.channel is None else 1
        n_slices = window.z.n if window.mode == "random" else window.n_slices  # the slice is drawn later
        size = (n_channels, n_slices, *window.sides)
        kinds.append(_Kind(image.array.dtype.newbyteorder("=").name, size, window))
    return kinds


def _arrays(stored: list[tuple[str, tuple[int, ...]]], n_crops: NDArray[np.int64]) -> list[CropArray]:
    arrays: list[CropArray] = []
    first_slot = 0
    for number, (data_type, size) in enumerate(stored):
        n = int(n_crops[number])
        n_bytes = int(np.prod(size)) * np.dtype(data_type).itemsize
        arrays.append(
            CropArray(
                name=str(number),
                data_type=data_type,
                shape=(n, *size),
                crops_per_shard=min(crops_per_shard(n_bytes), n),
                first_slot=first_slot,
            )
        )
        first_slot += n
    return arrays


def _runs(
    kinds: list[_Kind], windows: list[CropWindow], position: NDArray[np.int64], array: NDArray[np.int64]
) -> list[Run]:
    """Return where array or window change, given the position and the array of each slot."""
    window_of_position = np.array([windows.index(kind.window) for kind in kinds])
    window = window_of_position[position]
    changes = np.flatnonzero((np.diff(array, prepend=-1) != 0) | (np.diff(window, prepend=-1) != 0))
    return [Run(first_slot=int(slot), array=int(array[slot]), window=int(window[slot])) for slot in changes]
