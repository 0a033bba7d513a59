"""Fingerprint: what decides a pixel, a positive or a label of an anchor table, as short texts that can be compared.

Values are hashed, not the bytes of a file, so a table keeps its fingerprint when another version of pandas or pyarrow
writes it again. Paths are left out, so that a project can be moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.anchors.observations import COLUMNS
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.anchors.experiments import Experiment
    from viscy_train.config.schema import CropSettings, PositiveConfig

FINGERPRINT = "anchors"
"""Key of the fingerprint of the anchor table in the state of the data module."""
_LENGTH = 16
# Parts that are shown as they are.
_SETTINGS = ("number of rows", "crop", "z_slices", "positive", "channels")


def fingerprint_of(
    observations: pd.DataFrame,
    experiments: list[Experiment],
    positive: PositiveConfig,
    crops: CropSettings,
    intensity: dict[str, list[list[float]]],
    pixels: dict[str, list[list[str | int]]],
) -> dict[str, str]:
    """Return the fingerprint of a table.

    Parameters
    ----------
    observations, experiments, positive, crops, intensity, pixels
        The parts of an `AnchorTable`.

    Returns
    -------
    dict of str to str
        A setting as text, or a checksum, for each part of the table: its number of rows, its columns, and its settings.
        Two tables with equal fingerprints give the same training data in the same order.
    """
    # Crops are normalized in float32, so smaller differences have no effect.
    rounded = {name: [[f"{value:.7g}" for value in channel] for channel in intensity[name]] for name in intensity}
    return {
        "number of rows": str(len(observations)),
        "crop": str(crops.crop),
        "z_slices": str(crops.z_slices),
        "positive": f"{positive.min_frames} to {positive.max_frames} frames",
        "channels": json.dumps({experiment.name: experiment.channels for experiment in experiments}),
        "pixels": _hash([json.dumps(pixels, sort_keys=True).encode()]),
        "intensity statistics": _hash([json.dumps(rounded, sort_keys=True).encode()]),
        **{f"column {column!r}": _hash_column(observations[column]) for column in COLUMNS},
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
    return f"different {', '.join(names)}" if names else ""


def _hash_column(values: Any) -> str:
    """Return a checksum of the values of a column, independent of the codes of a categorical column."""
    if values.dtype.kind in "iufb":
        kind = {"i": "<i8", "u": "<u8", "f": "<f8", "b": "?"}[values.dtype.kind]
        return _hash([np.ascontiguousarray(values.to_numpy(), dtype=kind)])
    values = values.astype("category")
    codes, names = values.cat.codes.to_numpy(), [str(name) for name in values.cat.categories]
    used = np.bincount(codes[codes >= 0], minlength=len(names)) > 0
    ordered = sorted(name for name, is_used in zip(names, used, strict=True) if is_used)
    rank = {name: number for number, name in enumerate(ordered)}
    table = np.array([rank.get(name, -1) for name in names], dtype="<i4")
    return _hash([json.dumps(ordered).encode(), table[codes]])


def _hash(parts: list[bytes | NDArray]) -> str:
    digest = hashlib.sha256(usedforsecurity=False)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else memoryview(part).cast("B"))
    return digest.hexdigest()[:_LENGTH]
