"""Consistency of a saved index: its fields have the types and sizes that belong together.

The checks take time in proportion to the number of strata and distinct times, not to that of anchors: the positions are
checked when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ARRAYS = {
    "times": np.float64,
    "order": np.uint32,
    "stratum_start": np.int64,
    "stratum_size": np.int64,
    "run_key": np.int64,
    "run_start": np.int64,
}
"""Names and types of the arrays of an index, each in a file of its own."""
VALUE_ARRAYS = ("value_code", "values_of_stratum", "class_start", "class_length")
"""Names of the further arrays of an index with `distinct_by`, whose types are int64 except that of `value_code`."""
_PLAIN = {
    "version": int,
    "experiment_by": (str, list, type(None)),
    "condition_by": (str, list, type(None)),
    "time_by": (str, type(None)),
    "groups": list,
    "conditions": list,
    "time_tolerance": (int, float),
    "digest": str,
    "files": dict,
    "checksum": str,
    "distinct_by": (str, list, type(None)),
    "place_by": (str, list, type(None)),
}


class InconsistentIndexError(Exception):
    """The fields of an index do not belong together; the message says which."""


def array_names(distinct_by: object) -> tuple[str, ...]:
    """Return the names of the arrays of an index."""
    return tuple(ARRAYS) if distinct_by is None else (*ARRAYS, *VALUE_ARRAYS)


def check_description(description: Mapping[str, Any]) -> None:
    """Raise `InconsistentIndexError` unless a description has all names, with values of the right types."""
    plain = _PLAIN if description.get("distinct_by") is None else {**_PLAIN, "n_values": int}
    _require(set(description) == set(plain), f"index.json must have the names {', '.join(plain)}")
    for name, kind in plain.items():
        _require(isinstance(description[name], kind), f"{name} in index.json has the wrong type")
    _require(0 <= description["time_tolerance"] < 1, "time_tolerance must be in [0, 1)")
    for name in ("experiment_by", "condition_by", "distinct_by", "place_by"):
        names = description[name]
        _require(not isinstance(names, list) or all(isinstance(one, str) for one in names), f"{name} must name columns")
    files, expected = description["files"], array_names(description["distinct_by"])
    _require(set(files) == set(expected), f"files in index.json must be {', '.join(expected)}")
    for name, file in files.items():
        _require(
            isinstance(file, dict) and type(file.get("bytes")) is int and isinstance(file.get("checksum"), str),
            f"files in index.json must give the length and the checksum of {name}",
        )


def check_index(fields: Mapping[str, Any]) -> None:
    """Raise `InconsistentIndexError` unless the sizes of an index's arrays and the bounds in them fit together."""
    for name, dtype in ARRAYS.items():
        _require(fields[name].dtype == dtype, f"{name} must be of type {np.dtype(dtype)}, got {fields[name].dtype}")
    shape = len(fields["groups"]), len(fields["conditions"])
    _require(min(shape) > 0, "there must be a group and a condition")
    _require(_are_distinct(fields["groups"]) and _are_distinct(fields["conditions"]), "labels must be distinct")
    for name in ("stratum_start", "stratum_size"):
        _require(fields[name].shape == shape, f"{name} must have the shape {shape}, got {fields[name].shape}")
    for name in ("times", "order", "run_key", "run_start"):
        _require(fields[name].ndim == 1 and fields[name].size > 0, f"{name} must have one dimension")
    _check_times(fields["times"], fields["time_by"])
    _check_bounds(fields, n_anchors=len(fields["order"]), n_keys=shape[0] * shape[1] * len(fields["times"]))
    if fields["distinct_by"] is not None:
        _check_values(fields)


def _check_values(fields: Mapping[str, Any]) -> None:
    """Check that the classes of values divide the anchors, unless a time axis sorts them."""
    code, per_stratum, start, length = (fields[name] for name in VALUE_ARRAYS)
    size, n_values = fields["stratum_size"], fields["n_values"]
    _require(code.dtype.kind == "u" and code.shape == fields["order"].shape, "value_code must have a code per anchor")
    for name in VALUE_ARRAYS[1:]:
        _require(fields[name].dtype == np.int64, f"{name} must be of type int64, got {fields[name].dtype}")
    _require(per_stratum.shape == size.shape, f"values_of_stratum must have the shape {size.shape}")
    is_bounded = (np.minimum(size, 1) <= per_stratum) & (per_stratum <= np.minimum(size, n_values))
    _require(bool(is_bounded.all()), "values_of_stratum is out of bounds")
    _require(start.ndim == 1 and start.shape == length.shape, "classes must have a start and a length each")
    if fields["time_by"] is None:
        _check_classes(start, length, fields["stratum_start"], per_stratum, len(code))
    else:
        _require(len(start) == 0, "an index with times must have no classes")


def _check_classes(
    start: np.ndarray, length: np.ndarray, stratum_start: np.ndarray, per_stratum: np.ndarray, n_anchors: int
) -> None:
    """Check that the classes of each stratum have as many values as the stratum, with the longest values last."""
    _require(len(start) > 0 and start[0] == 0, "classes must divide the anchors")
    size = np.diff(start, append=n_anchors)
    _require(bool((size > 0).all() and (length > 0).all() and (size % length == 0).all()), "classes must hold values")
    count = np.append(0, np.cumsum(size // length))
    bound = np.append(stratum_start.ravel(), n_anchors)
    first = np.searchsorted(start, bound)
    _require(bool((np.append(start, n_anchors)[first] == bound).all()), "classes must belong to the strata")
    _require(bool((np.diff(count[first]) == per_stratum.ravel()).all()), "classes must have all values of the strata")
    is_next = np.ones(len(start), bool)
    is_next[first[first < len(start)]] = False
    _require(bool((np.diff(length, prepend=0) > 0)[is_next].all()), "class_length must ascend within a stratum")


def _check_times(times: np.ndarray, time_by: str | None) -> None:
    if time_by is None:
        _require(len(times) == 1 and bool(np.isnan(times[0])), "without a time column, times must be NaN")
    else:
        _require(bool(np.isfinite(times).all() and (np.diff(times) > 0).all()), "times must be finite and ascending")


def _check_bounds(fields: Mapping[str, Any], n_anchors: int, n_keys: int) -> None:
    """Check that the strata, and the runs of equal times in them, divide the anchors."""
    start, size = fields["stratum_start"].ravel(), fields["stratum_size"].ravel()
    run_key, run_start = fields["run_key"], fields["run_start"]
    _require(bool((size >= 0).all() and (size <= n_anchors).all()), "stratum_size is out of bounds")
    _require(
        bool((start == np.cumsum(size) - size).all()) and int(size.sum()) == n_anchors, "strata must divide the anchors"
    )
    is_ascending = bool((np.diff(run_key) > 0).all()) and run_key[0] >= 0 and run_key[-1] < n_keys
    _require(is_ascending, "run_key must ascend within its bounds")
    divides = len(run_start) == len(run_key) + 1 and run_start[0] == 0 and run_start[-1] == n_anchors
    _require(divides and bool((np.diff(run_start) > 0).all()), "run_start must divide the anchors")
    bound = run_start[np.searchsorted(run_key, np.arange(start.size) * (n_keys // start.size))]
    _require(bool((bound == start).all()), "runs must belong to the strata")


def _are_distinct(labels: tuple[Any, ...]) -> bool:
    return len(set(zip(map(type, labels), labels, strict=True))) == len(labels)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise InconsistentIndexError(text)
