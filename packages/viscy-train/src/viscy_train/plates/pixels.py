"""Pixels: regions of images, read with tensorstore where it can, and with zarr-python where it cannot.

tensorstore is faster and reads many regions concurrently, but it does not have all codecs, and it cannot be used in
some forked processes (`viscy_train.plates.fork`). zarr-python has all codecs that this package supports. All commands
read pixels as described here, so one of them reads what another has read, with the same values.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorstore

from viscy_train.plates.access import kvstore_at
from viscy_train.plates.fork import may_use_tensorstore
from viscy_train.plates.image_array import AXES
from viscy_train.plates.zarr_codecs import zarr_codecs
from viscy_train.remote.failures import reason
from viscy_train.remote.path import is_remote

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from viscy_train.plates.image_array import ImageArray, Region

_logger = logging.getLogger(__name__)

_DECODING_THREADS = 4


def read_with_zarr(array: ImageArray, region: Region) -> Any:
    """Read a region with zarr-python, which leaves tensorstore usable in processes that are forked later.

    Parameters
    ----------
    array : ImageArray
        The array.
    region : tuple
        As for `Pixels.request`.

    Returns
    -------
    array-like
        The pixels; a missing chunk has the fill value.
    """
    return _ZarrPixels(array, fill_missing=True).request(region).result()


class Pending(Protocol):
    """A read that has been requested."""

    def result(self) -> Any:
        """Wait for the read and return an array."""


class Pixels(Protocol):
    """The pixels of an array.

    Attributes
    ----------
    shares_chunks : bool
        Whether requests of one batch that need the same chunk decode it once.
    """

    shares_chunks: bool

    def request(self, region: Region, batch: tensorstore.Batch | None = None) -> Pending:
        """Request a read, without waiting for it.

        Parameters
        ----------
        region : tuple
            Frame or frames, indices of channels (array or ascending slice), and slices along z, y and x.
        batch : tensorstore.Batch, optional
            Reads that begin together, once the batch is submitted.

        Returns
        -------
        Pending
            The read. Its `result` raises an error of the library if a chunk is damaged.
        """

    def request_into(self, target: NDArray[Any], region: Region, batch: tensorstore.Batch | None = None) -> Pending:
        """Request a read of one frame into an array, without waiting for it.

        Parameters
        ----------
        target : numpy.ndarray
            Where the pixels go, in their type; it has them when `result` of the read has returned.
        region, batch
            As for `request`, with one frame.
        """


class PixelReader:
    """Opens the pixels of arrays for one process.

    Parameters
    ----------
    cache_mb : int
        Memory for decoded chunks, shared by all arrays, in MB. Without any, requests of one batch still share chunks.
    n_threads : int, default 4
        Number of threads that decode.

    Notes
    -----
    An open array takes a few kilobytes and no file handle, because files are only open while they are read.
    """

    def __init__(self, cache_mb: int, *, n_threads: int = _DECODING_THREADS) -> None:
        self._context: tensorstore.Context | None = None
        if may_use_tensorstore():
            cache = {"total_bytes_limit": cache_mb * 2**20}
            self._context = tensorstore.Context({"cache_pool": cache, "data_copy_concurrency": {"limit": n_threads}})
        else:
            _logger.warning(
                "this process was forked from one that had read images, so it reads with zarr-python, which is slower; "
                "set data.workers to threads, or data.start_method to forkserver or spawn"
            )

    def open(self, array: ImageArray, *, fill_missing: bool) -> Pixels:
        """Open the pixels of an array.

        Parameters
        ----------
        array : ImageArray
            The array.
        fill_missing : bool
            Whether a missing chunk has the fill value. Otherwise, reading it is an error, except for a chunk that is
            missing from a shard when zarr-python reads it. A lost chunk cannot be distinguished from one that the
            writer omitted because all its pixels have the fill value.

        Returns
        -------
        Pixels
            The pixels.
        """
        store = None if self._context is None else _open_with_tensorstore(array, self._context, fill_missing)
        return _TensorStorePixels(store) if store is not None else _ZarrPixels(array, fill_missing)


def _open_with_tensorstore(
    array: ImageArray, context: tensorstore.Context, fill_missing: bool
) -> tensorstore.TensorStore | None:
    """Return an open array, or None if tensorstore does not support it."""
    stored = array.stored
    kvstore = kvstore_at(stored.directory)
    if kvstore is None:
        return None
    spec = {
        "driver": "zarr3" if stored.version == 3 else "zarr",
        "kvstore": kvstore,
        "fill_missing_data_reads": fill_missing,
        "recheck_cached_data": "open",
    }
    try:
        store = tensorstore.open(spec, read=True, open=True, context=context).result()
    except Exception as error:  # many types, depending on what it does not support
        if multiprocessing.parent_process() is None:
            _warn_once(
                str(stored.root),
                f"cannot open it: {reason(error)}" if is_remote(stored.root) else "does not support its codecs",
            )
        return None
    axes = tuple(tensorstore.newaxis if index in array.missing else slice(None) for index in range(len(AXES)))
    return store[axes] if array.missing else store


@functools.cache
def _warn_once(plate: str, why: str) -> None:
    _logger.warning("plate %s is read with zarr-python, which is slower, because tensorstore %s", plate, why)


class _TensorStorePixels:
    """The pixels of an array that tensorstore reads."""

    shares_chunks = True

    def __init__(self, store: tensorstore.TensorStore) -> None:
        self._store = store

    def request(self, region: Region, batch: tensorstore.Batch | None = None) -> Pending:
        return self._store.oindex[region].read(batch=batch)

    def request_into(self, target: NDArray[Any], region: Region, batch: tensorstore.Batch | None = None) -> Pending:
        source = self._store[region] if isinstance(region[1], slice) else self._store.oindex[region]
        return tensorstore.array(target).write(source.translate_to[0, 0, 0, 0], batch=batch)


class _ZarrPixels:
    """The pixels of an array that zarr-python reads."""

    shares_chunks = False

    def __init__(self, array: ImageArray, fill_missing: bool) -> None:
        self._image = array
        with zarr_codecs():
            self._array = array.stored.opened.with_config({"read_missing_chunks": fill_missing})

    def request(self, region: Region, batch: tensorstore.Batch | None = None) -> Pending:
        return _ZarrRead(self._image, self._array, region)

    def request_into(self, target: NDArray[Any], region: Region, batch: tensorstore.Batch | None = None) -> Pending:
        return _ZarrRead(self._image, self._array, region, target)


class _ZarrRead:
    """A read that takes place when its result is first requested, by one thread."""

    def __init__(
        self, image: ImageArray, array: zarr.Array, region: Region, target: NDArray[Any] | None = None
    ) -> None:
        self._image, self._array, self._region, self._target = image, array, region, target
        self._lock, self._pixels = threading.Lock(), None

    def result(self) -> Any:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._read()
        return self._pixels

    def _read(self) -> Any:
        pixels = np.asarray(self._array.oindex[self._image.of_stored(self._region)])
        pixels = self._image.with_all_axes(pixels, self._region)
        if self._target is not None:
            self._target[...] = pixels
        return pixels
