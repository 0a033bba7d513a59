"""Crop store: the crops of all observations of an anchor table, each read by its row."""

from __future__ import annotations

import json
import os
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorstore

from viscy_train.crop_store.address import address_of, difference
from viscy_train.crop_store.crop_array import METADATA, metadata_of
from viscy_train.crop_store.header import REPACK, SLOTS, CropArray, StoreHeader
from viscy_train.crop_store.local_crops import LocalCrops
from viscy_train.errors import UserError, one_line
from viscy_train.plates.access import kvstore_at, zarr_store
from viscy_train.plates.fork import may_use_tensorstore
from viscy_train.plates.zarr_codecs import zarr_codecs
from viscy_train.remote.path import can_list, is_remote
from viscy_train.wording import are, count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.crops.window import CropWindow

# Memory for the indices of shards.
_CACHE_MB = 16
_CONTINUE = "run `viscy-train pack --config FILE` to pack what is missing"
_WRITE_AGAIN = "run `viscy-train pack --config FILE` to write it again"


@dataclass(frozen=True, kw_only=True)
class StoredCrops:
    """Crops of one type and size, as they are stored.

    Parameters
    ----------
    pixels : numpy.ndarray
        Shape (n_crops, n_channels, n_slices, n_rows, n_columns).
    order : numpy.ndarray
        Which of the requested crops each one is, ascending, shape (n_crops,).
    window : CropWindow
        What they cover of their image.
    """

    pixels: NDArray[Any]
    order: NDArray[np.int64]
    window: CropWindow


class CropStore:
    """The crops of all observations of an anchor table.

    Parameters
    ----------
    path : pathlib.Path
        Directory of the store.
    fingerprint : mapping of str to str
        `AnchorTable.fingerprint` of the table whose rows are read.

    Raises
    ------
    UserError
        If there is no store, or it is unfinished, damaged, of another version, or of another table.

    Notes
    -----
    Each process opens the arrays when it first reads from them, once for all its threads. A forked child does not use
    those of its parent (see `viscy_train.plates.fork`).
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, str]) -> None:
        self.path, self.header = path, StoreHeader.read(path)
        if other := difference(self.header.address, address_of(fingerprint)):
            raise UserError(f"crop store {path} has the crops of another anchor table ({other}); {REPACK}")
        if missing := missing_shards(path, self.header):
            n = sum(array.n_shards for array in self.header.arrays)
            raise UserError(
                f"crop store {path} is unfinished: {len(missing)} of {count(n, 'shard')} {are(len(missing))} missing; "
                f"{_CONTINUE}"
            )
        for array in self.header.arrays:
            if not _has_metadata_of(path / array.name, array):
                raise UserError(
                    f"file {path / array.name / METADATA} of the crop store is missing or damaged; {_WRITE_AGAIN}"
                )
        self._slots = _open_slots(path, self.header)
        self._first_slots = np.array([run.first_slot for run in self.header.runs])
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def read(self, rows: NDArray[np.int64]) -> list[StoredCrops]:
        """Read crops, those of a type, a size and a window together.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the anchor table, shape (n,); may contain duplicates.

        Raises
        ------
        UserError
            If a file of the store is missing or damaged; the message says which.
        """
        slots = np.asarray(self._slots[rows], dtype=np.int64)
        run = np.searchsorted(self._first_slots, slots, side="right") - 1
        runs = [self.header.runs[number] for number in np.unique(run)]
        crops = []
        for array, window in sorted({(one.array, one.window) for one in runs}):
            of_both = [one.array == array and one.window == window for one in self.header.runs]
            order = np.flatnonzero(np.array(of_both)[run])
            indices = slots[order] - self.header.arrays[array].first_slot
            crops.append(
                StoredCrops(
                    pixels=self._read(array, indices),
                    order=order,
                    window=self.header.windows[window],
                )
            )
        return crops

    def _read(self, number: int, indices: NDArray[np.int64]) -> NDArray[Any]:
        try:
            return self._opened(number)[indices]
        except Exception as error:  # many types: those of tensorstore, zarr and each codec
            array = self.header.arrays[number]
            raise UserError(self._describe_damage(number, array, indices, error)) from error

    def _describe_damage(self, number: int, array: CropArray, indices: NDArray[np.int64], error: Exception) -> str:
        directory = self.path / array.name
        for shard in np.unique(indices // array.crops_per_shard):
            try:
                self._opened(number)[indices[indices // array.crops_per_shard == shard]]
            except Exception as cause:  # as in `_read`
                file, reason = directory / array.shard_name(shard), one_line(cause)
                if is_remote(file):  # the connection may be the reason, and packing cannot write there
                    return (
                        f"cannot read {file} of the crop store ({reason}); run the command again, and if that does not "
                        "help, compare the file with the one that was uploaded"
                    )
                return f"crop store {self.path} is damaged, file {file} ({reason}); delete this file, and {_CONTINUE}"
        return f"cannot read crop store {self.path} ({one_line(error)}); try again"

    def _opened(self, number: int) -> LocalCrops | _TensorStoreCrops | _ZarrCrops:
        """Return an open array of this process."""
        key = os.getpid(), number
        with self._lock:
            if key not in self._open:
                array = self.header.arrays[number]
                self._open[key] = _open_crops(self.path / array.name, array)
            return self._open[key]


def _open_crops(directory: Path, array: CropArray) -> LocalCrops | _TensorStoreCrops | _ZarrCrops:
    """Open an array; at a URL with tensorstore, or with zarr-python where tensorstore cannot be used."""
    if not is_remote(directory):
        return LocalCrops(directory, array)
    kvstore = kvstore_at(directory) if may_use_tensorstore() else None
    return _ZarrCrops(directory) if kvstore is None else _TensorStoreCrops(kvstore)


class _TensorStoreCrops:
    """An array of crops that tensorstore reads."""

    def __init__(self, kvstore: dict[str, Any]) -> None:
        spec = {
            "driver": "zarr3",
            "kvstore": kvstore,
            "fill_missing_data_reads": False,
            "recheck_cached_data": "open",
        }
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": _CACHE_MB * 2**20}})
        self._array = tensorstore.open(spec, read=True, open=True, context=context).result()

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        # NumPy takes large arrays from the system in large pages; in an array that tensorstore makes, each small page
        # costs a fault, a fifth of the time of crops of many slices.
        crops = np.empty((len(indices), *self._array.shape[1:]), dtype=self._array.dtype.numpy_dtype)
        tensorstore.array(crops).write(self._array.oindex[indices]).result()
        return crops


class _ZarrCrops:
    """An array of crops that zarr-python reads."""

    def __init__(self, directory: Path) -> None:
        import zarr

        with zarr_codecs():
            self._array = zarr.open_array(zarr_store(directory), mode="r").with_config({"read_missing_chunks": False})

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(self._array.oindex[indices])


def missing_shards(path: Path, header: StoreHeader) -> list[tuple[int, int]]:
    """Return the shards that are not in a store yet, each as the index of its array and its number in it.

    A web server does not list what it has, so there a missing shard is noticed when a crop of it is read.
    """
    if not can_list(path):
        return []
    missing = []
    for number, array in enumerate(header.arrays):
        try:
            present = {file.name for file in (path / array.name).iterdir()}
        except OSError:
            present = set()
        is_begun = METADATA in present
        shards = range(array.n_shards)
        missing += [(number, shard) for shard in shards if not is_begun or array.shard_name(shard) not in present]
    return missing


def _has_metadata_of(directory: Path, array: CropArray) -> bool:
    """Return whether a directory has the metadata of an array, with which its shards are read as they were written."""
    try:
        return json.loads((directory / METADATA).read_text(encoding="utf-8")) == metadata_of(array)
    except (OSError, ValueError):
        return False


def _open_slots(path: Path, header: StoreHeader) -> NDArray[Any]:
    """Map the slots of the rows into memory."""
    try:
        slots = np.load(path / SLOTS, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"file {path / SLOTS} of the crop store is missing or damaged; {_WRITE_AGAIN}") from error
    if len(slots) != header.n_crops or zlib.crc32(np.ascontiguousarray(slots)) != header.slots_checksum:
        raise UserError(f"file {path / SLOTS} of the crop store is damaged; {_WRITE_AGAIN}")
    return slots
