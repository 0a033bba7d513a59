"""OME stores: directories with OME-Zarr metadata, whose groups and arrays are read on demand.

Metadata are never read from consolidated copies, which may be outdated. zarr-python reads those at URLs, and those that
are unusual or damaged.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError, because, one_line, require_regular_file
from viscy_train.plates.access import zarr_store
from viscy_train.plates.metadata_files import METADATA_FILES, read_node
from viscy_train.plates.ngff import ome_metadata
from viscy_train.plates.stored_array import StoredArray
from viscy_train.plates.zarr_codecs import zarr_codecs
from viscy_train.remote.path import contains_any, is_remote

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    import zarr

    from viscy_train.plates.metadata_files import Node


class OmeStore:
    """A directory with OME-Zarr metadata, open for reading; it holds no open files.

    Parameters
    ----------
    path : pathlib.Path
        The directory.

    Raises
    ------
    UserError
        If a file with metadata is a named pipe or another file that cannot be read.
    Exception
        If the directory is not a group of zarr; zarr raises many types.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_metadata_files(path)
        self._root = read_node(path)
        if self._root is None or self._root.is_array:
            self._root = None
            _ = self._group  # raises if it is not a group

    def ome(self, name: str = "") -> Mapping[str, Any]:
        """Return the OME metadata of a group, given its path in the store; by default those of the root."""
        node = self._node(name)
        if node is None:
            group: Any = self._open(name)
            if not hasattr(group, "members"):
                raise TypeError(f"{name} is an array")
            return ome_metadata(group.attrs)
        if node.is_array:
            raise TypeError(f"{name} is an array")
        return ome_metadata(node.attributes)

    def array(self, name: str) -> StoredArray:
        """Return an array, given its path in the store."""
        node = self._node(name)
        array = None
        if node is not None and node.is_array:
            array = StoredArray.parse(self.path, name, node.metadata)
        if array is None:
            opened: Any = self._open(name)
            if hasattr(opened, "members"):
                raise TypeError(f"{name} is not an array")
            array = StoredArray.of(opened)
        return array

    @cached_property
    def _group(self) -> zarr.Group:
        """The root, opened with zarr-python."""
        import zarr

        return zarr.open_group(zarr_store(self.path), mode="r", use_consolidated=False)

    def _node(self, name: str) -> Node | None:
        """Return a group or an array, or None if zarr-python has to open it."""
        if not name:
            return self._root
        _check_metadata_files(self.path / name)
        return None if self._root is None else read_node(self.path, name, self._root.version)

    def _open(self, name: str) -> zarr.Group | zarr.Array:
        if not name:
            return self._group
        with zarr_codecs():
            return self._group[name]


def has_metadata(path: Path) -> bool:
    """Return whether a directory has metadata of zarr."""
    return contains_any(path, METADATA_FILES)


@contextmanager
def report_damage(path: Path, what: str) -> Generator[None]:
    """Turn the errors that a damaged or incomplete plate causes into a one-line `UserError`.

    Parameters
    ----------
    path : pathlib.Path
        The plate.
    what : str
        What the block reads.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # many types: KeyError for metadata, zarr's, and those of JSON and of each codec
        raise because(
            f"damaged or incomplete: {one_line(error)}",
            f"plate {path} is damaged or incomplete: cannot read {what} ({one_line(error)}); restore it, or leave it "
            "out of `conditions`",
        ) from error


def _check_metadata_files(directory: Path) -> None:
    if is_remote(directory):
        return
    for name in METADATA_FILES:
        require_regular_file(directory / name, "metadata of a plate")
