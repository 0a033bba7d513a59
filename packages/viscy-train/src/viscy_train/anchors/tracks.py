"""Tracks: where each cell of a position is in each frame, one CSV a position or one Parquet file."""

from __future__ import annotations

import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Pixels. A tracker may put a cell's centre up to half a pixel beyond that of the outermost pixel.
REACH = 0.5
COLUMNS = ["track_id", "t", "y", "x", "id", "parent_track_id", "parent_id"]
_REQUIRED = ["track_id", "t", "y", "x"]
_READ = [*_REQUIRED, "parent_track_id"]
_INTEGERS = ["track_id", "t", "parent_track_id"]
_NAMES_OF_POSITION = ["position", "fov_name"]
# Integers beyond this are not exact as floats, which is what a column with a decimal point holds.
_MOST = 2**53
_NAMED_AT_MOST = 4
_LONGEST = 60
_EACH_NEEDS_TRACKS = "each position of a well that is used needs some"


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


class Tracks:
    """The tracks of an experiment.

    Parameters
    ----------
    source : pathlib.Path
        Folder with a CSV for each position, for ``A/1/0`` the file ``A/1/0.csv`` or the one CSV in the folder
        ``A/1/0``; or a Parquet file of all positions, which its column ``position`` or ``fov_name`` names. The file is
        read here, once.

    Raises
    ------
    UserError
        If there is no such folder or file, or the file is damaged or lacks a column.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        if not source.exists():
            raise UserError(f"there are no tracks {source}; correct `tracks` of its experiment")
        if self._is_folder and not source.is_dir():
            raise UserError(f"tracks must be a folder of CSVs or a file *.parquet, got {source}")
        self._of_position = {} if self._is_folder else _read_parquet(source)

    @property
    def _is_folder(self) -> bool:
        return self._source.suffix.lower() not in (".parquet", ".pq")

    def of(self, position: str) -> pd.DataFrame:
        """Return the checked tracks of a position.

        Parameters
        ----------
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
            If there are no such tracks, a column is missing, values are missing or are no numbers, a track is twice in
            a frame, or mothers are not there, do not end before their daughters begin, or descend from themselves.
        """
        where, tracks = self._read(position)
        _check_columns(where, tracks.columns)
        if tracks.empty:
            raise UserError(f"tracks need at least one row, {where} has none; leave its well out or track it")
        if "parent_track_id" not in tracks:
            tracks = tracks.assign(parent_track_id=-1)
        checked = _checked_values(where, tracks[_READ]).sort_values(["track_id", "t"], ignore_index=True)
        _check_mothers(where, checked)
        return checked

    def _read(self, position: str) -> tuple[str, pd.DataFrame]:
        """Return where the tracks of a position are, and what is there."""
        if self._is_folder:
            path = _file_of_position(self._source, position)
            return str(path), _read_csv(path)
        if position not in self._of_position:
            there = ", ".join(list(self._of_position)[:_NAMED_AT_MOST])
            more = ", ..." if len(self._of_position) > _NAMED_AT_MOST else ""
            raise UserError(
                f"there are no tracks of position {position} in {self._source}, whose positions are {there}{more}; "
                f"{_EACH_NEEDS_TRACKS}"
            )
        return f"{self._source}, position {position}", self._of_position[position]


def checksums(source: Path, positions: Iterable[str]) -> dict[str, int]:
    """Return a checksum of each file that has tracks of some positions, by its path below the source.

    Parameters
    ----------
    source : pathlib.Path
        As of `Tracks`.
    positions : iterable of str
        Such as ``A/1/0``.

    Returns
    -------
    dict of str to int
        CRC-32; without files that are not there.
    """
    if source.is_file():
        return {source.name: zlib.crc32(source.read_bytes())}
    files = [_file_of_position(source, position) for position in positions]
    return {str(path.relative_to(source)): zlib.crc32(path.read_bytes()) for path in files if path.is_file()}


def _file_of_position(folder: Path, position: str) -> Path:
    path = folder / f"{position}.csv"
    # Hidden files are what file managers and network drives leave.
    inside = sorted(file for file in (folder / position).glob("*.csv") if not file.name.startswith("."))
    if path.is_file() + len(inside) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in [path, *inside] if file.is_file())
        raise UserError(f"a position needs one CSV of tracks, {folder} has {names}; leave one there")
    return inside[0] if inside else path


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # What pandas says of rows that are longer than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, index_col=False, skipinitialspace=True, low_memory=False)
    except FileNotFoundError:
        raise UserError(f"there is no tracks file {path}; {_EACH_NEEDS_TRACKS}") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no CSV of tracks: {' '.join(str(error).split())}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}, {getattr(error, 'strerror', None) or error}") from None


def _read_parquet(path: Path) -> dict[str, pd.DataFrame]:
    """Return the tracks of each position, with the numbers of their rows in the file as index."""
    try:
        names = pq.read_schema(path).names
        of_position = [name for name in _NAMES_OF_POSITION if name in names]
        if not of_position:
            raise UserError(f"tracks of several positions need the column `position` or `fov_name`, {path} has neither")
        _check_columns(str(path), names)
        tracks = pq.read_table(path, columns=[of_position[0], *(name for name in _READ if name in names)]).to_pandas()
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no Parquet file of tracks, or a damaged one: {reason}") from None
    tracks = tracks.reset_index(drop=True)
    position = tracks.pop(of_position[0])
    if position.isna().any():
        row, n = int(np.argmax(position.isna())) + 1, int(position.isna().sum())
        raise UserError(f"column {of_position[0]!r} of tracks has no value in data row {row} of {path} ({n} such)")
    # Fields of view are named with or without a leading slash.
    position = position.astype(str).str.strip("/")
    return {str(name): of_one for name, of_one in tracks.groupby(position, sort=False)}


def _check_columns(where: str, columns: Iterable[str]) -> None:
    missing = [column for column in _REQUIRED if column not in columns]
    if missing:
        there = _shortened(", ".join(map(str, columns)))
        raise UserError(
            f"tracks need the columns {', '.join(_REQUIRED)}, divided by commas; {where} lacks {', '.join(missing)}, "
            f"its first row is {there!r}"
        )


def _checked_values(where: str, tracks: pd.DataFrame) -> pd.DataFrame:
    # Nothing is how some say that there is no mother.
    tracks = tracks.assign(
        parent_track_id=tracks["parent_track_id"].astype(object).where(tracks["parent_track_id"].notna(), -1)
    )
    numbers = tracks.apply(pd.to_numeric, errors="coerce")
    for column in _READ:
        bad = np.flatnonzero(~np.isfinite(numbers[column].to_numpy(dtype=float, na_value=np.nan)))
        if len(bad):
            value = tracks[column].iloc[bad[0]]
            row = tracks.index[bad[0]] + 1
            what = (
                "has no value" if pd.isna(value) else f"must be a finite number, got {_shortened(repr(_plain(value)))}"
            )
            raise UserError(f"column {column!r} of tracks {what} in data row {row} of {where} ({len(bad)} such)")
    for column in _INTEGERS:
        values = numbers[column].to_numpy(dtype=float)
        bad = np.flatnonzero((values % 1 != 0) | (np.abs(values) > _MOST))
        if len(bad):
            value, row = _plain(numbers[column].iloc[bad[0]]), tracks.index[bad[0]] + 1
            raise UserError(
                f"column {column!r} of tracks must be an integer from -2**53 to 2**53, got {value} in data row "
                f"{row} of {where} ({len(bad)} such)"
            )
    for column in ("track_id", "t"):
        negative = np.flatnonzero(numbers[column] < 0)
        if len(negative):
            value = _plain(numbers[column].iloc[negative[0]])
            raise UserError(
                f"column {column!r} of tracks must be at least 0, got {value:g} in data row "
                f"{tracks.index[negative[0]] + 1} of {where} ({len(negative)} such)"
            )
    twice = np.flatnonzero(numbers.duplicated(["track_id", "t"]))
    if len(twice):
        track, frame = numbers[["track_id", "t"]].iloc[twice[0]].astype(int)
        raise UserError(
            f"a track must be once in a frame, track {track} is twice in frame {frame}, in data row "
            f"{tracks.index[twice[0]] + 1} of {where} ({len(twice)} such)"
        )
    return numbers.astype(dict.fromkeys(_INTEGERS, "int64") | {"y": "float64", "x": "float64"})


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
    _check_no_circle(where, mothers)
    begins, ends = lives["min"].loc[mothers.index], lives["max"].loc[mothers.to_numpy()].set_axis(mothers.index)
    early = mothers[begins <= ends]
    if len(early):
        track = early.index[0]
        raise UserError(
            f"a mother must end before her daughter begins, track {track} of {where} begins in frame {begins[track]}, "
            f"its mother {early.iloc[0]} ends in frame {ends[track]} ({len(early)} such)"
        )


def _check_no_circle(where: str, mothers: pd.Series) -> None:
    """Refuse tracks that descend from themselves, given the mother of each track that has one."""
    # In each round an ancestor twice as far; those that are still there after all rounds go round in a circle.
    ancestor = mothers
    for _ in range(len(mothers).bit_length()):
        ancestor = ancestor.map(ancestor).dropna().astype("int64")
    if len(ancestor):
        track = ancestor.iloc[0]
        raise UserError(
            f"a track must not descend from itself, track {track} of {where} does, by its mother {mothers[track]}"
        )


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, so that a message shows it without its type."""
    return value.item() if isinstance(value, np.generic) else value
