"""Resampling: pixels at another scale, without aliasing.

A new pixel is a weighted mean of those around it, with weights that fall linearly to zero at a distance of one new
pixel (or one old pixel, where the new ones are smaller), as in Pillow. Of the usual choices, this one lets the least
noise pass: less than the mean over areas, cubic interpolation, or a Gaussian before linear interpolation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resample(pixels: NDArray[Any], size: tuple[int, int, int]) -> NDArray[np.float32]:
    """Resample a stack of each channel.

    Parameters
    ----------
    pixels : numpy.ndarray
        Integers or floats, shape (n_channels, n_slices, height, width).
    size : tuple of int
        Number of slices, height and width of the result, which covers the same volume.

    Returns
    -------
    numpy.ndarray
        Shape (n_channels, *size). A pixel is a function of those around it, whatever is resampled before or after.
    """
    n_channels, n_slices, height, width = pixels.shape
    depth, *plane = size
    stacks = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
    if (height, width) != tuple(plane):
        stacks = interpolate(stacks, size=plane, mode="bilinear", antialias=True)
    if n_slices != depth:
        # A stack is an image whose rows are slices.
        flat = stacks.reshape(n_channels, 1, n_slices, -1)
        flat = interpolate(flat, size=(depth, flat.shape[-1]), mode="bilinear", antialias=True)
        stacks = flat.reshape(n_channels, depth, *plane)
    return stacks.numpy()
