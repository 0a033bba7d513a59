"""btrack HDF5: the file in which btrack stores objects and their tracks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.errors import UserError, one_line
from viscy_train.tracks.formats.track_file import TrackFile

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

HDF5 = b"\x89HDF\r\n\x1a\n"
# How objects were filtered before tracking, such as `area>100`.
_FILTER = re.compile(r"(\w+)(>=|<=|==|>|<|=)(\d+)")
_COMPARE = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal, "==": np.equal, "=": np.equal}


def read_btrack_hdf5(path: Path) -> TrackFile:
    """Read the tracks of all types of objects.

    Parameters
    ----------
    path : pathlib.Path
        HDF5 file with the groups ``objects`` and ``tracks``.

    Returns
    -------
    TrackFile
        Objects in tracks. The tracker's guesses of where a cell is in a frame in which it was not seen are left out.

    Raises
    ------
    UserError
        If the file is damaged, or has no tracks.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            parts = _parts(file, path)
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path} is not an HDF5 file of btrack, or is damaged: {one_line(error)}") from None
    return TrackFile(format="btrack", where=str(path), tracks=pd.concat(parts, ignore_index=True))


def _parts(file: h5py.File, path: Path) -> list[pd.DataFrame]:
    """Return the tracks of each type of objects; those of another type have other numbers."""
    if "tracks" not in file or not len(file["tracks"]):
        raise UserError(f"an HDF5 file of btrack must have the group `tracks`, {path} has {', '.join(file) or 'none'}")
    parts, offset = [], 0
    for kind, tracks in file["tracks"].items():
        part = _tracks(tracks, file["objects"][kind], path)
        part["parent_track_id"] += np.where(part["parent_track_id"] > 0, offset, 0)
        part["track_id"] += offset
        parts.append(part)
        offset = int(part["track_id"].max()) if len(part) else offset
    return parts


def _tracks(tracks: h5py.Group, objects: h5py.Group, path: Path) -> pd.DataFrame:
    coordinates = _filtered(objects, tracks.attrs.get("f_expr"), path)
    references, ranges, table = (np.asarray(tracks[name]) for name in ("tracks", "map", "LBEPR"))
    if len(ranges) != len(table):
        raise UserError(f"{path} is damaged: it has {len(table)} tracks, but the objects of {len(ranges)}")
    lengths = ranges[:, 1].astype(np.int64) - ranges[:, 0]
    row = np.repeat(np.arange(len(table)), lengths)
    reference = np.concatenate([references[begin:end] for begin, end in ranges]) if len(ranges) else references
    # Guesses have negative numbers.
    seen = reference >= 0
    t, x, y = coordinates[reference[seen], :3].T
    number, parent = table[row[seen]][:, [0, 3]].astype(np.int64).T
    return pd.DataFrame({"track_id": number, "t": t, "y": y, "x": x, "parent_track_id": parent})


def _filtered(objects: h5py.Group, expression: object, path: Path) -> np.ndarray:
    """Return the coordinates of the objects that were tracked."""
    coordinates = np.asarray(objects["coords"])
    if expression is None:
        return coordinates
    match = _FILTER.fullmatch(str(expression))
    if match is None:
        raise UserError(
            f"a filter of btrack must be like area>100, {path} has {expression!r}; export the tracks as CSV"
        )
    name, sign, number = match.groups()
    values = np.asarray(objects["properties"][name] if name in objects.get("properties", {}) else objects[name])
    return coordinates[_COMPARE[sign](values, int(number))]
