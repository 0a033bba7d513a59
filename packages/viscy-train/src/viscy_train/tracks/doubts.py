"""Doubts: what tracks leave open although they can be read, such as the number of their first frame.

What is certain is an error, see `viscy_train.tracks.formats.units`; what is likely is a warning, after all positions of
an experiment were read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# A position in which so many tracks begin in frame 1 and none is in frame 0 is suspicious by itself.
_MANY = 10
# If cells are anywhere in the images, they are all in the part of them that micrometers reach with this probability.
_UNLIKELY = 1e-2
# Sizes that differ by less than this are equal.
_TOLERANCE = 0.03
_MAX_NAMES = 3


@dataclass(kw_only=True)
class Doubts:
    """What the tracks of an experiment leave open.

    Parameters
    ----------
    n_begin_in_1 : dict of str to int
        For each position whose number of the first frame is not stated, how many tracks begin in frame 1; 0 if there is
        a track in frame 0.
    log_probabilities : list of float
        For each position whose unit is not stated, the logarithm of the probability that all coordinates would fit as
        micrometers although they are pixels; 0 if they do not fit.
    sizes : dict of str to tuple of float
        Micrometers per pixel in the file, in the image, and as used, for each position in which they contradict.
    """

    n_begin_in_1: dict[str, int] = field(default_factory=dict)
    log_probabilities: list[float] = field(default_factory=list)
    sizes: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def add_frames(self, position: str, tracks: pd.DataFrame) -> None:
        """Note in which frames the tracks of a position begin."""
        begin = tracks.groupby("track_id")["t"].min()
        self.n_begin_in_1[position] = int((begin == 1).sum()) if begin.min() == 1 else 0

    def add_unit(self, tracks: pd.DataFrame, size: float | None, fits: Callable[[float], bool]) -> None:
        """Note whether the coordinates of a position could be micrometers.

        Parameters
        ----------
        tracks : pandas.DataFrame
            Tracks without a unit.
        size : float, optional
            Micrometers per pixel of the image.
        fits : callable
            Returns whether the tracks are inside an image of pixels of a size.
        """
        could_be = size is not None and 0 < size < 1 and fits(size)
        self.log_probabilities.append(2 * tracks["track_id"].nunique() * math.log(size) if could_be and size else 0.0)

    def add_size(self, position: str, in_file: float, of_image: float, used: float) -> None:
        """Note the size of a pixel in a file and in the image, if they differ."""
        if not math.isclose(in_file, of_image, rel_tol=_TOLERANCE):
            self.sizes[position] = (in_file, of_image, used)

    def sentences(self) -> list[str]:
        """Return a sentence for each doubt."""
        return [one for one in (self._frames(), self._unit(), self._size()) if one]

    def _frames(self) -> str | None:
        late = [name for name, n in self.n_begin_in_1.items() if n]
        is_likely = 2 * len(late) > len(self.n_begin_in_1) or any(n >= _MANY for n in self.n_begin_in_1.values())
        if not late or not is_likely:
            return None
        return (
            f"the first tracks of {_names(late)} begin in frame 1, none in frame 0; set `tracks_first_frame` of the "
            "experiment to 1 if frames are counted from 1, otherwise to 0"
        )

    def _unit(self) -> str | None:
        if not self.log_probabilities or max(self.log_probabilities) == 0:
            return None
        if sum(self.log_probabilities) > math.log(_UNLIKELY):
            return None
        return (
            "all coordinates of tracks would also be inside the images if they were micrometers; they are used as "
            "pixels: set `tracks_unit` of the experiment to micrometer or pixel"
        )

    def _size(self) -> str | None:
        if not self.sizes:
            return None
        in_file, of_image, used = next(iter(self.sizes.values()))
        return (
            f"files of tracks state {in_file:g} micrometers per pixel, the images have {of_image:g} "
            f"({_names(self.sizes)}); coordinates are divided by {used:g}: correct `micrometers_per_pixel`, or the "
            "scale that was tracked with"
        )


def _names(positions: list[str] | dict[str, tuple[float, float, float]]) -> str:
    names = list(positions)
    n_more = len(names) - _MAX_NAMES
    more = f" and {n_more} more {'position' if n_more == 1 else 'positions'}" if n_more > 0 else ""
    return ", ".join(names[:_MAX_NAMES]) + more
