"""OME stores: directories with OME-Zarr metadata, whose groups and arrays are read on demand.

Metadata are read with zarr-python, never from consolidated copies, which may be outdated.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import zarr

from viscy_train.errors import UserError, because, one_line, require_regular_file
from viscy_train.plates.access import METADATA_FILES, zarr_store
from viscy_train.plates.ngff import ome_metadata
from viscy_train.plates.pixels import zarr_codecs
from viscy_train.remote.path import contains_any, is_remote

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path


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
        self._root = zarr.open_group(zarr_store(path), mode="r", use_consolidated=False)

    def ome(self, name: str = "") -> Mapping[str, Any]:
        """Return the OME metadata of a group, given its path in the store; by default those of the root."""
        node = self._node(name) if name else self._root
        if not isinstance(node, zarr.Group):
            raise TypeError(f"{name} is an array")
        return ome_metadata(node.attrs)

    def array(self, name: str) -> zarr.Array:
        """Return an array, given its path in the store."""
        node = self._node(name)
        if not isinstance(node, zarr.Array):
            raise TypeError(f"{name} is not an array")
        return node

    def _node(self, name: str) -> zarr.Group | zarr.Array:
        _check_metadata_files(self.path / name)
        with zarr_codecs():
            return self._root[name]


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
