"""Focus: the sharpest slice of a stack, measured by the power of its image in a middle band of spatial frequencies.

A slice in focus has the most structure of a size between that of noise, which is the same in all slices, and that of
uneven illumination and of light from elsewhere, which hardly depend on focus. Such a band finds the focus of transmitted
light as well as of fluorescence, as in the recOrder and waveorder packages (Guo et al. 2020, eLife 9:e55502). In stacks
simulated with shot noise, it was wrong less often than Brenner's gradient, the Laplacian and the normalized variance,
which Sun et al. (2004, Microsc. Res. Tech. 65:139) compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


# In cycles a pixel: structures of 8 to 16 pixels.
_BAND = (1 / 16, 1 / 8)


def sharpness(image: NDArray) -> float:
    """Return the power of an image in the middle band, of its finite pixels; -1 if it has no structure at all.

    Parameters
    ----------
    image : numpy.ndarray
        Shape (height, width).
    """
    finite = np.isfinite(image)
    if not finite.any():
        return -1.0
    mean = image.mean(where=finite, dtype=np.float64)
    difference = np.where(finite, image - mean, 0).astype(np.float32)
    if not difference.any():
        return -1.0
    spectrum = np.fft.rfft2(difference)
    rows, columns = (np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    frequency = rows**2 + columns**2
    in_band = (frequency > _BAND[0] ** 2) & (frequency <= _BAND[1] ** 2)
    return float((np.abs(spectrum[in_band]).astype(np.float64) ** 2).sum())


def sharpest_slice(slices: Sequence[NDArray | None]) -> int:
    """Return the index of the sharpest slice of a stack.

    Parameters
    ----------
    slices : sequence of numpy.ndarray or None
        Slices of shape (height, width); None for one that cannot be judged.

    Returns
    -------
    int
        The slice with the highest sharpness, the first of equal ones; the middle one if none can be judged.
    """
    scores = [-1.0 if image is None else sharpness(image) for image in slices]
    return int(np.argmax(scores)) if max(scores) >= 0 else len(scores) // 2
