"""Plate source: the pixels of crops, read from plates; the crops of a batch are read concurrently."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.native_crops import NativeCrops
from viscy_train.crops.window import crop_window
from viscy_train.errors import UserError
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.crop_source import ReadCounter, ReadCounts
from viscy_train.loading.images import Images
from viscy_train.loading.observed_positions import ObservedPositions
from viscy_train.loading.open_position import OpenPosition, RequestedCrop

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable


class PlateSource:
    """Read crops of the observations in a table from their plates.

    Parameters
    ----------
    table : AnchorTable
        Gives the location of each observation, and what a crop contains.
    cache_mb : int
        Memory for decoded chunks, for each process that reads, in MB.
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
        center = table.observations[["y", "x"]].to_numpy(np.float64)
        self._center = np.rint(center).astype(np.int64) if table.crops.crop_um is None else center
        self._counter = ReadCounter()
        self._open: dict[int, _OpenPlates] = {}

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
        position = self._positions.position[rows]
        opened = self._open_positions(np.unique(position))
        # In the order of the images, so that crops that share a chunk are read while it is in the cache.
        order = np.lexsort((self._positions.frame[rows], position)).tolist()
        requested: dict[int, RequestedCrop] = {}
        for slot in order:
            with self._report_damage(rows[slot]):
                draw = None if draws is None else float(draws[slot])
                requested[slot] = self._request(opened[position[slot]], rows[slot], draw)
        slots_of: dict[Any, list[int]] = {}
        for slot in order:
            slots_of.setdefault(requested[slot].key, []).append(slot)
        crops = [self._collect(slots, rows, requested) for slots in slots_of.values()]
        used = sum(part.pixels.nbytes for part in crops)
        self._counter.add(n_crops=len(rows), used_bytes=used)
        return crops

    def _collect(self, slots: list[int], rows: NDArray[np.int64], requested: dict[int, RequestedCrop]) -> NativeCrops:
        """Wait for crops that have the same type and size, and return them together."""
        pixels: NDArray[Any] | None = None
        for number, slot in enumerate(slots):
            with self._report_damage(rows[slot]):
                crop = requested[slot].pixels()
            if pixels is None:
                pixels = np.empty((len(slots), *crop.shape), dtype=crop.dtype.newbyteorder("="))
            pixels[number] = crop
        assert pixels is not None
        return NativeCrops(
            pixels=pixels,
            slots=np.array(slots, dtype=np.int64),
            window=requested[slots[0]].window,
            starts=np.array([requested[slot].start for slot in slots], dtype=np.float64),
            first_slices=np.array([requested[slot].first_slice for slot in slots], dtype=np.float64),
        )

    def _open_positions(self, positions: NDArray[np.int64]) -> dict[int, OpenPosition]:
        """Return the open positions of this process, after opening the given positions.

        They are stored by process id: a forked child must neither use nor free what its parent has opened.
        """
        process = os.getpid()
        if process not in self._open:
            self._open.setdefault(process, _OpenPlates(self._cache_mb))
        plates = self._open[process]
        with plates.lock:
            for position in positions.tolist():
                if position not in plates.positions:
                    plates.positions[position] = self._open_position(plates.images, position)
        return plates.positions

    def _open_position(self, images: Images, position: int) -> OpenPosition:
        experiment = self._positions.experiment(position)
        image, pixels = images.open(experiment.plate, self._positions.name_of_position[position])
        window = crop_window(image, experiment, self._crops)
        channels = np.array(image.channel_indices(experiment.channel_names))
        is_one = self._positions.channel is not None
        choices = [slice(one, one + 1) for one in channels] if is_one else [_as_slice(channels)]
        return OpenPosition(image, pixels, window, choices)

    def _request(self, at: OpenPosition, row: int, draw: float | None) -> RequestedCrop:
        channel = self._positions.channel
        return at.request(
            int(self._positions.frame[row]),
            self._center[row],
            channel=0 if channel is None else channel[row],
            focus=None if self._focus is None else int(self._focus[row]),
            draw=draw if self._crops.z == "random" else None,
        )

    @contextmanager
    def _report_damage(self, row: int) -> Generator[None]:
        """Turn the errors that tensorstore and zarr raise for missing or damaged chunks into a one-line `UserError`."""
        try:
            yield
        except Exception as error:  # many types: ValueError, RuntimeError, zarr's, and those of each codec
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(self._positions.describe_damage(row, reason)) from error


class _OpenPlates:
    """What a process has opened."""

    def __init__(self, cache_mb: int) -> None:
        self.images, self.positions = Images(cache_mb), dict[int, OpenPosition]()
        self.lock = threading.Lock()


def _as_slice(indices: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Return consecutive indices as a slice, which is faster to read."""
    first, n = int(indices[0]), len(indices)
    return slice(first, first + n) if np.array_equal(indices, np.arange(first, first + n)) else indices
