"""Crops: normalized squares around cells; the crops of a batch are read concurrently."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from viscy_train.anchors.geometry import crop_corners, middle_slices
from viscy_train.errors import UserError
from viscy_train.loading.images import Images

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from viscy_train.anchors.image_array import Region
    from viscy_train.anchors.pixels import Pixels
    from viscy_train.anchors.table import AnchorTable

# A constant channel has a standard deviation of 0, by which crops cannot be divided.
_MIN_STD = 1e-6


class OpenPosition(NamedTuple):
    """The pixels of a position, opened by this process, and the parts of them that crops contain."""

    pixels: Pixels
    channels: NDArray[np.int64] | slice
    slices: slice
    height: int
    width: int
    may_be_nan: bool


class CropReader:
    """Read the crops of the observations in a table.

    Parameters
    ----------
    table : AnchorTable
        Gives the location of each observation, the size of a crop, and the intensity of each channel.
    cache_mb : int, default 256
        Memory for decoded chunks, for each process that reads, in MB.

    Notes
    -----
    Each process opens plates and positions when it first reads from them. Open images are not pickled, and a forked
    child does not use those of its parent (see `viscy_train.anchors.fork`).
    """

    def __init__(self, table: AnchorTable, *, cache_mb: int = 256) -> None:
        observations = table.observations
        self._experiments = table.experiments
        self._crops, self._cache_mb = table.crops, cache_mb
        self._side, self._z_slices = table.crops.crop, table.crops.z_slices
        names = [experiment.name for experiment in table.experiments]
        intensity = np.array([table.intensity[name] for name in names], dtype=np.float32)[..., None, None, None]
        self._mean = intensity[:, :, 0]
        self._std = np.maximum(intensity[:, :, 1], _MIN_STD)
        experiment = observations["experiment"].astype(str).map({name: code for code, name in enumerate(names)})
        name = observations["position"].astype("category")
        # Two experiments may have positions of the same name, so a position is a pair of experiment and name.
        n_names = len(name.cat.categories)
        codes, self._position = np.unique(
            experiment.to_numpy(np.int64) * n_names + name.cat.codes.to_numpy(np.int64), return_inverse=True
        )
        self._experiment_of_position = codes // n_names
        self._name_of_position = [str(name.cat.categories[code]) for code in codes % n_names]
        self._frame = observations["t"].to_numpy(np.int64)
        self._center = np.rint(observations[["y", "x"]].to_numpy(np.float64)).astype(np.int64)
        self._open: dict[int, tuple[Images, dict[int, OpenPosition]]] = {}

    def __len__(self) -> int:
        return len(self._position)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read crops.

        A crop is centered on its cell. At a border of the image, it is moved inside. Its slices are those in the middle
        of the stack.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the table, shape (n,); may contain duplicates.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_channels, z_slices, side, side), in the order of the rows. Pixels are normalized by the mean and
            standard deviation of the channel in the experiment.

        Raises
        ------
        UserError
            If a plate or position does not exist or is damaged, a chunk is missing or cannot be decoded, or a crop
            contains NaN or infinite pixels.
        """
        rows = np.asarray(rows, dtype=np.int64)
        position = self._position[rows]
        opened = self._open_positions(np.unique(position))
        # In the order of the images, so that crops that share a chunk are read while it is in the cache.
        order = np.lexsort((self._frame[rows], position))
        pending = []
        for slot in order.tolist():
            with self._report_damage(rows[slot]):
                at = opened[position[slot]]
                pending.append(at.pixels.request(self._region(rows[slot], at)))
        crops = np.empty((len(rows), self._mean.shape[1], self._z_slices, self._side, self._side), dtype=np.float32)
        # A float64 beyond float32 becomes infinite, which is reported below.
        with np.errstate(over="ignore"):
            for slot, pixels in zip(order.tolist(), pending, strict=True):
                with self._report_damage(rows[slot]):
                    crops[slot] = pixels.result()
        experiment = self._experiment_of_position[position]
        crops -= self._mean[experiment]
        crops /= self._std[experiment]
        if any(at.may_be_nan for at in opened.values()):
            self._check_finite(rows, crops)
        return crops

    def _open_positions(self, positions: NDArray[np.int64]) -> dict[int, OpenPosition]:
        """Return the open positions of this process, after opening the given positions.

        They are stored by process id: a forked child must neither use nor free what its parent has opened.
        """
        process = os.getpid()
        if process not in self._open:
            self._open[process] = Images(self._cache_mb), {}
        images, opened = self._open[process]
        for position in positions.tolist():
            if position not in opened:
                opened[position] = self._open_position(images, position)
        return opened

    def _open_position(self, images: Images, position: int) -> OpenPosition:
        experiment = self._experiments[self._experiment_of_position[position]]
        name = self._name_of_position[position]
        image, pixels = images.open(experiment.plate, name)
        image.check_fits(self._crops)
        channels = np.array(image.channel_indices(experiment.channel_names))
        _, _, n_slices, height, width = image.shape
        slices = middle_slices(n_slices, self._z_slices)
        return OpenPosition(pixels, _as_slice(channels), slices, height, width, image.array.dtype.kind == "f")

    def _region(self, row: int, at: OpenPosition) -> Region:
        top, left = crop_corners(self._center[row], self._side, (at.height, at.width)).tolist()
        rows, columns = slice(top, top + self._side), slice(left, left + self._side)
        return int(self._frame[row]), at.channels, at.slices, rows, columns

    def _check_finite(self, rows: NDArray[np.int64], crops: NDArray[np.float32]) -> None:
        is_invalid = ~np.isfinite(crops).all(axis=(1, 2, 3, 4))
        if is_invalid.any():
            raise UserError(self._describe_damage(rows[np.argmax(is_invalid)], "some are NaN or infinite"))

    @contextmanager
    def _report_damage(self, row: int) -> Generator[None]:
        """Turn the errors that tensorstore and zarr raise for missing or damaged chunks into a one-line `UserError`."""
        try:
            yield
        except Exception as error:  # many types: ValueError, RuntimeError, zarr's, and those of each codec
            raise UserError(self._describe_damage(row, " ".join(str(error).split()) or type(error).__name__)) from error

    def _describe_damage(self, row: int, reason: str) -> str:
        position = self._position[row]
        experiment = self._experiments[self._experiment_of_position[position]]
        return (
            f"cannot use pixels of experiment {experiment.name!r}, plate {experiment.plate}, position "
            f"{self._name_of_position[position]}, frame {self._frame[row]} ({reason}); restore them, or exclude the "
            "affected observations with `viscy-train index --config FILE --pixels all`"
        )


def _as_slice(indices: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Return consecutive indices as a slice, which is faster to read."""
    first, n = int(indices[0]), len(indices)
    return slice(first, first + n) if np.array_equal(indices, np.arange(first, first + n)) else indices
