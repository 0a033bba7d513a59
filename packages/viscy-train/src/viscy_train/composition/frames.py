"""Frames: how many different frames the crops of a batch are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.loading.batches import Batch
from viscy_train.positives.column_codes import encode_column

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.loading.positive_choice import PositiveChoice

# Batches of which the mean is taken: choosing positives takes longer than composing a batch.
_MAX_BATCHES = 50


@dataclass(frozen=True, kw_only=True)
class FrameCounts:
    """Numbers of different frames, each a position at a time, that a batch needs on average.

    Parameters
    ----------
    batch_size : int
        Anchors of a batch.
    anchors : float
        Frames of the anchors.
    pairs : float
        Frames of the anchors and their positives.
    """

    batch_size: int
    anchors: float
    pairs: float

    @property
    def sentence(self) -> str:
        """What the counts say, as a sentence."""
        return (
            f"The {self.batch_size} anchors of a batch are in {self.anchors:,.1f} different frames on average; with "
            f"their positives, {self.pairs:,.1f}."
        )


def count_frames(batches: pd.DataFrame, observations: pd.DataFrame, choice: PositiveChoice) -> FrameCounts | None:
    """Count the frames of some batches.

    Parameters
    ----------
    batches : pandas.DataFrame
        Slots of batches in order: `epoch`, `batch` and `row`, the row of the observations. Of many batches, some that
        are evenly spaced are counted.
    observations : pandas.DataFrame
        All observations of the table.
    choice : PositiveChoice
        Chooses the positives.

    Returns
    -------
    FrameCounts or None
        None if there are no batches.
    """
    groups = list(batches.groupby(["epoch", "batch"], sort=False)["row"])
    if not groups:
        return None
    frame = _number_frames(observations)
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(len(groups), _MAX_BATCHES)).round().astype(np.int64))
    counts, sizes = [], []
    for (epoch, index), own in (groups[k] for k in chosen.tolist()):
        rows = own.to_numpy(np.int64)
        positives = choice.choose(Batch(rows, int(epoch), int(index)))
        counts.append([len(np.unique(frame[one])) for one in (rows, np.concatenate([rows, positives]))])
        sizes.append(len(rows))
    anchors, pairs = np.mean(counts, axis=0).tolist()
    return FrameCounts(batch_size=max(sizes), anchors=anchors, pairs=pairs)


def _number_frames(observations: pd.DataFrame) -> NDArray[np.int64]:
    """Return a number for the position and time of each observation, shape (n_observations,)."""
    time = observations["t"].to_numpy(np.int64)
    return encode_column(observations, "position") * (int(time.max()) + 1) + time
