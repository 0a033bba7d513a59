"""Plates: the images of an experiment, in OME-Zarr stores, with or without wells.

Pixels are read as described in `viscy_train.plates.pixels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.errors import UserError, kind_of_file, one_line
from viscy_train.plates.image_array import ImageArray
from viscy_train.plates.image_folder import folder_layout, refusal
from viscy_train.plates.layouts import ImageLayout, WellLayout
from viscy_train.plates.ngff import (
    channel_names,
    check_version_of_plate,
    describe,
    full_resolution,
    is_collection,
    is_image,
    is_plate,
)
from viscy_train.plates.ngff_scale import physical_scale
from viscy_train.plates.ome_store import OmeStore, has_metadata, report_damage
from viscy_train.plates.other_formats import advice_for
from viscy_train.plates.position_image import PositionImage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from viscy_train.plates.layouts import Layout


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
    # iohub takes a second to import, which only a plate that is written needs.
    from iohub.ngff import open_ome_zarr
    from iohub.ngff.models import ChannelAxisMeta, SpaceAxisMeta, TimeAxisMeta, TransformationMeta

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


class Plate:
    """A plate, open for reading; it holds no open files.

    Parameters
    ----------
    path : pathlib.Path
        An HCS plate, an image, a bioformats2raw collection, or a folder of images.
    layout : Layout
        Where the images of its positions are.

    Notes
    -----
    Wells and images are read when they are needed, so those that no condition names may be damaged or missing.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self._layout = layout

    @property
    def has_wells(self) -> bool:
        """Whether it is an HCS plate."""
        return isinstance(self._layout, WellLayout)

    def list_keys(self) -> list[str]:
        """Return what `conditions` may name: the wells, or the images of a plate without wells."""
        return self._layout.list_keys()

    def list_positions(self, key: str) -> list[str]:
        """Return the names of the positions that a key of `conditions` stands for.

        Parameters
        ----------
        key : str
            Name of a well, such as ``A/1``, of a field of view, such as ``A/1/0``, or of an image of a plate without
            wells: that of its directory without ``.zarr``, or its number in a collection. In a folder of folders, the
            name of a folder stands for its images.

        Returns
        -------
        list of str
            Names of positions, such as ``A/1/0``, or ``treated/image`` for ``treated/image.zarr``.

        Raises
        ------
        UserError
            If the plate has no such well, field of view or image, or its metadata is damaged.
        """
        return self._layout.list_positions(key)

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
        with report_damage(self.path, f"position {position}"):
            location = self._layout.locate(position)
            ome = location.store.ome(location.path)
            name, axes = full_resolution(ome, where)
            stored = location.store.array(location.below(name))
            if len(stored.shape) != len(axes):
                raise UserError(f"images must have their axes, {', '.join(axes)}, got shape {stored.shape} in {where}")
            array = ImageArray(stored, axes)
            channels = channel_names(ome, array.shape[1])
            scale = physical_scale(ome["multiscales"][0])
        if len(channels) != array.shape[1]:
            raise UserError(
                f"images must have the channels that their metadata name, {', '.join(channels)}, got {array.shape[1]} "
                f"in {where}"
            )
        return PositionImage(array=array, channels=channels, where=where, scale=scale)

    def resolutions(self, position: str) -> list[ImageArray]:
        """Return the arrays of the image of a position, from the full resolution to the lowest.

        Errors are those of `image`.
        """
        image = self.image(position)
        with report_damage(self.path, f"position {position}"):
            location = self._layout.locate(position)
            datasets = location.store.ome(location.path)["multiscales"][0]["datasets"]
            names = [str(dataset["path"]).strip("/") for dataset in datasets[1:]]
            lower = [ImageArray(location.store.array(location.below(name)), image.array.axes) for name in names]
        return [image.array, *lower]


def open_plate(path: Path) -> Plate:
    """Open a plate for reading.

    Parameters
    ----------
    path : pathlib.Path
        An HCS plate, an image, a bioformats2raw collection, or a folder of images, in OME-NGFF 0.4 or 0.5.

    Returns
    -------
    Plate
        The plate.

    Raises
    ------
    UserError
        If it does not exist, or is something else; the message says what to do.
    """
    _check_directory(path)
    return Plate(path, _layout_of(path))


def _layout_of(path: Path) -> Layout:
    """Return the layout of a plate, or refuse a directory that is none."""
    if not has_metadata(path):
        return folder_layout(path, "it has no metadata of OME-Zarr")
    try:
        store = OmeStore(path)
        ome = store.ome()
    except UserError:
        raise
    except Exception as error:  # zarr raises many types for a directory that is not a group
        raise refusal(path, one_line(error)) from error
    with report_damage(path, "its metadata"):
        check_version_of_plate(ome, str(path))
        if is_plate(ome):
            return WellLayout(store)
        if is_image(ome) or is_collection(ome):
            return ImageLayout(store, ome)
        if (why := describe(ome)) is not None:
            raise refusal(path, why)
    return folder_layout(path, "its metadata has no `plate` and no `multiscales`")


def _check_directory(path: Path) -> None:
    """Refuse a path that is not a directory."""
    kind = kind_of_file(path, "plate")
    if kind is None:
        raise UserError(f"plate not found: {path}; correct `plate` of its experiment")
    if kind != "a directory":
        advice = advice_for(path) if kind == "a file" else None
        raise UserError(f"plate must be a directory, got {kind}: {path}" + (f"; {advice}" if advice else ""))
