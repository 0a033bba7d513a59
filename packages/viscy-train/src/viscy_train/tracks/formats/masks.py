"""Masks: images whose pixels say whether they are part of any cell, or of which kind, not of which cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# A mask has few values: cell, or for example interior and border.
_FEW_VALUES = 3
# Smaller parts than this share of the largest one are specks.
_SPECK = 0.1
# Pixels of a compact cell have a variance of their coordinates of about 0.16 times their number; of one that is 60
# times as long as wide, 5 times.
_SCATTERED = 1.0


def count_parts(image: NDArray, labels: NDArray, scatter: NDArray) -> NDArray[np.int64]:
    """Return the number of separate parts of the labels of an image that may be several cells.

    Parameters
    ----------
    image : numpy.ndarray of int
        A label image.
    labels : numpy.ndarray of int, shape (n,)
        Its labels.
    scatter : numpy.ndarray of float, shape (n,)
        Variance of the coordinates of the pixels of each label, in relation to their number.

    Returns
    -------
    numpy.ndarray of int, shape (n,)
        Parts are counted of the three most scattered labels, or fewer if there are more labels and these are compact;
        1 for the others. Specks are not counted.
    """
    from scipy import ndimage  # takes long to import

    parts = np.ones(len(labels), dtype=np.int64)
    suspects = np.argsort(-scatter)[:_FEW_VALUES]
    if len(labels) > _FEW_VALUES:
        suspects = suspects[scatter[suspects] > _SCATTERED]
    for suspect in suspects:
        numbered, _ = ndimage.label(image == labels[suspect], structure=np.ones((3,) * image.ndim))
        n_pixels = np.bincount(numbered.ravel())[1:]
        parts[suspect] = (n_pixels >= _SPECK * n_pixels.max()).sum()
    return parts


def refuse_mask(cells: pd.DataFrame, where: str) -> None:
    """Refuse a mask, in which all cells have one value, or one of a few.

    Parameters
    ----------
    cells : pandas.DataFrame
        As `viscy_train.tracks.formats.label_images` returns them.
    where : str
        The images, for messages.

    Raises
    ------
    UserError
        If there is one value, which has several parts in a frame, or two or three, which usually have.
    """
    n_values = cells["label"].nunique()
    if n_values > _FEW_VALUES:
        return
    several = cells[cells["n_parts"] > 1]
    if several.empty or (n_values > 1 and cells["n_parts"].sum() < 2 * len(cells)):
        return
    label, frame, n_parts = several[["label", "t", "n_parts"]].iloc[0]
    raise UserError(
        f"label images must have a number for each cell, {where} is a mask: value {label} of frame {frame} has "
        f"{n_parts} separate parts; number them, for example with skimage.measure.label, and set `tracks_format: "
        "detections`, or set `tracks_format: labels` if a value is one cell in all frames"
    )


def scattered(cells: pd.DataFrame) -> tuple[int, int, int] | None:
    """Return label, frame and number of distant parts of the first label that may be several cells, or None."""
    several = cells[(cells["n_parts"] > 1) & (cells["scatter"] > _SCATTERED)]
    if several.empty:
        return None
    label, frame, n_parts = several[["label", "t", "n_parts"]].iloc[0]
    return int(label), int(frame), int(n_parts)
