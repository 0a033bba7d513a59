"""Crops: normalized squares around cells; the crops of a batch are read concurrently."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.crops.window import crop_window
from viscy_train.errors import UserError
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.images import Images
from viscy_train.loading.normalization import Normalization
from viscy_train.loading.open_position import OpenPosition
from viscy_train.positives.lineages import starts_run

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.plates.pixels import Pending


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
    child does not use those of its parent (see `viscy_train.plates.fork`).
    """

    def __init__(self, table: AnchorTable, *, cache_mb: int = 256) -> None:
        observations = table.observations
        self._experiments = table.experiments
        self._crops, self._cache_mb = table.crops, cache_mb
        names = [experiment.name for experiment in table.experiments]
        experiment, name = (observations[column].astype("category") for column in ("experiment", "position"))
        # Two experiments may have positions of the same name, so a position is a pair of experiment and name.
        n_names = len(name.cat.categories)
        code_of_experiment = pd.Index(names).get_indexer(experiment.cat.categories)[experiment.cat.codes.to_numpy()]
        pair = code_of_experiment * n_names + name.cat.codes.to_numpy(np.int64)
        # The codes are found in the first row of each run of equal pairs, of which a table has few.
        codes = np.unique(pair[starts_run(pair)])
        self._position = np.searchsorted(codes, pair)
        self._experiment_of_position = codes // n_names
        self._name_of_position = [str(name.cat.categories[code]) for code in codes % n_names]
        self._normalization = Normalization(table, self._experiment_of_position, self._name_of_position)
        self._frame = observations["t"].to_numpy(np.int64)
        self._focus = observations[Z_FOCUS].to_numpy() if table.crops.z == "sharpest" else None
        center = observations[["y", "x"]].to_numpy(np.float64)
        self._center = np.rint(center).astype(np.int64) if table.crops.crop_um is None else center
        self._channel = _channels_of_rows(table) if table.channels_mode == "one" else None
        self._open: dict[int, tuple[Images, dict[int, OpenPosition]]] = {}

    def __len__(self) -> int:
        return len(self._position)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
        """Read crops.

        A crop is centered on its cell. At a border of the image, it is moved inside. Crops of a physical size, and
        those of the maximum of all slices, are resampled and projected.

        Parameters
        ----------
        rows : numpy.ndarray
            Rows of the table, shape (n,); may contain duplicates.
        draws : numpy.ndarray, optional
            Random numbers in [0, 1) that choose the slices of each crop if ``data.z`` is ``random``, shape (n,). By
            default, such crops have the slices in the middle of the stack.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_channels, z_slices, side, side), in the order of the rows. Pixels are normalized by center and
            spread of the channel, see `viscy_train.loading.normalization`.

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
                draw = None if draws is None else float(draws[slot])
                pending.append(self._request(opened[position[slot]], rows[slot], draw))
        crops = self._empty(len(rows))
        # A float64 beyond float32 becomes infinite, which is reported below.
        with np.errstate(over="ignore"):
            for slot, pixels in zip(order.tolist(), pending, strict=True):
                with self._report_damage(rows[slot]):
                    crops[slot] = pixels.result()
        channel = None if self._channel is None else self._channel[rows]
        self._normalization.apply(crops, position, self._frame[rows], channel)
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
        window = crop_window(image, experiment, self._crops)
        channels = np.array(image.channel_indices(experiment.channel_names))
        choices = [_as_slice(channels)] if self._channel is None else [slice(one, one + 1) for one in channels]
        return OpenPosition(image, pixels, window, choices)

    def _request(self, at: OpenPosition, row: int, draw: float | None) -> Pending:
        return at.request(
            int(self._frame[row]),
            self._center[row],
            channel=0 if self._channel is None else self._channel[row],
            focus=None if self._focus is None else int(self._focus[row]),
            draw=draw if self._crops.z == "random" else None,
        )

    def _empty(self, n: int) -> NDArray[np.float32]:
        side = self._crops.crop
        n_channels = self._normalization.n_channels if self._channel is None else 1
        return np.empty((n, n_channels, self._crops.z_slices, side, side), dtype=np.float32)

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


def _channels_of_rows(table: AnchorTable) -> NDArray[np.int64]:
    """Return the index of each observation's channel among those of its experiment."""
    channel, experiment = (table.observations[name].astype("category") for name in ("channel", "experiment"))
    index = np.full((len(experiment.cat.categories), len(channel.cat.categories)), -1)
    for one in table.experiments:
        row = experiment.cat.categories.get_indexer([one.name])
        index[row, channel.cat.categories.get_indexer(one.channel_names)] = np.arange(len(one.channels))
    return index[experiment.cat.codes.to_numpy(), channel.cat.codes.to_numpy()]


def _as_slice(indices: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Return consecutive indices as a slice, which is faster to read."""
    first, n = int(indices[0]), len(indices)
    return slice(first, first + n) if np.array_equal(indices, np.arange(first, first + n)) else indices
