"""An anchor table: one row per tracked cell and timepoint, with a chosen imbalance of experiments and conditions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.tables._sizes import check_count, parse_weights, size_strata

_FRAME_HOURS = 0.5
_IMAGE_PIXELS = 2048.0
_LONGEST_TRACK = 24
_PIXELS_PER_FRAME = 4.0


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
    """Make a table of anchors from several experiments and conditions.

    The number of rows of an experiment or a condition is not random: it is its share of `n_anchors`, rounded by the
    largest-remainder method, and at least one if `n_anchors` is large enough. Experiments and conditions are
    independent up to rounding. Tracks, times, image coordinates and the order of the rows are random.

    Parameters
    ----------
    n_anchors : int, default 1000
        Number of rows.
    n_experiments : int, default 2
        Number of experiments of equal size, named ``exp0``, ``exp1`` and so on.
    experiments : mapping, optional
        Relative size of each experiment; replaces `n_experiments`.
    conditions : sequence or mapping, default ("uninfected", "infected")
        Labels of equally frequent conditions, or the relative frequency of each label.
    hours : float, optional
        Length of the recording in hours; frames are ``hours / n_timepoints`` apart. By default, frames are half an hour
        apart.
    regular_times : bool, default True
        If True, times are those of the frames. If False, each row is shifted by a random fraction of the time to the
        next frame, so that practically all times differ.
    n_timepoints : int, default 48
        Number of frames in the recording.
    seed : int, default 0
        Random seed.

    Returns
    -------
    pandas.DataFrame
        Shape (n_anchors, 7): ``experiment`` and ``condition`` (str, or as given), ``hours_post_infection`` (float,
        hours), ``track_id`` (int), ``t`` (int, frame), ``y`` and ``x`` (float, pixels in an image of 2048 x 2048). Rows
        of one track share experiment and condition and are successive frames. The index is a RangeIndex.

    Raises
    ------
    TypeError
        If a count is not an integer, `experiments` is not a mapping, or `conditions` is a string.
    ValueError
        If a count is less than 1, `hours` is not positive, `seed` is negative, `experiments` or `conditions` is empty,
        or a weight is not positive and finite.

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
        raise ValueError(f"hours must be positive and finite, got {hours!r}; omit it for half-hour frames")
    if experiments is None:
        experiments = {f"exp{i}": 1.0 for i in range(n_experiments)}
    elif not isinstance(experiments, Mapping):
        raise TypeError(f"experiments must map names to weights, got {type(experiments).__name__}")
    sizes = size_strata(n_anchors, parse_weights("experiments", experiments), parse_weights("conditions", conditions))
    interval = _FRAME_HOURS if hours is None else hours / n_timepoints
    anchors = fill_strata(sizes, list(experiments), list(conditions), n_timepoints=n_timepoints, seed=seed)
    times = anchors["t"] if regular_times else jitter_times(anchors["t"], seed)
    return anchors.assign(hours_post_infection=times * interval)


def fill_strata(
    sizes: np.ndarray, experiments: Sequence[Any], conditions: Sequence[Any], *, n_timepoints: int = 48, seed: int = 0
) -> pd.DataFrame:
    """Make a table as `make_anchors` does, in half-hour frames, with a given number of rows in each stratum.

    `sizes` has shape (n_experiments, n_conditions).
    """
    check_count("seed", seed, at_least=0)
    rng = np.random.default_rng(seed)
    track_id, t, offset = _make_tracks(sizes, n_timepoints, rng)
    stratum = np.repeat(np.arange(sizes.size), sizes.ravel())
    y, x = (_walk(track_id, offset, rng) for _ in range(2))
    order = rng.permutation(len(stratum))
    experiment, condition = np.divmod(stratum[order], sizes.shape[1])
    return pd.DataFrame(
        {
            "experiment": take_labels(experiments, experiment),
            "condition": take_labels(conditions, condition),
            "hours_post_infection": t[order] * _FRAME_HOURS,
            "track_id": track_id[order],
            "t": t[order],
            "y": y[order],
            "x": x[order],
        }
    )


def jitter_times(t: pd.Series, seed: int) -> pd.Series:
    """Shift each time by a random fraction of a frame; input and output are in frames, shape (n_anchors,)."""
    return t + np.random.default_rng([seed, 1]).random(len(t))


def _make_tracks(
    sizes: np.ndarray, n_timepoints: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the rows, which are ordered by stratum, into tracks.

    Returns the track of each row, its frame, and its index within the track, each of shape (n_anchors,).
    """
    n = int(sizes.sum())
    longest = min(n_timepoints, _LONGEST_TRACK)
    lengths = rng.integers((longest + 1) // 2, longest + 1, size=2 * n // longest + 2)
    starts = np.zeros(n + 1, bool)
    starts[0] = True
    starts[np.minimum(np.cumsum(lengths), n)] = True
    starts[np.cumsum(sizes)] = True
    starts = starts[:n]
    piece = np.cumsum(starts) - 1
    offset = np.arange(n) - np.flatnonzero(starts)[piece]
    # A track that passes the last frame continues as a new track from the first frame, so all frames are equally
    # frequent.
    t = (rng.integers(0, n_timepoints, size=piece[-1] + 1)[piece] + offset) % n_timepoints
    starts |= t == 0
    track = np.cumsum(starts) - 1
    return track, t, np.arange(n) - np.flatnonzero(starts)[track]


def _walk(track: np.ndarray, offset: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one coordinate, in pixels, of cells that drift steadily, each in its own direction, within the image."""
    n_tracks = int(track[-1]) + 1
    origin = rng.uniform(0, _IMAGE_PIXELS, n_tracks)
    step = rng.normal(0, _PIXELS_PER_FRAME, n_tracks)
    return np.clip(origin[track] + step[track] * offset, 0, _IMAGE_PIXELS - 1)


def take_labels(labels: Sequence[Any], codes: np.ndarray) -> pd.api.extensions.ExtensionArray | np.ndarray:
    """Return the label of each code, in the dtype that pandas infers for a series of the labels."""
    return pd.Series(list(labels)).array.take(codes)
