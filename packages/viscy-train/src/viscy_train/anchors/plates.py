"""Plate: the images of an experiment, an HCS OME-Zarr store opened with iohub."""

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
        Store to create; nothing may be there.
    channels : list of str
        Names, in order.
    images : mapping of str to numpy.ndarray
        Position, such as ``A/1/0``, to its images, shape (n_frames, n_channels, n_slices, height, width).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_ome_zarr(path, layout="hcs", mode="w-", channel_names=channels, axes=_AXES) as plate:
        for name, image in images.items():
            # A chunk is what one crop needs: a frame with its channels.
            chunks = (1, image.shape[1], 1, *image.shape[3:])
            plate.create_position(*name.split("/")).create_image("0", image, chunks=chunks)


def open_plate(path: Path, implementation: str | None = None) -> Plate:
    """Open a plate for reading.

    Parameters
    ----------
    path : pathlib.Path
        The store.
    implementation : str, optional
        What iohub reads arrays with: ``tensorstore``, ``zarr-python`` or ``zarrs-python``, its default.

    Returns
    -------
    iohub.ngff.Plate
        To be closed by the caller.

    Raises
    ------
    UserError
        If there is no store, or it is no plate.
    """
    try:
        there = path.exists()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot look for the plate {str(path)!r}: {error}") from error
    if not there:
        remote = ", and plates are read from this machine's disks only" if re.match(r"\w+:/", path.as_posix()) else ""
        raise UserError(f"there is no plate {path}{remote}; correct `plate` of its experiment")
    try:
        return open_ome_zarr(path, layout="hcs", mode="r", implementation=implementation)
    except Exception as error:  # iohub and zarr raise many types for a folder that is no store
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no HCS OME-Zarr plate: {reason}") from error


def positions_of_well(plate: Plate, well: str, path: Path) -> list[str]:
    """Return the positions of a well.

    Parameters
    ----------
    plate : iohub.ngff.Plate
        Where to look.
    well : str
        Such as ``A/1``.
    path : pathlib.Path
        Of the plate, for the message.

    Returns
    -------
    list of str
        Such as ``A/1/0``.

    Raises
    ------
    UserError
        If the plate has no such well.
    """
    with _damage_told(path, "its metadata"):
        wells = [entry.path for entry in plate.metadata.wells]
    if well not in wells:
        raise UserError(f"plate {path} has no well {well!r}; it has {', '.join(wells)}")
    with _damage_told(path, f"well {well}"):
        return [f"{well}/{image.path}" for image in plate[well].metadata.images]


def image_of(plate: Plate, position: str, path: Path) -> Any:
    """Return the images of a position.

    Parameters
    ----------
    plate : iohub.ngff.Plate
        Where to look.
    position : str
        Such as ``A/1/0``.
    path : pathlib.Path
        Of the plate, for the message.

    Returns
    -------
    iohub.ngff.nodes.ImageArray
        Shape (n_frames, n_channels, n_slices, height, width).

    Raises
    ------
    UserError
        If the position is not there or cannot be read, or its images have other axes or channels.
    """
    with _damage_told(path, f"position {position}"):
        node = plate[position]
        image = node["0"]
        shape, names, channels = image.shape, ", ".join(node.axis_names).upper(), _names(node)
        of_plate = _names(plate)
    where = f"position {position} of plate {path}"
    if names != "T, C, Z, Y, X" or len(shape) != 5:
        raise UserError(f"images must have the axes T, C, Z, Y, X, {where} has {names} and the shape {shape}")
    if channels != of_plate or shape[1] != len(channels):
        raise UserError(
            f"all positions must have the channels of the first, {', '.join(of_plate)}; {where} has {shape[1]}: "
            f"{', '.join(channels)}"
        )
    return image


def image_for_crops(plate: Plate, position: str, path: Path, crop: int, z_slices: int) -> Any:
    """Return the images of a position, after a look at whether crops can be cut from them.

    Parameters
    ----------
    plate, position, path
        As for `image_of`.
    crop : int
        Side of a crop, in pixels.
    z_slices : int
        Slices of a crop.

    Returns
    -------
    iohub.ngff.nodes.ImageArray
        Shape (n_frames, n_channels, n_slices, height, width).

    Raises
    ------
    UserError
        As for `image_of`, or if the pixels are no numbers, or there are fewer than a crop has.
    """
    image = image_of(plate, position, path)
    where = f"position {position} of plate {path}"
    if np.dtype(image.dtype).kind not in "uif":
        raise UserError(f"pixels must be integers or floats, {where} has {image.dtype}")
    _, _, n_slices, height, width = image.shape
    if crop > min(height, width):
        raise UserError(f"data.crop must fit into the images, {where} has {height} x {width} pixels, got {crop}")
    if z_slices > n_slices:
        raise UserError(f"data.z_slices must fit into the stack, {where} has {n_slices}, got {z_slices}")
    return image


def channel_indices(plate: Plate, channels: list[str], path: Path) -> list[int]:
    """Return the places of channels in a plate's images.

    Parameters
    ----------
    plate : iohub.ngff.Plate
        Where to look.
    channels : list of str
        Names.
    path : pathlib.Path
        Of the plate, for the message.

    Returns
    -------
    list of int
        One for each name.

    Raises
    ------
    UserError
        If the plate has no such channel.
    """
    with _damage_told(path, "its first position, which names the channels,"):
        names = _names(plate)
    for channel in channels:
        if channel not in names:
            raise UserError(f"plate {path} has no channel {channel!r}; it has {', '.join(names)}")
        if names.count(channel) > 1:
            raise UserError(f"plate {path} has {names.count(channel)} channels {channel!r}; give them different names")
    return [names.index(channel) for channel in channels]


def _names(node: Any) -> list[str]:
    """Return the names of channels; where the metadata name none iohub gives their numbers."""
    return [str(name) for name in node.channel_names]


@contextmanager
def _damage_told(path: Path, what: str) -> Generator[None]:
    """Turn what iohub and zarr raise for a damaged or incomplete plate into one line."""
    try:
        yield
    # A JSONDecodeError is a ValueError, as is the validation error of iohub's models.
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError, zarr.errors.BaseZarrError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"plate {path} is damaged or incomplete, {what} cannot be read ({reason}); restore it or leave its well out"
        ) from error
