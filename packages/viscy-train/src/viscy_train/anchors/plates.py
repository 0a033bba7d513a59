"""Plates: the images of an experiment, in an HCS OME-Zarr store on a local file system.

Metadata are read with zarr-python, never from consolidated copies, which may be outdated. Pixels are read as described
in `viscy_train.anchors.pixels`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import zarr
from iohub.ngff import open_ome_zarr
from iohub.ngff.models import ChannelAxisMeta, SpaceAxisMeta, TimeAxisMeta, TransformationMeta
from zarr.storage import LocalStore

from viscy_train.anchors.image_array import ImageArray
from viscy_train.anchors.ngff import channel_names, check_plate, full_resolution, list_images, list_wells, ome_metadata
from viscy_train.anchors.ngff_scale import PhysicalScale, physical_scale
from viscy_train.anchors.pixels import zarr_codecs
from viscy_train.errors import UserError, kind_of_file, require_regular_file

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.config.schema import CropSettings


_METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def write_plate(
    path: Path,
    channels: list[str],
    images: Mapping[str, NDArray[np.uint16]],
    *,
    micrometers_per_pixel: float | None = None,
    micrometers_per_slice: float | None = None,
) -> None:
    """Write a plate.

    Parameters
    ----------
    path : pathlib.Path
        Store to create; must not exist.
    channels : list of str
        Channel names, in order.
    images : mapping of str to numpy.ndarray
        Images of each position, such as ``A/1/0``, shape (n_frames, n_channels, n_slices, height, width).
    micrometers_per_pixel, micrometers_per_slice : float, optional
        Physical scale to write into the metadata.
    """
    scale = [1.0, 1.0, micrometers_per_slice or 1.0, *[micrometers_per_pixel or 1.0] * 2]
    units = {"Z": micrometers_per_slice, "Y": micrometers_per_pixel, "X": micrometers_per_pixel}
    space = [SpaceAxisMeta(name=name, unit="micrometer" if length else None) for name, length in units.items()]
    axes = [TimeAxisMeta(name="T"), ChannelAxisMeta(name="C"), *space]
    transform = TransformationMeta(type="scale", scale=scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_ome_zarr(path, layout="hcs", mode="w-", channel_names=channels, axes=axes) as plate:
        for name, image in images.items():
            # One chunk holds all channels of a frame, which is what a crop needs.
            chunks = (1, image.shape[1], 1, *image.shape[3:])
            plate.create_position(*name.split("/")).create_image("0", image, chunks=chunks, transform=[transform])


@dataclass(frozen=True, kw_only=True)
class PositionImage:
    """The image of a position.

    Parameters
    ----------
    array : ImageArray
        Its pixels, shape (n_frames, n_channels, n_slices, height, width).
    channels : list of str
        Names of the channels.
    where : str
        The position and its plate, for error messages.
    scale : PhysicalScale
        Physical scale, as far as the metadata of the image give it.
    """

    array: ImageArray
    channels: list[str]
    where: str
    scale: PhysicalScale = field(default_factory=PhysicalScale)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    @property
    def micrometers_per_pixel(self) -> float | None:
        """The side of a pixel in micrometers, or None if the metadata do not give it.

        Raises
        ------
        UserError
            If pixels are not square.
        """
        return self.scale.side(self.where)

    @property
    def micrometers_per_slice(self) -> float | None:
        """The distance of two slices in micrometers, or None if the metadata do not give it."""
        return self.scale.z

    def channel_indices(self, names: list[str]) -> list[int]:
        """Return the index of each channel.

        Raises
        ------
        UserError
            If the image does not have exactly one channel of a name.
        """
        for name in names:
            if name not in self.channels:
                raise UserError(f"{self.where} has no channel {name!r}; it has {', '.join(self.channels)}")
            if self.channels.count(name) > 1:
                n = self.channels.count(name)
                raise UserError(f"{self.where} has {n} channels {name!r}; give them different names")
        return [self.channels.index(name) for name in names]

    def check_type(self) -> None:
        """Refuse pixels that are not real numbers.

        Raises
        ------
        UserError
            If pixels are neither integers nor floats.
        """
        if self.array.dtype.kind not in "uif":
            raise UserError(f"pixels must be integers or floats, got {self.array.dtype} in {self.where}")

    def check_fits(self, crops: CropSettings) -> None:
        """Refuse pixels that are not real numbers, and an image that is smaller than a crop.

        Parameters
        ----------
        crops : CropSettings
            What a crop contains.

        Raises
        ------
        UserError
            If crops cannot be cut from the image.
        """
        if self.array.dtype.kind not in "uif":
            raise UserError(f"pixels must be integers or floats, got {self.array.dtype} in {self.where}")
        _, _, n_slices, height, width = self.shape
        if crops.crop > min(height, width):
            raise UserError(
                f"data.crop must fit into the image, {height} x {width} pixels in {self.where}, got {crops.crop}"
            )
        if crops.z_slices > n_slices:
            raise UserError(
                f"data.z_slices must fit into the stack, {n_slices} slices in {self.where}, got {crops.z_slices}"
            )


class Plate:
    """A plate, open for reading; it holds no open files.

    Parameters
    ----------
    path : pathlib.Path
        The store.
    root : zarr.Group
        The root group of the store.

    Notes
    -----
    Wells and positions are read when they are needed, so those that no condition names may be damaged or missing.
    """

    def __init__(self, path: Path, root: zarr.Group) -> None:
        self.path = path
        self._root = root

    def list_positions(self, well: str) -> list[str]:
        """Return the names of the positions in a well.

        Parameters
        ----------
        well : str
            Name of the well, such as ``A/1``.

        Returns
        -------
        list of str
            Names of positions, such as ``A/1/0``.

        Raises
        ------
        UserError
            If the plate has no such well, or its metadata is damaged.
        """
        with _report_damage(self.path, "its metadata"):
            wells = list_wells(ome_metadata(self._root.attrs))
        if well not in wells:
            raise UserError(f"plate {self.path} has no well {well!r}; it has {', '.join(wells)}")
        with _report_damage(self.path, f"well {well}"):
            return [f"{well}/{image}" for image in list_images(ome_metadata(self._group(well).attrs))]

    def image(self, position: str) -> PositionImage:
        """Return the image of a position.

        Parameters
        ----------
        position : str
            Name of the position, such as ``A/1/0``.

        Returns
        -------
        PositionImage
            The image with the full resolution.

        Raises
        ------
        UserError
            If the position does not exist or cannot be read, or has unexpected axes or channels.
        """
        where = f"position {position} of plate {self.path}"
        with _report_damage(self.path, f"position {position}"):
            ome = ome_metadata(self._group(position).attrs)
            array = self._array(f"{position}/{full_resolution(ome, where)}")
            if len(array.shape) != 5:
                raise UserError(f"images must have five axes, got shape {array.shape} in {where}")
            channels = channel_names(ome, array.shape[1])
            scale = physical_scale(ome["multiscales"][0])
        if len(channels) != array.shape[1]:
            raise UserError(
                f"images must have the channels that their metadata name, {', '.join(channels)}, got {array.shape[1]} "
                f"in {where}"
            )
        return PositionImage(array=ImageArray(array), channels=channels, where=where, scale=scale)

    def _group(self, name: str) -> zarr.Group:
        node = self._node(name)
        if not isinstance(node, zarr.Group):
            raise TypeError(f"{name} is an array")
        return node

    def _array(self, name: str) -> zarr.Array:
        node = self._node(name)
        if not isinstance(node, zarr.Array):
            raise TypeError(f"{name} is not an array")
        return node

    def _node(self, name: str) -> zarr.Group | zarr.Array:
        _check_metadata_files(self.path / name)
        with zarr_codecs():
            return self._root[name]


def open_plate(path: Path) -> Plate:
    """Open a plate for reading.

    Parameters
    ----------
    path : pathlib.Path
        The store.

    Returns
    -------
    Plate
        The plate.

    Raises
    ------
    UserError
        If the store does not exist, or is not a plate of OME-NGFF 0.4 or 0.5.
    """
    _check_directory(path)
    _check_metadata_files(path)
    try:
        root = zarr.open_group(LocalStore(path, read_only=True), mode="r", use_consolidated=False)
        ome = ome_metadata(root.attrs)
    except Exception as error:  # zarr raises many types for a directory that is not a store
        raise UserError(f"{path} is not an HCS OME-Zarr plate: {_one_line(error)}") from error
    with _report_damage(path, "its metadata"):
        check_plate(ome, str(path))
    return Plate(path, root)


def _check_directory(path: Path) -> None:
    """Refuse a path that is not a directory."""
    kind = kind_of_file(path, "plate")
    if kind is None:
        remote = " (plates must be on a local file system)" if re.match(r"\w+:/", path.as_posix()) else ""
        raise UserError(f"plate not found: {path}{remote}; correct `plate` of its experiment")
    if kind != "a directory":
        archive = " (unpack an archive first)" if path.suffix in (".ozx", ".zip", ".tar", ".gz") else ""
        raise UserError(f"plate must be a directory, got {kind}: {path}{archive}")


def _check_metadata_files(directory: Path) -> None:
    for name in _METADATA_FILES:
        require_regular_file(directory / name, "metadata of a plate")


@contextmanager
def _report_damage(path: Path, what: str) -> Generator[None]:
    """Turn the errors that a damaged or incomplete plate causes into a one-line `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # many types: KeyError for metadata, zarr's, and those of JSON and of each codec
        raise UserError(
            f"plate {path} is damaged or incomplete: cannot read {what} ({_one_line(error)}); restore it, or leave its "
            "well out"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
