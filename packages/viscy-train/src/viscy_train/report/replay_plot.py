"""Replay: the batch of a step of a run, found in its record and drawn as the encoder was given it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from viscy_train.report.style import label_of, new_figure, style

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


PAIRS_AT_MOST = 64
_WIDTH = 13.0
# Inches: side of a crop, and of the lines below a pair.
_CROP_INCHES = 0.72
_LABEL_INCHES = 0.55
_NARROWEST = 7.0
_GAP = 0.04
_GREY, _BLUE = "#52606d", "#0072B2"
# IntensityStatistics outside of the crops.
_PAPER = 1.0


def replay_picture(
    pairs: Mapping[str, Any],
    augmented: Mapping[str, Any] | None,
    cells: pd.DataFrame,
    channels: list[str],
    title: str,
    first: int = 0,
) -> Figure:
    """Draw the pairs of a batch: anchor beside positive, each channel, as loaded and as augmented.

    Parameters
    ----------
    pairs : mapping of str to torch.Tensor
        A loaded batch: `anchor` and `positive`, shape (n, n_channels, n_slices, side, side); `row` and `positive_row`,
        shape (n,), rows of `cells`.
    augmented : mapping of str to torch.Tensor, optional
        The same after augmentation; its crops may be smaller.
    cells : pandas.DataFrame
        Experiment, condition, hours_post_infection and t of each row.
    channels : list of str
        One for each channel.
    title : str
        Above all.
    first : int, default 0
        Pair to begin with; at most `PAIRS_AT_MOST` are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        The slice in the middle of each crop. A channel has the same contrast in all crops of an experiment, augmented
        ones too, so that a change of brightness shows.
    """
    rows = _array(pairs["row"])[first : first + PAIRS_AT_MOST]
    partners = _array(pairs["positive_row"])[first : first + PAIRS_AT_MOST]
    experiment = cells["experiment"].astype(str).to_numpy()[rows]
    loaded = _middle_slices(pairs, first)
    limits = _limits(loaded, experiment)
    lines = [_on_scale(loaded, limits)]
    if augmented is not None:
        side = loaded.shape[-1]
        lines.append(_as_wide(_on_scale(_middle_slices(augmented, first), limits), side))
    blocks = np.concatenate([_in_a_row(line) for line in lines], axis=1)
    with mpl.rc_context(style()):
        return _draw_blocks(blocks, _labels(rows, partners, cells), channels, title, is_augmented=augmented is not None)


def _array(tensor: Any) -> NDArray:
    return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def _middle_slices(pairs: Mapping[str, Any], first: int) -> NDArray[np.float32]:
    """Return the middle slices of anchors and positives, shape (n, 2, n_channels, side, side)."""
    parts = [_array(pairs[name][first : first + PAIRS_AT_MOST]) for name in ("anchor", "positive")]
    crops = np.stack(parts, axis=1).astype(np.float32)
    return crops[:, :, :, crops.shape[3] // 2]


def _limits(crops: NDArray[np.float32], experiment: NDArray) -> NDArray[np.float32]:
    """Return darkest and brightest value of each channel, by pair, shape (2, n, 1, n_channels, 1, 1)."""
    limits = np.empty((2, len(crops), crops.shape[2]), dtype=np.float32)
    for name in np.unique(experiment):
        own = experiment == name
        limits[:, own] = np.percentile(crops[own], [0.5, 99.7], axis=(0, 1, 3, 4))[:, None]
    return limits[:, :, None, :, None, None]


def _on_scale(crops: NDArray[np.float32], limits: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = limits
    return np.clip((crops - low) / np.maximum(high - low, 1e-6), 0, 1)


def _as_wide(crops: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return crops in the middle of a width, or what of them is in the middle."""
    have = crops.shape[-1]
    if have > width:
        start = (have - width) // 2
        return crops[..., start : start + width, start : start + width]
    before = (width - have) // 2
    return np.pad(crops, [(0, 0)] * 4 + [(before, width - have - before)], constant_values=_PAPER)


def _in_a_row(crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return anchor and positive of each channel side by side, shape (n, height, width), with a gap after each crop."""
    n, _, n_channels, height, width = crops.shape
    gap = max(1, round(width * _GAP))
    padded = np.pad(crops, [(0, 0)] * 3 + [(0, gap), (0, gap)], constant_values=_PAPER)
    return padded.transpose(0, 3, 2, 1, 4).reshape(n, height + gap, n_channels * 2 * (width + gap))


def _labels(rows: NDArray[np.int64], partners: NDArray[np.int64], cells: pd.DataFrame) -> list[str]:
    hours, frames = cells["hours_post_infection"].to_numpy()[rows], cells["t"].to_numpy()
    names = cells["experiment"].astype(str).to_numpy()[rows], cells["condition"].astype(str).to_numpy()[rows]
    apart = frames[partners] - frames[rows]
    return [
        f"{label_of(experiment)}\n{label_of(condition)}, {hour:.1f} h\n{step:+d} frames, row {row}"
        for experiment, condition, hour, step, row in zip(*names, hours, apart, rows, strict=True)
    ]


def _draw_blocks(
    blocks: NDArray[np.float32], labels: list[str], channels: list[str], title: str, *, is_augmented: bool
) -> Figure:
    """Lay the pairs out on one canvas: blocks have the shape (n, height, width) in pixels."""
    n, height, width = blocks.shape
    crop = width // (2 * len(channels))
    pixels = crop / _CROP_INCHES
    label, margin = round(_LABEL_INCHES * pixels), round(0.16 * pixels)
    across = min(n, max(1, int(_WIDTH * pixels // (width + margin))))
    tall, wide = height + label, width + margin
    canvas = np.full((-(-n // across) * tall, across * wide), _PAPER, dtype=np.float32)
    corners = [(number // across * tall, number % across * wide) for number in range(n)]
    for block, (top, left) in zip(blocks, corners, strict=True):
        canvas[top : top + height, left : left + width] = block
    size = max(canvas.shape[1] / pixels, _NARROWEST) + 0.4, canvas.shape[0] / pixels + 1.0
    figure = new_figure(*size)
    figure.set_layout_engine("none")
    left = 0.2 / size[0]
    share = canvas.shape[1] / pixels / size[0], canvas.shape[0] / pixels / size[1]
    axes = figure.add_axes((left, 0.05 / size[1], *share))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for text, (top, edge) in zip(labels, corners, strict=True):
        axes.text(edge, top + height + 1, text, fontsize=8, va="top", color=_GREY, linespacing=1.1)
    for column in range(across):
        _name_columns(axes, column * wide, crop, channels)
    lines = ", upper line as loaded, lower as augmented" if is_augmented else ", as loaded"
    note = f"Each pair: anchor, then positive{lines}; frames count from anchor to positive."
    figure.text(left, 1 - 0.1 / size[1], title, fontsize=12, va="top")
    figure.text(left, 1 - 0.36 / size[1], note, fontsize=9, va="top", color=_GREY)
    return figure


def _name_columns(axes: Axes, left: int, crop: int, channels: list[str]) -> None:
    for number, name in enumerate(channels):
        place = left + (2 * number + 1) * crop
        axes.text(place, -crop * 0.08, label_of(name), fontsize=8, ha="center", va="bottom", color=_BLUE)
