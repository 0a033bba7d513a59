"""Tracks: where each cell of a position is in each frame, one CSV a position or one Parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ["track_id", "t", "y", "x", "id", "parent_track_id", "parent_id"]
_REQUIRED = ["track_id", "t", "y", "x"]
_READ = [*_REQUIRED, "parent_track_id"]
_INTEGERS = ["track_id", "t", "parent_track_id"]
_NAMES_OF_POSITION = ["position", "fov_name"]
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


def read_tracks(source: Path, position: str) -> pd.DataFrame:
    """Read and check the tracks of a position.

    Parameters
    ----------
    source : pathlib.Path
        Folder with a CSV for each position, for ``A/1/0`` the file ``A/1/0.csv`` or the one CSV in the folder
        ``A/1/0``; or a Parquet file of all positions, which its column ``position`` or ``fov_name`` names.
    position : str
        Such as ``A/1/0``.

    Returns
    -------
    pandas.DataFrame
        Sorted by track and frame, shape (n_cells_in_frames, 5): `track_id`; `t`, the frame from 0; `y` and `x` in
        pixels; `parent_track_id`, -1 where there is no mother.

    Raises
    ------
    UserError
        If there are no such tracks, a column is missing, values are missing or are no numbers, a track is twice in a
        frame, or mothers are not there, do not end before their daughters begin, or descend from themselves.
    """
    if source.suffix in (".parquet", ".pq"):
        where, tracks = f"position {position} of {source}", _of_position(source, position)
    else:
        path = _file_of_position(source, position)
        where, tracks = str(path), _read_csv(path)
    missing = [column for column in _REQUIRED if column not in tracks]
    if missing:
        raise UserError(f"tracks need the columns {', '.join(_REQUIRED)}; {where} lacks {', '.join(missing)}")
    if tracks.empty:
        raise UserError(f"tracks need at least one row, {where} has none; leave its well out or track it")
    if "parent_track_id" not in tracks:
        tracks = tracks.assign(parent_track_id=-1)
    checked = _checked_values(where, tracks[_READ]).sort_values(["track_id", "t"], ignore_index=True)
    _check_mothers(where, checked)
    return checked


def _file_of_position(folder: Path, position: str) -> Path:
    path = folder / f"{position}.csv"
    inside = sorted((folder / position).glob("*.csv"))
    if path.is_file() or not inside:
        return path
    if len(inside) > 1:
        names = ", ".join(file.name for file in inside)
        raise UserError(f"a position needs one CSV of tracks, {folder / position} has {names}; leave one there")
    return inside[0]


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


def _of_position(path: Path, position: str) -> pd.DataFrame:
    try:
        names = pq.read_schema(path).names
        of_position = [name for name in _NAMES_OF_POSITION if name in names]
        if not of_position:
            raise UserError(f"tracks of several positions need the column `position` or `fov_name`, {path} has neither")
        columns = [name for name in _READ if name in names]
        # FOVs are named with or without a leading slash.
        wanted = [(of_position[0], "in", [position, f"/{position}"])]
        return pq.read_table(path, columns=columns, filters=wanted).to_pandas()
    except FileNotFoundError:
        raise UserError(f"there is no tracks file {path}; correct `tracks` of its experiment") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is no Parquet file of tracks, or a damaged one: {' '.join(str(error).split())}"
        ) from None


def _checked_values(where: str, tracks: pd.DataFrame) -> pd.DataFrame:
    numbers = tracks.apply(pd.to_numeric, errors="coerce")
    for column in _READ:
        bad = np.flatnonzero(~np.isfinite(numbers[column].to_numpy(dtype=float, na_value=np.nan)))
        if len(bad):
            value = tracks[column].iloc[bad[0]]
            what = "has no value" if pd.isna(value) else f"must be a finite number, got {_plain(value)!r}"
            raise UserError(f"column {column!r} of tracks {what} in data row {bad[0] + 1} of {where} ({len(bad)} such)")
    for column in _INTEGERS:
        values = numbers[column].to_numpy(dtype=float)
        bad = np.flatnonzero((values % 1 != 0) | (np.abs(values) > _MOST))
        if len(bad):
            value = _plain(numbers[column].iloc[bad[0]])
            raise UserError(
                f"column {column!r} of tracks must be an integer from -2**53 to 2**53, got {value} in row "
                f"{bad[0] + 1} of {where}"
            )
    negative = np.flatnonzero(numbers["t"] < 0)
    if len(negative):
        value = _plain(numbers["t"].iloc[negative[0]])
        raise UserError(f"frames of tracks count from 0, got {value} in data row {negative[0] + 1} of {where}")
    twice = np.flatnonzero(numbers.duplicated(["track_id", "t"]))
    if len(twice):
        track, frame = numbers[["track_id", "t"]].iloc[twice[0]].astype(int)
        raise UserError(f"a track must be once in a frame, track {track} is twice in frame {frame} of {where}")
    return numbers.astype(dict.fromkeys(_INTEGERS, "int64") | {"y": "float64", "x": "float64"})


def _check_mothers(where: str, tracks: pd.DataFrame) -> None:
    """Refuse mothers that cannot be; how many daughters one has is left to biology."""
    lives = tracks.groupby("track_id")["t"].agg(["min", "max"])
    mothers = tracks.groupby("track_id")["parent_track_id"].agg(["min", "max"])
    two = mothers[mothers["min"] != mothers["max"]]
    if len(two):
        raise UserError(f"a track has one mother, track {two.index[0]} of {where} has {list(two.iloc[0])}")
    mothers = mothers["min"][mothers["min"] >= 0]
    lost = mothers[~mothers.isin(lives.index)]
    if len(lost):
        raise UserError(
            f"a mother must be a track, track {lost.index[0]} of {where} has mother {lost.iloc[0]}, which is not there "
            f"({len(lost)} such); -1 says that there is none"
        )
    begins, ends = lives["min"].loc[mothers.index], lives["max"].loc[mothers.to_numpy()].set_axis(mothers.index)
    early = mothers[(begins <= ends)]
    if len(early):
        track = early.index[0]
        raise UserError(
            f"a mother must end before her daughter begins, track {track} of {where} begins in frame {begins[track]}, "
            f"its mother {early.iloc[0]} ends in frame {ends[track]} ({len(early)} such)"
        )


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, so that a message shows it without its type."""
    return value.item() if isinstance(value, np.generic) else value
