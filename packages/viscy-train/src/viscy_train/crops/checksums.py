"""Pixel checksums: a few crops of an experiment as numbers, by which other images in its place are recognized.

The decoded pixels count, so a plate may be moved, compressed or divided into chunks in another way.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.window import crop_window
from viscy_train.errors import UserError, one_line
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.plates.pixels import PixelReader, read_with_zarr
from viscy_train.plates.plate import open_plate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from viscy_train.config.schema import CropSettings
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.plates.image_array import ImageArray, Region
    from viscy_train.plates.plate import Plate
    from viscy_train.plates.position_image import PositionImage

_N_CROPS = 8


def pixel_checksums(experiment: Experiment, observations: pd.DataFrame, crops: CropSettings) -> list[list[str | int]]:
    """Return checksums of the pixels of a few observations.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    observations : pandas.DataFrame
        Its observations, in the order of an anchor table.
    crops : CropSettings
        What a crop contains.

    Returns
    -------
    list of list
        Position, frame, first row, first column and CRC-32 of the crops of up to eight observations that are evenly
        spread over the table; then the number of the channel if each observation has one, and the first slice if it is
        around the sharpest one. Checksums include the type of the pixels, and every slice that a crop may contain.

    Raises
    ------
    UserError
        If a crop cannot be read.
    """
    n = len(observations)
    rows = np.unique(((np.arange(_N_CROPS) + 0.5) * n / _N_CROPS).astype(np.int64)) if n else []
    plate, read = open_plate(experiment.plate), _read_with_tensorstore
    samples: list[list[str | int]] = []
    for _, observation in observations.iloc[rows].iterrows():
        position, frame = str(observation["position"]), int(observation["t"])
        image = plate.image(position)
        window = crop_window(image, experiment, crops)
        center = np.array([observation["y"], observation["x"]], dtype=float)
        top, left = window.corners(window.starts(center)).tolist()
        focus = int(observation[Z_FOCUS]) if crops.z == "sharpest" else None
        first = [] if focus is None else [window.slices(window.first_slice(focus=focus)).start]
        channel = [experiment.channel_names.index(observation["channel"])] if "channel" in observations else []
        corner = [frame, top, left, *first]
        checksum = _checksum(image, _names_of(experiment, channel), experiment, corner, crops, read)
        samples.append([position, frame, top, left, checksum, *channel, *first])
    return samples


def pixels_changed(
    plate: Plate,
    experiment: Experiment,
    samples: list[list[Any]],
    crops: CropSettings,
    *,
    channels_mode: str = "all",
    images: Mapping[str, PositionImage] | None = None,
    forks_later: bool = True,
) -> bool:
    """Return whether a crop has another checksum than the one that `pixel_checksums` returned.

    Images by position that are open already are not opened again. zarr-python reads if this process may fork later.
    """
    images = images or {}
    read = read_with_zarr if forks_later else _read_with_tensorstore
    n_channels = 0 if channels_mode == "all" else 1
    return any(
        _checksum(
            images.get(position) or plate.image(position),
            _names_of(experiment, others[:n_channels]),
            experiment,
            [frame, top, left, *others[n_channels:]],
            crops,
            read,
        )
        != checksum
        for position, frame, top, left, checksum, *others in samples
    )


def _read_with_tensorstore(array: ImageArray, region: Region) -> Any:
    return PixelReader(cache_mb=0).open(array, fill_missing=True).request(region).result()


def _names_of(experiment: Experiment, channel: list[int]) -> list[str]:
    """Return the names of the channels with these numbers; of all channels for none."""
    return [experiment.channel_names[number] for number in channel] or experiment.channel_names


def _checksum(
    image: PositionImage,
    channels: list[str],
    experiment: Experiment,
    corner: list[int],
    crops: CropSettings,
    read: Callable[[ImageArray, Region], Any],
) -> int:
    """Return the checksum of a crop, given its frame, first row and first column, and first slice if that varies."""
    frame, top, left, *first = corner
    window = crop_window(image, experiment, crops)
    height, width = window.sides
    region = (
        frame,
        np.array(image.channel_indices(channels)),
        slice(first[0], first[0] + window.z.n_read) if first else window.reachable,
        slice(top, top + height),
        slice(left, left + width),
    )
    try:
        pixels = np.asarray(read(image.array, region))
    except Exception as error:  # many types: those of zarr and of each codec
        reason = one_line(error)
        raise UserError(f"cannot use pixels of {image.where}, frame {frame}: {reason}") from error
    pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    return zlib.crc32(pixels.tobytes(), zlib.crc32(pixels.dtype.str.encode()))
