"""Native crops: pixels as plates store them, before they are resampled and normalized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viscy_train.crops.window import CropWindow


@dataclass(frozen=True, kw_only=True)
class NativeCrops:
    """Crops of some observations, all of one type and size.

    Parameters
    ----------
    pixels : numpy.ndarray
        What `window` reads for each crop, in the type of the plate and the byte order of the machine, shape (n_crops,
        n_channels, n_slices, n_rows, n_columns). Of crops that have the maximum of their slices, this is the maximum,
        so n_slices is 1.
    slots : numpy.ndarray
        Which of the requested crops each one is, shape (n_crops,), dtype int64.
    window : CropWindow
        How pixels become crops.
    starts : numpy.ndarray
        Where crops begin along y and x, shape (n_crops, 2), dtype float64.
    first_slices : numpy.ndarray
        Where their slices begin, shape (n_crops,), dtype float64.
    """

    pixels: NDArray[Any]
    slots: NDArray[np.int64]
    window: CropWindow
    starts: NDArray[np.float64]
    first_slices: NDArray[np.float64]
