"""Crops: the squares around cells, on a common scale of brightness, all those of a batch read at once."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from viscy_train.anchors.geometry import corners, middle_slices
from viscy_train.errors import UserError
from viscy_train.loading.images import Images, Region

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable

# A channel that is the same everywhere has no deviation to divide by.
_LEAST_DEVIATION = 1e-6


class Place(NamedTuple):
    """An open position."""

    image: Any
    channels: NDArray[np.int64] | slice
    slices: slice
    height: int
    width: int
    may_be_nan: bool


class CropReader:
    """Crops of the cells of a table.

    Parameters
    ----------
    table : AnchorTable
        Says where the cells are, how large a crop is, and how bright each channel.
    cache_mb : int, default 256
        Memory for decoded chunks in each process that reads, in MB.

    Notes
    -----
    Plates and positions are opened when they are first read from, by the process that reads. What is open is neither
    pickled nor used by a forked child (see `viscy_train.loading.images`).
    """

    def __init__(self, table: AnchorTable, *, cache_mb: int = 256) -> None:
        cells = table.observations
        self._experiments = table.experiments
        self._side, self._z_slices, self._cache_mb = table.crop, table.z_slices, cache_mb
        names = [experiment.name for experiment in table.experiments]
        brightness = np.array([table.brightness[name] for name in names], dtype=np.float32)[..., None, None, None]
        self._mean = brightness[:, :, 0]
        self._deviation = np.maximum(brightness[:, :, 1], _LEAST_DEVIATION)
        experiment = cells["experiment"].astype(str).map({name: code for code, name in enumerate(names)})
        position = cells["position"].astype("category")
        # A place is a position of an experiment; other experiments may have one of the same name.
        n_positions = len(position.cat.categories)
        places, self._place = np.unique(
            experiment.to_numpy(np.int64) * n_positions + position.cat.codes.to_numpy(np.int64), return_inverse=True
        )
        self._experiment_of_place = places // n_positions
        self._position_of_place = [str(position.cat.categories[code]) for code in places % n_positions]
        self._frame = cells["t"].to_numpy(np.int64)
        self._centre = np.rint(cells[["y", "x"]].to_numpy(np.float64)).astype(np.int64)
        self._open: dict[int, tuple[Images, dict[int, Place]]] = {}

    def __len__(self) -> int:
        return len(self._place)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read crops.

        A crop is centred on its cell, but moved into the image where that is near a border, and has the slices in the
        middle of the stack.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the table, shape (n,); a row may come more than once.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_channels, z_slices, side, side), in the order of the rows: deviations from the mean of the
            experiment's channel, in standard deviations.

        Raises
        ------
        UserError
            If a plate or position is not there or is damaged, a chunk of it is missing or cannot be decoded, or a crop
            has pixels that are NaN or infinite.
        """
        rows = np.asarray(rows, dtype=np.int64)
        place = self._place[rows]
        images, places = self._of_this_process(np.unique(place))
        # In the order of the images, so that crops which share a chunk are cut while it is in memory.
        order = np.lexsort((self._frame[rows], place))
        pending = []
        for slot in order.tolist():
            with self._damage_told(rows[slot]):
                pending.append(images.request(places[place[slot]].image, self._region(rows[slot], places[place[slot]])))
        crops = np.empty((len(rows), self._mean.shape[1], self._z_slices, self._side, self._side), dtype=np.float32)
        # A float64 that float32 cannot hold becomes infinite, which is told below.
        with np.errstate(over="ignore"):
            for slot, pixels in zip(order.tolist(), pending, strict=True):
                with self._damage_told(rows[slot]):
                    crops[slot] = pixels.result()
        experiment = self._experiment_of_place[place]
        crops -= self._mean[experiment]
        crops /= self._deviation[experiment]
        if any(opened.may_be_nan for opened in places.values()):
            self._refuse_what_is_not_finite(rows, crops)
        return crops

    def _of_this_process(self, wanted: NDArray[np.int64]) -> tuple[Images, dict[int, Place]]:
        """Return what is open, with the places that are wanted.

        Under the number of the process: what a forked child has of its parent it must not use, nor free.
        """
        process = os.getpid()
        if process not in self._open:
            self._open[process] = Images(self._cache_mb), {}
        images, places = self._open[process]
        for place in wanted.tolist():
            if place not in places:
                places[place] = self._opened(images, place)
        return images, places

    def _opened(self, images: Images, place: int) -> Place:
        experiment = self._experiments[self._experiment_of_place[place]]
        position = self._position_of_place[place]
        image = images.open(experiment.plate, position)
        channels = np.array(images.channels(experiment.plate, experiment.channels))
        _, _, n_slices, height, width = image.shape
        least = f"{self._z_slices} slices of {self._side} x {self._side} pixels"
        if n_slices < self._z_slices or min(height, width) < self._side:
            raise UserError(
                f"images must have at least {least} for a crop, got {n_slices} of {height} x {width} in experiment "
                f"{experiment.name!r}, position {position}; make `data.crop` or `data.z_slices` smaller"
            )
        dtype = np.dtype(getattr(image.dtype, "numpy_dtype", image.dtype))
        slices = middle_slices(n_slices, self._z_slices)
        return Place(image, _as_slice(channels), slices, height, width, dtype.kind == "f")

    def _region(self, row: int, place: Place) -> Region:
        top, left = corners(self._centre[row], self._side, (place.height, place.width)).tolist()
        rows, columns = slice(top, top + self._side), slice(left, left + self._side)
        return int(self._frame[row]), place.channels, place.slices, rows, columns

    def _refuse_what_is_not_finite(self, rows: NDArray[np.int64], crops: NDArray[np.float32]) -> None:
        bad = ~np.isfinite(crops).all(axis=(1, 2, 3, 4))
        if bad.any():
            raise UserError(self._complaint(rows[np.argmax(bad)], "some are NaN or infinite"))

    @contextmanager
    def _damage_told(self, row: int) -> Generator[None]:
        """Turn what tensorstore and zarr raise for a missing or damaged chunk into one line."""
        try:
            yield
        except Exception as error:  # of many types: ValueError, RuntimeError, zarr's own, those of each codec
            raise UserError(self._complaint(row, " ".join(str(error).split()) or type(error).__name__)) from error

    def _complaint(self, row: int, reason: str) -> str:
        place = self._place[row]
        experiment = self._experiments[self._experiment_of_place[place]]
        return (
            f"cannot use pixels of experiment {experiment.name!r}, plate {experiment.plate}, position "
            f"{self._position_of_place[place]}, frame {self._frame[row]} ({reason}); restore them, or leave such cells "
            "out with `viscy-train index --config FILE --pixels all`"
        )


def _as_slice(channels: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Return places that follow each other as a slice, which is looked up faster."""
    first, n = int(channels[0]), len(channels)
    return slice(first, first + n) if np.array_equal(channels, np.arange(first, first + n)) else channels
