"""Doubts: what tracks leave open although they can be read, such as the number of their first frame.

What is certain is an error, see `viscy_train.tracks.formats.units`; what is likely is a warning, after all positions of
an experiment were read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.experiments.interval import contrary_intervals
from viscy_train.tracks.formats import count_swaps, suspicious
from viscy_train.wording import count, plural

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.tracks.depth import ReadSlices

# A position in which so many tracks begin in frame 1 and none is in frame 0 is suspicious by itself.
_MANY = 10
# If cells are anywhere in the images, they are all in the part of them that micrometers reach with this probability.
_UNLIKELY = 1e-2
# Cells that reach no further than this part of all images may be in another unit, unless that is as likely by chance as
# this, given that they are anywhere; in both directions as far, to this factor, and beginning near the first pixel.
_LARGEST_CORNER, _UNLIKELY_CORNER, _EQUALLY_FAR, _NEAR_ORIGIN = 0.75, 1e-6, 1.15, 0.15
# Sizes that differ by less than this are equal.
_TOLERANCE = 0.03
# Sizes that differ by this factor are in different units.
_OTHER_UNIT = 100
_MAX_NAMES = 3
# What may be a list of cells that a program numbered in each frame.
_MAY_BE_UNTRACKED = ("labels", "table", "napari", "trackmate_csv", "trackpy")


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
    intervals : dict of str to float
        Minutes per frame in the file, for each position whose file states them.
    swaps : dict of str to str
        For each position in which many tracks change places from one frame to the next, how many do, and where.
    scattered : dict of str to str
        For each position in which a label has parts that are far apart, which one.
    lengths : dict of str to tuple of int
        Number of label images, and of frames of the image, for each position in which they differ.
    orphans : dict of str to pandas.Series
        The mother of each track whose mother is not in the tracks, for each position with such tracks.
    corners : list of tuple
        For each position whose unit is not stated, where its cells begin and end, as parts of the height and width of
        the image, shape (2, 2), and the number of tracks.
    depths : dict of str to tuple
        For each position that says in which slice a cell is, how many of its rows are far from the slices of crops, and
        how many rows it has.
    read : ReadSlices, optional
        Slices that crops have in the first position with cells that are far from them.
    """

    n_begin_in_1: dict[str, int] = field(default_factory=dict)
    log_probabilities: list[float] = field(default_factory=list)
    sizes: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    intervals: dict[str, float] = field(default_factory=dict)
    swaps: dict[str, str] = field(default_factory=dict)
    scattered: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, tuple[int, int]] = field(default_factory=dict)
    orphans: dict[str, pd.Series] = field(default_factory=dict)
    corners: list[tuple[NDArray[np.float64], int]] = field(default_factory=list)
    depths: dict[str, tuple[int, int]] = field(default_factory=dict)
    read: ReadSlices | None = None

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

    def add_corner(self, tracks: pd.DataFrame, shape: tuple[int, ...]) -> None:
        """Note which part of the image the cells of a position are in."""
        places = tracks[["y", "x"]].to_numpy(dtype=float)
        ends = (np.array([places.min(axis=0), places.max(axis=0)]) + 0.5) / shape[-2:]
        self.corners.append((ends, tracks["track_id"].nunique()))

    def add_depth(self, position: str, away: NDArray[np.float64], read: ReadSlices) -> None:
        """Note how many cells are far from the slices that crops have."""
        self.depths[position] = (int((away > 0).sum()), len(away))
        if self.read is None and (away > 0).any():
            self.read = read

    def add_size(self, position: str, in_file: float, of_image: float, used: float) -> None:
        """Note the size of a pixel in a file and in the image, if they differ."""
        if not math.isclose(in_file, of_image, rel_tol=_TOLERANCE):
            self.sizes[position] = (in_file, of_image, used)

    def add_swaps(self, position: str, format: str, tracks: pd.DataFrame) -> None:
        """Note whether many tracks change places in a step, as if cells were numbered anew in each frame."""
        steps = suspicious(count_swaps(tracks))
        if len(steps):
            worst = steps.loc[(steps["n_swapped"] / steps["n_both"]).idxmax()]
            where = f"from frame {worst['t']} to {worst['following']} of {position}"
            what = f"{where}, {worst['n_swapped']} of {worst['n_both']} tracks jump away, and others take their places"
            self.swaps[position] = f"{what}; set `tracks_format` of the experiment to {_formats(format)}"

    def add_scattered(self, position: str, label: int, frame: int, n_parts: int) -> None:
        """Note a label that has parts which are far apart."""
        where = f"label {label} in frame {frame} of {position}"
        self.scattered[position] = f"{where} has {n_parts} parts that are far apart"

    def add_orphans(self, position: str, orphans: pd.Series) -> None:
        """Note the tracks whose mother is not in the tracks of a position."""
        if len(orphans):
            self.orphans[position] = orphans

    def add_length(self, position: str, n_labels: int, n_frames: int) -> None:
        """Note the number of label images and of frames, if they differ."""
        if n_labels != n_frames:
            self.lengths[position] = (n_labels, n_frames)

    def sentences(self, minutes_per_frame: float | None = None) -> list[str]:
        """Return a sentence for each doubt, given the minutes per frame of the experiment."""
        interval = self._interval(minutes_per_frame) if minutes_per_frame else None
        found = (self._frames(), self._unit() or self._corner(), self._size(), interval)
        more = (self._swaps(), self._scattered(), self._length(), self._orphans(), self._depth())
        return [one for one in (*found, *more) if one]

    def _interval(self, minutes_per_frame: float) -> str | None:
        contrary = contrary_intervals("files of tracks", self.intervals, minutes_per_frame)
        return f"{contrary[0]} ({_names(contrary[1])})" if contrary else None

    def _swaps(self) -> str | None:
        return f"{next(iter(self.swaps.values()))}{_others(self.swaps)}" if self.swaps else None

    def _scattered(self) -> str | None:
        if not self.scattered:
            return None
        return (
            f"{next(iter(self.scattered.values()))}, and its center is between them; give each cell a label of its own"
            f"{_others(self.scattered)}"
        )

    def _length(self) -> str | None:
        if not self.lengths:
            return None
        n_labels, n_frames = next(iter(self.lengths.values()))
        return (
            f"the label images of {_names(list(self.lengths))} are of {n_labels} frames, the images have {n_frames}; "
            "correct the tracks if they are those of another image, or lack frames"
        )

    def _orphans(self) -> str | None:
        if not self.orphans:
            return None
        n = sum(map(len, self.orphans.values()))
        position, first = next(iter(self.orphans.items()))
        return (
            f"the mother of {count(n, 'track')} is not in the tracks ({_names(list(self.orphans))}), first mother "
            f"{first.iloc[0]} of track {first.index[0]} of {position}; the daughters of such a mother begin a lineage: "
            "keep mothers when you filter tracks, or write -1 if there is none"
        )

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

    def _corner(self) -> str | None:
        """Return a doubt if all cells are in the same part of all images, which begins at the first pixel.

        So are coordinates in micrometers if pixels are smaller than one, and those in pixels of a smaller image. The
        part must reach at most 75 % of the height and of the width, both equally far to 15 %, and begin within 15 % of
        it. If cells are anywhere, all n tracks are in a part p of both with a probability of p to the power of 2 n,
        which must be below 1e-6.
        """
        if not self.corners:
            return None
        ends, n_tracks = zip(*self.corners, strict=True)
        first, last = np.min(ends, axis=0)[0], np.max(ends, axis=0)[1]
        part = float(last.max())
        is_equally_far = part <= min(_LARGEST_CORNER, _EQUALLY_FAR * float(last.min()))
        is_corner = is_equally_far and bool((first < _NEAR_ORIGIN * last).all())
        if not is_corner or 2 * sum(n_tracks) * math.log(part) > math.log(_UNLIKELY_CORNER):
            return None
        return (
            f"all cells are in the upper {last[0]:.0%} and the left {last[1]:.0%} of all images, as they are if their "
            "coordinates are micrometers, or pixels of a smaller image; they are used as pixels: set `tracks_unit` of "
            "the experiment to micrometer or pixel, or track the images of the plate"
        )

    def _depth(self) -> str | None:
        """Return a doubt if more than half of the rows of all positions are more than 2 slices from those of crops."""
        n_far, n = (sum(counts) for counts in zip(*self.depths.values(), strict=True)) if self.depths else (0, 0)
        if 2 * n_far <= n or self.read is None:
            return None
        first, last, n_slices = self.read.slices.start, self.read.slices.stop - 1, self.read.n_slices
        read = f"slice {first}" if first == last else f"slices {first} to {last}"
        far = [name for name, (n_far, _) in self.depths.items() if n_far]
        return (
            f"{n_far / n:.0%} of the cells are more than 2 slices away from {read} of 0 to {n_slices - 1}, which crops "
            f"contain, as z in the tracks says ({_names(far)}); set `data.z` to sharpest or maximum"
        )

    def _size(self) -> str | None:
        if not self.sizes:
            return None
        in_file, of_image, used = next(iter(self.sizes.values()))
        is_unit = max(in_file / of_image, of_image / in_file) >= _OTHER_UNIT
        why = "so the unit in the files seems wrong; " if is_unit else ""
        return (
            f"files of tracks state {in_file:g} micrometers per pixel, the images have {of_image:g} "
            f"({_names(list(self.sizes))}); {why}coordinates are divided by {used:g}: correct `micrometers_per_pixel`, "
            "or the scale that was tracked with"
        )


def _formats(format: str) -> str:
    """Return which format to state if cells were not tracked, and if they were."""
    by_number = f"{format} if a number is the same cell in all frames"
    return f"detections if the cells were not tracked, or to {by_number}" if format in _MAY_BE_UNTRACKED else by_number


def _others(by_position: dict[str, str]) -> str:
    """Return the names of further positions."""
    return f" (also in {_names(list(by_position)[1:])})" if len(by_position) > 1 else ""


def _names(names: list[str]) -> str:
    n_more = len(names) - _MAX_NAMES
    more = f" and {n_more} more {plural(n_more, 'position')}" if n_more > 0 else ""
    return ", ".join(names[:_MAX_NAMES]) + more
