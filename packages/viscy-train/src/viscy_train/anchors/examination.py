"""Examination: what is read of the pixels of a position, as a value that another process may return or have saved.

A table is built from the examinations of its positions, in order. So it does not depend on who made them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.crops.focus import focus_of_frames
from viscy_train.crops.position_crops import PositionCrops
from viscy_train.crops.unreadable import find_unreadable
from viscy_train.errors import UserError
from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.stored_chunks import StoredChunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import NormalizationConfig
    from viscy_train.crops.image_intensity import CountedFrame
    from viscy_train.crops.window import CropWindow
    from viscy_train.plates.position_image import PositionImage

# Chunks are hardly ever read twice.
_CACHE_MB = 64


def make_reader() -> PixelReader:
    """Return what a process reads the pixels of positions with."""
    return PixelReader(_CACHE_MB)


@dataclass(frozen=True, kw_only=True)
class PositionTask:
    """All that the examination of a position depends on, besides its pixels.

    Parameters
    ----------
    position : str
        Name of the position.
    image : PositionImage
        Its image.
    extent : CropWindow
        The pixels and slices of the image that a crop covers.
    channels : tuple of list of int
        Indices of the channels that are examined together, in each group.
    frame, centers : numpy.ndarray
        Frame, and coordinates y and x, of each observation, shapes (n_observations,) and (n_observations, 2).
    normalization : NormalizationConfig
        How intensities are normalized.
    n_sampled : int
        Number of frames to sample.
    number : int
        Index of the position in its experiment, which decides which frames are sampled.
    read_all : bool
        Whether to read every frame.
    """

    position: str
    image: PositionImage
    extent: CropWindow
    channels: tuple[list[int], ...]
    frame: NDArray[np.int64]
    centers: NDArray[np.float64]
    normalization: NormalizationConfig
    n_sampled: int
    number: int
    read_all: bool


@dataclass(frozen=True, kw_only=True)
class GroupExamination:
    """What is read of the pixels of a group of channels.

    Parameters
    ----------
    defects : numpy.ndarray
        Why each observation cannot be used, as `viscy_train.crops.unreadable.find_unreadable` returns it, shape
        (n_observations,).
    focus : numpy.ndarray, optional
        The sharpest slice of each observation's frame, shape (n_observations,), if crops are around it.
    counted : tuple of CountedFrame
        What frames add to the intensities of the position and its experiment.
    """

    defects: NDArray[np.int8]
    focus: NDArray[np.int64] | None
    counted: tuple[CountedFrame, ...]


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What is read of the pixels of a position.

    Parameters
    ----------
    groups : tuple of GroupExamination
        Of each group of channels, up to the first with an error.
    error : UserError, optional
        Why it is not complete.
    """

    groups: tuple[GroupExamination, ...]
    error: UserError | None = None


def examine_position(task: PositionTask, reader: PixelReader) -> Examination:
    """Read the pixels of a position: find invalid ones and sharpest slices, and sample intensities.

    Parameters
    ----------
    task : PositionTask
        What to read.
    reader : PixelReader
        Reads pixels in this process.

    Returns
    -------
    Examination
        A pure function of the task and the pixels. Pixels that cannot be used are an error in it, not an exception.
    """
    groups: list[GroupExamination] = []
    try:
        for channels in task.channels:
            groups.append(_examine_group(task, channels, reader))
    except UserError as error:
        return Examination(groups=tuple(groups), error=error)
    return Examination(groups=tuple(groups))


def _examine_group(task: PositionTask, channels: list[int], reader: PixelReader) -> GroupExamination:
    crops = _crops_of(task, channels, reader)
    defects, counted = find_unreadable(
        crops,
        task.normalization,
        task.n_sampled,
        task.number,
        read_all=task.read_all,
        where=f"position {task.position}",
    )
    return GroupExamination(defects=defects, focus=crops.focus, counted=tuple(counted))


def _crops_of(task: PositionTask, channels: list[int], reader: PixelReader) -> PositionCrops:
    corners = task.extent.corners(task.extent.starts(task.centers))
    stored = StoredChunks(task.image.array)
    source = reader.open(task.image.array, fill_missing=stored.are_known)
    focus = None
    if task.extent.mode == "sharpest":
        sharpest = focus_of_frames(task.image, source, stored, channels[0], np.unique(task.frame).tolist())
        focus = np.array([sharpest[one] for one in task.frame.tolist()], dtype=np.int64)
    return PositionCrops(
        image=task.image,
        stored=stored,
        source=source,
        channels=channels,
        extent=task.extent,
        frame=task.frame,
        top=corners[:, 0],
        left=corners[:, 1],
        focus=focus,
    )
