"""Plates: the images of an experiment, in an HCS OME-Zarr store that iohub opens."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr.errors
from iohub.ngff import Plate, open_ome_zarr
from iohub.ngff.models import ChannelAxisMeta, SpaceAxisMeta, TimeAxisMeta

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


_AXES = [TimeAxisMeta(name="T"), ChannelAxisMeta(name="C"), *(SpaceAxisMeta(name=name) for name in "ZYX")]


def write_plate(path: Path, channels: list[str], images: Mapping[str, NDArray[np.uint16]]) -> None:
    """Write a plate.

    Parameters
    ----------
    path : pathlib.Path
        Store to create; must not exist.
    channels : list of str
        Channel names, in order.
    images : mapping of str to numpy.ndarray
        Images of each position, such as ``A/1/0``, shape (n_frames, n_channels, n_slices, height, width).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_ome_zarr(path, layout="hcs", mode="w-", channel_names=channels, axes=_AXES) as plate:
        for name, image in images.items():
            # One chunk holds all channels of a frame, which is what a crop needs.
            chunks = (1, image.shape[1], 1, *image.shape[3:])
            plate.create_position(*name.split("/")).create_image("0", image, chunks=chunks)


def open_plate(path: Path, implementation: str | None = None) -> Plate:
    """Open a plate for reading.

    Parameters
    ----------
    path : pathlib.Path
        The store.
    implementation : {"tensorstore", "zarr-python", "zarrs-python"}, optional
        The library that iohub reads arrays with; by default, iohub's choice.

    Returns
    -------
    iohub.ngff.Plate
        The plate; the caller closes it.

    Raises
    ------
    UserError
        If the store does not exist, or is not a plate.
    """
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot access plate {str(path)!r}: {error}") from error
    if not exists:
        remote = " (plates must be on a local file system)" if re.match(r"\w+:/", path.as_posix()) else ""
        raise UserError(f"plate not found: {path}{remote}; correct `plate` of its experiment")
    try:
        return open_ome_zarr(path, layout="hcs", mode="r", implementation=implementation)
    except Exception as error:  # iohub and zarr raise many types for a directory that is not a store
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not an HCS OME-Zarr plate: {reason}") from error


def list_positions(plate: Plate, well: str, path: Path) -> list[str]:
    """Return the names of the positions in a well.

    Parameters
    ----------
    plate : iohub.ngff.Plate
        The open plate.
    well : str
        Name of the well, such as ``A/1``.
    path : pathlib.Path
        Path of the plate, for error messages.

    Returns
    -------
    list of str
        Names of positions, such as ``A/1/0``.

    Raises
    ------
    UserError
        If the plate has no such well, or its metadata is damaged.
    """
    with _report_damage(path, "its metadata"):
        wells = [entry.path for entry in plate.metadata.wells]
    if well not in wells:
        raise UserError(f"plate {path} has no well {well!r}; it has {', '.join(wells)}")
    with _report_damage(path, f"well {well}"):
        return [f"{well}/{image.path}" for image in plate[well].metadata.images]


def position_image(plate: Plate, position: str, path: Path) -> Any:
    """Return the images of a position.

    Parameters
    ----------
    plate : iohub.ngff.Plate
        The open plate.
    position : str
        Name of the position, such as ``A/1/0``.
    path : pathlib.Path
        Path of the plate, for error messages.

    Returns
    -------
    iohub.ngff.nodes.ImageArray
        Array of shape (n_frames, n_channels, n_slices, height, width).

    Raises
    ------
    UserError
        If the position does not exist or cannot be read, or has unexpected axes or channels.
    """
    with _report_damage(path, f"position {position}"):
        node = plate[position]
        image = node["0"]
        shape, axes, channels = image.shape, ", ".join(node.axis_names).upper(), _channel_names(node)
        expected_channels = _channel_names(plate)
    where = f"position {position} of plate {path}"
    if axes != "T, C, Z, Y, X" or len(shape) != 5:
        raise UserError(f"images must have the axes T, C, Z, Y, X, got {axes} and shape {shape} in {where}")
    if channels != expected_channels or shape[1] != len(channels):
        raise UserError(
            f"all positions must have the same channels, {', '.join(expected_channels)}; {where} has {shape[1]}: "
            f"{', '.join(channels)}"
        )
    return image


def image_for_crops(plate: Plate, position: str, path: Path, crop: int, z_slices: int) -> Any:
    """Return the images of a position, after checking that crops can be cut from them.

    Parameters
    ----------
    plate, position, path
        As for `position_image`.
    crop : int
        Side of a crop, in pixels.
    z_slices : int
        Number of slices in a crop.

    Returns
    -------
    iohub.ngff.nodes.ImageArray
        Array of shape (n_frames, n_channels, n_slices, height, width).

    Raises
    ------
    UserError
        As for `position_image`, or if the pixels are not real numbers or the image is smaller than a crop.
    """
    image = position_image(plate, position, path)
    where = f"position {position} of plate {path}"
    if np.dtype(image.dtype).kind not in "uif":
        raise UserError(f"pixels must be integers or floats, got {image.dtype} in {where}")
    check_crop_fits(image.shape, crop, z_slices, where)
    return image


def check_crop_fits(shape: tuple[int, ...], crop: int, z_slices: int, where: str) -> None:
    """Refuse an image that is smaller than a crop.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image, (n_frames, n_channels, n_slices, height, width).
    crop : int
        Side of a crop, in pixels.
    z_slices : int
        Number of slices in a crop.
    where : str
        The image, for error messages.

    Raises
    ------
    UserError
        If the image has too few pixels or slices.
    """
    _, _, n_slices, height, width = shape
    if crop > min(height, width):
        raise UserError(f"data.crop must fit into the image, {height} x {width} pixels in {where}, got {crop}")
    if z_slices > n_slices:
        raise UserError(f"data.z_slices must fit into the stack, {n_slices} slices in {where}, got {z_slices}")


def channel_indices(plate: Plate, channels: list[str], path: Path) -> list[int]:
    """Return the indices of channels in a plate's images.

    Parameters
    ----------
    plate : iohub.ngff.Plate
        The open plate.
    channels : list of str
        Channel names.
    path : pathlib.Path
        Path of the plate, for error messages.

    Returns
    -------
    list of int
        Index of each channel.

    Raises
    ------
    UserError
        If the plate does not have exactly one channel of a name.
    """
    with _report_damage(path, "its first position (for the channel names)"):
        names = _channel_names(plate)
    for channel in channels:
        if channel not in names:
            raise UserError(f"plate {path} has no channel {channel!r}; it has {', '.join(names)}")
        if names.count(channel) > 1:
            raise UserError(f"plate {path} has {names.count(channel)} channels {channel!r}; give them different names")
    return [names.index(channel) for channel in channels]


def _channel_names(node: Any) -> list[str]:
    """Return the channel names; if the metadata has none, iohub uses the channels' indices."""
    return [str(name) for name in node.channel_names]


@contextmanager
def _report_damage(path: Path, what: str) -> Generator[None]:
    """Turn the errors that iohub and zarr raise for a damaged or incomplete plate into a one-line `UserError`."""
    try:
        yield
    # A JSONDecodeError is a ValueError, as is the validation error of iohub's models.
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError, zarr.errors.BaseZarrError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"plate {path} is damaged or incomplete: cannot read {what} ({reason}); restore it, or leave its well out"
        ) from error
