"""Recognition: which format the content of a file or directory has, whatever it is called."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError, kind_of_file, require_regular_file
from viscy_train.experiments.track_options import AUTO
from viscy_train.tracks.formats.btrack_hdf5 import HDF5
from viscy_train.tracks.formats.ctc import is_track_table, track_table
from viscy_train.tracks.formats.dialects import companion_of, dialect_of
from viscy_train.tracks.formats.label_images import TIFF, is_label_name, is_tiff
from viscy_train.tracks.formats.tables import NUMPY, array_axes, column_names
from viscy_train.tracks.formats.trackmate_xml import ROOTS

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = 2**16
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
"""How files are called that should be tables, whether or not they are."""
_METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_LABELS = ("labels", "detections")
_WHAT = {".parquet": "a Parquet file", ".pq": "a Parquet file", ".csv": "a CSV"}


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises
    ------
    UserError
        If it is not a regular file, or cannot be read.
    """
    require_regular_file(path, f"{what_it_should_be(path)} of tracks")
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def what_it_should_be(path: Path) -> str:
    """Return what a file is according to its name, such as ``a CSV``."""
    return _WHAT.get(path.suffix.lower(), "a file")


def recognize(path: Path, stated: str = AUTO) -> str | None:
    """Return the format of a file or directory.

    Parameters
    ----------
    path : pathlib.Path
        An existing file or directory.
    stated : str, default "auto"
        Format that the configuration states, which decides between the formats of a table and of label images.

    Returns
    -------
    str or None
        A key of `viscy_train.experiments.track_options.FORMATS`, of
        `viscy_train.tracks.formats.dialects.COMPANIONS`, or None if the content is not known.

    Raises
    ------
    UserError
        If the path is a named pipe or a device, or is compressed.
    """
    if kind_of_file(path, "tracks") == "a directory":
        return _recognize_directory(path, stated)
    head = read_head(path)
    if is_label_images(path, head):
        return _labels(stated)
    if head.startswith(HDF5):
        return "btrack"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "trackmate_xml" if any(root in head for root in ROOTS) else None
    _refuse_compressed(path, head)
    return _recognize_table(path, head, stated)


def _recognize_table(path: Path, head: bytes, stated: str) -> str | None:
    if path.suffix.lower() == ".txt" and is_track_table(path):
        return None
    try:
        names = column_names(path, head)
    except UserError:
        # What is damaged is reported when it is read.
        if head.startswith(NUMPY):
            return "napari"
        return "table" if path.suffix.lower() in TABLE_SUFFIXES else None
    if companion := companion_of(names):
        return companion
    dialect = dialect_of(names, stated) or dialect_of(names)
    return dialect.format if dialect else None


def is_label_images(path: Path, head: bytes) -> bool:
    """Return whether a directory or file with tracks has label images, given the first bytes of a file."""
    return path.is_dir() or head.startswith(TIFF) or (head.startswith(NUMPY) and array_axes(path) > 2)


def _recognize_directory(path: Path, stated: str) -> str | None:
    if is_zarr(path):
        return _recognize_zarr(path, stated)
    if any(is_tiff(file) for file in path.iterdir()):
        return "ctc" if stated not in _LABELS and track_table(path) else _labels(stated)
    return None


def _recognize_zarr(path: Path, stated: str) -> str | None:
    attributes = _attributes(path)
    if path.suffix == ".geff" or "geff" in (attributes or {}):
        return "geff"
    if attributes is None:
        return "geff" if path.suffix == ".zarr" else None
    ome = attributes.get("ome", attributes)
    if "plate" in ome or "well" in ome:
        return None
    if (path / "labels").is_dir() or "image-label" in ome:
        return _labels(stated)
    channels = [str(one.get("label", "")) for one in ome.get("omero", {}).get("channels", []) if isinstance(one, dict)]
    is_labels = "multiscales" in ome and (stated in _LABELS or any(is_label_name(name) for name in channels))
    is_array = (path / ".zarray").is_file() or "array" in str(attributes.get("node_type", ""))
    return _labels(stated) if is_labels or is_array else None


def is_export(path: Path, format: str) -> bool:
    """Return whether a file is the smaller one that TrackMate exports, without divisions."""
    return format == "trackmate_xml" and ROOTS[0] not in read_head(path)


def is_zarr(path: Path) -> bool:
    """Return whether a directory is a Zarr group or array."""
    return any((path / name).is_file() for name in _METADATA)


def is_image(path: Path) -> bool:
    """Return whether a Zarr group is an OME-Zarr image."""
    attributes = _attributes(path) or {}
    return "multiscales" in attributes.get("ome", attributes)


def _attributes(path: Path) -> dict[str, Any] | None:
    """Return the attributes of a Zarr node, and its type, or None if they are damaged."""
    try:
        if (path / "zarr.json").is_file():
            node = json.loads((path / "zarr.json").read_bytes())
            return {**node.get("attributes", {}), "node_type": node.get("node_type")}
        return json.loads((path / ".zattrs").read_bytes()) if (path / ".zattrs").is_file() else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def _labels(stated: str) -> str:
    return stated if stated in _LABELS else "labels"


def _refuse_compressed(path: Path, head: bytes) -> None:
    if path.suffix.lower() in _SPREADSHEETS:
        raise UserError(f"a table of tracks must be CSV or Parquet, {path} is a spreadsheet; save it as CSV")
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b")) or zipfile.is_zipfile(path):
        raise UserError(f"tracks must not be in an archive, {path} is one; unpack it")
