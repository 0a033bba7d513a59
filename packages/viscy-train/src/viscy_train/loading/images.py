"""Images: arrays of positions, opened when a process first reads from them, with many regions read at once.

They are read with tensorstore, whose threads do not survive a fork: it aborts a child that uses it after its parent has
(google/tensorstore, issue 61). A child so forked reads with zarr-python, which starts anew after a fork, and gets the
same pixels more slowly. Children of `spawn` and `forkserver` are not concerned, nor is one forked before any reading.
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

from viscy_train.anchors.plates import channel_indices, image_of, open_plate

if TYPE_CHECKING:
    from pathlib import Path

    from iohub.ngff import Plate
    from numpy.typing import NDArray

_logger = logging.getLogger(__name__)

# A selection along each axis: frame, channels, slices, rows, columns.
type Region = tuple[int, NDArray[np.int64] | slice, slice, slice, slice]

_COPYING_THREADS = 4
_SECONDS_TO_TRY = 10.0
_SECONDS_BETWEEN_LOOKS = 0.005


class Pending(Protocol):
    """Pixels that have been asked for."""

    def result(self) -> Any:
        """Wait for them and return an array of shape (n_channels, n_slices, height, width)."""


class Images:
    """The images of one process, each opened once.

    Parameters
    ----------
    cache_mb : int
        Memory for decoded chunks, of all images together, in MB.

    Notes
    -----
    An open image costs some kilobytes and no file handle: files are open only while they are read. So all that were
    ever read from are kept.
    """

    def __init__(self, cache_mb: int) -> None:
        self._plates: dict[Path, Plate] = {}
        self._images: dict[tuple[Path, str], Any] = {}
        self._by_tensorstore = _may_use_tensorstore()
        if not self._by_tensorstore:
            _logger.warning(
                "this process was forked from one that had read images, so it reads with zarr-python, which is slower; "
                "start workers by 'forkserver' or 'spawn'"
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
            Of the plate.
        position : str
            Such as ``A/1/0``.

        Returns
        -------
        tensorstore.TensorStore or zarr.Array
            Shape (n_frames, n_channels, n_slices, height, width). Reading a chunk that is not there is an error, not
            the fill value. One that a writer left out because it held nothing else cannot be told from a lost one.

        Raises
        ------
        UserError
            If there is no such plate or position, or it is damaged.
        """
        if (path, position) not in self._images:
            self._images[path, position] = self._opened(path, position)
        return self._images[path, position]

    def channels(self, path: Path, names: list[str]) -> list[int]:
        """Return the places of channels in the images of a plate; errors as of `plates.channel_indices`."""
        return channel_indices(self._plate(path), names, path)

    def request(self, image: Any, region: Region) -> Pending:
        """Ask for pixels, without waiting for them.

        Parameters
        ----------
        image : tensorstore.TensorStore or zarr.Array
            As `open` returned it.
        region : tuple
            Frame, places of channels (ascending slice, or array), and slices along z, y and x.

        Returns
        -------
        Pending
            Whose `result` raises whatever the library does where a chunk is missing or damaged.
        """
        return image.oindex[region].read() if self._by_tensorstore else _Later(image, region)

    def _plate(self, path: Path) -> Plate:
        if path not in self._plates:
            self._plates[path] = open_plate(path, "tensorstore" if self._by_tensorstore else "zarr-python")
        return self._plates[path]

    def _opened(self, path: Path, position: str) -> Any:
        plate = self._plate(path)
        if not self._by_tensorstore:
            with zarr.config.set({"array.read_missing_chunks": False}):
                return image_of(plate, position, path).native
        image = image_of(plate, position, path).native
        # Opened a second time for what iohub has no option for: missing chunks told, and a cache that all plates share.
        options = {"fill_missing_data_reads": False, "recheck_cached_data": "open"}
        spec = image.spec(minimal_spec=True).to_json() | options
        return tensorstore.open(spec, read=True, open=True, context=self._context).result()


class _Later:
    """Pixels that are read when they are waited for."""

    def __init__(self, image: zarr.Array, region: Region) -> None:
        self._image, self._region = image, region

    def result(self) -> Any:
        return self._image.oindex[self._region]


def _may_use_tensorstore() -> bool:
    """Tell whether this process may: not if it was forked from one that has used it, whatever code did."""
    if not _fork.happened:
        return True
    # There is no asking, so a child of this child tries. Other threads, of which Python warns, it does not need.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        _try_tensorstore()
    deadline = time.monotonic() + _SECONDS_TO_TRY
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return False


def _try_tensorstore() -> NoReturn:
    """Use tensorstore and end, silently, with 0 if that went well."""
    try:
        import resource  # not on Windows, which has no fork either

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
    """Whether this process was forked, by Python, from one that had imported this module."""

    def __init__(self) -> None:
        self.happened = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        self.happened = True


_fork = _Fork()
