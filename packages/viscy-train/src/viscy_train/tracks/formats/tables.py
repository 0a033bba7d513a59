"""Tables: tracks in CSV, Parquet and NumPy files, with the columns of any dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.errors import UserError, one_line
from viscy_train.experiments.track_options import AUTO, FORMATS
from viscy_train.tracks.formats.csv_table import CsvLayout, csv_layout, first_rows, header_encoding, read_csv
from viscy_train.tracks.formats.dialects import (
    COMPANIONS,
    DETECTIONS,
    DIALECTS,
    KNOWN_COLUMNS,
    TABLE,
    Dialect,
    dialect_of,
)
from viscy_train.tracks.formats.parquet_table import parquet_names, read_parquet
from viscy_train.tracks.formats.track_file import ReadOptions, TrackFile
from viscy_train.tracks.formats.units import interval_of_times

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PARQUET = b"PAR1"
NUMPY = b"\x93NUMPY"
_KNOWN = KNOWN_COLUMNS | {name for columns in COMPANIONS.values() for name in columns}
# Columns of an array of tracks in napari, which has no header.
_NAPARI = {4: ["ID", "T", "Y", "X"], 5: ["ID", "T", "Z", "Y", "X"]}
_SHORT = 60
# TrackMate writes the names, long names, short names and units of columns.
_TRACKMATE_HEADER = 4


def column_names(path: Path, head: bytes) -> list[str]:
    """Return the names of a table's columns; those of an array without names are napari's.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    head : bytes
        Its first bytes.
    """
    if head.startswith(PARQUET):
        return parquet_names(path)
    if head.startswith(NUMPY):
        return _NAPARI.get(_load_array(path).shape[-1], [])
    layout = csv_layout(path, _KNOWN)
    return layout.names if layout.has_header else _names_without_header(path, layout)


def read_table(path: Path, head: bytes, options: ReadOptions) -> TrackFile:
    """Read a table of tracks.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    head : bytes
        Its first bytes.
    options : ReadOptions
        What the configuration states.

    Raises
    ------
    UserError
        If the file is damaged, or lacks a column.
    """
    names = column_names(path, head)
    dialect = dialect_of(names, options.format)
    if dialect is None:
        raise UserError(_missing_columns(path, names, options.format))
    units: dict[str, str] = {}
    if head.startswith(PARQUET):
        table = read_parquet(path, dialect.used)
    elif head.startswith(NUMPY):
        table = pd.DataFrame(_load_array(path), columns=names)
    else:
        table, units = _read_text(path, dialect)
    tracks = _as_tracks(table, dialect, path)
    return TrackFile(
        format=dialect.format,
        where=str(path),
        tracks=tracks,
        unit=units.get("POSITION_X"),
        minutes_per_frame=_interval(table, units),
    )


def array_axes(path: Path) -> int:
    """Return the number of axes of a NumPy array, 0 if the file is damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).ndim
    except Exception:  # the header of an array is parsed as Python
        return 0


def read_columns(path: Path, head: bytes, columns: Iterable[str], floats: Iterable[str] = ()) -> pd.DataFrame:
    """Read columns of numbers that must be there, from a table of which each row is a link or a cell.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    head : bytes
        Its first bytes.
    columns, floats : iterable of str
        Columns of integers, and of any numbers.
    """
    integers, columns = list(columns), [*columns, *floats]
    if head.startswith(PARQUET):
        table = read_parquet(path, columns)
    else:
        table, _ = _read_text(path, Dialect(format="table", columns=dict.fromkeys(columns, ""), extra=()))
    numbers = table[columns].apply(pd.to_numeric, errors="coerce")
    bad = np.flatnonzero(~np.isfinite(numbers.astype(float)).all(axis=1) | (numbers[integers] % 1 != 0).any(axis=1))
    if len(bad):
        values = ", ".join(str(value) for value in table[columns].iloc[bad[0]])
        kind = "numbers" if len(columns) > len(integers) else "integers"
        raise UserError(
            f"columns {', '.join(columns)} must be {kind}, got {values} in data row {bad[0] + 1} of {path}; export the "
            "table again"
        )
    return numbers.astype(dict.fromkeys(integers, "int64"))


def _read_text(path: Path, dialect: Dialect) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the columns of a CSV, and the units in its header."""
    layout = csv_layout(path, _KNOWN)
    if not layout.has_header:
        table = read_csv(path, layout, [])
        return table.set_axis(_names_without_header(path, layout), axis=1), {}
    header = _header_rows(path, layout)
    if not header:
        return read_csv(path, layout, dialect.used), {}
    encoding = header_encoding(path, _TRACKMATE_HEADER)
    return read_csv(path, layout, dialect.used, skipped_rows=len(header), encoding=encoding), _units(layout, header)


def _names_without_header(path: Path, layout: CsvLayout) -> list[str]:
    """Return the names of napari's columns, before which pandas may have written the number of each row."""
    n = len(layout.names)
    return ["", *_NAPARI[n - 1]] if n - 1 in _NAPARI and _has_row_numbers(path, layout) else _NAPARI.get(n, [])


def _has_row_numbers(path: Path, layout: CsvLayout) -> bool:
    """Return whether the first column counts all rows, which are more than two."""
    first = [row[0] for row in (layout.names, *first_rows(path, layout, 2)) if row]
    if not any(first == [str(start + row) for row in range(3)] for start in (0, 1)):
        return False
    numbers = pd.to_numeric(read_csv(path, layout, []).iloc[:, 0], errors="coerce").to_numpy(dtype=float)
    return bool((np.diff(numbers) == 1).all())


def _units(layout: CsvLayout, header: list[list[str]]) -> dict[str, str]:
    """Return the unit of each column, which the last row of TrackMate's header has in parentheses."""
    pairs = zip(layout.names, header[-1], strict=False)
    return {name: text.strip("()") for name, text in pairs if text.startswith("(")}


def _interval(table: pd.DataFrame, units: dict[str, str]) -> float | None:
    """Return the minutes per frame of a table of TrackMate."""
    if "POSITION_T" not in units or "FRAME" not in table:
        return None
    frames, times = (pd.to_numeric(table[name], errors="coerce") for name in ("FRAME", "POSITION_T"))
    return interval_of_times(frames, times, units["POSITION_T"])


def _header_rows(path: Path, layout: CsvLayout) -> list[list[str]]:
    """Return the further rows of TrackMate's header: those above the first one with a number."""
    column = next((layout.names.index(name) for name in ("FRAME", "SPOT_SOURCE_ID") if name in layout.names), None)
    if column is None:
        return []
    rows = first_rows(path, layout, _TRACKMATE_HEADER - 1)
    header = []
    for row in rows:
        if len(row) <= column or row[column].replace(".", "", 1).isdigit():
            break
        header.append(row)
    return header


def _as_tracks(table: pd.DataFrame, dialect: Dialect, path: Path) -> pd.DataFrame:
    """Return the used columns under the names of this project."""
    tracks = table[[name for name in dict.fromkeys(dialect.used) if name in table]].rename(
        columns=dialect.columns | dialect.spelling
    )
    if "parent" in tracks:
        tracks = (
            tracks.drop(columns="parent")
            if "parent_track_id" in tracks
            else tracks.rename(columns={"parent": "parent_track_id"})
        )
    if dialect.format == "detections":
        tracks["track_id"] = np.arange(len(tracks))
    if dialect.format == "btrack" and "dummy" in tracks:
        # The tracker's guess of where a cell is in a frame in which it was not seen.
        tracks = tracks[~tracks.pop("dummy").astype(str).str.strip().str.lower().isin(["true", "1", "1.0"])]
    if dialect.format == "trackmate_csv":
        tracks = _in_tracks(tracks.rename(columns={"ID": "spot", "POSITION_Z": "z"}), path)
    return tracks


def _in_tracks(spots: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the spots that are part of a track; a spot that is cut off has no position and is an error."""
    values = spots[["t", "y", "x"]]
    # The header is repeated where files were joined.
    is_header = values.apply(pd.to_numeric, errors="coerce").isna().all(axis=1) & values.notna().any(axis=1)
    spots, values = spots[~is_header], values[~is_header]
    single = spots["track_id"].isna() & values.notna().all(axis=1)
    if len(spots) and single.all():
        raise UserError(
            f"spots need the number of their track in the column TRACK_ID, {path} has none; export them after tracking"
        )
    return spots[~single]


def _load_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # the header of an array is parsed as Python
        raise UserError(f"{path} is not a NumPy array, or is damaged: {one_line(error)}") from None
    if array.ndim != 2 or array.shape[1] not in _NAPARI:
        raise UserError(
            f"an array of tracks must have the columns ID, T, Y, X or ID, T, Z, Y, X, {path} has shape {array.shape}"
        )
    return array


def _missing_columns(path: Path, names: list[str], stated: str) -> str:
    """Return what a table lacks of the format it should have."""
    header = ", ".join(map(str, names))
    header = header if len(header) <= _SHORT else f"{header[:_SHORT]}..."
    candidates = DETECTIONS if stated == "detections" else _dialects_named(stated)
    dialect = min(candidates, key=lambda one: sum(name not in names for name in one.columns))
    missing = [name for name in dialect.columns if name not in names]
    untracked = any(one.fits(names) for one in DETECTIONS) and stated != "detections"
    remedy = "; set `tracks_format: detections` if the cells were not tracked" if untracked else ""
    title = "" if stated == AUTO else f" of the format {FORMATS[stated]!r}"
    return (
        f"tracks{title} need the columns {', '.join(dialect.columns)}, separated by commas, semicolons or tabs; {path} "
        f"lacks {', '.join(missing)}, its header is {header!r}{remedy}"
    )


def _dialects_named(stated: str) -> list[Dialect]:
    return [one for one in DIALECTS if one.format == (TABLE.format if stated == AUTO else stated)] or [TABLE]
