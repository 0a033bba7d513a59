"""Track checks: the rules that tracks of any format follow before they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from viscy_train.errors import NoTracksError, UserError
from viscy_train.tracks.formats.track_file import count_rows
from viscy_train.wording import count

READ = ["track_id", "t", "y", "x", "parent_track_id"]
"""Columns of checked tracks."""
_INTEGERS = ["track_id", "t", "parent_track_id"]
# Larger integers are not exact as floats, and a column with a decimal point is read as floats.
_MAX_INTEGER = 2**53
_MAX_LENGTH_SHOWN = 60
_REMEDY = "correct or remove these rows"


def check_tracks(where: str, tracks: pd.DataFrame) -> pd.DataFrame:
    """Return tracks whose values, frames and mothers are possible.

    Parameters
    ----------
    where : str
        The file, for messages.
    tracks : pandas.DataFrame
        The columns ``track_id``, ``t``, ``y``, ``x``, and ``parent_track_id`` if the file has mothers. The index is the
        number of a row in the file, from 0.

    Returns
    -------
    pandas.DataFrame
        The columns `READ`, sorted by track and frame; the mother is -1 if there is none.

    Raises
    ------
    UserError
        If values are missing or not numbers, a track has two rows in a frame, or a mother does not end before her
        daughter begins, or descends from herself.
    NoTracksError
        If there are no rows.

    Notes
    -----
    A mother may be missing, because a filter has removed her; see `orphans`.
    """
    if tracks.empty:
        raise NoTracksError(
            f"tracks need at least one row, {where} has none; track the position, or leave its well out"
        )
    if "parent_track_id" not in tracks:
        tracks = tracks.assign(parent_track_id=-1)
    checked = _checked_values(where, tracks[READ]).sort_values(["track_id", "t"], ignore_index=True)
    checked["parent_track_id"] = _without_roots(checked)
    _check_mothers(where, checked)
    return checked


def orphans(tracks: pd.DataFrame) -> Any:
    """Return the mother of each track whose mother is not among the tracks, a series by track, shape (n_orphans,)."""
    mothers: Any = tracks.groupby("track_id")["parent_track_id"].first()
    return mothers[(mothers >= 0) & ~mothers.isin(mothers.index)]


def _checked_values(where: str, tracks: pd.DataFrame) -> pd.DataFrame:
    # Some trackers leave the cell empty for a track without a mother.
    tracks = tracks.assign(
        parent_track_id=tracks["parent_track_id"].astype(object).where(tracks["parent_track_id"].notna(), -1)
    )
    numbers = tracks.apply(_to_numbers)
    for column in READ:
        bad = np.flatnonzero(~np.isfinite(numbers[column].to_numpy(dtype=float, na_value=np.nan)))
        if len(bad):
            value = tracks[column].iloc[bad[0]]
            row = tracks.index[bad[0]] + 1
            is_missing = pd.api.types.is_scalar(value) and pd.isna(value)
            what = "has no value" if is_missing else f"must be a finite number, got {_shorten(repr(_plain(value)))}"
            what += " (write decimals with a point)" * (isinstance(value, str) and "," in value)
            raise UserError(
                f"column {column!r} of tracks {what} in data row {row} of {where} ({count_rows(len(bad))}); {_REMEDY}"
            )
    for column in _INTEGERS:
        values = numbers[column].to_numpy(dtype=float)
        bad = np.flatnonzero((values % 1 != 0) | (np.abs(values) > _MAX_INTEGER))
        if len(bad):
            value, row = _spell(tracks[column].iloc[bad[0]]), tracks.index[bad[0]] + 1
            raise UserError(
                f"column {column!r} of tracks must be an integer from -2**53 to 2**53, got {value} in data row "
                f"{row} of {where} ({count_rows(len(bad))}); number the tracks or frames from 0"
            )
    for column in ("track_id", "t"):
        negative = np.flatnonzero(numbers[column] < 0)
        if len(negative):
            value = _spell(tracks[column].iloc[negative[0]])
            raise UserError(
                f"column {column!r} of tracks must be at least 0, got {value} in data row "
                f"{tracks.index[negative[0]] + 1} of {where} ({count_rows(len(negative))}); {_REMEDY}"
            )
    repeated = np.flatnonzero(numbers.duplicated(["track_id", "t"]))
    if len(repeated):
        track, frame = numbers[["track_id", "t"]].iloc[repeated[0]].astype(int)
        raise UserError(
            f"a track must have at most one row per frame, track {track} has a second one in frame {frame}, in data "
            f"row {tracks.index[repeated[0]] + 1} of {where} ({count_rows(len(repeated))}); {_REMEDY}"
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


def _spell(value: Any) -> str:
    """Return a number with all its digits."""
    number = _plain(value)
    return f"{number:.17g}" if isinstance(number, float) and number.is_integer() else str(number)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH_SHOWN else f"{text[:_MAX_LENGTH_SHOWN]}..."


def _tracks(n: int) -> str:
    return f"{count(n, 'track')} affected"


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
            f"a track must have one mother, track {several.index[0]} of {where} has {list(several.iloc[0])}; write the "
            "mother, or -1 if there is none, in each row of the track"
        )
    mothers = mothers["min"][mothers["min"].isin(spans.index)]
    _check_no_cycle(where, mothers)
    begins, ends = spans["min"].loc[mothers.index], spans["max"].loc[mothers.to_numpy()].set_axis(mothers.index)
    early = mothers[begins <= ends]
    if len(early):
        track = early.index[0]
        raise UserError(
            f"a mother must end before her daughter begins, track {track} of {where} begins in frame {begins[track]}, "
            f"its mother {early.iloc[0]} ends in frame {ends[track]} ({_tracks(len(early))}); {_remedy(early)}"
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
            f"; {_remedy(mothers.loc[ancestor.index])}"
        )


def _remedy(mothers: pd.Series) -> str:
    """Return what to do about impossible mothers; 0 is often meant to be none."""
    if (mothers == 0).any():
        return "write -1 for a track without a mother, as 0 is a track of this position"
    return "correct the mothers, or end a mother's track before those of her daughters"


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, so that messages do not show its type."""
    return value.item() if isinstance(value, np.generic) else value
