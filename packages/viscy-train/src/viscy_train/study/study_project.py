"""Study project: observations and their pixels as the files of a project, which the product reads like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.positives.rule import make_positives

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

CROPS, CONFIG = "crops.npy", "config.yaml"
_EXPERIMENTS, _ANCHORS = "experiments.yaml", "anchors.parquet"
_POSITIVE = PositiveConfig(min_frames=1, max_frames=4)


def write_project(
    folder: Path,
    *,
    experiments: Sequence[Mapping[str, Any]],
    observations: pd.DataFrame,
    pixels: NDArray[np.float32],
    intensity: Mapping[str, list[list[float]]],
    held_out: Sequence[str],
    sampler: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
) -> Path:
    """Write the files of a project whose plates and tracks do not exist.

    Parameters
    ----------
    folder : pathlib.Path
        Directory that receives ``experiments.yaml``, ``anchors.parquet``, ``crops.npy`` and ``config.yaml``. It is
        created if necessary.
    experiments : sequence of mapping
        The experiments as in an experiments file, without paths.
    observations : pandas.DataFrame
        The observations of an anchor table, but for the column `has_positive`.
    pixels : numpy.ndarray
        Pixels of each observation before normalization, shape (n_observations, n_channels, 1, side, side).
    intensity : mapping of str to list
        For each experiment, center and spread of each channel, shape (n_channels, 2).
    held_out : sequence of str
        Names of the experiments that are not trained on.
    sampler, augmentation : mapping, optional
        Further options of ``data.sampler`` and ``data.augmentation``.

    Returns
    -------
    pathlib.Path
        The configuration file: an encoder, a loss and a number of steps for small crops, the composition of plain
        batches, and the split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_plates = [
        {"plate": f"plates/{one['name']}.zarr", "tracks": f"tracks/{one['name']}", **one} for one in experiments
    ]
    (folder / _EXPERIMENTS).write_text(yaml.safe_dump({"experiments": of_plates}, sort_keys=False))
    loaded = load_experiments(folder / _EXPERIMENTS)
    has_positive = make_positives(observations, loaded, _POSITIVE).has_positive()
    AnchorTable(
        observations=observations.assign(has_positive=has_positive),
        experiments=loaded,
        positive=_POSITIVE,
        crops=CropSettings(crop=pixels.shape[-1]),
        intensity=dict(intensity),
        excluded=[],
    ).write(folder / _ANCHORS)
    np.save(folder / CROPS, pixels)
    config = _config(pixels.shape[-1], held_out, sampler or {}, augmentation or {})
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / CONFIG


def intensity_of(pixels: NDArray[np.float32]) -> list[list[float]]:
    """Return the mean and the standard deviation of each channel of some crops, shape (n_channels, 2)."""
    channels = pixels.swapaxes(0, 1).reshape(pixels.shape[1], -1).astype(np.float64)
    return [[float(values.mean()), float(values.std())] for values in channels]


def _config(
    side: int, held_out: Sequence[str], sampler: Mapping[str, Any], augmentation: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "seed_everything": 0,
        "output": "run",
        "trainer": {"max_steps": 100, "accelerator": "cpu", "devices": 1},
        "model": {
            "encoder": {"name": "tiny", "width": 16, "features": 32, "projection": 16},
            "loss": {"name": "supcon", "temperature": 0.2, "positives": "lineage"},
            "optimizer": {"learning_rate": 0.002, "schedule": "constant"},
        },
        "data": {
            "experiments": _EXPERIMENTS,
            "anchors": _ANCHORS,
            "crop": side,
            "positive": {"min_frames": _POSITIVE.min_frames, "max_frames": _POSITIVE.max_frames},
            "sampler": {"batch_size": 64, "experiment_aware": False, "condition_balanced": False, **sampler},
            "split": {"by": "experiment", "experiments": list(held_out)},
            "augmentation": dict(augmentation),
            "num_workers": 0,
        },
    }
