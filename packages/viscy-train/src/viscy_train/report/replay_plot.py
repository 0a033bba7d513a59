"""Replay plot: the crops of a recorded batch, as the encoder received them."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.output import OutputKind, require_replaceable
from viscy_train.report.palette import label_of
from viscy_train.report.style import new_figure, style

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


type Contrast = Literal["pair", "experiment"]
MAX_PAIRS = 64
_SIGN = "viscy-train replay"
# Where each image format says which program has written the file.
_SIGNED: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": _SIGN}},
    **{name: {"metadata": {"Creator": _SIGN}} for name in ("pdf", "svg", "svgz", "ps", "eps")},
    **{name: {"pil_kwargs": {"comment": _SIGN.encode()}} for name in ("jpg", "jpeg", "gif")},
    **{name: {"pil_kwargs": {"description": _SIGN}} for name in ("tif", "tiff")},
    "webp": {"pil_kwargs": {"exif": _SIGN.encode()}},
}
# What a file of each of these formats begins with. A page may name the command, too.
_BEGINNINGS = (b"\x89PNG", b"%PDF", b"<?xml", b"%!PS", b"\xff\xd8", b"GIF8", b"II", b"MM", b"RIFF")
_WIDTH = 13.0
# In inches: side of a crop, height of the label below a pair.
_CROP_INCHES = 0.72
_LABEL_INCHES = 0.55
_MIN_WIDTH = 7.0
# In inches: height of title and note above the pairs.
_HEAD_INCHES = 1.15
# As a fraction of a crop's side.
_GAP = 0.04
_GRAY, _BLUE = "#52606d", "#0072B2"
# Intensity between the crops.
_BACKGROUND = 1.0


def _is_picture(path: Path) -> bool:
    content = path.read_bytes()
    with suppress(OSError, EOFError, zlib.error):
        content = gzip.decompress(content) if path.suffix == ".svgz" else content
    return content.startswith(_BEGINNINGS) and _SIGN.encode() in content


PICTURE = OutputKind("a picture of `viscy-train replay`", _is_picture)


def write_picture(path: Path, figure: Figure) -> None:
    """Write a figure to an image file in one atomic step.

    Parameters
    ----------
    path : pathlib.Path
        File to write; its extension determines the format, PNG if there is none.
    figure : matplotlib.figure.Figure
        The figure.

    Raises
    ------
    UserError
        If the extension is not that of an image format, the file cannot be written, or it exists and is not a picture
        of `replay`.
    """
    require_replaceable(path, PICTURE)
    image_format = path.suffix.removeprefix(".").lower() or "png"
    with atomic_write(path) as unfinished:
        try:
            figure.savefig(unfinished, format=image_format, **_SIGNED.get(image_format, {}))
        except ValueError as error:
            raise UserError(f"--out must have the extension of an image format, got {path}: {error}") from error


def plot_replay(
    pairs: Mapping[str, Any],
    augmented: Mapping[str, Any] | None,
    observations: pd.DataFrame,
    channels: list[str],
    title: str,
    first: int = 0,
    contrast: Contrast = "pair",
) -> Figure:
    """Plot the pairs of a batch: anchor and positive side by side, each channel, as loaded and as augmented.

    Parameters
    ----------
    pairs : mapping of str to torch.Tensor
        A loaded batch: `anchor` and `positive`, shape (n, n_channels, n_slices, side, side); `row` and `positive_row`,
        shape (n,), rows of `observations`.
    augmented : mapping of str to torch.Tensor, optional
        The same batch after augmentation; its crops may be smaller.
    observations : pandas.DataFrame
        Experiment, condition, hours_post_infection and t of each row.
    channels : list of str
        Names of the channels.
    title : str
        Title of the figure.
    first : int, default 0
        First pair to show; at most `MAX_PAIRS` are shown.
    contrast : str
        What has one display range per channel, from the 0.5th to the 99.7th percentile of the crops as loaded: each
        ``pair``, so that dim pairs are seen, or all pairs of an ``experiment``, so that they can be compared.

    Returns
    -------
    matplotlib.figure.Figure
        The middle slice of each crop. The augmented crops of a pair have the display range of those as loaded, so that
        a change of intensity is visible.
    """
    rows = _array(pairs["row"])[first : first + MAX_PAIRS]
    positives = _array(pairs["positive_row"])[first : first + MAX_PAIRS]
    experiment = observations["experiment"].astype(str).to_numpy()[rows]
    loaded = _middle_slices(pairs, first)
    limits = _limits(loaded, np.arange(len(rows)) if contrast == "pair" else experiment)
    lines = [_rescale(loaded, limits)]
    if augmented is not None:
        side = loaded.shape[-1]
        lines.append(_fit_width(_rescale(_middle_slices(augmented, first), limits), side))
    blocks = np.concatenate([_join_crops(line) for line in lines], axis=1)
    with mpl.rc_context(style()):
        return _plot_blocks(
            blocks,
            _make_labels(rows, positives, observations),
            channels,
            (title, _describe(contrast, is_augmented=augmented is not None)),
        )


def _array(tensor: Any) -> NDArray:
    return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def _middle_slices(pairs: Mapping[str, Any], first: int) -> NDArray[np.float32]:
    """Return the middle slices of anchors and positives, shape (n, 2, n_channels, side, side)."""
    parts = [_array(pairs[name][first : first + MAX_PAIRS]) for name in ("anchor", "positive")]
    crops = np.stack(parts, axis=1).astype(np.float32)
    return crops[:, :, :, crops.shape[3] // 2]


def _limits(crops: NDArray[np.float32], group: NDArray) -> NDArray[np.float32]:
    """Return the intensities shown as black and as white, those of each group, shape (2, n, 1, n_channels, 1, 1)."""
    limits = np.empty((2, len(crops), crops.shape[2]), dtype=np.float32)
    for name in np.unique(group):
        own = group == name
        limits[:, own] = np.percentile(crops[own], [0.5, 99.7], axis=(0, 1, 3, 4))[:, None]
    return limits[:, :, None, :, None, None]


def _rescale(crops: NDArray[np.float32], limits: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = limits
    return np.clip((crops - low) / np.maximum(high - low, 1e-6), 0, 1)


def _fit_width(crops: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Pad crops to a width, or cut out their center, so that they are as wide as those above them."""
    own_width = crops.shape[-1]
    if own_width > width:
        start = (own_width - width) // 2
        return crops[..., start : start + width, start : start + width]
    before = (width - own_width) // 2
    return np.pad(crops, [(0, 0)] * 4 + [(before, width - own_width - before)], constant_values=_BACKGROUND)


def _join_crops(crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """Join anchor and positive of each channel side by side with gaps between, shape (n, height, width)."""
    n, _, n_channels, height, width = crops.shape
    gap = max(1, round(width * _GAP))
    padded = np.pad(crops, [(0, 0)] * 3 + [(0, gap), (0, gap)], constant_values=_BACKGROUND)
    return padded.transpose(0, 3, 2, 1, 4).reshape(n, height + gap, n_channels * 2 * (width + gap))


def _make_labels(rows: NDArray[np.int64], positives: NDArray[np.int64], observations: pd.DataFrame) -> list[str]:
    """Return a label for each pair: experiment, condition and hour of the anchor, way to the positive, row."""
    hours = observations["hours_post_infection"].to_numpy()[rows]
    names = [observations[column].astype(str).to_numpy()[rows] for column in ("experiment", "condition")]
    ways = _describe_ways(rows, positives, observations)
    return [
        f"{label_of(experiment)}\n{label_of(condition)}, {hour:.1f} h\n{way}, row {row}"
        for experiment, condition, hour, way, row in zip(*names, hours, ways, rows, strict=True)
    ]


def _describe_ways(rows: NDArray[np.int64], positives: NDArray[np.int64], observations: pd.DataFrame) -> list[str]:
    """Return how far each positive is from its anchor: in frames along a lineage, in hours to another cell."""
    columns = ("t", "hours_post_infection", "lineage_id")
    (frames, hours, other), (own_frames, own_hours, own) = (
        [observations[column].to_numpy()[of] for column in columns] for of in (positives, rows)
    )
    return [
        f"{step:+d} frames" if is_related else f"{apart:+.1f} h, other cell"
        for step, apart, is_related in zip(frames - own_frames, hours - own_hours, other == own, strict=True)
    ]


def _plot_blocks(blocks: NDArray[np.float32], labels: list[str], channels: list[str], title: tuple[str, str]) -> Figure:
    """Arrange blocks, the images of pairs with shape (n, height, width), on one canvas and label them."""
    n, height, width = blocks.shape
    crop = width // (2 * len(channels))
    pixels = crop / _CROP_INCHES
    label, margin = round(_LABEL_INCHES * pixels), round(0.16 * pixels)
    n_columns = min(n, max(1, int(_WIDTH * pixels // (width + margin))))
    row_height, column_width = height + label, width + margin
    canvas = np.full((-(-n // n_columns) * row_height, n_columns * column_width), _BACKGROUND, dtype=np.float32)
    corners = [(number // n_columns * row_height, number % n_columns * column_width) for number in range(n)]
    for block, (top, left) in zip(blocks, corners, strict=True):
        canvas[top : top + height, left : left + width] = block
    size = max(canvas.shape[1] / pixels, _MIN_WIDTH) + 0.4, canvas.shape[0] / pixels + _HEAD_INCHES
    figure = new_figure(*size)
    figure.set_layout_engine("none")
    left = 0.2 / size[0]
    extent = canvas.shape[1] / pixels / size[0], canvas.shape[0] / pixels / size[1]
    axes = figure.add_axes((left, 0.05 / size[1], *extent))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for text, (top, edge) in zip(labels, corners, strict=True):
        axes.text(edge, top + height + 1, text, fontsize=8, va="top", color=_GRAY, linespacing=1.1)
    for column in range(n_columns):
        _write_channel_names(axes, column * column_width, crop, channels)
    figure.text(left, 1 - 0.1 / size[1], title[0], fontsize=12, va="top")
    figure.text(left, 1 - 0.36 / size[1], title[1], fontsize=9, va="top", color=_GRAY, linespacing=1.25)
    return figure


def _describe(contrast: Contrast, *, is_augmented: bool) -> str:
    """Return the note below the title: what is where, and what the gray values of a channel are comparable within."""
    rows = "; upper row as loaded, lower row as augmented" if is_augmented else "; as loaded"
    within = "Each pair" if contrast == "pair" else "Each experiment"
    return (
        f"Anchor (left) and positive (right){rows}. {within} has its own display range per channel.\n"
        "Frames and hours are from the anchor to its positive."
    )


def _write_channel_names(axes: Axes, left: int, crop: int, channels: list[str]) -> None:
    for number, name in enumerate(channels):
        center = left + (2 * number + 1) * crop
        axes.text(center, -crop * 0.08, label_of(name), fontsize=8, ha="center", va="bottom", color=_BLUE)
