"""Observed positions: the position, frame and channel of each row of an anchor table, as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.positives.lineages import starts_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.experiments.experiment import Experiment


class ObservedPositions:
    """The position, frame and channel of each observation of a table.

    Parameters
    ----------
    table : AnchorTable
        The table.

    Attributes
    ----------
    position : numpy.ndarray
        Index of the position of each row, shape (n_rows,). Two experiments may have positions of the same name, so a
        position is a pair of experiment and name.
    experiment_of_position : numpy.ndarray
        Index of the experiment of each position, shape (n_positions,).
    name_of_position : list of str
        Name of each position.
    frame : numpy.ndarray
        Number of the frame of each row, shape (n_rows,).
    channel : numpy.ndarray or None
        Index of the channel of each row among those of its experiment, shape (n_rows,); None if rows have all channels.
    """

    def __init__(self, table: AnchorTable) -> None:
        observations = table.observations
        self.experiments = table.experiments
        names = [experiment.name for experiment in table.experiments]
        experiment, name = (observations[column].astype("category") for column in ("experiment", "position"))
        n_names = len(name.cat.categories)
        code_of_experiment = pd.Index(names).get_indexer(experiment.cat.categories)[experiment.cat.codes.to_numpy()]
        pair = code_of_experiment * n_names + name.cat.codes.to_numpy(np.int64)
        # The codes are found in the first row of each run of equal pairs, of which a table has few.
        codes = np.unique(pair[starts_run(pair)])
        self.position = np.searchsorted(codes, pair)
        self.experiment_of_position = codes // n_names
        self.name_of_position = [str(name.cat.categories[code]) for code in codes % n_names]
        self.frame = observations["t"].to_numpy(np.int64)
        self.channel = _channels_of_rows(table) if table.channels_mode == "one" else None

    def __len__(self) -> int:
        return len(self.position)

    def experiment(self, position: int) -> Experiment:
        """Return the experiment of a position."""
        return self.experiments[self.experiment_of_position[position]]

    def describe_damage(self, row: int, reason: str) -> str:
        """Return the message for pixels that cannot be used."""
        position = self.position[row]
        experiment = self.experiment(position)
        return (
            f"cannot use pixels of experiment {experiment.name!r}, plate {experiment.plate}, position "
            f"{self.name_of_position[position]}, frame {self.frame[row]} ({reason}); restore them, or exclude the "
            "affected observations with `viscy-train index --config FILE --pixels all`"
        )


def _channels_of_rows(table: AnchorTable) -> NDArray[np.int64]:
    """Return the index of each observation's channel among those of its experiment."""
    channel, experiment = (table.observations[name].astype("category") for name in ("channel", "experiment"))
    index = np.full((len(experiment.cat.categories), len(channel.cat.categories)), -1)
    for one in table.experiments:
        row = experiment.cat.categories.get_indexer([one.name])
        index[row, channel.cat.categories.get_indexer(one.channel_names)] = np.arange(len(one.channels))
    return index[experiment.cat.codes.to_numpy(), channel.cat.codes.to_numpy()]
