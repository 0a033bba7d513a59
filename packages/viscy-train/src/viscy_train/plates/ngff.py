"""NGFF metadata: what the attributes of an OME-Zarr group say about its wells, images, axes and channels.

Only what training needs is read, so that a plate is not refused for its colors, units or transformations.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError
from viscy_train.plates.image_array import AXES
from viscy_train.plates.other_formats import convert_to_supported_version

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUPPORTED = ("0.4", "0.5")
_OLDER = ("0.1", "0.2", "0.3")
# Names of axes by their type, for axes with other names than t, c, z, y and x.
_BY_TYPE = {"time": "T", "channel": "C"}


def ome_metadata(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME metadata of a group: under the key ``ome`` since version 0.5, among its attributes before."""
    return attributes.get("ome") or attributes


def is_plate(ome: Mapping[str, Any]) -> bool:
    """Return whether a group is an HCS plate."""
    return isinstance(ome.get("plate"), dict)


def is_image(ome: Mapping[str, Any]) -> bool:
    """Return whether a group is an image."""
    return isinstance(ome.get("multiscales"), list)


def is_collection(ome: Mapping[str, Any]) -> bool:
    """Return whether a group is a collection of images as bioformats2raw writes them."""
    return "bioformats2raw.layout" in ome


def check_version_of_plate(ome: Mapping[str, Any], where: str) -> None:
    """Refuse a store that has an unknown version.

    Parameters
    ----------
    ome : mapping
        Metadata of the root group.
    where : str
        The store, for error messages.

    Raises
    ------
    UserError
        If the version is later than 0.5.
    """
    # Some writers of plates of version 0.4 give the plate, but not its images, an older version.
    version = _version(ome) or _version(ome.get("plate"))
    if version is not None and not version.startswith(_OLDER):
        _check_version(version, where)


def list_wells(ome: Mapping[str, Any]) -> list[str]:
    """Return the names of a plate's wells, such as ``A/1``, from the metadata of the plate."""
    paths = [well.get("path") for well in ome["plate"]["wells"] if isinstance(well, dict)]
    return [path.strip("/") for path in paths if isinstance(path, str)]


def list_images(ome: Mapping[str, Any]) -> list[str]:
    """Return the names of a well's images, such as ``0``, from the metadata of the well."""
    return [image["path"].strip("/") for image in ome["well"]["images"]]


def list_series(ome: Mapping[str, Any]) -> list[str]:
    """Return the paths of the images of a collection, from the metadata of its group ``OME``; none if it lists none."""
    return [str(path).strip("/") for path in ome.get("series") or []]


def full_resolution(ome: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return the path of the array with the full resolution and its axes, from the metadata of an image.

    Parameters
    ----------
    ome : mapping
        Metadata of the image.
    where : str
        The image, for error messages.

    Returns
    -------
    path : str
        Path below the image, often ``0``.
    axes : str
        Its axes, such as ``TCYX``.

    Raises
    ------
    UserError
        If the image has an unknown version, other axes than T, C, Z, Y and X, or axes in another order.
    """
    multiscale = ome["multiscales"][0]
    version = _version(ome) or _version(multiscale)
    if version is not None:
        _check_version(version, where)
    names = [_axis_name(axis) for axis in multiscale["axes"]]
    axes = "".join(names)
    if names != [name for name in AXES if name in names] or not axes.endswith("YX"):
        raise UserError(
            f"images must have the axes {', '.join(AXES)} in this order, of which T, C and Z may be missing, got "
            f"{', '.join(names)} in {where}; write them with their axes in this order"
        )
    return multiscale["datasets"][0]["path"].strip("/"), axes


def channel_names(ome: Mapping[str, Any], n_channels: int) -> list[str]:
    """Return the names of an image's channels; a channel without a name is called by its index."""
    channels = (ome.get("omero") or {}).get("channels") or [{}] * n_channels
    labels = [channel.get("label") for channel in channels]
    return [str(index) if label in (None, "") else str(label) for index, label in enumerate(labels)]


def describe(ome: Mapping[str, Any]) -> str | None:
    """Return what another group than a plate, image or collection is, and what to do; None without OME metadata."""
    if is_plate(ome):
        return "it is an HCS plate; give it as the `plate` of an experiment of its own"
    if "well" in ome:
        return "it is a single well; give the directory of the plate that contains it"
    if "labels" in ome:
        return "it is a group of label images; give the directory of the image that contains it"
    return None


def _axis_name(axis: Any) -> str:
    name = str(axis["name"]).upper()
    return name if name in AXES else _BY_TYPE.get(str(axis.get("type")), name)


def _version(metadata: Any) -> str | None:
    """Return the version, or None if the metadata has none."""
    version = metadata.get("version") if isinstance(metadata, dict) else None
    return None if version is None else str(version)


def _check_version(version: str, where: str) -> None:
    number = re.match(r"\d+\.\d+", version)
    if number is None or number[0] not in _SUPPORTED:
        raise UserError(
            f"{where} has version {version} of OME-NGFF, which is not supported; {' and '.join(_SUPPORTED)} are: write "
            f"it as {_SUPPORTED[-1]}, or convert each image: {convert_to_supported_version('IMAGE')}"
        )
