"""World project: a world as the files of a project, which every part of the product reads like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.study.study_project import intensity_of, write_project
from viscy_train.study.world_cells import N_FEATURES, WELLS, features_of, make_cells, observations_of
from viscy_train.study.world_images import CHANNELS, draw_crops
from viscy_train.study.worlds import CONDITIONS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.study.worlds import World

# Equal pixels need no transforms of images; gain, offset and noise stay as they are by default.
_SAME_PIXELS = {"rotation": 0.0, "flip": False, "scale": 0.0, "translation": 0.0, "blur": 0.0}
# Pixels of a table are equal: three convolutions of stride 2 see a row of features in the smallest crop.
_SIDE_OF_TABLE = 8


def write_world(world: World, seed: int, folder: Path, *, as_crops: bool = False) -> Path:
    """Write a world as the files of a project.

    Parameters
    ----------
    world : World
        Sizes of what varies.
    seed : int
        Seed of all random numbers of the world. The same world and seed give the same observations and pixels.
    folder : pathlib.Path
        Directory that receives ``experiments.yaml``, whose plates and tracks do not exist, ``anchors.parquet``,
        ``crops.npy`` and ``config.yaml``. It is created if necessary.
    as_crops : bool, default False
        Whether cells are seen as images of 32 x 32 pixels in two channels. By default, they are seen as a table: each
        feature is a channel of 8 x 8 equal pixels.

    Returns
    -------
    pathlib.Path
        The configuration file: an encoder, a loss and a number of steps for such a world, the composition of plain
        batches, and a split that holds out the experiments that are not to be trained on.

    Notes
    -----
    ``crops.npy`` has the pixels of each observation before normalization, float32, shape (n_observations, n_channels,
    1, side, side).
    """
    cells = make_cells(world, seed)
    if as_crops:
        pixels, channels = draw_crops(world, cells, seed)[:, :, None], list(CHANNELS)
        intensity = {name: intensity_of(pixels[cells.experiment == number]) for number, name in enumerate(world.names)}
    else:
        pixels = _table_pixels(features_of(world, cells, seed))
        channels = [f"feature{number}" for number in range(1, N_FEATURES + 1)]
        intensity = {name: [[0.0, 1.0]] * len(channels) for name in world.names}
    return write_project(
        folder,
        experiments=_experiments(world, channels),
        observations=observations_of(world, cells, seed),
        pixels=pixels,
        intensity=intensity,
        held_out=world.held_out,
        augmentation=None if as_crops else _SAME_PIXELS,
    )


def _table_pixels(features: NDArray[np.float32]) -> NDArray[np.float32]:
    shape = (*features.shape, 1, _SIDE_OF_TABLE, _SIDE_OF_TABLE)
    return np.broadcast_to(features[..., None, None, None], shape)


def _experiments(world: World, channels: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "channels": channels,
            "conditions": {well: name for name, wells in zip(CONDITIONS, WELLS, strict=True) for well in wells},
            "minutes_per_frame": world.minutes_per_frame,
            "hour_of_infection": 0.0,
        }
        for name in world.names
    ]
