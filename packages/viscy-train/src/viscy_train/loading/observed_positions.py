"""Observed positions: the position, frame and channel of each row of an anchor table, as numbers.

They are computed for the rows in use, because numbers of all rows of a large table take much memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.positives.lineages import starts_run
from viscy_train.row_slices import as_category

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.experiments.experiment import Experiment


_ROWS_PER_CHUNK = 2**20


class PositionOfRows:
    """The index of the position of each row, by indexing with rows.

    Parameters
    ----------
    experiment, name : pandas.Series
        Experiment and name of the position of each row, categorical.
    experiments : list of str
        Names of all experiments.

    Attributes
    ----------
    codes : numpy.ndarray
        Distinct pairs of experiment and name, ascending, shape (n_positions,): index of the experiment times number of
        names, plus index of the name.
    n_names : int
        Number of names.
    """

    def __init__(self, experiment: Any, name: Any, experiments: list[str]) -> None:
        self.n_names = len(name.cat.categories)
        self._code_of_experiment = pd.Index(experiments).get_indexer(experiment.cat.categories).astype(np.int64)
        self._experiment, self._name = experiment.array.codes, name.array.codes
        # The codes are found in the first row of each run of equal pairs, of which a table has few.
        runs = [pair[starts_run(pair)] for pair in self._chunks()]
        self.codes = np.unique(np.concatenate(runs)) if runs else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._name)

    def __getitem__(self, rows: Any) -> NDArray[np.int64]:
        return np.searchsorted(self.codes, self._pair(rows))

    def _pair(self, rows: Any) -> NDArray[np.int64]:
        return self._code_of_experiment[self._experiment[rows]] * self.n_names + self._name[rows]

    def _chunks(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self), _ROWS_PER_CHUNK):
            yield self._pair(slice(start, start + _ROWS_PER_CHUNK))


class ChannelOfRows:
    """The index of the channel of each row among those of its experiment, by indexing with rows."""

    def __init__(self, table: AnchorTable) -> None:
        channel, experiment = (as_category(table.observations[name]) for name in ("channel", "experiment"))
        self._index = np.full((len(experiment.cat.categories), len(channel.cat.categories)), -1)
        for one in table.experiments:
            row = experiment.cat.categories.get_indexer([one.name])
            self._index[row, channel.cat.categories.get_indexer(one.channel_names)] = np.arange(len(one.channels))
        self._experiment, self._channel = experiment.array.codes, channel.array.codes

    def __getitem__(self, rows: Any) -> NDArray[np.int64]:
        return self._index[self._experiment[rows], self._channel[rows]]


class CenterOfRows:
    """The coordinates y and x of rows, in pixels, by indexing with n rows: shape (n, 2)."""

    def __init__(self, table: AnchorTable) -> None:
        self._y, self._x = (table.observations[name].to_numpy(np.float64) for name in ("y", "x"))

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.stack([self._y[rows], self._x[rows]], axis=1)


class ObservedPositions:
    """The position, frame and channel of each observation of a table.

    Parameters
    ----------
    table : AnchorTable
        The table.

    Attributes
    ----------
    position : PositionOfRows
        Index of the position of each row. Two experiments may have positions of the same name, so a
        position is a pair of experiment and name.
    experiment_of_position : numpy.ndarray
        Index of the experiment of each position, shape (n_positions,).
    name_of_position : list of str
        Name of each position.
    frame : numpy.ndarray
        Number of the frame of each row, shape (n_rows,).
    channel : ChannelOfRows or None
        Index of the channel of each row among those of its experiment; None if rows have all channels.
    """

    def __init__(self, table: AnchorTable) -> None:
        observations = table.observations
        self.experiments = table.experiments
        names = [experiment.name for experiment in table.experiments]
        experiment, name = (as_category(observations[column]) for column in ("experiment", "position"))
        self.position = PositionOfRows(experiment, name, names)
        codes, n_names = self.position.codes, self.position.n_names
        self.experiment_of_position = codes // n_names
        self.name_of_position = [str(name.cat.categories[code]) for code in codes % n_names]
        self.frame = observations["t"].to_numpy(np.int64)
        self.channel = ChannelOfRows(table) if table.channels_mode == "one" else None

    def __len__(self) -> int:
        return len(self.position)

    def experiment(self, position: int) -> Experiment:
        """Return the experiment of a position."""
        return self.experiments[self.experiment_of_position[position]]

    def describe_damage(self, row: int, reason: str) -> str:
        """Return the message for pixels that cannot be used."""
        position = int(self.position[row])
        experiment = self.experiment(position)
        return (
            f"cannot use pixels of experiment {experiment.name!r}, plate {experiment.plate}, position "
            f"{self.name_of_position[position]}, frame {self.frame[row]} ({reason}); restore them, or exclude the "
            "affected observations with `viscy-train index --config FILE --pixels all`"
        )
