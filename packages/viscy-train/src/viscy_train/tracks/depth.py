"""Depth: whether cells are in the slices that crops have, if tracks say in which slice a cell is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z = "z"
"""Column of tracks with the slice of a cell, if they have one. It is not used for anything else."""
# A cell reaches over some slices, and a tracker finds its center in one or another of them.
_NEAR = 2.0


class ReadSlices(NamedTuple):
    """The slices that crops have, the number of slices of the stack, and their distance in micrometers if known."""

    slices: slice
    n_slices: int
    micrometers: float | None


def slices_away(tracks: pd.DataFrame, micrometers: float | None, read: ReadSlices) -> NDArray[np.float64] | None:
    """Return how many slices cells are away from those that crops have, beyond what is near.

    Parameters
    ----------
    tracks : pandas.DataFrame
        Tracks of a position as they were read, maybe with the column `Z`.
    micrometers : float, optional
        The unit of coordinates in micrometers; None if they are pixels, and z counts slices from 0.
    read : ReadSlices
        What crops have.

    Returns
    -------
    numpy.ndarray or None
        0 for a cell at most 2 slices away, shape (n,). None if that cannot be said: without z, if all cells have the
        same z, as of tracks in a projection, or if z is in micrometers and the distance of slices is unknown, or is
        outside the stack.
    """
    if Z not in tracks or read.n_slices == 1:
        return None
    z = pd.to_numeric(tracks[Z], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(z).all() or np.ptp(z) == 0:
        return None
    if micrometers is not None:
        if not read.micrometers:
            return None
        z = z * (micrometers / read.micrometers)
    if z.min() < -0.5 or z.max() > read.n_slices - 0.5:
        return None
    first, last = read.slices.start, read.slices.stop - 1
    distance = np.maximum(np.maximum(first - z, z - last), 0)
    return np.where(distance > _NEAR, distance, 0.0)
