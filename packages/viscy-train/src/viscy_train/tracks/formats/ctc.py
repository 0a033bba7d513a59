"""Cell Tracking Challenge: label images and a text file with the first frame, last frame and mother of each label.

https://celltrackingchallenge.net describes the format. trackastra writes it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.errors import UserError
from viscy_train.tracks.formats.label_images import cells_in_files, frame_numbers, is_tiff
from viscy_train.tracks.formats.masks import scattered
from viscy_train.tracks.formats.track_file import TrackFile

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ["label", "begin", "end", "parent"]
_LONGEST = 2**24


def track_table(directory: Path) -> Path | None:
    """Return the text file of a directory of label images, or None if it has none."""
    files = sorted(file for file in directory.glob("*.txt") if not file.name.startswith("."))
    named = [file for file in files if file.stem.endswith("_track")]
    candidates = named or [file for file in files if is_track_table(file)]
    return candidates[0] if candidates else None


def is_track_table(path: Path) -> bool:
    """Return whether a text file has four integers in its first row and a different label in each row."""
    try:
        rows = [line.split() for line in path.read_text("utf-8")[:_LONGEST].splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return False
    is_table = bool(rows) and len(rows[0]) == 4 and all(value.isdigit() for value in rows[0])
    return is_table and len({row[0] for row in rows}) == len(rows)


def read_ctc(directory: Path) -> TrackFile:
    """Read the tracks of a directory.

    Parameters
    ----------
    directory : pathlib.Path
        Directory with ``res_track.txt`` and ``mask000.tif``, ..., or ``man_track.txt`` and ``man_track000.tif``, ...

    Returns
    -------
    TrackFile
        The center of each label in each frame.

    Raises
    ------
    UserError
        If the files are damaged, or the text file and the images contradict each other.
    """
    table = track_table(directory)
    images = sorted(file for file in directory.iterdir() if is_tiff(file))
    if table is None or not images:
        raise UserError(
            f"a directory of the Cell Tracking Challenge must have label images and a text file such as res_track.txt, "
            f"{directory} has {'no images' if table else 'no text file'}"
        )
    tracks = _read_table(table)
    _refuse_missing(images)
    cells, (n_frames, height, width) = cells_in_files(images)
    _check_agreement(tracks, cells, table)
    parents = tracks.set_index("label")["parent"]
    cells["parent_track_id"] = cells["label"].map(parents.where(parents > 0, -1))
    return TrackFile(
        format="ctc",
        where=str(directory),
        tracks=cells.rename(columns={"label": "track_id"}),
        image_size=(height, width),
        n_frames=n_frames,
        scattered=scattered(cells),
    )


def _read_table(path: Path) -> pd.DataFrame:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        values = line.split()
        if not values:
            continue
        if len(values) != len(_COLUMNS) or not all(value.isdigit() for value in values):
            raise UserError(
                f"a row must have the label, first frame, last frame and mother of a track, four integers, got "
                f"{line[:60]!r} in line {number} of {path}"
            )
        rows.append([int(value) for value in values])
    if not rows:
        raise UserError(f"tracks need at least one row, {path} has none")
    table = pd.DataFrame(rows, columns=_COLUMNS)
    repeated = table.loc[table["label"].duplicated(), "label"]
    if len(repeated):
        raise UserError(f"a track must have one row, {path} has several of track {repeated.iloc[0]}")
    return table


def _refuse_missing(images: list[Path]) -> None:
    frames = frame_numbers([image.stem for image in images], str(images[0].parent))
    missing = sorted(set(range(min(frames), max(frames) + 1)) - set(frames))
    if missing:
        raise UserError(
            f"each frame must have a label image, {images[0].parent} has frames {min(frames)} to {max(frames)} "
            f"without frame {missing[0]} ({len(missing)} missing)"
        )


def _check_agreement(tracks: pd.DataFrame, cells: pd.DataFrame, path: Path) -> None:
    unknown = cells[~cells["label"].isin(tracks["label"])]
    if len(unknown):
        label, frame = unknown[["label", "t"]].iloc[0]
        raise UserError(f"a label must be a track of {path}, label {label} in frame {frame} is none")
    unseen = tracks[~tracks["label"].isin(cells["label"])]
    if len(unseen):
        raise UserError(
            f"a track must have a cell in the label images, track {unseen['label'].iloc[0]} of {path} has none"
        )
    spans = cells.merge(tracks, on="label")
    outside = spans[~np.asarray((spans["t"] >= spans["begin"]) & (spans["t"] <= spans["end"]))]
    if len(outside):
        row = outside.iloc[0]
        raise UserError(
            f"a track must have cells in its frames only, track {row['label']:.0f} of {path} is in frames "
            f"{row['begin']:.0f} to {row['end']:.0f}, but has a cell in frame {row['t']:.0f}"
        )
