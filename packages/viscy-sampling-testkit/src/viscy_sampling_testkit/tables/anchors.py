"""An anchor table: one row for each tracked cell at one timepoint, with as much imbalance as is asked for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import cells_of, check_count, weights_of

_FRAME_HOURS = 0.5
_IMAGE_PIXELS = 2048.0
_LONGEST_TRACK = 24
_PIXELS_A_FRAME = 4.0


def make_anchors(
    n_anchors: int = 1000,
    *,
    n_experiments: int = 2,
    experiments: Mapping[Any, float] | None = None,
    conditions: Sequence[Hashable] | Mapping[Any, float] = ("uninfected", "infected"),
    hours: float | None = None,
    regular_times: bool = True,
    n_timepoints: int = 48,
    seed: int = 0,
) -> pd.DataFrame:
    """Make a seeded table of anchors from several experiments and conditions.

    How many rows an experiment or a condition has is not random: it is its share of `n_anchors`, rounded by largest
    remainders, and at least one where `n_anchors` allows. The two are as independent as whole numbers can be. Tracks,
    times, places in the image and the order of the rows are random.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_experiments : int, default 2
        Number of equally large experiments, named ``exp0``, ``exp1`` and so on.
    experiments : mapping, optional
        Relative size of each experiment, in place of `n_experiments`.
    conditions : sequence or mapping, default ("uninfected", "infected")
        Labels of equally frequent conditions, or the relative frequency of each label.
    hours : float, optional
        Length of the recording in hours; frames are ``hours / n_timepoints`` apart. Half an hour by default.
    regular_times : bool, default True
        Whether times are those of the frames. False adds to each row its own part of the time to the next frame, so
        that practically all times differ.
    n_timepoints : int, default 48
        Number of frames of the recording.
    seed : int, default 0
        Seed of everything random.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7): ``experiment`` and ``condition`` (str, or as given), ``hours_post_infection`` (float,
        hours), ``track_id`` (int), ``t`` (int, frame), ``y`` and ``x`` (float, pixels in an image of 2048 x 2048). Rows
        of one track share experiment and condition and are successive frames. The index is a RangeIndex.

    Raises
    ------
    TypeError
        If a count is no integer, or `experiments` no mapping, or `conditions` a string.
    ValueError
        If a count is less than 1, `hours` is not positive, `seed` is negative, or there is no experiment or condition,
        or a weight that is not positive and finite.

    Examples
    --------
    >>> anchors = make_anchors(200, conditions={"mock": 9, "infected": 1})
    >>> anchors["condition"].value_counts().to_dict()
    {'mock': 180, 'infected': 20}
    >>> anchors.groupby("experiment").size().to_dict()
    {'exp0': 100, 'exp1': 100}
    """
    for name, value in (("n_anchors", n_anchors), ("n_experiments", n_experiments), ("n_timepoints", n_timepoints)):
        check_count(name, value)
    if hours is not None and not 0 < hours < np.inf:
        raise ValueError(f"hours must be positive and finite, got {hours!r}; leave it out for half-hour frames")
    if experiments is None:
        experiments = {f"exp{i}": 1.0 for i in range(n_experiments)}
    elif not isinstance(experiments, Mapping):
        raise TypeError(f"experiments must map names to weights, got {type(experiments).__name__}")
    cells = cells_of(n_anchors, weights_of("experiments", experiments), weights_of("conditions", conditions))
    interval = _FRAME_HOURS if hours is None else hours / n_timepoints
    anchors = anchors_of_cells(cells, list(experiments), list(conditions), n_timepoints=n_timepoints, seed=seed)
    times = anchors["t"] if regular_times else times_within_frames(anchors["t"], seed)
    return anchors.assign(hours_post_infection=times * interval)


def anchors_of_cells(
    cells: np.ndarray, experiments: Sequence[Any], conditions: Sequence[Any], *, n_timepoints: int = 48, seed: int = 0
) -> pd.DataFrame:
    """Make a table as `make_anchors` does, in half-hour frames, with a given number of rows of each cell.

    `cells` has shape (n_experiments, n_conditions).
    """
    check_count("seed", seed, at_least=0)
    rng = np.random.default_rng(seed)
    track_id, t, offset = _tracks(cells, n_timepoints, rng)
    code = np.repeat(np.arange(cells.size), cells.ravel())
    y, x = (_walk(track_id, offset, rng) for _ in range(2))
    order = rng.permutation(len(code))
    experiment, condition = np.divmod(code[order], cells.shape[1])
    return pd.DataFrame(
        {
            "experiment": labels_of(experiments, experiment),
            "condition": labels_of(conditions, condition),
            "hours_post_infection": t[order] * _FRAME_HOURS,
            "track_id": track_id[order],
            "t": t[order],
            "y": y[order],
            "x": x[order],
        }
    )


def times_within_frames(t: pd.Series, seed: int) -> pd.Series:
    """Return the times of frames, shape (n_anchors,), each a random part of a frame later, in frames."""
    return t + np.random.default_rng([seed, 1]).random(len(t))


def _tracks(
    cells: np.ndarray, n_timepoints: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the rows, which are in order of their cells, into tracks; return track, frame and number in the track."""
    n = int(cells.sum())
    longest = min(n_timepoints, _LONGEST_TRACK)
    lengths = rng.integers((longest + 1) // 2, longest + 1, size=2 * n // longest + 2)
    starts = np.zeros(n + 1, bool)
    starts[0] = True
    starts[np.minimum(np.cumsum(lengths), n)] = True
    starts[np.cumsum(cells)] = True
    starts = starts[:n]
    piece = np.cumsum(starts) - 1
    offset = np.arange(n) - np.flatnonzero(starts)[piece]
    # A track that passes the last frame goes on as a new one at the first: so all frames are equally frequent.
    t = (rng.integers(0, n_timepoints, size=piece[-1] + 1)[piece] + offset) % n_timepoints
    starts |= t == 0
    track = np.cumsum(starts) - 1
    return track, t, np.arange(n) - np.flatnonzero(starts)[track]


def _walk(track: np.ndarray, offset: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one coordinate of cells that drift steadily, each in its own direction, kept inside the image."""
    n_tracks = int(track[-1]) + 1
    origin = rng.uniform(0, _IMAGE_PIXELS, n_tracks)
    step = rng.normal(0, _PIXELS_A_FRAME, n_tracks)
    return np.clip(origin[track] + step[track] * offset, 0, _IMAGE_PIXELS - 1)


def labels_of(labels: Sequence[Any], codes: np.ndarray) -> pd.api.extensions.ExtensionArray | np.ndarray:
    """Return the label of each code, in the dtype that pandas gives a series of the labels."""
    return pd.Series(list(labels)).array.take(codes)
