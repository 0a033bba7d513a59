"""Crop cache: the crops of all observations of a project in one array, read once for all runs of a study."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.atomic import atomic_write
from viscy_train.console import track
from viscy_train.loading.array_source import shape_of_crops
from viscy_train.loading.crop_batch import CropBatch, with_torch_type
from viscy_train.loading.crops import CropReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.crops.native_crops import NativeCrops
    from viscy_train.loading.run_data import RunData

_MAX_BYTES = 2**30
_CROPS_PER_READ = 512
_TYPES = ("u1", "i1", "u2", "i2", "i4", "f2", "f4")


def cache_crops(data: RunData, path: Path, max_bytes: int = _MAX_BYTES) -> Path | None:
    """Write the crops of all observations to a file for `viscy_train.loading.array_source.ArraySource`.

    Parameters
    ----------
    data : RunData
        The data of the project, whose crops are read from its plates or store.
    path : pathlib.Path
        The file. It is written again only if it does not exist.
    max_bytes : int, default 2**30
        The largest size of the array.

    Returns
    -------
    pathlib.Path or None
        The file; None if it would be too large, or if crops have random slices, so that an observation has several.

    Raises
    ------
    UserError
        If a crop cannot be read, or the file cannot be written.

    Notes
    -----
    Pixels have the type of the plates. Crops that are resampled are in float32.
    """
    table, shape = data.table, shape_of_crops(data.table)
    if table.crops.z == "random":
        return None
    source = CropReader(table, cache_mb=data.cache_mb, store=data.store).source
    dtype = _common_type(source.read(_a_row_of_each_position(data)))
    if prod(shape) * dtype.itemsize > max_bytes:
        return None
    if path.exists():
        return path
    with atomic_write(path) as unfinished:
        array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=dtype, shape=shape)
        for first in track(range(0, len(array), _CROPS_PER_READ), "reading crops"):
            rows = np.arange(first, min(first + _CROPS_PER_READ, len(array)))
            for part in source.read(rows):
                array[rows[part.slots]] = _pixels(part, shape)
        array.flush()
    return path


def _a_row_of_each_position(data: RunData) -> NDArray[np.int64]:
    pairs = data.table.observations[["experiment", "position"]]
    return np.flatnonzero(~pairs.duplicated().to_numpy())


def _common_type(parts: list[NativeCrops]) -> np.dtype[Any]:
    """Return the smallest type that has all pixels as they are, among those that are moved to a device."""
    if not all(part.window.is_projected_only for part in parts):
        return np.dtype(np.float32)
    dtype = np.result_type(*[part.pixels.dtype for part in parts])
    return dtype if dtype.str[1:] in _TYPES else np.dtype(np.float32)


def _pixels(part: NativeCrops, shape: tuple[int, int, int, int, int]) -> NDArray[Any]:
    """Return the pixels of crops, resampled if they are."""
    if part.window.is_projected_only:
        return part.pixels
    n, n_channels = part.pixels.shape[:2]
    center, spread = np.zeros((n, n_channels), np.float32), np.ones((n, n_channels), np.float32)
    alone = replace(with_torch_type(part), slots=np.arange(n))
    return CropBatch.of([alone], center, spread, shape[2:]).finish().numpy()
