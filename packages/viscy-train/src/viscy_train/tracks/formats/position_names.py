"""Position names: which files and directories are named like a position of a plate."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from viscy_train.remote.path import can_list

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIX = re.compile(
    r"(\.ome)?\.(csv|tsv|txt|parquet|pq|xml|h5|hdf|hdf5|npy|tiff?|zarr|geff|xlsx?)$|\.geff\.zarr$", re.IGNORECASE
)
_SEPARATOR = re.compile(r"[-_. ]+")
# Words before or after the name of a position, such as tracks_A_1_0.csv and A_1_0_spots.csv.
_WORDS = frozenset(
    {"track", "tracks", "tracked", "tracking", "trackmate", "spots", "allspots", "all", "edges", "links", "objects"}
    | {"label", "labels", "mask", "masks", "split", "splits", "divisions", "export", "res", "gt"}
)
# Suffixes that are tried where directories cannot be listed.
_UNLISTED = (".csv", ".parquet")
# Row, column and field of view of a plate, also as A01_000.
_IN_PLATE = re.compile(r"([a-z]+)_?0*(\d+)_0*(\d+)")


def named_like(directory: Path, position: str) -> list[Path]:
    """Return the files and directories that are named like a position.

    Parameters
    ----------
    directory : pathlib.Path
        Directory with the files of all positions.
    position : str
        Name of the position. For ``A/1/0``, these are ``A/1/0`` and ``A_1_0``, with any suffix, other separators, zeros
        before a number, or words such as ``tracks``. On a web server, which does not list directories, it is
        ``A/1/0.csv`` or ``A/1/0.parquet``.
    """
    if not can_list(directory):
        return [path for suffix in _UNLISTED if (path := directory / f"{position}{suffix}").is_file()]
    parent = directory / position
    nested = _names_in(parent.parent).get(_plain(parent.name), [])
    flat = _names_in(directory).get(_plain(position.replace("/", "_")), [])
    in_plate = _names_in(directory).get(_in_plate(position), []) if position.count("/") == 2 else []
    return list(dict.fromkeys([*nested, *flat, *in_plate]))


def is_named(name: str, position: str) -> bool:
    """Return whether a name is that of a position, also if it is written like ``A_1_0`` or ``A01_000``."""
    return _plain(_flat(name)) == _plain(_flat(position)) or _in_plate(name) == _in_plate(position) != ""


def is_well_of(name: str, position: str) -> bool:
    """Return whether a name is that of the well of a position, such as ``A/1``, ``A1`` or ``A01``."""
    return position.count("/") == 2 and is_named(f"{name}/0", f"{position.rpartition('/')[0]}/0")


def _flat(name: str) -> str:
    return name.replace("/", "_")


def list_directory(directory: Path) -> list[Path]:
    """Return the content of a directory, without what file managers and network drives leave behind."""
    if not can_list(directory) or not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.name[0] != ".")


def _names_in(directory: Path) -> dict[str, list[Path]]:
    """Return the files and directories in a directory by their names without suffixes and words."""
    return _read_names(directory, directory.stat().st_mtime_ns) if directory.is_dir() else {}


@lru_cache(maxsize=256)
def _read_names(directory: Path, changed_ns: int) -> dict[str, list[Path]]:
    names: dict[str, list[Path]] = {}
    for path in list_directory(directory):
        for name in {_plain(path.name), _in_plate(path.name)} - {""}:
            names.setdefault(name, []).append(path)
    return names


def _plain(name: str) -> str:
    """Return a name without its suffix, and without words around it."""
    parts = _SEPARATOR.split(_SUFFIX.sub("", name).casefold())
    inner = [number for number, part in enumerate(parts) if part not in _WORDS]
    return "_".join(parts[inner[0] : inner[-1] + 1] if inner else parts)


def _in_plate(name: str) -> str:
    """Return row, column and field of view in a name without zeros before the numbers, or an empty text."""
    match = _IN_PLATE.fullmatch(_plain(name.replace("/", "_")))
    return "/".join(match.groups()) if match else ""
