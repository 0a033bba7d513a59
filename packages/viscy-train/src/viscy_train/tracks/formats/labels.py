"""Labels: tracks from label images without links, one for each label that is the same cell in all frames."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError
from viscy_train.tracks.formats.label_images import (
    cells_in_array,
    cells_in_files,
    cells_in_stack,
    cells_in_zarr,
    is_tiff,
)
from viscy_train.tracks.formats.masks import refuse_mask, scattered
from viscy_train.tracks.formats.swaps import count_swaps
from viscy_train.tracks.formats.tables import NUMPY
from viscy_train.tracks.formats.track_file import ReadOptions, TrackFile

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

# Share of cells whose nearest cell in the next frame must have the same label.
_CONSISTENT = 0.8
# In frames with fewer cells, labels are often in the order of pixels by chance.
_FEWEST_CELLS = 4
_NO_TRACKS = (
    "labels change from frame to frame, so each cell in a frame is a track of its own; to train without tracks, set "
    "`data.positive.min_frames: 0`, or set `tracks_format: labels` if a label is a track"
)


def read_cells(path: Path, head: bytes = b"") -> tuple[pd.DataFrame, tuple[int, int, int]]:
    """Return the cells in label images.

    Parameters
    ----------
    path : pathlib.Path
        A directory of TIFF files of one frame each, a TIFF stack, a NumPy array, or a Zarr array or image.
    head : bytes
        First bytes of the file, if it is one.

    Returns
    -------
    pandas.DataFrame
        As `viscy_train.tracks.formats.label_images.cells_in_files` returns them.
    tuple of int
        Number of frames, height and width of the images.
    """
    if not path.is_dir():
        return cells_in_array(path) if head.startswith(NUMPY) else cells_in_stack(path)
    files = sorted(file for file in path.iterdir() if is_tiff(file))
    if len(files) == 1:
        return cells_in_stack(files[0])
    return cells_in_files(files) if files else cells_in_zarr(path)


def read_labels(path: Path, head: bytes, options: ReadOptions) -> TrackFile:
    """Read tracks from label images.

    Parameters
    ----------
    path : pathlib.Path
        As for `read_cells`.
    head : bytes
        First bytes of the file, if it is one.
    options : ReadOptions
        With the format ``labels``, each label is a track; with ``detections``, each cell in a frame is one.

    Returns
    -------
    TrackFile
        One track for each label. If labels do not follow cells from frame to frame, one for each cell in a frame, and a
        note that says so.
    """
    cells, (n_frames, *size) = read_cells(path, head)
    if cells.empty:
        raise UserError(f"label images must have cells, {path} has none")
    if options.format != "labels":
        refuse_mask(cells, str(path))
    is_tracked = options.format == "labels" or (options.format != "detections" and _follow_cells(cells))
    notes = () if is_tracked or options.format == "detections" else (_NO_TRACKS,)
    track = cells["label"] if is_tracked else np.arange(len(cells))
    return TrackFile(
        format="labels" if is_tracked else "detections",
        where=str(path),
        tracks=cells.assign(track_id=track)[["track_id", "t", "y", "x"]],
        image_size=(size[0], size[1]),
        n_frames=n_frames,
        scattered=None if options.format == "labels" else scattered(cells),
        notes=notes,
    )


def _follow_cells(cells: pd.DataFrame) -> bool:
    """Return whether labels seem to be the same cells in all frames."""
    return _are_nearest(cells) and not _were_numbered_anew(cells)


def _were_numbered_anew(cells: pd.DataFrame) -> bool:
    """Return whether the labels of each frame are in the order of its pixels, so that a new cell shifts the others.

    Labels that follow cells keep this order only by chance, and then none takes the place of another one.
    """
    by_frame = cells.groupby("t")
    in_order = any(not by_frame[order].diff().lt(0).any() for order in ("first_by_row", "first_by_column"))
    is_usual = len(cells) >= _FEWEST_CELLS * cells["t"].nunique()
    return in_order and is_usual and bool(count_swaps(cells.rename(columns={"label": "track_id"}))["n_swapped"].any())


def _are_nearest(cells: pd.DataFrame) -> bool:
    """Return whether the nearest cell in the next frame mostly has the same label, if that frame has the label."""
    from scipy.spatial import KDTree  # takes long to import

    frames = [frame for _, frame in cells.groupby("t")]
    n_same = n_both = 0
    for one, following in pairwise(frames):
        both = one[one["label"].isin(following["label"])]
        if len(both):
            _, nearest = KDTree(following[["y", "x"]]).query(both[["y", "x"]])
            n_same += int((following["label"].to_numpy()[nearest] == both["label"].to_numpy()).sum())
            n_both += len(both)
    return n_both > 0 and n_same >= _CONSISTENT * n_both
