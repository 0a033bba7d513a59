"""Tracks: where each cell of a position is in each frame, one CSV per position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ["track_id", "t", "y", "x", "id", "parent_track_id", "parent_id"]
_INTEGERS = ["track_id", "t", "id", "parent_track_id", "parent_id"]
# Integers beyond this are not exact as floats, which is what a column with a decimal point holds.
_MOST = 2**53


def write_tracks(path: Path, tracks: pd.DataFrame) -> None:
    """Write the tracks of a position.

    Parameters
    ----------
    path : pathlib.Path
        CSV to write; its folder is made.
    tracks : pandas.DataFrame
        With the columns of `COLUMNS`, shape (n_cells_in_frames, 7).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tracks[COLUMNS].to_csv(path, index=False)


def read_tracks(path: Path) -> pd.DataFrame:
    """Read and check the tracks of a position.

    Parameters
    ----------
    path : pathlib.Path
        CSV with the columns of `COLUMNS`: `t` counts frames from 0, `y` and `x` are in pixels, `id` names a cell in a
        frame, `parent_track_id` and `parent_id` are -1 where there is no parent.

    Returns
    -------
    pandas.DataFrame
        Those columns, shape (n_cells_in_frames, 7); integers but for float `y` and `x`.

    Raises
    ------
    UserError
        If there is no such file, it is no CSV, is empty, lacks a column, or has values that are missing or no numbers,
        or a track is twice in a frame.
    """
    tracks = _read_csv(path)
    missing = [column for column in COLUMNS if column not in tracks]
    if missing:
        raise UserError(f"tracks need the columns {', '.join(COLUMNS)}; {path} lacks {', '.join(missing)}")
    if tracks.empty:
        raise UserError(f"tracks need at least one row, {path} has none; leave its well out or track it")
    return _checked_values(path, tracks[COLUMNS])


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"there is no tracks file {path}; each position of a well that is used needs one") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no CSV of tracks: {error}".replace("\n", " ").strip()) from None
    except (OSError, ValueError) as error:
        # As where `tracks` names a file: nothing lies below one.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}, {reason}; `tracks` of an experiment must be a folder of CSVs") from None


def _checked_values(path: Path, tracks: pd.DataFrame) -> pd.DataFrame:
    numbers = tracks.apply(pd.to_numeric, errors="coerce")
    for column in COLUMNS:
        bad = np.flatnonzero(~np.isfinite(numbers[column].to_numpy(dtype=float)))
        if len(bad):
            value = tracks[column].iloc[bad[0]]
            what = "has no value" if pd.isna(value) else f"must be a finite number, got {_plain(value)!r}"
            raise UserError(f"column {column!r} of tracks {what} in data row {bad[0] + 1} of {path} ({len(bad)} such)")
    for column in _INTEGERS:
        values = numbers[column].to_numpy(dtype=float)
        bad = np.flatnonzero((values % 1 != 0) | (np.abs(values) > _MOST))
        if len(bad):
            value = _plain(numbers[column].iloc[bad[0]])
            raise UserError(
                f"column {column!r} of tracks must be an integer from -2**53 to 2**53, got {value} in row "
                f"{bad[0] + 1} of {path}"
            )
    twice = np.flatnonzero(numbers.duplicated(["track_id", "t"]))
    if len(twice):
        track, frame = numbers[["track_id", "t"]].iloc[twice[0]].astype(int)
        raise UserError(f"a track must be once in a frame, track {track} is twice in frame {frame} of {path}")
    return numbers.astype(dict.fromkeys(_INTEGERS, "int64") | {"y": "float64", "x": "float64"})


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, so that a message shows it without its type."""
    return value.item() if isinstance(value, np.generic) else value
