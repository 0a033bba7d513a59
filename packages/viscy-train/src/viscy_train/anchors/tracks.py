"""Tracks: where each cell of a position is in each frame; one CSV per position, or one Parquet file."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from viscy_train.anchors.tracks_csv import read_tracks_csv
from viscy_train.errors import UserError, require_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

COLUMNS = ["track_id", "t", "y", "x", "id", "parent_track_id", "parent_id"]
_REQUIRED = ["track_id", "t", "y", "x"]
_READ = [*_REQUIRED, "parent_track_id"]
# The name of `parent_track_id` in the files of btrack.
_PARENT = "parent"
_INTEGERS = ["track_id", "t", "parent_track_id"]
_POSITION_COLUMNS = ["position", "fov_name"]
# Larger integers are not exact as floats, and a column with a decimal point is read as floats.
_MAX_INTEGER = 2**53
_MAX_POSITIONS_SHOWN = 4
_MAX_LENGTH_SHOWN = 60
_REMEDY = "each position of a well in `conditions` needs tracks"


def write_tracks(path: Path, tracks: pd.DataFrame) -> None:
    """Write the tracks of a position.

    Parameters
    ----------
    path : pathlib.Path
        CSV to write. Missing parent directories are created.
    tracks : pandas.DataFrame
        The columns `COLUMNS`, shape (n_observations, 7).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tracks[COLUMNS].to_csv(path, index=False)


class Tracks:
    """The tracks of an experiment.

    Parameters
    ----------
    source : pathlib.Path
        Directory with a CSV for each position: for ``A/1/0``, the file ``A/1/0.csv`` or the only CSV in the directory
        ``A/1/0``. Or a Parquet file of all positions, with their names in the column ``position`` or ``fov_name``; it
        is read once, here.

    Raises
    ------
    UserError
        If the directory or file does not exist, or the file is damaged or lacks a column.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        if not source.exists():
            raise UserError(f"tracks not found: {source}; correct `tracks` of its experiment")
        if self._is_directory and not source.is_dir():
            raise UserError(f"tracks must be a directory of CSV files or a *.parquet file, got {source}")
        self._by_position = {} if self._is_directory else _read_parquet(source)

    @property
    def _is_directory(self) -> bool:
        return self._source.suffix.lower() not in (".parquet", ".pq")

    def of(self, position: str) -> pd.DataFrame:
        """Return the validated tracks of a position.

        Parameters
        ----------
        position : str
            Name of the position, such as ``A/1/0``.

        Returns
        -------
        pandas.DataFrame
            Sorted by track and frame, shape (n_observations, 5): `track_id`; `t`, the frame, from 0; `y` and `x` in
            pixels; `parent_track_id`, -1 without a mother. In the file, the column may be called `parent`, and a track
            without a mother may have itself as mother, or 0 if there is no such track.

        Raises
        ------
        UserError
            If the position has no tracks, a column is missing, values are missing or not numbers, a track has two rows
            in a frame, or a mother is not in the tracks, does not end before her daughter begins, or descends from
            herself.
        """
        where, tracks = self._read(position)
        if "parent_track_id" not in tracks:
            tracks = tracks.rename(columns={_PARENT: "parent_track_id"})
        _check_columns(where, tracks.columns)
        if tracks.empty:
            raise UserError(
                f"tracks need at least one row, {where} has none; track the position, or leave its well out"
            )
        if "parent_track_id" not in tracks:
            tracks = tracks.assign(parent_track_id=-1)
        checked = _checked_values(where, tracks[_READ]).sort_values(["track_id", "t"], ignore_index=True)
        checked["parent_track_id"] = _without_roots(checked)
        _check_mothers(where, checked)
        return checked

    def _read(self, position: str) -> tuple[str, pd.DataFrame]:
        """Return the source of a position's tracks, for messages, and the tracks as read."""
        if self._is_directory:
            path = _csv_path(self._source, position)
            return str(path), read_tracks_csv(path, [*_READ, _PARENT], _REMEDY)
        if position not in self._by_position:
            names = ", ".join(list(self._by_position)[:_MAX_POSITIONS_SHOWN])
            more = ", ..." if len(self._by_position) > _MAX_POSITIONS_SHOWN else ""
            raise UserError(
                f"no tracks for position {position} in {self._source}, which has positions {names}{more}; {_REMEDY}"
            )
        return f"{self._source}, position {position}", self._by_position[position]


def checksums(source: Path, positions: Iterable[str]) -> dict[str, int]:
    """Return a checksum of each file with tracks of the given positions.

    Parameters
    ----------
    source : pathlib.Path
        Directory or Parquet file, as for `Tracks`.
    positions : iterable of str
        Names of positions, such as ``A/1/0``.

    Returns
    -------
    dict of str to int
        CRC-32 of each file, by its path relative to the source. Missing files are omitted.
    """
    if source.is_file():
        return {source.name: zlib.crc32(source.read_bytes())}
    files = [_csv_path(source, position) for position in positions]
    return {str(path.relative_to(source)): zlib.crc32(path.read_bytes()) for path in files if path.is_file()}


def _csv_path(directory: Path, position: str) -> Path:
    path = directory / f"{position}.csv"
    # File managers and network drives leave hidden files behind.
    inside = sorted(file for file in (directory / position).glob("*.csv") if not file.name.startswith("."))
    if path.is_file() + len(inside) > 1:
        names = ", ".join(str(file.relative_to(directory)) for file in [path, *inside] if file.is_file())
        raise UserError(f"a position must have one CSV of tracks, {directory} has {names}; keep one of them")
    return inside[0] if inside else path


def _read_parquet(path: Path) -> dict[str, pd.DataFrame]:
    """Return the tracks of each position; their index is the row number in the file."""
    require_regular_file(path, "a Parquet file of tracks")
    try:
        schema = pq.read_schema(path)
        names = [*schema.names, *_range_columns(schema)]
        position_column = next((name for name in _POSITION_COLUMNS if name in names), None)
        if position_column is None:
            raise UserError(f"tracks of several positions need the column `position` or `fov_name`, {path} has neither")
        _check_columns(str(path), names)
        used = [name for name in (position_column, *_READ, _PARENT) if name in schema.names]
        # Without the metadata of pandas, columns that were its index stay columns.
        tracks = pq.read_table(path, columns=used).replace_schema_metadata(None).to_pandas()
    except UserError:
        raise
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a Parquet file of tracks, or is damaged: {reason}") from None
    for name in tracks.columns:
        if (tracks.columns == name).sum() > 1:
            raise UserError(f"a column of tracks must occur once, {path} has several columns {name!r}")
    tracks = tracks.assign(**{name: values for name, values in _range_columns(schema).items() if name in _READ})
    position = tracks.pop(position_column)
    if position.isna().any():
        row, n = int(np.argmax(position.isna())) + 1, int(position.isna().sum())
        raise UserError(f"column {position_column!r} of tracks has no value in data row {row} of {path} ({_rows(n)})")
    # Names of positions may have a leading slash.
    position = position.astype(str).str.strip("/")
    return {str(name): group for name, group in tracks.groupby(position, sort=False)}


def _range_columns(schema: pa.Schema) -> dict[str, NDArray[np.int64]]:
    """Return the columns that pandas stored as the start, stop and step of an index."""
    try:
        indexes = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        ranges = [one for one in indexes if isinstance(one, dict) and one["name"]]
        return {one["name"]: np.arange(one["start"], one["stop"], one["step"]) for one in ranges}
    except (KeyError, ValueError, TypeError):
        return {}


def _check_columns(where: str, columns: Iterable[str]) -> None:
    missing = [column for column in _REQUIRED if column not in columns]
    if missing:
        header = _shorten(", ".join(map(str, columns)))
        raise UserError(
            f"tracks need the columns {', '.join(_REQUIRED)}, separated by commas, semicolons or tabs; {where} lacks "
            f"{', '.join(missing)}, its header is {header!r}"
        )


def _checked_values(where: str, tracks: pd.DataFrame) -> pd.DataFrame:
    # Some trackers leave the cell empty for a track without a mother.
    tracks = tracks.assign(
        parent_track_id=tracks["parent_track_id"].astype(object).where(tracks["parent_track_id"].notna(), -1)
    )
    numbers = tracks.apply(_to_numbers)
    for column in _READ:
        bad = np.flatnonzero(~np.isfinite(numbers[column].to_numpy(dtype=float, na_value=np.nan)))
        if len(bad):
            value = tracks[column].iloc[bad[0]]
            row = tracks.index[bad[0]] + 1
            is_missing = pd.api.types.is_scalar(value) and pd.isna(value)
            what = "has no value" if is_missing else f"must be a finite number, got {_shorten(repr(_plain(value)))}"
            what += " (write decimals with a point)" * (isinstance(value, str) and "," in value)
            raise UserError(f"column {column!r} of tracks {what} in data row {row} of {where} ({_rows(len(bad))})")
    for column in _INTEGERS:
        values = numbers[column].to_numpy(dtype=float)
        bad = np.flatnonzero((values % 1 != 0) | (np.abs(values) > _MAX_INTEGER))
        if len(bad):
            value, row = _plain(numbers[column].iloc[bad[0]]), tracks.index[bad[0]] + 1
            raise UserError(
                f"column {column!r} of tracks must be an integer from -2**53 to 2**53, got {value} in data row "
                f"{row} of {where} ({_rows(len(bad))})"
            )
    for column in ("track_id", "t"):
        negative = np.flatnonzero(numbers[column] < 0)
        if len(negative):
            value = _plain(numbers[column].iloc[negative[0]])
            raise UserError(
                f"column {column!r} of tracks must be at least 0, got {value:g} in data row "
                f"{tracks.index[negative[0]] + 1} of {where} ({_rows(len(negative))})"
            )
    repeated = np.flatnonzero(numbers.duplicated(["track_id", "t"]))
    if len(repeated):
        track, frame = numbers[["track_id", "t"]].iloc[repeated[0]].astype(int)
        raise UserError(
            f"a track must have at most one row per frame, track {track} has a second one in frame {frame}, in data "
            f"row {tracks.index[repeated[0]] + 1} of {where} ({_rows(len(repeated))})"
        )
    return numbers.astype(dict.fromkeys(_INTEGERS, "int64") | {"y": "float64", "x": "float64"})


def _to_numbers(values: Any) -> pd.Series:
    """Return a column as numbers; what is not a number is missing."""
    if values.dtype.kind in "mM":  # otherwise a time would become its nanoseconds
        values = values.astype(str)
    try:
        return pd.to_numeric(values, errors="coerce")
    except TypeError:  # lists, for example
        return pd.Series(np.nan, index=values.index)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH_SHOWN else f"{text[:_MAX_LENGTH_SHOWN]}..."


def _rows(n: int) -> str:
    return f"{n} {'row' if n == 1 else 'rows'} affected"


def _tracks(n: int) -> str:
    return f"{n} {'track' if n == 1 else 'tracks'} affected"


def _without_roots(tracks: pd.DataFrame) -> pd.Series:
    """Return the mother of each row's track, -1 for all the ways in which trackers write that there is none.

    In the files of btrack, the parent of such a track is the track itself. In those of the Cell Tracking Challenge, it
    is 0, which is the background of a label image and therefore no track.
    """
    mother, track = tracks["parent_track_id"], tracks["track_id"]
    is_root = (mother < 0) | (mother == track)
    if not (track == 0).any():
        is_root |= mother == 0
    return mother.where(~is_root, -1)


def _check_mothers(where: str, tracks: pd.DataFrame) -> None:
    """Refuse impossible mothers. Any number of daughters is accepted."""
    spans = tracks.groupby("track_id")["t"].agg(["min", "max"])
    mothers = tracks.groupby("track_id")["parent_track_id"].agg(["min", "max"])
    several = mothers[mothers["min"] != mothers["max"]]
    if len(several):
        raise UserError(
            f"a track must have one mother, track {several.index[0]} of {where} has {list(several.iloc[0])}"
        )
    mothers = mothers["min"][mothers["min"] >= 0]
    unknown = mothers[~mothers.isin(spans.index)]
    if len(unknown):
        raise UserError(
            f"a mother must be a track of the position, track {unknown.index[0]} of {where} has the unknown mother "
            f"{unknown.iloc[0]} ({_tracks(len(unknown))}); use -1 for a track without a mother"
        )
    _check_no_cycle(where, mothers)
    begins, ends = spans["min"].loc[mothers.index], spans["max"].loc[mothers.to_numpy()].set_axis(mothers.index)
    early = mothers[begins <= ends]
    if len(early):
        track = early.index[0]
        raise UserError(
            f"a mother must end before her daughter begins, track {track} of {where} begins in frame {begins[track]}, "
            f"its mother {early.iloc[0]} ends in frame {ends[track]} ({_tracks(len(early))})"
        )


def _check_no_cycle(where: str, mothers: pd.Series) -> None:
    """Refuse tracks that descend from themselves, given the mother of each track that has one."""
    # Each round doubles the distance to the ancestor; only tracks in a cycle still have one after the last round.
    ancestor = mothers
    for _ in range(len(mothers).bit_length()):
        ancestor = ancestor.map(ancestor).dropna().astype("int64")
    if len(ancestor):
        track = ancestor.iloc[0]
        raise UserError(
            f"a track must not descend from itself, track {track} of {where} does, through its mother {mothers[track]}"
        )


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, so that messages do not show its type."""
    return value.item() if isinstance(value, np.generic) else value
