"""Annotations: tables of a project whose columns are joined to observations, tracks, frames, positions or wells."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from viscy_train.anchors.annotation_files import read_annotations
from viscy_train.anchors.cell_index import annotations_of, is_cell_index
from viscy_train.anchors.columns import CHANNEL_COLUMNS, RESERVED
from viscy_train.anchors.typed_columns import can_be_column, type_column
from viscy_train.errors import UserError, require_regular_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.experiments import Experiment

KEYS = {
    "position": ("position", "fov_name", "fov"),
    "well": ("well",),
    "track_id": ("track_id", "track"),
    "t": ("t", "frame"),
}
"""Columns of the anchor table by which annotations are joined, and what a table may call them."""
_INTEGERS = ("track_id", "t")
_EXPERIMENT = "experiment"
_MAX_NAMES = 5


def add_annotations(observations: pd.DataFrame, experiments: list[Experiment]) -> tuple[pd.DataFrame, list[str]]:
    """Join the annotations of experiments to their observations.

    Parameters
    ----------
    observations : pandas.DataFrame
        Observations of all experiments, with a RangeIndex.
    experiments : list of Experiment
        Name the tables.

    Returns
    -------
    observations : pandas.DataFrame
        The observations with the columns of the tables, which are missing for observations that no table has.
    notes : list of str
        What was joined, a sentence for each table.

    Raises
    ------
    UserError
        If a table cannot be read or joined, has two rows for the same observations, or has a column of metadata or of
        another table of the experiment.
    """
    joined: dict[str, list[_Joined]] = {}
    notes = []
    for experiment in experiments:
        rows = np.flatnonzero((observations["experiment"] == experiment.name).to_numpy())
        own: set[str] = set()
        for path in experiment.annotations:
            table = _Table.read(path, experiment.name)
            names, ignored = _names_to_add(table, observations, own)
            own |= set(names)
            row = table.match(observations.iloc[rows])
            for name in names:
                joined.setdefault(name, []).append(_Joined(table.content[name], rows, row))
            notes.append(f"{experiment.name}: {table.describe(names, ignored, row)}")
    columns = {name: _combine(name, parts, len(observations)) for name, parts in joined.items()}
    return observations.assign(**columns), notes


def annotation_checksums(experiment: Experiment) -> dict[str, int]:
    """Return the CRC-32 of the content of each table, by number and name; without tables that do not exist."""
    checksums = {}
    for number, path in enumerate(experiment.annotations, start=1):
        if path.is_file():
            require_regular_file(path, "annotations")
            checksum = 0
            with path.open("rb") as file:
                while block := file.read(2**20):
                    checksum = zlib.crc32(block, checksum)
            checksums[f"{number}: {path.name}"] = checksum
    return checksums


class _Joined(NamedTuple):
    """A column of a table, the observations that it was joined to, and the row of each, -1 for none."""

    values: pd.Series
    observations: NDArray[np.int64]
    row: NDArray[np.int64]


def _combine(name: str, parts: list[_Joined], n_observations: int) -> pd.Series:
    """Return a column of all observations, in the type that holds the values of all tables."""
    row = np.full(n_observations, -1)
    offset = 0
    for part in parts:
        row[part.observations] = np.where(part.row < 0, -1, part.row + offset)
        offset += len(part.values)
    values = [part.values for part in parts]
    if (row < 0).any():
        values.append(pd.Series([None], dtype=object))
    try:
        typed = type_column(pd.concat(values, ignore_index=True) if len(values) > 1 else values[0])
    except UserError as error:
        raise UserError(f"column {name!r} of annotations: {error}") from error
    column = typed.iloc[np.where(row < 0, len(typed) - 1, row)].reset_index(drop=True)
    return column.cat.remove_unused_categories() if isinstance(column.dtype, pd.CategoricalDtype) else column


def _names_to_add(table: _Table, observations: pd.DataFrame, own: set[str]) -> tuple[list[str], list[str]]:
    """Return the columns of a table that are added to observations, and those that are not."""
    names, ignored = [], []
    for name in table.content.columns:
        if name in table.keys.values() or name == _EXPERIMENT:
            continue
        is_channel = name in CHANNEL_COLUMNS and CHANNEL_COLUMNS[0] in observations
        is_index = name.startswith("__index_level_")  # that of a pandas table
        if name in RESERVED or is_channel or is_index or not can_be_column(table.content[name]):
            ignored.append(name)
            continue
        if name in observations or name in own:
            raise UserError(
                f"column {name!r} of {table.path} must not have the name of metadata or of a column of another table; "
                "rename one of them"
            )
        names.append(name)
    if not names:
        raise UserError(f"annotations must have a column to add, {table.path} has only {', '.join(table.content)}")
    return names, ignored


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A table of annotations, and its columns by which it is joined.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : pandas.DataFrame
        Its rows for one experiment.
    keys : dict of str to str
        The column of the table for each column of the anchor table.
    values : dict of str to numpy.ndarray
        The values of these columns, as in the anchor table.
    """

    path: Path
    content: pd.DataFrame
    keys: dict[str, str]
    values: dict[str, NDArray[Any]]

    @classmethod
    def read(cls, path: Path, experiment: str) -> _Table:
        """Read a table, and keep its rows for an experiment if it has a column of experiments."""
        content = read_annotations(path)
        if _EXPERIMENT in content:
            is_own = content[_EXPERIMENT].astype(str) == experiment
            if not is_own.any():
                raise UserError(f"annotations of experiment {experiment!r} must have rows of it, {path} has none")
            content = content[is_own.to_numpy()].reset_index(drop=True)
        if is_cell_index(content):
            content = annotations_of(content)
        keys = _keys_of(content, path)
        values = {
            key: _integers(content[name], path) if key in _INTEGERS else _names(content, key, name)
            for key, name in keys.items()
        }
        return cls(path=path, content=content, keys=keys, values=values)

    def match(self, observations: pd.DataFrame) -> NDArray[np.int64]:
        """Return the row of each observation, -1 if the table does not have it.

        Raises
        ------
        UserError
            If two rows are of the same observations, or a track is in several positions and the table has none.
        """
        if "track_id" in self.keys and "position" not in self.keys:
            self._check_tracks_are_unique(observations)
        of_row = np.zeros(len(self.content), dtype=np.int64)
        of_observation = np.zeros(len(observations), dtype=np.int64)
        is_known = np.ones(len(observations), dtype=bool)
        for key, values in self.values.items():
            codes, names = pd.factorize(values)
            found = _find(observations[key], names)
            is_known &= found >= 0
            of_row, distinct = pd.factorize(of_row * len(names) + codes)
            joint = of_observation * len(names) + found
            of_observation = pd.Index(distinct).get_indexer(joint)
            is_known &= of_observation >= 0
        self._check_once(of_row)
        row_of_code = np.empty(len(of_row), dtype=np.int64)
        row_of_code[of_row] = np.arange(len(of_row))
        return np.where(is_known, row_of_code[of_observation], -1)

    def describe(self, names: list[str], ignored: list[str], row: NDArray[np.int64]) -> str:
        """Return a sentence on what was joined."""
        is_used = np.zeros(len(self.content), dtype=bool)
        is_used[row[row >= 0]] = True
        n_unknown = int((~is_used).sum())
        text = (
            f"annotations of {self.path.name} by {', '.join(self.keys)}: {_list(names)} for "
            f"{int((row >= 0).sum()):,} of {len(row):,} observations"
        )
        if n_unknown:
            text += f"; {n_unknown:,} of its {len(self.content):,} rows are of no observation"
        return text + (f"; its {_list(ignored)} not used" if ignored else "")

    def _check_once(self, code: NDArray[np.int64]) -> None:
        repeated = np.flatnonzero(pd.Series(code).duplicated().to_numpy())
        if len(repeated):
            keys = ", ".join(f"{key} {values[repeated[0]]}" for key, values in self.values.items())
            raise UserError(
                f"annotations must have one row for each {' and '.join(self.keys)}, {self.path} has several for {keys} "
                f"({len(repeated)} rows too many); remove them"
            )

    def _check_tracks_are_unique(self, observations: pd.DataFrame) -> None:
        tracks = observations[["track_id", "position"]].drop_duplicates()
        tracks = tracks[tracks["track_id"].isin(self.values["track_id"])]
        repeated = tracks[tracks["track_id"].duplicated(keep=False)]
        if len(repeated):
            track = repeated["track_id"].iloc[0]
            where = repeated["position"][repeated["track_id"] == track].astype(str).tolist()
            raise UserError(
                f"annotations must have a column for the position (position or fov_name), because track {track} is in "
                f"several: {_list(where)}; {self.path} has {', '.join(self.content.columns)}"
            )


def _keys_of(content: pd.DataFrame, path: Path) -> dict[str, str]:
    """Return the column of a table for each column of the anchor table by which it can be joined."""
    found = {key: next((name for name in names if name in content), None) for key, names in KEYS.items()}
    keys = {key: name for key, name in found.items() if name is not None}
    if "position" in keys:
        keys.pop("well", None)  # the position implies it
    if not keys:
        accepted = "; ".join(" or ".join(names) for names in KEYS.values())
        raise UserError(
            f"annotations must have a column by which they are joined ({accepted}), {path} has "
            f"{', '.join(content.columns)}"
        )
    return keys


def _find(column: Any, values: Any) -> NDArray[np.int64]:
    """Return the index of each value of a column among some values, -1 for others."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Index(values).get_indexer(column.cat.categories)[column.cat.codes.to_numpy()]
    return pd.Index(values).get_indexer(column)


def _names(content: pd.DataFrame, key: str, name: str) -> NDArray[Any]:
    """Return positions or wells as they are named in the anchor table."""
    names = _stripped(content[name])
    if key == "position" and "well" in content:
        is_short = ~names.str.contains("/", regex=False).to_numpy(dtype=bool)
        names = names.astype("str").where(
            ~is_short, _stripped(content["well"]).astype("str") + "/" + names.astype("str")
        )
    return names.astype("category").to_numpy()


def _stripped(names: Any) -> pd.Series:
    """Return names without slashes around them, as a categorical: there are few in a long table."""
    names = names.astype("category")
    # A missing name has the code -1, and so the last entry.
    stripped = [*names.cat.categories.astype("str").str.strip("/"), ""]
    codes, categories = pd.factorize(np.array(stripped, dtype=object))
    return pd.Series(pd.Categorical.from_codes(codes[names.cat.codes.to_numpy()], categories), index=names.index)


def _integers(values: pd.Series, path: Path) -> NDArray[np.int64]:
    numbers: Any = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    invalid = np.flatnonzero(~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53)))
    if len(invalid):
        raise UserError(
            f"{values.name} of annotations must be integers without missing values, got {values.iloc[invalid[0]]} in "
            f"row {invalid[0]} of {path} ({len(invalid)} rows affected)"
        )
    return numbers.astype(np.int64)


def _list(names: list[str]) -> str:
    return ", ".join(names[:_MAX_NAMES]) + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")
