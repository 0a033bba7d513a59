"""Images: the arrays of positions, opened lazily in each process, with many regions read concurrently.

They are read with tensorstore, whose threads do not survive a fork: it aborts a child process that uses it after its
parent has (google/tensorstore, issue 61). Such a child reads with zarr-python instead, which is restarted after a fork,
and gets the same pixels more slowly. Children started by `spawn` or `forkserver`, or forked before the parent has read
anything, use tensorstore.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import time
import warnings
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
import tensorstore
import zarr

from viscy_train.anchors.plates import channel_indices, open_plate, position_image

if TYPE_CHECKING:
    from pathlib import Path

    from iohub.ngff import Plate
    from numpy.typing import NDArray

_logger = logging.getLogger(__name__)

# Selection along each axis: frame, channels, slices, rows, columns.
type Region = tuple[int, NDArray[np.int64] | slice, slice, slice, slice]

_COPYING_THREADS = 4
_TRIAL_SECONDS = 10.0
_POLL_SECONDS = 0.005


class Pending(Protocol):
    """A read that has been requested."""

    def result(self) -> Any:
        """Wait for the read and return an array of shape (n_channels, n_slices, height, width)."""


class Images:
    """The images that one process reads, each opened once.

    Parameters
    ----------
    cache_mb : int
        Memory for decoded chunks, shared by all images, in MB.

    Notes
    -----
    An open image takes a few kilobytes and no file handle, because files are only open while they are read. Images are
    therefore never closed.
    """

    def __init__(self, cache_mb: int) -> None:
        self._plates: dict[Path, Plate] = {}
        self._images: dict[tuple[Path, str], Any] = {}
        self._by_tensorstore = _may_use_tensorstore()
        if not self._by_tensorstore:
            _logger.warning(
                "this process was forked from one that had read images, so it reads with zarr-python, which is slower; "
                "set data.start_method to forkserver or spawn"
            )
        else:
            cache = {"total_bytes_limit": cache_mb * 2**20}
            self._context = tensorstore.Context(
                {"cache_pool": cache, "data_copy_concurrency": {"limit": _COPYING_THREADS}}
            )

    def open(self, path: Path, position: str) -> Any:
        """Return the image of a position.

        Parameters
        ----------
        path : pathlib.Path
            Path of the plate.
        position : str
            Name of the position, such as ``A/1/0``.

        Returns
        -------
        tensorstore.TensorStore or zarr.Array
            Array of shape (n_frames, n_channels, n_slices, height, width). Reading a missing chunk raises an error
            instead of returning the fill value. A lost chunk cannot be distinguished from one that the writer omitted
            because all its pixels have the fill value.

        Raises
        ------
        UserError
            If the plate or position does not exist or is damaged.
        """
        if (path, position) not in self._images:
            self._images[path, position] = self._open(path, position)
        return self._images[path, position]

    def channels(self, path: Path, names: list[str]) -> list[int]:
        """Return the indices of channels in the images of a plate, as `plates.channel_indices` does."""
        return channel_indices(self._plate(path), names, path)

    def request(self, image: Any, region: Region) -> Pending:
        """Request a read, without waiting for it.

        Parameters
        ----------
        image : tensorstore.TensorStore or zarr.Array
            Image returned by `open`.
        region : tuple
            Frame, indices of channels (array or ascending slice), and slices along z, y and x.

        Returns
        -------
        Pending
            The read. Its `result` raises an error of the library if a chunk is missing or damaged.
        """
        return image.oindex[region].read() if self._by_tensorstore else _LazyRead(image, region)

    def _plate(self, path: Path) -> Plate:
        if path not in self._plates:
            self._plates[path] = open_plate(path, "tensorstore" if self._by_tensorstore else "zarr-python")
        return self._plates[path]

    def _open(self, path: Path, position: str) -> Any:
        plate = self._plate(path)
        if not self._by_tensorstore:
            with zarr.config.set({"array.read_missing_chunks": False}):
                return position_image(plate, position, path).native
        image = position_image(plate, position, path).native
        # Reopen with options that iohub does not offer: errors for missing chunks, and a cache shared by all plates.
        options = {"fill_missing_data_reads": False, "recheck_cached_data": "open"}
        spec = image.spec(minimal_spec=True).to_json() | options
        return tensorstore.open(spec, read=True, open=True, context=self._context).result()


class _LazyRead:
    """A read that takes place when its result is requested."""

    def __init__(self, image: zarr.Array, region: Region) -> None:
        self._image, self._region = image, region

    def result(self) -> Any:
        return self._image.oindex[self._region]


def _may_use_tensorstore() -> bool:
    """Return whether this process can use tensorstore: not if it was forked from a process that has used it."""
    if not _fork.happened:
        return True
    # tensorstore cannot report this, so a child of this process tries it. Python warns that other threads do not
    # survive the fork, but the child does not need them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        _try_tensorstore()
    deadline = time.monotonic() + _TRIAL_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(_POLL_SECONDS)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return False


def _try_tensorstore() -> NoReturn:
    """Use tensorstore and exit silently, with code 0 on success."""
    try:
        import resource  # not available on Windows, which cannot fork

        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        tensorstore.array(np.zeros(1)).read().result()
        memory = {"driver": "zarr3", "kvstore": {"driver": "memory"}}
        tensorstore.open(memory, create=True, dtype="uint8", shape=[1]).result().read().result()
        os._exit(0)
    finally:
        os._exit(1)


class _Fork:
    """Records whether Python forked this process from one that had imported this module."""

    def __init__(self) -> None:
        self.happened = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        self.happened = True


_fork = _Fork()
