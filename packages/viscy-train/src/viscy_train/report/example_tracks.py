"""Example tracks: one tracked cell of each experiment and condition, to be shown over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CHANNEL = "channel"
"""Column of a table whose rows are of one channel each."""
_MAX_TRACKS = 12
_N_TIMES = 5
# All tracks are shown at the same times if they overlap for at least this fraction of the median duration.
_MIN_OVERLAP = 0.5


@dataclass(frozen=True, kw_only=True)
class ExampleTracks:
    """Some tracks at several times each.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the anchor table, shape (n_tracks, n_times).
    labels : list of (str, str)
        Experiment and condition of each track.
    n_kinds : int
        Number of combinations of experiment, channel if each row has one, and condition.
    """

    rows: NDArray[np.int64]
    labels: list[tuple[str, str]]
    n_kinds: int


def choose_example_tracks(observations: pd.DataFrame, rows: NDArray[np.int64]) -> ExampleTracks:
    """Choose the longest track of each experiment and condition.

    Parameters
    ----------
    observations : pandas.DataFrame
        Experiment, condition, position, track_id and hours_post_infection; channel and marker if each row has one.
    rows : numpy.ndarray
        Rows to choose from, shape (n_rows,).

    Returns
    -------
    ExampleTracks
        At most twelve tracks at five times each; if there are more experiments and conditions, every nth of them. Where
        each row has one channel, they are chosen for each channel, and the marker is part of the condition.
    """
    kinds = ["experiment", *(["channel"] if CHANNEL in observations else []), "condition"]
    columns = [*kinds, "position", "track_id"]
    tracks = observations.iloc[rows][columns].groupby(columns, sort=False, observed=True)
    longest = tracks.size().groupby(level=kinds, sort=False, observed=True).idxmax()
    every = -(-len(longest) // _MAX_TRACKS)
    chosen = [rows[tracks.indices[key]] for key in longest.iloc[::every]]
    hours = observations["hours_post_infection"].to_numpy(dtype=float)
    starts = np.array([hours[track].min() for track in chosen])
    ends = np.array([hours[track].max() for track in chosen])
    if ends.min() - starts.max() >= _MIN_OVERLAP * np.median(ends - starts):
        # The same times for all, so that tracks can be compared.
        starts, ends = np.full_like(starts, starts.max()), np.full_like(ends, ends.min())
    times = np.linspace(starts, ends, _N_TIMES, axis=1)
    nearest = [
        track[np.abs(hours[track][:, None] - wanted).argmin(axis=0)]
        for track, wanted in zip(chosen, times, strict=True)
    ]
    labels = [(str(kind[0]), str(kind[-1])) for kind in longest.index[::every]]
    if CHANNEL in observations:
        markers = observations["marker"].iloc[[track[0] for track in chosen]].astype(str)
        labels = [(first, f"{marker}, {last}") for (first, last), marker in zip(labels, markers, strict=True)]
    return ExampleTracks(rows=np.array(nearest), labels=labels, n_kinds=len(longest))
