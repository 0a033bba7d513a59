"""Open plates: what a process has opened to read crops, once for all its threads."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.window import CropWindow, crop_window
from viscy_train.loading.blocks import Channels, block_grid
from viscy_train.loading.cached_chunks import CachedChunks
from viscy_train.loading.crop_reads import MAX_THREADS
from viscy_train.loading.images import Images
from viscy_train.loading.open_position import OpenPosition, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.config.schema import CropSettings
    from viscy_train.loading.observed_positions import ObservedPositions

_MIN_DECODING_THREADS = 4


class OpenPlates:
    """The plates and positions that a process has opened, and the chunks that it has decoded.

    Parameters
    ----------
    positions : ObservedPositions
        The positions of the table.
    crops : CropSettings
        What a crop contains.
    cache_mb : int
        Memory for decoded chunks, in MB.

    Attributes
    ----------
    images : Images
        The images.
    positions : dict of int to OpenPosition
        The open positions, by their index.
    cache : CachedChunks
        The chunks.
    threads : concurrent.futures.Executor
        Threads that read rows.
    windows : list of CropWindow
        The windows of all images, each once.
    """

    def __init__(self, positions: ObservedPositions, crops: CropSettings, cache_mb: int) -> None:
        self._observed, self._crops = positions, crops
        self._lock = threading.Lock()
        self.images = Images(_n_decoding_threads())
        self.positions: dict[int, OpenPosition] = {}
        self._numbers: dict[Any, int] = {}
        self._n_blocks = 0
        self.cache = CachedChunks(cache_mb * 2**20)
        self.threads = ThreadPoolExecutor(MAX_THREADS, "viscy-train-rows")
        self.windows: list[CropWindow] = []

    def open(self, positions: Sequence[int]) -> list[OpenPosition]:
        """Return some positions, after opening those that are not open."""
        if not all(position in self.positions for position in positions):
            with self._lock:
                for position in positions:
                    if position not in self.positions:
                        self.positions[position] = self._open(position)
        return [self.positions[position] for position in positions]

    def _open(self, position: int) -> OpenPosition:
        experiment = self._observed.experiment(position)
        image, pixels, rows = self.images.open(experiment.plate, self._observed.name_of_position[position])
        window = crop_window(image, experiment, self._crops)
        channels = image.channel_indices(experiment.channel_names)
        has_one = self._observed.channel is not None
        choices: list[Channels] = [slice(c, c + 1) for c in channels] if has_one else [_as_slice(np.array(channels))]
        grid = block_grid(image.array, window, choices)
        dtype = image.array.dtype.newbyteorder("=")
        kind = kind_of(window, dtype)
        first_block, self._n_blocks = self._n_blocks, self._n_blocks + grid.n_blocks
        return OpenPosition(
            pixels=pixels,
            rows=rows,
            window=window,
            grid=grid,
            channels=[[c] for c in channels] if has_one else [channels],
            dtype=dtype,
            first_block=first_block,
            window_number=self._number_window(window),
            kind=self._number("kind", kind),
            layout=self._number("layout", (kind, grid.size, grid.slices is None)),
        )

    def _number_window(self, window: CropWindow) -> int:
        number = self._number("window", window)
        if number == len(self.windows):
            self.windows.append(window)
        return number

    def _number(self, what: str, value: Any) -> int:
        """Return the number of a value among those of a name, in the order in which they were first seen."""
        n = sum(name == what for name, _ in self._numbers)
        return self._numbers.setdefault((what, value), n)


def _n_decoding_threads() -> int:
    """Return how many threads decode: those of all cores, unless other processes of the run do the same."""
    if multiprocessing.parent_process() is not None:
        return _MIN_DECODING_THREADS
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(_MIN_DECODING_THREADS, n_cores)


def _as_slice(indices: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Return consecutive indices as a slice, which is faster to read."""
    first, n = int(indices[0]), len(indices)
    return slice(first, first + n) if np.array_equal(indices, np.arange(first, first + n)) else indices
