"""Other formats: what to do with files of microscopes and with archives, in which images cannot be read."""

from __future__ import annotations

import json
import shlex
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TIFF = (".tif", ".tiff", ".btf")
# The reader of each format, a plugin of bioio. They give no unit of length, although their lengths are micrometers.
_PLUGINS = {".czi": "bioio-czi", ".nd2": "bioio-nd2", ".lif": "bioio-lif", ".dv": "bioio-dv"}
_UNITS = "none,none,micrometer,micrometer,micrometer"
_OTHERS = (".ims", ".oir", ".oib", ".oif", ".vsi", ".lsm", ".stk", ".ics", ".mrc", ".h5", ".hdf5", ".npy", ".n5")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".zst")
_OZX = ".ozx"
_KNOWN = (*_TIFF, *_PLUGINS, *_OTHERS, *_ARCHIVES, _OZX)
# How files begin whose name does not say what they are, such as a TIFF file that is called .zarr.
_BEGINNINGS = {
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
    b"ZISRAWFILE": ".czi",
    b"\xda\xce\xbe\x0a": ".nd2",
    b"\x89HDF\r\n\x1a\n": ".h5",
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".zip",
    b"\x1f\x8b": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
}


def advice_for(path: Path) -> str | None:
    """Return what to do with a file so that its images can be read, or None if its format is not known.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    str
        For a format of microscopes, the command that converts a file to OME-Zarr with a free converter.
    """
    suffix = path.suffix.lower()
    if suffix not in _KNOWN and (real := _suffix_by_content(path)) is not None:
        renamed = path.with_name(path.name.removesuffix(path.suffix).removesuffix(".ome") + real)
        return f"its content is that of a {real} file; rename it to {renamed.name}, and {advice_for(renamed)}"
    if suffix == _OZX:
        return f"a single-file OME-Zarr ({_version_of(path)}) is not supported; unpack it: {_ngff_zarr(path)}"
    if suffix in _TIFF:
        return f"convert {path.name} to OME-Zarr: {_ngff_zarr(path)}"
    if suffix in _PLUGINS:
        return (
            f"convert {path.name} to OME-Zarr: uvx --from bioio-conversion --with {_PLUGINS[suffix]} bioio-convert "
            f"{_word(path.name)} --destination . --axes-units {_UNITS}"
        )
    if suffix in _OTHERS:
        return f"convert {path.name} to OME-Zarr, for example with bioformats2raw or bioio-conversion"
    return "unpack an archive first" if suffix in _ARCHIVES else None


def convert_to_supported_version(name: str) -> str:
    """Return the command that converts an OME-Zarr image to a version that is supported."""
    return f"uvx --from 'ngff-zarr[cli]' ngff-zarr -i {name} -o converted.ome.zarr --ome-zarr-version 0.5"


def _suffix_by_content(path: Path) -> str | None:
    """Return the suffix that a file should have, or None if its content is not known."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return None
    return next((suffix for beginning, suffix in _BEGINNINGS.items() if head.startswith(beginning)), None)


def _ngff_zarr(path: Path) -> str:
    name = path.name.removesuffix(path.suffix).removesuffix(".ome")
    names = f"-i {_word(path.name)} -o {_word(f'{name}.ome.zarr')}"
    return f"uvx --from 'ngff-zarr[cli]' ngff-zarr {names} --ome-zarr-version 0.5"


def _word(name: str) -> str:
    """Return the name of a file as one word of a command in a shell, which no program takes for an option."""
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


def _version_of(path: Path) -> str:
    """Return the version of OME-NGFF that the comment of a zip archive names."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"version {json.loads(archive.comment)['ome']['version']} of OME-NGFF"
    except Exception:  # many types, for a file that is damaged or has no such comment
        return "unknown version"
