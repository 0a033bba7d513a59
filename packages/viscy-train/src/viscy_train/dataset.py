"""Pair dataset: for an anchor's position the crops of its cell at two times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from viscy_train.anchors import partners_of
from viscy_train.plates import channel_indices, image_of, open_plate, read_crop

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from viscy_train.config import Config

# Every nth frame of a position is enough to know how bright a plate is.
_FRAMES_BETWEEN_SAMPLES = 8


class CropReader:
    """Crops of anchors, on a common scale of brightness.

    Parameters
    ----------
    anchors : pandas.DataFrame
        Table with the columns of `viscy_train.anchors.COLUMNS`.
    config : Config
        Names plates and channels.

    Notes
    -----
    Each experiment's channels are scaled to mean 0 and standard deviation 1, over some frames of all its positions.
    Plates are opened when first read, by the process that reads, and an open one is not pickled.
    """

    def __init__(self, anchors: pd.DataFrame, config: Config) -> None:
        self._where = list(anchors[["experiment", "position", "t", "y", "x"]].itertuples(index=False, name=None))
        self._positions = anchors.groupby("experiment")["position"].unique().to_dict()
        self._plates = {experiment.name: experiment.plate for experiment in config.experiments}
        self._channels, self._side = config.channels, config.crop
        self._opened: dict[str, tuple[Any, ...]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    def crop(self, row: int) -> NDArray[np.float32]:
        """Return the crop of an anchor.

        Parameters
        ----------
        row : int
            Position of the anchor in the table.

        Returns
        -------
        numpy.ndarray
            Shape (n_channels, side, side).
        """
        experiment, position, t, y, x = self._where[row]
        images, channels, mean, deviation = self._open(experiment)
        return (read_crop(images[position], channels, t, y, x, self._side) - mean) / deviation

    def _open(self, experiment: str) -> tuple[Any, ...]:
        if experiment not in self._opened:
            path = self._plates[experiment]
            plate = open_plate(path)
            images = {position: image_of(plate, position, path) for position in self._positions[experiment]}
            channels = channel_indices(plate, self._channels, path)
            self._opened[experiment] = images, channels, *_brightness(images, channels)
        return self._opened[experiment]


class PairDataset(Dataset):
    """Anchor and positive: the same cell at two times, each turned and brightened at random.

    Parameters
    ----------
    anchors : pandas.DataFrame
        Table with the columns of `viscy_train.anchors.COLUMNS`.
    config : Config
        Names plates, channels and which times are positives.
    epoch : int, default 0
        Another epoch has other positives.

    Notes
    -----
    What is random is a function of (seed, epoch, position of the anchor) alone: it does not depend on ranks, workers
    or the order of requests.
    """

    def __init__(self, anchors: pd.DataFrame, config: Config, epoch: int = 0) -> None:
        self._reader = CropReader(anchors, config)
        self._partners = partners_of(anchors, config.positive)
        self._seed, self.epoch = config.seed, epoch

    def __len__(self) -> int:
        return len(self._partners)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return crops of shape (n_channels, side, side) as `anchor` and `positive`, and as `row` the index itself."""
        rng = self._random(index)
        positive = self._choose(index, rng)
        return {
            "anchor": _varied(self._reader.crop(index), rng),
            "positive": _varied(self._reader.crop(positive), rng),
            "row": index,
        }

    def positive_of(self, row: int) -> int:
        """Return the row of an anchor's positive in this epoch.

        Parameters
        ----------
        row : int
            Position of the anchor in the table.

        Returns
        -------
        int
            Position of another anchor of its track.
        """
        return self._choose(row, self._random(row))

    def _random(self, row: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, self.epoch, row))

    def _choose(self, row: int, rng: np.random.Generator) -> int:
        partners = self._partners[row]
        return int(rng.choice(partners[partners >= 0]))


def _brightness(images: dict[str, Any], channels: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each channel, both of shape (n_channels, 1, 1)."""
    frames = [
        np.asarray(image[t, :, image.shape[2] // 2], dtype=np.float32)[channels]
        for image in images.values()
        for t in range(0, image.shape[0], _FRAMES_BETWEEN_SAMPLES)
    ]
    pixels = np.stack(frames, axis=1).reshape(len(channels), -1)
    mean, deviation = pixels.mean(axis=1), pixels.std(axis=1)
    return mean[:, None, None], np.maximum(deviation, 1e-6)[:, None, None]


def _varied(crop: NDArray[np.float32], rng: np.random.Generator) -> Tensor:
    """Return one of the eight turned or mirrored crops, a little brighter or darker."""
    crop = np.rot90(crop, k=rng.integers(4), axes=(1, 2))
    if rng.integers(2):
        crop = crop[:, ::-1]
    scale = rng.uniform(0.85, 1.15, size=(len(crop), 1, 1))
    shift = rng.uniform(-0.15, 0.15, size=(len(crop), 1, 1))
    return torch.from_numpy(np.ascontiguousarray(crop * scale + shift, dtype=np.float32))
