"""Track file: what a reader of any format returns, and the options of all readers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError
from viscy_train.experiments.track_options import AUTO, FORMATS, POSITION_COLUMNS
from viscy_train.wording import count

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a configuration states about files of tracks.

    Parameters
    ----------
    format : str, default "auto"
        A key of `FORMATS`, or ``auto`` to recognize the format.
    minutes_per_frame : float, optional
        Converts times to frames, if a file has times only.
    """

    format: str = AUTO
    minutes_per_frame: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrackFile:
    """The content of a file of tracks, not checked yet.

    Parameters
    ----------
    format : str
        A key of `FORMATS`.
    where : str
        The file, for messages.
    tracks : pandas.DataFrame
        The columns ``track_id``, ``t``, ``y``, ``x`` and, if the file has mothers, ``parent_track_id``; also one of
        `POSITION_COLUMNS` if the file is of several positions. The index is the number of a row in the file, from 0.
    unit : str, optional
        Unit of ``y`` and ``x`` as the file states it.
    micrometers_per_pixel : float, optional
        Pixel size that the file states.
    tracked_size : tuple of int, optional
        Height and width of the image that was tracked, in pixels of that size, as the file states it.
    image_size : tuple of int, optional
        Height and width of the label images that were read.
    n_frames : int, optional
        Their number.
    scattered : tuple of int, optional
        Label, frame and number of parts, if a label of an image has parts that are far apart.
    minutes_per_frame : float, optional
        Time between two frames that the file states.
    notes : tuple of str
        What the user should know about the content.
    """

    format: str
    where: str
    tracks: pd.DataFrame
    unit: str | None = None
    micrometers_per_pixel: float | None = None
    tracked_size: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    n_frames: int | None = None
    scattered: tuple[int, int, int] | None = None
    minutes_per_frame: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What messages call the format."""
        return FORMATS[self.format]

    def by_position(self) -> dict[str, TrackFile] | None:
        """Return the part of each position, or None if the file does not name positions.

        Raises
        ------
        UserError
            If a row has no position.
        """
        column = next((name for name in POSITION_COLUMNS if name in self.tracks), None)
        if column is None:
            return None
        position = self.tracks[column]
        if position.isna().any():
            row, n = self.tracks.index[int(np.argmax(position.isna()))] + 1, int(position.isna().sum())
            raise UserError(
                f"column {column!r} of tracks has no value in data row {row} of {self.where} ({count_rows(n)})"
            )
        # Names of positions may have a leading slash.
        groups = self.tracks.drop(columns=column).groupby(position.astype(str).str.strip("/"), sort=False)
        return {
            str(name): replace(self, tracks=group, where=f"{self.where}, position {name}") for name, group in groups
        }

    def only(self, position: str) -> TrackFile:
        """Return the part of a position, or everything if the file does not have several positions, or not this one."""
        column = next((name for name in POSITION_COLUMNS if name in self.tracks), None)
        if column is None:
            return self
        is_part = self.tracks[column].astype(str).str.strip("/") == position
        tracks = self.tracks[is_part] if is_part.any() else self.tracks
        return replace(self, tracks=tracks.drop(columns=column))


def count_rows(n: int) -> str:
    """Return how many rows a problem affects, for messages."""
    return f"{count(n, 'row')} affected"
