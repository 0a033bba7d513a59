"""NGFF metadata: what the attributes of an OME-Zarr group say about its wells, images, axes and channels.

Only what training needs is read, so that a plate is not refused for its colors, units or transformations.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

AXES = "T, C, Z, Y, X"
_SUPPORTED = ("0.4", "0.5")
_OLDER = ("0.1", "0.2", "0.3")


def ome_metadata(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME metadata of a group: under the key ``ome`` since version 0.5, among its attributes before."""
    return attributes.get("ome") or attributes


def check_plate(ome: Mapping[str, Any], where: str) -> None:
    """Refuse a group that is not a plate, or that has an unknown version.

    Parameters
    ----------
    ome : mapping
        Metadata of the root group.
    where : str
        The store, for error messages.

    Raises
    ------
    UserError
        If the group is not a plate of OME-NGFF 0.4 or 0.5; the message says what it is.
    """
    plate = ome.get("plate")
    # Some writers of plates of version 0.4 give the plate, but not its images, an older version.
    version = _version(ome) or _version(plate)
    if version is not None and version not in _OLDER:
        _check_version(version, where)
    if not isinstance(plate, dict):
        raise UserError(f"{where} is not an HCS OME-Zarr plate: {_describe(ome)}")


def list_wells(ome: Mapping[str, Any]) -> list[str]:
    """Return the names of a plate's wells, such as ``A/1``, from the metadata of the plate."""
    paths = [well.get("path") for well in ome["plate"]["wells"] if isinstance(well, dict)]
    return [path.strip("/") for path in paths if isinstance(path, str)]


def list_images(ome: Mapping[str, Any]) -> list[str]:
    """Return the names of a well's images, such as ``0``, from the metadata of the well."""
    return [image["path"].strip("/") for image in ome["well"]["images"]]


def full_resolution(ome: Mapping[str, Any], where: str) -> str:
    """Return the path of the array with the full resolution, from the metadata of an image.

    Parameters
    ----------
    ome : mapping
        Metadata of the image.
    where : str
        The image, for error messages.

    Returns
    -------
    str
        Path below the image, often ``0``.

    Raises
    ------
    UserError
        If the image has an unknown version or other axes than T, C, Z, Y and X.
    """
    multiscale = ome["multiscales"][0]
    version = _version(ome) or _version(multiscale)
    if version is not None:
        _check_version(version, where)
    axes = ", ".join(str(axis["name"]) for axis in multiscale["axes"]).upper()
    if axes != AXES:
        raise UserError(
            f"images must have the axes {AXES}, got {axes} in {where}; write them with all five axes in this order "
            "(an axis may have length 1)"
        )
    return multiscale["datasets"][0]["path"].strip("/")


def channel_names(ome: Mapping[str, Any], n_channels: int) -> list[str]:
    """Return the names of an image's channels; a channel without a name is called by its index."""
    channels = (ome.get("omero") or {}).get("channels") or [{}] * n_channels
    labels = [channel.get("label") for channel in channels]
    return [str(index) if label is None else str(label) for index, label in enumerate(labels)]


def _version(metadata: Any) -> str | None:
    """Return the version as far as it matters, such as 0.5 for 0.5.2, or None if the metadata has none."""
    version = metadata.get("version") if isinstance(metadata, dict) else None
    number = re.match(r"\d+\.\d+", str(version))
    return None if version is None else number[0] if number else str(version)


def _check_version(version: str, where: str) -> None:
    if version not in _SUPPORTED:
        raise UserError(
            f"{where} has version {version} of OME-NGFF, which is not supported; {' and '.join(_SUPPORTED)} are"
        )


def _describe(ome: Mapping[str, Any]) -> str:
    """Return what a group without wells is, and what to do."""
    if "multiscales" in ome:
        return "it is a single image; give the directory of the plate that contains it"
    if "bioformats2raw.layout" in ome:
        return "it is a bioformats2raw collection of images without wells; write it as a plate with wells"
    if "well" in ome:
        return "it is a single well; give the directory of the plate that contains it"
    return "its metadata has no `plate`"
