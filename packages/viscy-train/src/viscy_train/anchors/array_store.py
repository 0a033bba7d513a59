"""Array store: large arrays in files that all processes of a machine map into memory, instead of a copy in each.

A file is named by a checksum of its content. So processes that compute the same array share one file, whichever writes
it first, and a file is never outdated. Where files cannot be written, arrays stay in the memory of their process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

import numpy as np

from viscy_train.output import one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

_logger = logging.getLogger(__name__)

# Smaller arrays take less memory than their files and mappings are worth.
_LEAST_BYTES = 2**16
_DIGITS = 32
_BYTES_AT_ONCE = 2**17
_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class ArrayStore:
    """A directory of arrays.

    Parameters
    ----------
    directory : pathlib.Path
        The directory, created when the first array is stored.
    """

    directory: Path

    def share(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an equal array that is mapped from a file, or the array itself if it is small or cannot be stored.

        Parameters
        ----------
        array : numpy.ndarray
            Numbers or booleans.

        Returns
        -------
        numpy.ndarray
            A `numpy.memmap`, read-only. A process that is started by spawn or forkserver maps the file again, instead
            of receiving the content.
        """
        if array.nbytes < _LEAST_BYTES or array.dtype.hasobject:
            return array
        if (mapped := _mapped_as(array)) is not None:
            return mapped
        name = self.put(array)
        stored = None if name is None else self.map(name)
        return array if stored is None else stored

    def put(self, array: NDArray[Any]) -> str | None:
        """Store an array, and return the checksum by which it is opened, or None if it cannot be stored."""
        array = np.ascontiguousarray(array)
        name = checksum(array)
        if self.open(name) is not None:
            return name
        write = partial(np.save, arr=array, allow_pickle=False)
        return name if self.write_file(self._path(name).name, write) else None

    def put_parts(self, parts: Iterable[NDArray[Any]], dtype: np.dtype, n: int) -> str | None:
        """Store an array as `put` does, but never have more than a part of it in memory.

        Parameters
        ----------
        parts : iterable of numpy.ndarray
            The parts, of the given type, with `n` elements in all.
        dtype : numpy.dtype
            Type of the array.
        n : int
            Its length.

        Returns
        -------
        str, optional
            The checksum by which the array is opened, or None if it cannot be stored.
        """
        digest = _start_checksum(dtype, (n,))

        def write(file: BinaryIO) -> str:
            header = {"descr": dtype.str, "fortran_order": False, "shape": (n,)}
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                content = memoryview(np.ascontiguousarray(part, dtype=dtype)).cast("B")
                file.write(content)
                digest.update(content)
            return self._path(digest.hexdigest()[:_DIGITS]).name

        return digest.hexdigest()[:_DIGITS] if self._write_unfinished(write) else None

    def derive(
        self, origin: str, dtype: DTypeLike, n: int, make_parts: Callable[[], Iterable[NDArray[Any]]]
    ) -> NDArray[Any]:
        """Return an array that follows from others, which one process of the machine computes and all of them map.

        Parameters
        ----------
        origin : str
            What the array follows from, in full: two arrays with equal origins are equal.
        dtype : numpy.dtype
            Type of the array.
        n : int
            Its length.
        make_parts : callable
            Returns the parts of the array, as for `put_parts`.

        Returns
        -------
        numpy.ndarray
            As `share` returns it. Processes that ask for it while another one computes it wait.
        """
        dtype = np.dtype(dtype)
        if n * dtype.itemsize < _LEAST_BYTES:
            return _joined(make_parts(), dtype)
        name = f"derived-{hashlib.sha256(origin.encode(), usedforsecurity=False).hexdigest()[:_DIGITS]}.json"
        derived = self._open_derived(name)
        if derived is None:
            with one_at_a_time(self.directory / name):
                derived = self._open_derived(name)  # another process may have just stored it
                if derived is None:
                    derived = self._store_derived(name, dtype, n, make_parts)
        return _joined(make_parts(), dtype) if derived is None else derived

    def _open_derived(self, name: str) -> NDArray[Any] | None:
        try:
            return self.open(json.loads((self.directory / name).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # missing or damaged
            return None

    def _store_derived(
        self, name: str, dtype: np.dtype, n: int, make_parts: Callable[[], Iterable[NDArray[Any]]]
    ) -> NDArray[Any] | None:
        array = self.put_parts(make_parts(), dtype, n)
        if array is None or not self.write_file(name, lambda file: file.write(json.dumps(array).encode())):
            return None
        return self.map(array)

    def open(self, name: str) -> NDArray[Any] | None:
        """Map a stored array, given its checksum; None if it does not exist or is damaged."""
        stored = self.map(name)
        return None if stored is None or self._checksum_of_file(name, stored) != name else stored

    def _checksum_of_file(self, name: str, stored: np.memmap) -> str:
        """Return the checksum of a stored array, of which no page is mapped for that."""
        digest = _start_checksum(stored.dtype, stored.shape)
        with self._path(name).open("rb") as file:
            file.seek(stored.offset)
            while content := file.read(_BYTES_AT_ONCE):
                digest.update(content)
        return digest.hexdigest()[:_DIGITS]

    def map(self, name: str) -> np.memmap | None:
        """Map an array that this process has just stored, as `open` does, without reading it."""
        try:
            return np.load(self._path(name), mmap_mode="r")
        except (OSError, ValueError, EOFError):  # missing or truncated
            return None

    def write_file(self, name: str, write: Callable[[BinaryIO], object]) -> bool:
        """Write a file of the directory atomically, given a function of the open file; return whether it was possible.

        Several processes may write the same file at the same time.
        """

        def write_named(file: BinaryIO) -> str:
            write(file)
            return name

        return self._write_unfinished(write_named)

    def _write_unfinished(self, write: Callable[[BinaryIO], str]) -> bool:
        """Write a file, given a function of the open file that returns its name; return whether it was possible."""
        unfinished = self.directory / f".{uuid4().hex}.unfinished"
        try:
            self.directory.mkdir(exist_ok=True)
            with unfinished.open("wb") as file:
                name = write(file)
            os.replace(unfinished, self.directory / name)
        except OSError as error:  # for example a full disk, or a directory that is read-only
            _logger.info("cannot share arrays in %s: %s", self.directory, error.strerror)
            return False
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
        return True

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.npy"


def _mapped_as(array: NDArray[Any]) -> np.memmap | None:
    """Return the mapped array of which an array is a view of all its elements, if there is one."""
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    if not isinstance(base, np.memmap) or not isinstance(base.base, mmap.mmap):
        return None
    same = (base.ctypes.data, base.dtype, base.strides) == (array.ctypes.data, array.dtype, array.strides)
    return base if same and base.shape == array.shape else None


def name_of(array: NDArray[Any]) -> str:
    """Return the checksum of an array, which is not computed if the array is mapped from a file of a store."""
    mapped = _mapped_as(array)
    path = None if mapped is None or mapped.filename is None else PurePath(mapped.filename)
    if path is not None and path.suffix == ".npy" and len(path.stem) == _DIGITS:
        return path.stem
    return checksum(array)


def _joined(parts: Iterable[NDArray[Any]], dtype: np.dtype) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)


def checksum(array: NDArray[Any]) -> str:
    """Return a checksum of the type, the shape and the content of an array, as text."""
    digest = _start_checksum(array.dtype, array.shape)
    digest.update(memoryview(np.ascontiguousarray(array)).cast("B"))
    return digest.hexdigest()[:_DIGITS]


def _start_checksum(dtype: np.dtype, shape: tuple[int, ...]) -> hashlib._Hash:
    return hashlib.sha256(f"{dtype.str} {shape}".encode(), usedforsecurity=False)


def share_arrays(owner: Any, store: ArrayStore) -> None:
    """Replace the large arrays of an object, and of the objects that it consists of, by equal ones in a store.

    Parameters
    ----------
    owner : object
        An instance of a class of this package; it is modified. Attributes are followed through other such instances and
        through tuples.
    store : ArrayStore
        Where to store the arrays.
    """
    _share_within(owner, store, set())


def _share_within(value: Any, store: ArrayStore, seen: set[int]) -> Any:
    """Return what replaces a value: for an array another one, for an object itself after its attributes were shared."""
    if isinstance(value, np.ndarray):
        return store.share(value)
    if type(value) is tuple:
        return tuple(_share_within(one, store, seen) for one in value)
    if type(value).__module__.partition(".")[0] == _PACKAGE and hasattr(value, "__dict__") and id(value) not in seen:
        seen.add(id(value))
        for name, attribute in list(vars(value).items()):
            shared = _share_within(attribute, store, seen)
            if shared is not attribute:
                vars(value)[name] = shared
    return value


def _reduce_mapped(array: np.memmap) -> Any:
    """Pickle a mapped array as the name of its file, and a part of one as its content."""
    if not isinstance(array.base, mmap.mmap) or array.mode != "r":
        return np.asarray(array).__reduce__()
    return _map_again, (str(array.filename), array.dtype, array.shape, array.offset)


def _map_again(path: str, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.memmap:
    return np.memmap(path, dtype=dtype, mode="r", shape=shape, offset=offset)


ForkingPickler.register(np.memmap, _reduce_mapped)
