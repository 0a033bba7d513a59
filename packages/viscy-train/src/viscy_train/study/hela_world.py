"""HeLa world: real nuclei as made-up experiments of a study, whose looks are known.

The nuclei are those of `viscy_train.sample_projects.hela`, which says where they are from and on which terms. All seeds
have the same nuclei: a seed draws the look of each experiment, and which experiments are held out. The condition of
batches and measures is the phase: `dividing` nuclei are rare and look different, but only for two frames of 30 minutes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from viscy_train.crops.resampling import ResampledAxis
from viscy_train.crops.window import CropWindow
from viscy_train.positives.lineages import lineage_ids
from viscy_train.sample_projects.hela import CHANNEL, find_sequence, read_images
from viscy_train.study.hela_nuclei import PHASES, cached_tracks, divide_nuclei, make_positions
from viscy_train.study.look import Look
from viscy_train.study.study_project import intensity_of, write_project

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.sample_projects.hela import Tile

_N_HELD_OUT = 2
_SIDE = 32
_WELL, _CELLS = "A/1", "HeLa"
_MINUTES = 30.0
# Percentiles of the pixels that are the background and bright nuclei.
_RANGE = (1, 99)


def write_hela_world(seed: int, folder: Path) -> Path:
    """Write real nuclei as the files of a project of six experiments.

    Parameters
    ----------
    seed : int
        Seed of the looks of experiments, and of which two are held out. The same seed gives the same files.
    folder : pathlib.Path
        Directory that receives the files, see `viscy_train.study.study_project.write_project`. The nuclei of all seeds
        are kept in ``hela-nuclei.npz`` in the directory above.

    Returns
    -------
    pathlib.Path
        The configuration file. Batches are plain, and ``data.sampler.condition_by`` is the phase.

    Raises
    ------
    UserError
        If the extra `hela` is not installed, or a file cannot be read or written.
    """
    images, labels = find_sequence()
    tracks = cached_tracks(folder.parent / "hela-nuclei.npz", partial(read_images, labels))
    return write_sequence(read_images(images), tracks, seed, folder)


def write_sequence(images: NDArray[np.integer], tracks: pd.DataFrame, seed: int, folder: Path) -> Path:
    """Write the nuclei of an image sequence as `write_hela_world` does.

    Parameters
    ----------
    images : numpy.ndarray
        Shape (n_frames, height, width).
    tracks : pandas.DataFrame
        Result of `viscy_train.study.hela_nuclei.cached_tracks`.
    seed, folder
        As for `write_hela_world`.
    """
    positions = make_positions(*images.shape[1:])
    nuclei = divide_nuclei(tracks, positions)
    names = [f"tile{number + 1}" for number in range(len({experiment for experiment, _ in positions}))]
    pixels = _pixels(images, nuclei, positions, seed)
    held_out = np.random.default_rng([seed, len(names)]).permutation(len(names))[:_N_HELD_OUT]
    return write_project(
        folder,
        experiments=[_experiment(name) for name in names],
        observations=_observations(nuclei, names),
        pixels=pixels,
        intensity={name: intensity_of(pixels[nuclei["experiment"] == number]) for number, name in enumerate(names)},
        held_out=[names[number] for number in sorted(held_out)],
        sampler={"condition_by": "phase"},
    )


def _pixels(
    images: NDArray[np.integer], nuclei: pd.DataFrame, positions: dict[tuple[int, str], Tile], seed: int
) -> NDArray[np.float32]:
    """Return the crop of each nucleus, as its experiment looks, shape (n_nuclei, 1, 1, side, side)."""
    low, high = np.percentile(images, _RANGE)
    pixels = np.empty((len(nuclei), 1, 1, _SIDE, _SIDE), dtype=np.float32)
    of_positions: Any = nuclei.groupby(["experiment", "position"])
    for (experiment, position), part in of_positions:
        look = Look.draw(np.random.default_rng([seed, experiment]))
        rng = np.random.default_rng([seed, experiment, *position.encode()])
        brightness = (images[:, *positions[experiment, position]] - low) / (high - low)
        pixels[part.index, 0, 0] = _crops(look.apply(brightness.astype(np.float32), rng), part)
    return pixels


def _crops(images: NDArray[np.float32], nuclei: pd.DataFrame) -> NDArray[np.float32]:
    """Return the pixels around nuclei; at a border of the image, a crop is moved inside, as in any project."""
    axes = [ResampledAxis(n, _SIDE, _SIDE) for n in images.shape[1:]]
    window = CropWindow(z=ResampledAxis(1, 1, 1), y=axes[0], x=axes[1], mode="middle")
    corners = window.corners(window.starts(nuclei[["y", "x"]].to_numpy()))
    of_frames = sliding_window_view(images, (_SIDE, _SIDE), axis=(1, 2))
    return of_frames[nuclei["t"].to_numpy(), corners[:, 0], corners[:, 1]]


def _observations(nuclei: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return nuclei as the observations of an anchor table, but for the column `has_positive`."""
    n = len(nuclei)
    observations = pd.DataFrame(
        {
            "experiment": pd.Categorical.from_codes(nuclei["experiment"], categories=names),
            "condition": pd.Categorical([_CELLS] * n),
            "well": pd.Categorical([_WELL] * n),
            "position": pd.Categorical(nuclei["position"]),
            "track_id": nuclei["track_id"],
            "parent_track_id": nuclei["parent_track_id"],
            "t": nuclei["t"],
            "hours_post_infection": nuclei["t"] * (_MINUTES / 60),
            "y": nuclei["y"],
            "x": nuclei["x"],
            "phase": pd.Categorical(nuclei["phase"], categories=PHASES),
        }
    )
    return observations.assign(lineage_id=lineage_ids(observations))


def _experiment(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "channels": [CHANNEL],
        "conditions": {_WELL: _CELLS},
        "minutes_per_frame": _MINUTES,
        "hour_of_infection": 0.0,
    }
