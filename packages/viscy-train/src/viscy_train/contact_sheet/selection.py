"""Selection: which conditions, frames and cells of a table a contact sheet shows; a bounded number of any table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.loading.observed_positions import ObservedPositions
from viscy_train.row_slices import as_category

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable

MAX_EXPERIMENTS, MAX_ROWS = 12, 24
"""Numbers of experiments, and of conditions of all experiments together, that a sheet shows at most."""
TILES = 4
"""Number of crops of one channel beside each other, in each of two lines; crops of more channels are fewer."""
# Parts of a condition's positions, and of the frames of a position, before those that are shown.
_WHERE = (0.25, 0.75)


@dataclass(frozen=True, kw_only=True)
class SampledFrame:
    """A frame of a position, and the cells in it whose crops are shown.

    Parameters
    ----------
    position : str
        Name of the position.
    frame : int
        Number of the frame.
    rows : numpy.ndarray
        Rows of the table whose crops are shown, shape (n_crops,).
    cells : numpy.ndarray
        Coordinates y and x of all cells of the frame, shape (n_cells, 2).
    tracks : numpy.ndarray
        Track of each of them, shape (n_cells,).
    """

    position: str
    frame: int
    rows: NDArray[np.int64]
    cells: NDArray[np.float64]
    tracks: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SampledCondition:
    """A condition of an experiment.

    Parameters
    ----------
    name : str
        Name of the condition.
    n_positions, n_observations : int
        Numbers of its positions and rows.
    frames : tuple of SampledFrame
        Two frames, or one if it has no other.
    counts : numpy.ndarray
        Number of cells in each frame, divided by the number of positions, shape (n_frames,).
    """

    name: str
    n_positions: int
    n_observations: int
    frames: tuple[SampledFrame, ...]
    counts: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SampledExperiment:
    """An experiment.

    Parameters
    ----------
    index : int
        Its index among the experiments of the table.
    conditions : tuple of SampledCondition
        Its conditions that are shown, in the order of the table.
    left_out : tuple of str
        Names of its other conditions.
    """

    index: int
    conditions: tuple[SampledCondition, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a sheet shows.

    Parameters
    ----------
    experiments : tuple of SampledExperiment
        The experiments that are shown.
    left_out : tuple of str
        Names of the others.
    """

    experiments: tuple[SampledExperiment, ...]
    left_out: tuple[str, ...]

    @property
    def frames(self) -> list[tuple[int, SampledFrame]]:
        """Index of the experiment, and frame: the first one of each condition, then the second ones."""
        rounds = range(len(_WHERE))
        conditions = [(one.index, condition) for one in self.experiments for condition in one.conditions]
        return [
            (index, condition.frames[turn])
            for turn in rounds
            for index, condition in conditions
            if turn < len(condition.frames)
        ]


def select(table: AnchorTable, positions: ObservedPositions) -> Selection:
    """Choose what a sheet shows: it depends on the table alone.

    Parameters
    ----------
    table : AnchorTable
        The table.
    positions : ObservedPositions
        Its positions.
    """
    condition = as_category(table.observations["condition"])
    names = [str(name) for name in condition.cat.categories]
    code = positions.experiment_of_position[positions.position[:]] * len(names) + condition.array.codes
    counts = np.bincount(code, minlength=len(table.experiments) * len(names)).reshape(-1, len(names))
    seen = pd.unique(np.asarray(condition.array.codes)).tolist()  # in the order of the table, as in the report
    present = [[one for one in seen if of_experiment[one]] for of_experiment in counts]
    known = [index for index, conditions in enumerate(present) if conditions]
    shown = known[:MAX_EXPERIMENTS]
    experiments = []
    for index, n in zip(shown, share_rows([len(present[index]) for index in shown], MAX_ROWS), strict=True):
        chosen = _spread(present[index], n)
        conditions = [
            _sample_condition(table, positions, names[one], np.flatnonzero(code == index * len(names) + one))
            for one in chosen
        ]
        left_out = [names[one] for one in present[index] if one not in chosen]
        experiments.append(SampledExperiment(index=index, conditions=tuple(conditions), left_out=tuple(left_out)))
    others = tuple(table.experiments[index].name for index in known[MAX_EXPERIMENTS:])
    return Selection(experiments=tuple(experiments), left_out=others)


def share_rows(wanted: Sequence[int], total: int) -> list[int]:
    """Return how many of some rows each experiment gets: as many as it wants, or as the others that want more.

    Parameters
    ----------
    wanted : sequence of int
        Number of conditions of each experiment.
    total : int
        Number of rows.
    """
    shares = [0] * len(wanted)
    while (left := total - sum(shares)) > 0:
        unmet = [index for index, n in enumerate(wanted) if shares[index] < n]
        if not unmet:
            break
        for index in unmet[:left]:
            shares[index] += 1
    return shares


def _spread[T](items: Sequence[T], n: int) -> list[T]:
    """Return n of some items that are evenly spread over them, in order; all of them if they are not more."""
    if n >= len(items):
        return list(items)
    return [items[index] for index in ((np.arange(n) + 0.5) * len(items) / n).astype(int).tolist()]


def _sample_condition(
    table: AnchorTable, positions: ObservedPositions, name: str, rows: NDArray[np.int64]
) -> SampledCondition:
    position, frame = positions.position[rows], positions.frame[rows]
    present = np.unique(position)
    frames: list[SampledFrame] = []
    for part in _WHERE:
        chosen = present[int(part * len(present))]
        of_position = rows[position == chosen]
        times = np.unique(positions.frame[of_position])
        time = times[int(part * len(times))]
        of_frame = of_position[positions.frame[of_position] == time]
        sampled = _sample_frame(table, positions, positions.name_of_position[chosen], int(time), of_frame)
        if not any((one.position, one.frame) == (sampled.position, sampled.frame) for one in frames):
            frames.append(sampled)
    is_first = np.ones(len(rows), dtype=bool) if positions.channel is None else positions.channel[rows] == 0
    return SampledCondition(
        name=name,
        n_positions=len(present),
        n_observations=len(rows),
        frames=tuple(frames),
        counts=np.bincount(frame[is_first]) / len(present),
    )


def _sample_frame(
    table: AnchorTable, positions: ObservedPositions, name: str, frame: int, rows: NDArray[np.int64]
) -> SampledFrame:
    observations = table.observations.iloc[rows]
    tracks, first = np.unique(observations["track_id"].to_numpy(np.int64), return_index=True)
    cells = observations[["y", "x"]].to_numpy(np.float64)[first]
    if positions.channel is None:
        n_channels = len(table.experiments[0].channels)
        chosen = rows[first][_in_order(cells, 2 * (TILES // min(n_channels, TILES)))]
    else:
        chosen = _one_channel_each(positions.channel[rows], observations["track_id"].to_numpy(), rows)
    return SampledFrame(position=name, frame=frame, rows=chosen, cells=cells, tracks=tracks)


def _in_order(cells: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Return the indices of n cells that are spread over the rows of the image, from its top to its bottom."""
    return np.array(_spread(np.lexsort((cells[:, 1], cells[:, 0])).tolist(), n), dtype=np.int64)


def _one_channel_each(
    channel: NDArray[np.int64], track: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return rows of all channels of a cell, then of the next one, if each row is an observation in one channel."""
    order = np.lexsort((track, channel))
    turn = np.concatenate([np.arange(n) for n in np.unique(channel, return_counts=True)[1]])
    taken = order[np.lexsort((channel[order], turn))]
    return rows[taken[: 2 * TILES]]
