"""Tracks of a plate: the directory or file with a usual name in the directory of the plate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.plates.layouts import stem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDERS = ("tracks", "tracking", "tracks.zarr", "tracking.zarr")
_FILES = (".parquet", ".pq", ".csv", ".xml", ".geff", ".h5")


def find_tracks(plate: Path, positions: list[str]) -> Path | None:
    """Return the tracks of a plate.

    Parameters
    ----------
    plate : pathlib.Path
        The plate.
    positions : list of str
        Names of some positions.

    Returns
    -------
    pathlib.Path, optional
        The first directory with tracks of one of the positions, or file of all tracks; None if there is none.
    """
    for candidate in _candidates(plate):
        if candidate.is_file() and candidate.suffix.lower() in _FILES:
            return candidate
        if candidate.is_dir() and any(_has_tracks_of(candidate, name) for name in positions):
            return candidate
    return None


def _candidates(plate: Path) -> Iterator[Path]:
    name = stem(plate)
    for directory in (plate.parent, plate.parent.parent):
        for folder in _FOLDERS:
            yield directory / folder / name
            yield from (directory / folder / f"{name}{suffix}" for suffix in _FILES)
        for ending in ("_tracks", "-tracks", "_tracking", ".tracks"):
            yield directory / f"{name}{ending}"
            yield from (directory / f"{name}{ending}{suffix}" for suffix in _FILES)
        yield from (directory / folder for folder in _FOLDERS)
    # In a folder of images.
    yield from (plate / folder for folder in _FOLDERS)
    yield plate


def _has_tracks_of(directory: Path, position: str) -> bool:
    """Return whether a directory has a file with the name of a position, or a directory of files."""
    path = directory / position
    if path.is_dir() and any(child.suffix.lower() in _FILES for child in path.iterdir()):
        return True
    names = (position, position.replace("/", "_"))
    return any((directory / f"{name}{suffix}").exists() for name in names for suffix in _FILES)
