"""Fingerprint: what decides a pixel, a positive or a label of an anchor table, as short texts that can be compared.

Values are hashed, not the bytes of a file, so a table keeps its fingerprint when another version of pandas or pyarrow
writes it again. Paths are left out, so that a project can be moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.crops.image_intensity import encode
from viscy_train.errors import UserError
from viscy_train.experiments.columns import COLUMNS
from viscy_train.positives.description import setting_text
from viscy_train.row_slices import as_category, row_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from viscy_train.config.schema import CropSettings, PositiveConfig
    from viscy_train.crops.image_intensity import LocalIntensity
    from viscy_train.experiments.experiments_file import Experiment

FINGERPRINT = "anchors"
"""Key of the fingerprint of the anchor table in the state of the data module."""
_LENGTH = 16
# Parts that are shown as they are.
_SETTINGS = ("number of rows", "crop", "z_slices", "positive", "channels")
# Begins the name of a setting that has a part only if it is not at its default.
_OPTION = "data."
# Settings that have had a part since the first version.
_FIRST_SETTINGS = ("crop", "z_slices", "min_frames", "max_frames")


def fingerprint_of(
    observations: pd.DataFrame,
    experiments: list[Experiment],
    positive: PositiveConfig,
    crops: CropSettings,
    intensity: dict[str, list[list[float]]],
    pixels: dict[str, list[list[str | int]]],
    *,
    channels_mode: str = "all",
    local_intensity: LocalIntensity | None = None,
    scales: dict[str, list[list[Any]]] | None = None,
) -> dict[str, str]:
    """Return the fingerprint of a table.

    Parameters
    ----------
    observations, experiments, positive, crops, intensity, pixels, channels_mode, local_intensity, scales
        The parts of an `AnchorTable`.

    Returns
    -------
    dict of str to str
        A setting as text, or a checksum, for each part of the table: its number of rows, its columns, and its settings.
        Settings that were added later have a part only where they are not at their default. Two tables with equal
        fingerprints give the same training data in the same order.
    """
    # Crops are normalized in float32, so smaller differences have no effect.
    extra = [name for name in observations.columns if name not in COLUMNS]
    rounded = {name: [[f"{value:.7g}" for value in channel] for channel in intensity[name]] for name in intensity}
    return {
        "number of rows": str(len(observations)),
        "crop": str(crops.crop),
        "z_slices": str(crops.z_slices),
        "positive": setting_text(positive),
        "channels": json.dumps({experiment.name: experiment.channel_names for experiment in experiments}),
        "pixels": _hash([json.dumps(pixels, sort_keys=True).encode()]),
        "intensity statistics": _hash([json.dumps(rounded, sort_keys=True).encode()]),
        **{f"column {column!r}": _hash_column(observations[column]) for column in [*COLUMNS, *extra]},
        **_changed_options(crops, _OPTION),
        **_changed_options(positive, f"{_OPTION}positive."),
        **({} if channels_mode == "all" else {f"{_OPTION}channels": channels_mode}),
        **_local_parts(crops, local_intensity or {}, scales or {}),
    }


def _local_parts(
    crops: CropSettings, local_intensity: LocalIntensity, scales: dict[str, list[list[Any]]]
) -> dict[str, str]:
    """Return the parts of what differs between positions, where crops depend on it."""
    parts = {}
    if local_intensity:
        texts = json.dumps(encode(local_intensity), sort_keys=True)
        parts["intensity statistics of positions"] = _hash([texts.encode()])
    if crops.crop_um is not None or crops.depth_um is not None:
        parts["scale"] = _hash([json.dumps(scales, sort_keys=True).encode()])
    return parts


def _changed_options(options: CropSettings | PositiveConfig, prefix: str) -> dict[str, str]:
    """Return the options that are not at their default, as text, except those that have had a part from the first."""
    default = type(options)()
    return {
        f"{prefix}{field.name}": str(getattr(options, field.name))
        for field in fields(options)
        if field.name not in _FIRST_SETTINGS and getattr(options, field.name) != getattr(default, field.name)
    }


def check_fingerprint(state: Mapping[str, Any], present: dict[str, str], where: str) -> None:
    """Refuse a table that is not the one that a run was trained on.

    Parameters
    ----------
    state : mapping
        State of the data module in a checkpoint.
    present : dict of str to str
        The fingerprint of the table.
    where : str
        What the state belongs to, such as ``the checkpoint``.

    Raises
    ------
    UserError
        If anything differs that decides a pixel, a positive or a label; the message names it.
    """
    if difference := difference_from_state(state, present):
        raise UserError(
            f"{where} belongs to another anchor table ({difference}); restore the anchor table, or start a new run in "
            "another `output`"
        )


def difference_from_state(state: Mapping[str, Any], present: dict[str, str]) -> str:
    """Return how a table differs from the one of a state; the states of earlier versions do not know their table."""
    return describe_difference(state[FINGERPRINT], present) if FINGERPRINT in state else ""


def describe_difference(saved: Any, present: dict[str, str]) -> str:
    """Return how two fingerprints differ.

    Parameters
    ----------
    saved : mapping of str to str
        The fingerprint of the table that was trained on; another type if the file that it was read from is damaged.
    present : dict of str to str
        The fingerprint of a table.

    Returns
    -------
    str
        The parts that differ, or an empty text if none do.
    """
    if not isinstance(saved, Mapping) or not saved.keys() & present.keys():
        return f"its fingerprint is damaged, {str(saved)[:_LENGTH]!r}"
    # Other versions may have more parts, or fewer.
    names = [name for name in present if name in saved and saved[name] != present[name]]
    for name in names:
        if name in _SETTINGS:
            return f"{name} was {saved[name]}, is now {present[name]}"
    for name in {**saved, **present}:
        if str(name).startswith(_OPTION) and saved.get(name) != present.get(name):
            before, now = (parts.get(name, "its default") for parts in (saved, present))
            return f"{name} was {before}, is now {now}"
    return f"different {', '.join(names)}" if names else ""


def _hash_column(values: Any) -> str:
    """Return a checksum of the values of a column, independent of the codes of a categorical column."""
    if values.dtype.kind in "iufb":
        kind = {"i": "<i8", "u": "<u8", "f": "<f8", "b": "?"}[values.dtype.kind]
        return _hash(np.ascontiguousarray(part, dtype=kind) for part in _parts_of(values.to_numpy()))
    values = as_category(values)
    codes, names = values.array.codes, [str(name) for name in values.cat.categories]
    used = np.zeros(len(names) + 1, dtype=bool)
    for part in _parts_of(codes):
        used[part] = True
    ordered = sorted(name for name, is_used in zip(names, used[:-1], strict=True) if is_used)
    rank = {name: number for number, name in enumerate(ordered)}
    # A missing value has the code -1, and so the last entry.
    table = np.array([*(rank.get(name, -1) for name in names), -1], dtype="<i4")
    return _hash(chain([json.dumps(ordered).encode()], (table[part] for part in _parts_of(codes))))


def _parts_of(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (values[part] for part in row_slices(len(values), values))


def _hash(parts: Iterable[bytes | NDArray]) -> str:
    digest = hashlib.sha256(usedforsecurity=False)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else memoryview(part).cast("B"))
    return digest.hexdigest()[:_LENGTH]
