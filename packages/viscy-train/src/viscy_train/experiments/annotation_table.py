"""Annotation table: the rows of a table for one experiment, and the observations that each of them is of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.errors import UserError
from viscy_train.experiments.annotation_files import read_annotations, where_of_row
from viscy_train.experiments.cell_index import is_cell_index, read_cell_index
from viscy_train.wording import are, count

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.experiments.experiment import Experiment

KEYS = {
    "position": ("position", "fov_name", "fov"),
    "well": ("well",),
    "track_id": ("track_id", "track"),
    "t": ("t", "frame"),
}
"""Columns of the anchor table by which annotations are joined, and what a table may call them."""
CHANNEL = "channel"
_NAMES_OF_CHANNEL = ("channel", "channel_name")
# What pandas calls the index of a table that it wrote to Parquet, or to CSV and read again.
_INDEX = ("__index_level_", "Unnamed: ")
_INTEGERS = ("track_id", "t")
EXPERIMENT = "experiment"
_MAX_NAMES = 5


@dataclass(frozen=True, kw_only=True)
class AnnotationTable:
    """A table of annotations, and its columns by which it is joined.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : pandas.DataFrame
        Its rows for one experiment; the index is the number of each row in the file.
    keys : dict of str to str
        The column of the table for each column of the anchor table.
    values : dict of str to numpy.ndarray
        The values of these columns, as in the anchor table.
    left_out : dict of str to str
        Why columns of the file are not in the content.
    """

    path: Path
    content: pd.DataFrame
    keys: dict[str, str]
    values: dict[str, NDArray[Any]]
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, experiment: Experiment, *, has_channels: bool = False) -> list[AnnotationTable]:
        """Read a table, and keep its rows for an experiment if it has a column of experiments.

        Parameters
        ----------
        path : pathlib.Path
            The file.
        experiment : Experiment
            The experiment. If frames of its tracks are counted from 1, so are those of the table.
        has_channels : bool, default False
            Whether an observation is of one channel. Rows that differ in the channel are then joined by it.

        Returns
        -------
        list of AnnotationTable
            One table. For a cell index of VisCy, maybe a second one with the columns that differ between channels.
        """
        content = read_annotations(path)
        content = content[[name for name in content if not name.startswith(_INDEX)]]
        content = _spelled(content, has_channels=has_channels)
        if EXPERIMENT in content:
            is_own = content[EXPERIMENT].astype(str) == experiment.name
            if not is_own.any():
                raise UserError(
                    f"annotations of experiment {experiment.name!r} must have rows of it, {path} has rows of "
                    f"{_list_unique(content[EXPERIMENT])}"
                )
            content = content[is_own.to_numpy()]
        if not is_cell_index(content):
            return [cls._of(path, experiment, content, by_channel=has_channels and _differs_by_channel(content))]
        index = read_cell_index(content, experiment.channel_names if has_channels else None)
        both = [cls._of(path, experiment, index.observations)]
        if index.channels is not None:
            both.append(cls._of(path, experiment, index.channels, by_channel=True))
        # Without a column to add, the last one remains, for the message.
        tables = [one for one in both if len(one.content.columns) > len(one.keys)] or both[-1:]
        return [replace(tables[0], left_out=index.left_out), *tables[1:]]

    @classmethod
    def _of(
        cls, path: Path, experiment: Experiment, content: pd.DataFrame, *, by_channel: bool = False
    ) -> AnnotationTable:
        keys = _keys_of(content, path, by_channel=by_channel)
        values = {
            key: _integers(content[name], path) if key in _INTEGERS else _names(content, key, name)
            for key, name in keys.items()
        }
        if "t" in values and experiment.tracks_first_frame == 1:
            values["t"] = _from_frame_0(values["t"], path)
        return cls(path=path, content=content, keys=keys, values=values)

    def match(self, observations: pd.DataFrame) -> NDArray[np.int64]:
        """Return the row of each observation, -1 if the table does not have it.

        Raises
        ------
        UserError
            If two rows are of the same observations, a track is in several positions and the table has none, no row is
            of an observation, or frames seem to be counted from 1.
        """
        if "track_id" in self.keys and "position" not in self.keys:
            self._check_tracks_are_unique(observations)
        row = self._row_of(observations)
        self._check_first_frame(observations, row)
        self._check_used(observations, row)
        return row

    def _row_of(self, observations: pd.DataFrame) -> NDArray[np.int64]:
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

    def describe(self, names: list[str], ignored: dict[str, str], row: NDArray[np.int64]) -> str:
        """Return a sentence on the columns that were joined, and on those that were not, with the reasons."""
        is_used = np.zeros(len(self.content), dtype=bool)
        is_used[row[row >= 0]] = True
        n_unknown = int((~is_used).sum())
        text = (
            f"annotations of {self.path.name} by {', '.join(self.keys)}: {_list_names(names)} for "
            f"{int((row >= 0).sum()):,} of {len(row):,} observations"
        )
        if n_unknown:
            text += f"; {n_unknown:,} of its {count(len(self.content), 'row')} {are(n_unknown)} of no observation"
        unused = list_reasons(self.left_out | ignored)
        return text + (f"; not used: {unused}" if unused else "")

    def _check_once(self, code: NDArray[np.int64]) -> None:
        repeated = np.flatnonzero(pd.Series(code).duplicated().to_numpy())
        if len(repeated):
            keys = ", ".join(f"{key} {values[repeated[0]]}" for key, values in self.values.items())
            raise UserError(
                f"annotations must have one row for each {' and '.join(self.keys)}, {self.path} has several for {keys} "
                f"({count(len(repeated), 'row')} too many); remove them"
            )

    def _check_first_frame(self, observations: pd.DataFrame, row: NDArray[np.int64]) -> None:
        """Refuse frames of which none is 0, and more are those of observations if they are counted from 1."""
        if "t" not in self.keys or self.values["t"].min() < 1 or observations["t"].min() > 0:
            return
        n_used = len(np.unique(row[row >= 0]))
        if n_used == len(self.content):
            return
        later = self._row_of(observations.assign(t=observations["t"] + 1))
        if (n_later := len(np.unique(later[later >= 0]))) > n_used:
            raise UserError(
                f"frames of annotations must be counted as those of tracks, {self.path} seems to count from 1: none is "
                f"0, and {n_used:,} of its {count(len(self.content), 'row')} {are(n_used)} of an observation, but "
                f"{n_later:,} if 1 is subtracted from {self.keys['t']!r}; subtract it, or "
                "set `tracks_first_frame` of the experiment to 1 if tracks are counted from 1 as well"
            )

    def _check_used(self, observations: pd.DataFrame, row: NDArray[np.int64]) -> None:
        """Refuse a table without a row for any observation, and state the names on both sides."""
        if (row >= 0).any() or not len(observations):
            return
        is_found = {
            key: (_find(observations[key], pd.unique(values)) >= 0).any() for key, values in self.values.items()
        }
        apart = [key for key, found in is_found.items() if not found] or list(self.keys)
        sides = "; ".join(
            f"{self.keys[key]} is {_list_unique(self.values[key])} in the table, but {key} is "
            f"{_list_unique(observations[key])} in the observations"
            for key in apart
        )
        raise UserError(
            f"annotations must have rows of observations, {self.path} has none (rows: {len(self.content):,}): "
            f"{sides}; correct them, or remove the table from `annotations`"
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
                f"several: {_list_names(where)}; {self.path} has {', '.join(self.content.columns)}"
            )


def list_reasons(reason_of: dict[str, str]) -> str:
    """Return names with the reason of each as text: ``y, x (in every anchor table or embedding)``."""
    reasons: dict[str, list[str]] = {}
    for name, reason in reason_of.items():
        reasons.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(several)} ({reason})" for reason, several in reasons.items())


def _spelled(content: pd.DataFrame, *, has_channels: bool) -> pd.DataFrame:
    """Return a table whose columns by which it is joined have their names, where it has ``Position`` or ``Track ID``.

    A column ``T`` stays: it may be anything.
    """
    renamed: dict[str, str] = {}
    for names in (*KEYS.values(), (EXPERIMENT,), *((_NAMES_OF_CHANNEL,) * has_channels)):
        if not any(name in content for name in names):
            alike = {name.casefold().replace(" ", "_"): name for name in content if len(name) > 1}
            renamed |= next(({alike[name]: name} for name in names if name in alike), {})
    return content.rename(columns=renamed)


def _known_keys(content: pd.DataFrame) -> dict[str, str]:
    """Return the column of a table for each column of the anchor table but that of channels."""
    found = {key: next((name for name in names if name in content), None) for key, names in KEYS.items()}
    keys = {key: name for key, name in found.items() if name is not None}
    if "position" in keys:
        keys.pop("well", None)  # the position implies it
    return keys


def _channel_of(content: pd.DataFrame) -> str | None:
    return next((name for name in _NAMES_OF_CHANNEL if name in content), None)


def _differs_by_channel(content: pd.DataFrame) -> bool:
    """Return whether a table has rows that would be of the same observations, were it not for their channels."""
    keys = _known_keys(content)
    return _channel_of(content) is not None and (not keys or bool(content.duplicated(list(keys.values())).any()))


def _keys_of(content: pd.DataFrame, path: Path, *, by_channel: bool) -> dict[str, str]:
    """Return the column of a table for each column of the anchor table by which it is joined."""
    keys = _known_keys(content)
    if by_channel and (channel := _channel_of(content)) is not None:
        keys[CHANNEL] = channel
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
        return pd.Index(values).get_indexer(column.cat.categories)[column.array.codes]
    return pd.Index(values).get_indexer(column)


def _names(content: pd.DataFrame, key: str, name: str) -> NDArray[Any]:
    """Return positions, wells or channels as they are named in the anchor table."""
    if key == CHANNEL:
        return content[name].astype("str").astype("category").to_numpy()
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
    stripped = [*names.cat.categories.astype("str").str.strip("/ "), ""]
    codes, categories = pd.factorize(np.array(stripped, dtype=object))
    return pd.Series(pd.Categorical.from_codes(codes[names.array.codes], categories), index=names.index)


def _integers(values: pd.Series, path: Path) -> NDArray[np.int64]:
    numbers: Any = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    invalid = np.flatnonzero(~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53)))
    if len(invalid):
        raise UserError(
            f"{values.name} of annotations must be integers without missing values, got {values.iloc[invalid[0]]} in "
            f"{where_of_row(path, values.index[invalid[0]])} ({count(len(invalid), 'row')} affected)"
        )
    return numbers.astype(np.int64)


def _from_frame_0(frames: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    """Return frames that are counted from 1 as those that are counted from 0."""
    if frames.min() < 1:
        raise UserError(
            f"frames of annotations must be counted as those of tracks, at least 1 as `tracks_first_frame` states, got "
            f"{frames.min()} in {path}"
        )
    return frames - 1


def _list_unique(values: Any) -> str:
    return _list_names([str(value) for value in pd.unique(pd.Series(values).dropna())])


def _list_names(names: list[str]) -> str:
    return ", ".join(names[:_MAX_NAMES]) + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")
