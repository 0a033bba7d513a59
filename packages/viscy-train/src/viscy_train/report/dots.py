"""Dots: thousands of points as an image, which a page loads faster than as many shapes, and colors of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from viscy_train.report.panel import Panel

# Pixels of an image in a unit of a drawing.
_SCALE = 2
# "viridis" of matplotlib, which is in the public domain, at evenly spaced values.
_VIRIDIS = ["#440154", "#482878", "#3E4989", "#31688E", "#26828E", "#1F9E89", "#35B779", "#6ECE58", "#B5DE2B"]
_VIRIDIS += ["#FDE725"]
_WHITE = 255


def viridis(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colors of numbers between 0 and 1, shape (..., 3)."""
    colors = rgb_of(_VIRIDIS)
    at = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(values, at, channel) for channel in colors.T], axis=-1).round().astype(np.uint8)


def rgb_of(colors: Sequence[str]) -> NDArray[np.uint8]:
    """Return colors such as ``#440154`` as numbers, shape (n_colors, 3)."""
    return np.array([list(bytes.fromhex(color[1:])) for color in colors], dtype=np.uint8).reshape(-1, 3)


def draw_dots(panel: Panel, points: NDArray[np.float64], colors: NDArray[np.uint8], radius: float = 2.0) -> None:
    """Draw points into a panel; later ones cover earlier ones.

    Parameters
    ----------
    panel : Panel
        The panel. Points outside it are not drawn.
    points : numpy.ndarray
        Values along x and y, shape (n_points, 2).
    colors : numpy.ndarray
        Color of each, shape (n_points, 3).
    radius : float
        Radius of a dot, in the unit of the drawing.
    """
    width, height = round(panel.width * _SCALE), round(panel.height * _SCALE)
    pixels = np.full((height, width, 3), _WHITE, dtype=np.uint8)
    x = ((panel.x(points[:, 0]) - panel.left) * _SCALE).astype(np.int64)
    y = ((panel.y(points[:, 1]) - panel.top) * _SCALE).astype(np.int64)
    reach = round(radius * _SCALE)
    disk = [
        (across, down)
        for across in range(-reach, reach + 1)
        for down in range(-reach, reach + 1)
        if across**2 + down**2 <= (radius * _SCALE) ** 2
    ]
    # All pixels of a dot after those of the dots before it.
    across, down = np.array(disk).T
    columns, rows = (x[:, None] + across).ravel(), (y[:, None] + down).ravel()
    is_inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    pixels[rows[is_inside], columns[is_inside]] = np.repeat(colors, len(disk), axis=0)[is_inside]
    panel.drawing.image(panel.left, panel.top, panel.right, panel.bottom, pixels)
