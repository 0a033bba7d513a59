"""Look: what differs between the images of two microscopes or stains, and is left of it after normalization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The largest values that are drawn. A nucleus is about 28 pixels wide, and its brightness is about 1.
_GAMMA, _BLUR, _GRADIENT, _NOISE = 2.5, 2.5, 1.0, 0.25


@dataclass(frozen=True, kw_only=True)
class Look:
    """A gain curve, a blur, a gradient of the background, and noise, in this order.

    Parameters
    ----------
    gamma : float
        Exponent of the brightness; 1 changes nothing.
    blur : float
        Standard deviation of a Gaussian in pixels.
    gradient : tuple of float
        Brightness that is added from the top to the bottom of an image, and from its left to its right.
    noise : float
        Standard deviation of the brightness that is added to each pixel.
    """

    gamma: float
    blur: float
    gradient: tuple[float, float]
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """Draw a look.

        Gamma is between 1 / 2.5 and 2.5, uniform in its logarithm. Blur is uniform up to 2.5 pixels, noise up to 0.25,
        and the gradient up to 1, in any direction.
        """
        gamma = _GAMMA ** rng.uniform(-1, 1)
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0, _GRADIENT)
        return cls(
            gamma=float(gamma),
            blur=float(rng.uniform(0, _BLUR)),
            gradient=(float(length * np.sin(angle)), float(length * np.cos(angle))),
            noise=float(rng.uniform(0, _NOISE)),
        )

    def apply(self, images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return images as they look.

        Parameters
        ----------
        images : numpy.ndarray
            Brightness of pixels, about 0 for the background and 1 for nuclei, shape (n_images, height, width).
        rng : numpy.random.Generator
            Source of the noise.
        """
        from scipy.ndimage import gaussian_filter

        seen = np.maximum(images, 0) ** np.float32(self.gamma)
        if self.blur:
            seen = gaussian_filter(seen, (0, self.blur, self.blur))
        down, right = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in images.shape[1:])
        seen = seen + self.gradient[0] * down[:, None] + self.gradient[1] * right
        return (seen + self.noise * rng.standard_normal(images.shape, dtype=np.float32)).astype(np.float32)
