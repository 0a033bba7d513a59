"""Crop plots: crops of tracks over time, and of anchors next to their nearest neighbors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.report.drawing import WIDTH, Drawing
from viscy_train.report.palette import label_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.report.neighbor_gallery import NeighborGallery

_GAP = 3
# Crops of a column whose times differ by less are labeled once, above the column.
_SAME_HOURS = 1.0
_LARGEST = 110
_SMALL, _TINY = 12, 11
_LABEL_WIDTH, _LINE = 150, 14
_FRAME = "#0072B2"
# Percentiles of the pixels that are shown as black and as white.
_LIMITS = [0.5, 99.7]
MAX_CHANNELS = 3
"""Channels that a gallery shows."""


def plot_example_tracks(
    crops: NDArray[np.float32], labels: Sequence[tuple[str, str]], hours: NDArray[np.float64], channels: list[str]
) -> Drawing:
    """Plot crops of some tracks over time, each channel separately.

    Parameters
    ----------
    crops : numpy.ndarray
        Shape (n_tracks, n_times, n_channels, side, side). All crops of a channel are shown with the same contrast.
    labels : sequence of (str, str)
        Experiment and condition of each track.
    hours : numpy.ndarray
        Time of each crop, shape (n_tracks, n_times).
    channels : list of str
        Names of the channels.

    Returns
    -------
    Drawing
        A row for each track and a block of columns for each channel. The hours are above the columns, or below each
        crop if the tracks are shown at different times.
    """
    n_tracks, n_times = crops.shape[:2]
    same_hours = np.ptp(hours, axis=0).max() < _SAME_HOURS
    block = (WIDTH - _LABEL_WIDTH) / len(channels)
    side = min((block - 14) / n_times - _GAP, _LARGEST)
    step = side + _GAP + (0 if same_hours else _LINE)
    drawing = Drawing(WIDTH, 44 + n_tracks * max(step, 2 * _LINE + 4))
    limits = np.percentile(crops, _LIMITS, axis=(0, 1, 3, 4))
    gray = _gray(crops, limits[:, None, None, :, None, None])
    step = max(step, 2 * _LINE + 4)
    for channel, name in enumerate(channels):
        left = _LABEL_WIDTH + channel * block
        drawing.text(left, 14, label_of(name, int(block // 9)), size=13)
        for row, column in np.ndindex(n_tracks, n_times):
            x, y = left + column * (side + _GAP), 40 + row * step
            drawing.image(x, y, x + side, y + side, gray[row, column, channel])
            if same_hours and row == 0:
                drawing.text(x + side / 2, 34, f"{hours[:, column].mean():.1f} h", anchor="middle", size=_SMALL)
            elif not same_hours:
                text = f"{hours[row, column]:.1f} h"
                drawing.text(x + side / 2, y + side + 11, text, anchor="middle", size=min(_TINY, side / 3.2))
    for row, label in enumerate(labels):
        text = "\n".join(label_of(one, 20) for one in label)
        drawing.text(_LABEL_WIDTH - 8, 40 + row * step + side / 2 - 2, text, anchor="end", size=_SMALL)
    return drawing


def plot_gallery(
    crops: NDArray[np.float32], gallery: NeighborGallery, observations: pd.DataFrame, channels: list[str]
) -> Drawing:
    """Plot anchors and their nearest neighbors.

    Parameters
    ----------
    crops : numpy.ndarray
        Shape (n_anchors, 1 + n_neighbors, n_channels, side, side). All crops of a row have the same contrast in a
        channel.
    gallery : NeighborGallery
        What the crops are of.
    observations : pandas.DataFrame
        Experiment, condition and hours_post_infection of each row.
    channels : list of str
        Names of the channels; the first three are shown.

    Returns
    -------
    Drawing
        A row for each anchor, which is on the left. Neighbors of the same condition are in a frame.
    """
    crops = crops[:, :, :MAX_CHANNELS]
    n_rows, n_columns, n_channels = crops.shape[:3]
    width = WIDTH / n_columns
    side = min((width - 20) / n_channels - _GAP, _LARGEST)
    height = side + 4 * _LINE + 22
    drawing = Drawing(WIDTH, 26 + n_rows * height)
    drawing.text(0, 14, f"anchor ({', '.join(label_of(name) for name in channels[:n_channels])})", size=13)
    drawing.text(width, 14, "nearest neighbors, the nearest one first", size=13)
    limits = np.percentile(crops, _LIMITS, axis=(1, 3, 4))
    gray = _gray(crops, limits[:, :, None, :, None, None])
    condition = observations["condition"].astype(str).to_numpy()
    for row, column in zip(*np.nonzero(gallery.rows >= 0), strict=True):
        left, top, number = column * width, 28 + row * height, gallery.rows[row, column]
        right = left + n_channels * (side + _GAP) - _GAP
        if column and condition[number] == condition[gallery.rows[row, 0]]:
            drawing.rectangles(left - 3, top - 3, right + 3, top + side + 3, _FRAME)
        for channel in range(n_channels):
            x = left + channel * (side + _GAP)
            drawing.image(x, top, x + side, top + side, gray[row, column, channel])
        text = _label(observations.iloc[number], float(gallery.similarity[row, column]) if column else None)
        drawing.text(left, top + side + 16, text, size=_TINY)
    return drawing


def _label(observation: pd.Series, similarity: float | None) -> str:
    """Return what is below a crop: condition, experiment, hour and similarity."""
    names = [label_of(observation[column], 22) for column in ("condition", "experiment")]
    time = f"{observation['hours_post_infection']:.1f} h"
    return "\n".join([*names, time, *([] if similarity is None else [f"similarity {similarity:.2f}"])])


def _gray(crops: NDArray[np.float32], limits: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return crops as gray values in three channels, shape (..., side, side, 3)."""
    low, high = limits
    shares = np.clip((crops - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.repeat((shares * 255).round().astype(np.uint8)[..., None], 3, axis=-1)
