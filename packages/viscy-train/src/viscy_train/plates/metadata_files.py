"""Metadata files: the JSON files that describe a group or an array of zarr 2 or 3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from viscy_train.remote.path import is_remote

if TYPE_CHECKING:
    from pathlib import Path

METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Names of the files."""


class Node(NamedTuple):
    """A group or an array: the version of its format, whether it is an array, its metadata and its attributes."""

    version: int
    is_array: bool
    metadata: dict[str, Any]
    attributes: dict[str, Any]


def read_node(root: Path, name: str = "", version: int | None = None) -> Node | None:
    """Read what describes a group or an array of a store.

    Parameters
    ----------
    root : pathlib.Path
        Directory of the store.
    name : str
        Path in the store, by default the root.
    version : {2, 3}, optional
        Version of the format, by default either.

    Returns
    -------
    Node, optional
        None if it is at a URL, missing, damaged or ambiguous, so that zarr-python has to look.
    """
    if is_remote(root) or any(part in ("", ".", "..") for part in name.split("/") if name):
        return None
    try:
        found = {file: _read(root / name / file) for file in METADATA_FILES}
    except (OSError, ValueError):
        return None
    of_3, group, array, attributes = found.values()
    present = [one for one in (of_3, group, array) if one is not None]
    if len(present) != 1 or version not in (None, 2 if of_3 is None else 3):
        return None
    if of_3 is not None:
        kind, own = of_3.get("node_type"), of_3.get("attributes", {})
        is_usual = of_3.get("zarr_format") == 3 and kind in ("group", "array") and isinstance(own, dict)
        return Node(3, kind == "array", of_3, own) if is_usual else None
    [metadata] = present
    return Node(2, array is not None, metadata, attributes or {}) if metadata.get("zarr_format") == 2 else None


def _read(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a JSON file, or None if there is no file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must have a mapping")
    return content
