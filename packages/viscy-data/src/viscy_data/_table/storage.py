"""A saved index: a folder of arrays and one description, written atomically.

The folder is written under a temporary name and renamed once all of it is on disk, so an interrupted write leaves
nothing that could be mistaken for an index. The description contains the length and a checksum of every array, and a
checksum of itself. Arrays as long as the table, the positions and the codes of `distinct_by`, are memory-mapped; the
other arrays are small and are read. What was read is checked for consistency (`consistency`), as a description can be
written by hand.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import mmap
import os
import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_data._table.consistency import InconsistentIndexError, array_names, check_description, check_index

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_VERSION = 4
# Fields that version 1 saved under other names.
_RENAMED_SINCE_1 = {"cell_start": "stratum_start", "cell_size": "stratum_size"}
# Versions that added a field.
_ADDED_IN = {"distinct_by": 3, "place_by": 4}
_DESCRIPTION = "index.json"
_MAPPED = ("order", "value_code")
_LABELS = ("groups", "conditions")
_BLOCK = 2**20
_PAGE, _SAMPLED_PAGES = 4096, 16


def save(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write fields, arrays and others, into a new folder; raise as `AnchorIndex.save` documents."""
    if folder.exists():
        raise FileExistsError(
            f"the folder of an index must be new, but {folder} exists; choose another folder, or delete it first"
        )
    plain = {name: value for name, value in fields.items() if not isinstance(value, np.ndarray)}
    plain |= {name: [_label_to_json(label) for label in plain[name]] for name in _LABELS}
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    try:
        unfinished.mkdir()
        arrays = {name: fields[name] for name in array_names(fields["distinct_by"])}
        files = {name: _write_array(unfinished / f"{name}.npy", array) for name, array in arrays.items()}
        _write_description(unfinished / _DESCRIPTION, {"version": _VERSION, **plain, "files": files})
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def load(folder: Path, verify: bool) -> dict[str, Any]:
    """Return the fields that `save` wrote; raise as `AnchorIndex.open` documents."""
    description = _read_description(folder)
    try:
        check_description(description)
        fields = {name: value for name, value in description.items() if name not in ("version", "checksum", "files")}
        for name in _LABELS:
            fields[name] = tuple(map(_label_from_json, fields[name]))
        for name in ("experiment_by", "condition_by", "distinct_by", "place_by"):
            if isinstance(fields[name], list):
                fields[name] = tuple(fields[name])
        saved_as = {new: old for old, new in _RENAMED_SINCE_1.items()} if description["version"] == 1 else {}
        for name, expected in description["files"].items():
            path = folder / f"{saved_as.get(name, name)}.npy"
            fields[name] = _read_array(path, expected, verify, is_mapped=name in _MAPPED)
        check_index(fields)
    except InconsistentIndexError as error:
        raise ValueError(f"the index in {folder} is invalid: {error}; build and save it again") from error
    return fields


def check_mapped_file(mapped: mmap.mmap | None) -> None:
    """Raise ValueError if a memory-mapped file was cut: reading beyond its end kills the process.

    The operating system answers the access with the signal SIGBUS, which no handler in Python can turn into an error.
    """
    if mapped is not None and mapped.size() < len(mapped):
        raise ValueError(
            f"the positions of an open index must stay on disk, but their file was cut from {len(mapped)} to "
            f"{mapped.size()} bytes; build and save the index again"
        )


def mapped_file(array: np.ndarray) -> mmap.mmap | None:
    """Return the file that an array is mapped from, None if it is in memory."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _read_array(path: Path, expected: Mapping[str, Any], verify: bool, *, is_mapped: bool) -> np.ndarray:
    """Return an array of a saved index, memory-mapped or read and verified."""
    _check_length(path, expected["bytes"])
    if (verify or not is_mapped) and _checksum(path) != expected["checksum"]:
        raise _damage_error(path)
    if "sample" in expected and _checksum_of_sample(path) != expected["sample"]:
        raise _damage_error(path)
    try:
        return np.asarray(np.load(path, mmap_mode="r" if is_mapped else None, allow_pickle=False))
    except Exception as error:  # many types, depending on which byte of the header is damaged
        raise _damage_error(path) from error


def _write_array(path: Path, array: np.ndarray) -> dict[str, Any]:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "checksum": _checksum(path), "sample": _checksum_of_sample(path)}


def _write_description(path: Path, description: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(description | {"checksum": _checksum_of(description)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(
            f"the folder of an index must contain {_DESCRIPTION}, but {folder} does not; save an index there first"
        )
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict) or description.get("version") not in range(1, _VERSION + 1):
        raise ValueError(
            f"{_DESCRIPTION} in {folder} must describe an index of version {_VERSION} or earlier; build and save the "
            "index again"
        )
    rest = {name: value for name, value in description.items() if name != "checksum"}
    if description.get("checksum") != _checksum_of(rest):
        raise _damage_error(path)
    return _in_current_version(description)


def _in_current_version(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description with the names of the current version; earlier ones lacked `distinct_by` or `place_by`."""
    for name, since in _ADDED_IN.items():
        if description["version"] < since:
            description = description | {name: None}
    files = description.get("files")
    if isinstance(files, dict):
        files = {_RENAMED_SINCE_1.get(name, name): value for name, value in files.items()}
    return description | {"files": files}


def _check_length(path: Path, n_bytes: int) -> None:
    if not path.is_file():
        raise ValueError(f"the index in {path.parent} lacks {path.name}; build and save it again")
    if path.stat().st_size != n_bytes:
        raise ValueError(
            f"{path.name} of the index in {path.parent} must have {n_bytes} bytes, got {path.stat().st_size}; build "
            "and save it again"
        )


def _damage_error(path: Path) -> ValueError:
    return ValueError(f"{path.name} of the index in {path.parent} is damaged; build and save it again")


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _checksum_of_sample(path: Path) -> str:
    """Return the checksum of a few pages of a file, so that the file of another index is recognized at little cost."""
    digest = hashlib.blake2b(digest_size=16)
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        for i in range(_SAMPLED_PAGES):
            file.seek(i * max(n_bytes - _PAGE, 0) // (_SAMPLED_PAGES - 1))
            digest.update(file.read(_PAGE))
    return digest.hexdigest()


def _checksum_of(description: Mapping[str, Any]) -> str:
    text = json.dumps(description, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _label_to_json(label: Any) -> Any:
    """Return a label as a JSON value; a label of a type that JSON does not have becomes {name of the type: value}."""
    if label is None or type(label) in (str, bool, int, float):
        return label
    for name, (kind, to_json, _) in _label_types().items():
        if isinstance(label, kind):
            return {name: to_json(label)}
    raise TypeError(
        f"labels must be text, numbers, booleans, dates, times or tuples of them to be saved, got {label!r} of type "
        f"{type(label).__name__}"
    )


def _label_from_json(item: Any) -> Any:
    if not isinstance(item, dict | list):
        return item
    try:
        ((name, value),) = item.items()
        return _label_types()[name][2](value)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InconsistentIndexError(f"a label is {str(item)[:60]!r}") from error


@cache
def _label_types() -> dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]]:
    """Return the types of labels that JSON does not have, each with its functions to JSON and from it."""
    import pandas as pd  # here, so that an index without such labels opens without it

    return {
        "timestamp": (pd.Timestamp, pd.Timestamp.isoformat, pd.Timestamp),
        "timedelta": (pd.Timedelta, pd.Timedelta.isoformat, pd.Timedelta),
        "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
        "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
        "tuple": (
            tuple,
            lambda label: list(map(_label_to_json, label)),
            lambda item: tuple(map(_label_from_json, item)),
        ),
    }
