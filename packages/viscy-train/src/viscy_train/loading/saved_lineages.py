"""Saved lineages: the relatives of a large table, next to it, which later starts and all processes of a machine map.

The folder of lineages is named by a checksum of all that they follow from, so that a changed table or setting has
another one. They are found and written in parts, because the arrays of a large table are larger than its pixels in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.output import one_at_a_time
from viscy_train.positives.frame_range import frame_ranges
from viscy_train.positives.lineage_parts import arrays_in_parts, lineages_of
from viscy_train.positives.lineages import Lineages
from viscy_train.positives.rule import check_columns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import PositiveConfig

# Increases when lineages of earlier versions must not be used.
_VERSION = 1
_CONTENTS = "contents.json"
_TYPE = np.dtype("<i8")


def saved_lineages(directory: Path, table: AnchorTable, positive: PositiveConfig) -> Lineages:
    """Open the lineages of a table, or find and save them.

    Parameters
    ----------
    directory : pathlib.Path
        Where they are saved; created if it does not exist.
    table : AnchorTable
        The table.
    positive : PositiveConfig
        Which observations may be positives: those along the lineage.

    Returns
    -------
    Lineages
        The lineages: mapped from files, or in memory if they cannot be saved.

    Raises
    ------
    UserError
        If no whole number of frames of an experiment is permitted, or `positive` does not fit the table.
    """
    observations = table.observations
    check_columns(observations.columns, positive)
    ranges = frame_ranges(table.experiments, positive)
    columns = {name: text for name, text in table.fingerprint.items() if name.startswith("column ")}
    of_experiments = {name: asdict(one) for name, one in ranges.items()}
    content = json.dumps([_VERSION, columns, asdict(positive), of_experiments], sort_keys=True)
    folder = directory / f"lineages-{hashlib.sha256(content.encode(), usedforsecurity=False).hexdigest()[:32]}"
    arrays = _open(folder)
    if arrays is None:
        with one_at_a_time(folder):
            arrays = _open(folder)  # another process may have just saved them
            if arrays is None:
                _save(folder, arrays_in_parts(observations, positive, ranges))
                arrays = _open(folder)
    if arrays is None:
        return Lineages.of(observations, positive, ranges)
    return lineages_of(arrays, observations, positive)


def _save(folder: Path, parts: Iterable[dict[str, NDArray[np.int64]]]) -> None:
    """Write arrays in parts; nothing if they cannot be written, or another process was faster."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        (unfinished / _CONTENTS).write_text(json.dumps(_write(unfinished, parts)), encoding="utf-8")
        os.rename(unfinished, folder)
    except OSError:  # for example a full disk, a directory that is read-only, or a folder that exists by now
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path, parts: Iterable[dict[str, NDArray[np.int64]]]) -> dict[str, str]:
    """Append each part to the files of the arrays, and return their checksums."""
    digests = {}
    with contextlib.ExitStack() as stack:
        files = {}
        for arrays in parts:
            for name, array in arrays.items():
                if name not in files:
                    files[name] = stack.enter_context((folder / name).open("wb"))
                    digests[name] = hashlib.sha256(usedforsecurity=False)
                content = np.ascontiguousarray(array, dtype=_TYPE).data.cast("B") if len(array) else b""
                files[name].write(content)
                digests[name].update(content)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _open(folder: Path) -> dict[str, NDArray[np.int64]] | None:
    """Map saved arrays; None if there are none. Damaged ones are deleted."""
    try:
        contents = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
        if all(_checksum(folder / name) == checksum for name, checksum in contents.items()):
            return {name: np.memmap(folder / name, dtype=_TYPE, mode="r") for name in contents}
    except (OSError, ValueError, AttributeError):  # missing, cut, or with other content
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _checksum(path: Path) -> str:
    """Return the checksum of a file, of which no page is mapped for that."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
