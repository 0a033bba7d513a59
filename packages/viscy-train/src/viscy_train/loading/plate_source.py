"""Plate source: the pixels of crops, read from plates; the crops of a batch are read concurrently."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.native_crops import NativeCrops
from viscy_train.errors import UserError, one_line
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.crop_reads import CropReads
from viscy_train.loading.crop_source import ReadCounter, ReadCounts
from viscy_train.loading.located_crops import LocatedCrops, locate_crops
from viscy_train.loading.observed_positions import CenterOfRows, ObservedPositions
from viscy_train.loading.open_plates import OpenPlates
from viscy_train.loading.touched_blocks import Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.loading.open_position import OpenPosition


class PlateSource:
    """Read crops of the observations in a table from their plates.

    Parameters
    ----------
    table : AnchorTable
        Gives the location of each observation, and what a crop contains.
    cache_mb : int
        Memory for decoded chunks, for all threads of a process that reads, in MB.
    positions : ObservedPositions, optional
        Those of the table, if they are known.

    Notes
    -----
    Each process opens plates and positions when it first reads from them, once for all its threads. Open images are not
    pickled, and a forked child does not use those of its parent (see `viscy_train.plates.fork`).
    """

    def __init__(self, table: AnchorTable, *, cache_mb: int, positions: ObservedPositions | None = None) -> None:
        self._positions = ObservedPositions(table) if positions is None else positions
        self._crops, self._cache_mb = table.crops, cache_mb
        self._focus = table.observations[Z_FOCUS].to_numpy() if table.crops.z == "sharpest" else None
        self._center = CenterOfRows(table)
        self._counter = ReadCounter()
        self._open: dict[int, OpenPlates] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    @property
    def counts(self) -> ReadCounts:
        """How much has been read so far, by all threads of this process."""
        return self._counter.counts

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> list[NativeCrops]:
        """Read crops, as `viscy_train.loading.crop_source.CropSource` says.

        Raises
        ------
        UserError
            If a plate or position does not exist or is damaged, or a chunk is missing or cannot be decoded.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) == 0:
            return []
        plates = self._plates()
        positions, image = np.unique(self._positions.position[rows], return_inverse=True)
        opened = plates.open(positions.tolist())
        # In the order of the images, so that crops that share a chunk are read while it is in the cache.
        order = np.lexsort((self._positions.frame[rows], image))
        rows, image = rows[order], image[order]
        self._check_frames(rows, image, opened)
        is_random = self._crops.z == "random"
        located = locate_crops(
            plates.windows,
            np.array([at.window_number for at in opened])[image],
            self._center[rows],
            focus=None if self._focus is None else self._focus[rows],
            draws=draws[order] if is_random and draws is not None else None,
        )
        kind = np.array([at.kind for at in opened])[image]
        by_slot = np.argsort(order)
        members = [by_slot[kind[by_slot] == one] for one in np.unique(kind).tolist()]
        parts = [_empty_crops(opened, image, located, crops) for crops in members]
        self._read_into(parts, plates, opened, rows, image, located)
        self._counter.add(n_crops=len(rows), used_bytes=sum(part.pixels.nbytes for part in parts))
        return [replace(part, slots=order[part.slots]) for part in parts]

    def _read_into(
        self,
        parts: Sequence[NativeCrops],
        plates: OpenPlates,
        opened: Sequence[OpenPosition],
        rows: NDArray[np.int64],
        image: NDArray[np.int64],
        located: LocatedCrops,
    ) -> None:
        """Read the pixels of crops into their places."""
        places: list[NDArray[Any]] = [np.empty(0)] * len(rows)
        for part in parts:
            for crop, place in zip(part.slots.tolist(), part.pixels, strict=True):
                places[crop] = place
        targets = _stacks(opened, image, places) if self._crops.z == "maximum" else places
        wanted = self._wanted(opened, rows, image, located, targets)
        reads, crop = CropReads(wanted, plates.cache), 0
        try:
            reads.request(plates.threads)
            for crop in range(len(rows)):
                reads.wait(crop)
                if wanted.targets is not places:
                    np.max(wanted.targets[crop], axis=1, keepdims=True, out=places[crop])
        except Exception as error:  # many types: ValueError, RuntimeError, zarr's, and those of each codec
            reads.discard()
            raise self._damage(rows[crop], one_line(error)) from error
        self._counter.add(**reads.counts)

    def _wanted(
        self,
        opened: Sequence[OpenPosition],
        rows: NDArray[np.int64],
        image: NDArray[np.int64],
        located: LocatedCrops,
        targets: Sequence[NDArray[Any]],
    ) -> Wanted:
        """Return what crops need, and where it goes."""
        channel = self._positions.channel
        return Wanted(
            opened=opened,
            image=image,
            choice=np.zeros(len(rows), dtype=np.int64) if channel is None else channel[rows],
            frame=self._positions.frame[rows],
            corners=located.corners,
            targets=targets,
        )

    def _plates(self) -> OpenPlates:
        """Return what this process has opened.

        It is stored by process id: a forked child must neither use nor free what its parent has opened.
        """
        process = os.getpid()
        if process not in self._open:
            self._open.setdefault(process, OpenPlates(self._positions, self._crops, self._cache_mb))
        return self._open[process]

    def _check_frames(self, rows: NDArray[np.int64], image: NDArray[np.int64], opened: Sequence[OpenPosition]) -> None:
        n_frames = np.array([at.grid.shape[0] for at in opened])[image]
        frame = self._positions.frame[rows]
        is_outside = (frame < 0) | (frame >= n_frames)
        if is_outside.any():
            crop = int(np.argmax(is_outside))
            raise self._damage(rows[crop], f"the image has {n_frames[crop]} frames")

    def _damage(self, row: int, reason: str) -> UserError:
        return UserError(self._positions.describe_damage(row, reason))


def _empty_crops(
    opened: Sequence[OpenPosition], image: NDArray[np.int64], located: LocatedCrops, crops: NDArray[np.int64]
) -> NativeCrops:
    """Return crops of one type and size, whose pixels are not read yet."""
    at = opened[image[crops[0]]]
    return NativeCrops(
        pixels=np.empty((len(crops), at.grid.n_channels, at.window.n_slices, *at.window.sides), dtype=at.dtype),
        slots=crops,
        window=at.window,
        starts=located.starts[crops],
        first_slices=located.first_slices[crops],
    )


def _stacks(
    opened: Sequence[OpenPosition], image: NDArray[np.int64], places: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """Return where the slices of crops go whose maximum goes to some places."""
    depths = [opened[at].window.z.n_read for at in image.tolist()]
    return [
        np.empty((len(place), depth, *place.shape[2:]), dtype=place.dtype)
        for depth, place in zip(depths, places, strict=True)
    ]
