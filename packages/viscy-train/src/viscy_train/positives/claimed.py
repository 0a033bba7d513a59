"""Claimed positives: whether the column `has_positive` of a table is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.positives.frame_range import FrameRange, frame_ranges
from viscy_train.positives.lineages import CHANNEL
from viscy_train.positives.rule import make_positives

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment

# A positive further away along the track is found by the complete search.
_MAX_SHIFT = 8


def wrong_claims(
    observations: pd.DataFrame, experiments: Sequence[Experiment], positive: PositiveConfig
) -> NDArray[np.bool_]:
    """Return where `has_positive` is wrong.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations of a table.
    experiments : sequence of Experiment
        Experiments of the table.
    positive : PositiveConfig
        Which observations may be positives.

    Returns
    -------
    numpy.ndarray
        Shape (n_observations,).

    Raises
    ------
    UserError
        If the table lacks a column that `positive` names.
    """
    claimed = observations["has_positive"].to_numpy()
    if positive.match:
        return make_positives(observations, experiments, positive).has_positive() != claimed
    # A lineage is searched only if the tracks alone do not decide.
    decided = _have_positive_in_track(observations, experiments, positive)
    lineage = observations["lineage_id"].to_numpy()
    rows = np.flatnonzero(np.isin(lineage, np.unique(lineage[~decided | ~claimed])))
    wrong = np.zeros(len(claimed), dtype=bool)
    if len(rows):
        wrong[rows] = make_positives(observations.iloc[rows], experiments, positive).has_positive() != claimed[rows]
    return wrong


def _have_positive_in_track(
    observations: pd.DataFrame, experiments: Sequence[Experiment], positive: PositiveConfig
) -> NDArray[np.bool_]:
    """Return observations that have a positive in their own track, at most `_MAX_SHIFT` rows away."""
    frame, lineage, track = (observations[column].to_numpy() for column in ("t", "lineage_id", "track_id"))
    if positive.channel == "other":
        return np.zeros(len(frame), dtype=bool)
    smallest, largest = _ranges(observations, experiments, positive)
    found = smallest == 0
    channel = observations[CHANNEL].array.codes if CHANNEL in observations else np.zeros(len(frame))
    for shift in range(1, min(_MAX_SHIFT, int(largest.max(initial=0)), len(frame) - 1) + 1):
        gap = frame[shift:] - frame[:-shift]
        is_pair = (gap >= smallest[shift:]) & (gap <= largest[shift:]) & (channel[shift:] == channel[:-shift])
        is_pair &= (track[shift:] == track[:-shift]) & (lineage[shift:] == lineage[:-shift])
        found[shift:] |= is_pair
        found[:-shift] |= is_pair
    return found


def _ranges(
    observations: pd.DataFrame, experiments: Sequence[Experiment], positive: PositiveConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the smallest and the largest number of frames to a positive, for each observation."""
    ranges = frame_ranges(experiments, positive)
    names = observations["experiment"].cat
    codes = names.codes.to_numpy()
    of_categories = [ranges.get(str(name), FrameRange(0, 0)) for name in names.categories]  # some may be unused
    smallest, largest = np.array([(one.smallest, one.largest) for one in of_categories], dtype=np.int64).T
    return smallest[codes], largest[codes]
