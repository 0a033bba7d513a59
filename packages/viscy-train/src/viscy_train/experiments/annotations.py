"""Annotations: tables of a project whose columns are joined to observations, tracks, frames, positions or wells."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from viscy_train.errors import UserError, require_regular_file
from viscy_train.experiments.annotation_table import EXPERIMENT, AnnotationTable
from viscy_train.experiments.columns import CHANNEL_COLUMNS, is_reserved
from viscy_train.experiments.spelling import check_spelling, spellings
from viscy_train.experiments.typed_columns import can_be_column, type_column

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.experiments.experiments_file import Experiment

# What pandas calls the index of a table that it wrote to Parquet, or to CSV and read again.
_INDEX = ("__index_level_", "Unnamed: ")


def add_annotations(observations: pd.DataFrame, experiments: list[Experiment]) -> tuple[pd.DataFrame, list[str]]:
    """Join the annotations of experiments to their observations.

    Parameters
    ----------
    observations : pandas.DataFrame
        Observations of all experiments, with a RangeIndex.
    experiments : list of Experiment
        Name the tables.

    Returns
    -------
    observations : pandas.DataFrame
        The observations with the columns of the tables, which are missing for observations that no table has.
    notes : list of str
        What was joined, a sentence for each table.

    Raises
    ------
    UserError
        If a table cannot be read or joined, has two rows for the same observations, or has a column of metadata or of
        another table of the experiment.
    """
    joined: dict[str, list[_Joined]] = {}
    notes = []
    for experiment in experiments:
        rows = np.flatnonzero((observations["experiment"] == experiment.name).to_numpy())
        own: set[str] = set()
        for path in experiment.annotations:
            table = AnnotationTable.read(path, experiment)
            names, ignored = _names_to_add(table, observations, own)
            _check_spelling(path, [*(name for name in observations if not is_reserved(name)), *joined, *names])
            own |= set(names)
            row = table.match(observations.iloc[rows])
            for name in names:
                joined.setdefault(name, []).append(_Joined(table.content[name], rows, row))
            notes.append(f"{experiment.name}: {table.describe(names, ignored, row)}")
    columns = {name: _combine(name, parts, len(observations)) for name, parts in joined.items()}
    return observations.assign(**columns), notes


def annotation_checksums(experiment: Experiment) -> dict[str, int]:
    """Return the CRC-32 of the content of each table, by number and name; without tables that do not exist."""
    checksums = {}
    for number, path in enumerate(experiment.annotations, start=1):
        if path.is_file():
            require_regular_file(path, "annotations")
            checksum = 0
            with path.open("rb") as file:
                while block := file.read(2**20):
                    checksum = zlib.crc32(block, checksum)
            checksums[f"{number}: {path.name}"] = checksum
    return checksums


class _Joined(NamedTuple):
    """A column of a table, the observations that it was joined to, and the row of each, -1 for none."""

    values: pd.Series
    observations: NDArray[np.int64]
    row: NDArray[np.int64]


def _combine(name: str, parts: list[_Joined], n_observations: int) -> pd.Series:
    """Return a column of all observations, in the type that holds the values of all tables."""
    row = np.full(n_observations, -1)
    offset = 0
    for part in parts:
        row[part.observations] = np.where(part.row < 0, -1, part.row + offset)
        offset += len(part.values)
    values = [part.values for part in parts]
    if (row < 0).any():
        values.append(pd.Series([None], dtype=object))
    try:
        typed = type_column(pd.concat(values, ignore_index=True) if len(values) > 1 else values[0])
    except UserError as error:
        raise UserError(f"column {name!r} of annotations: {error}") from error
    column = typed.iloc[np.where(row < 0, len(typed) - 1, row)].reset_index(drop=True)
    return column.cat.remove_unused_categories() if isinstance(column.dtype, pd.CategoricalDtype) else column


def _names_to_add(table: AnnotationTable, observations: pd.DataFrame, own: set[str]) -> tuple[list[str], list[str]]:
    """Return the columns of a table that are added to observations, and those that are not."""
    names, ignored = [], []
    for name in table.content.columns:
        if name in table.keys.values() or name == EXPERIMENT:
            continue
        is_channel = name in CHANNEL_COLUMNS and CHANNEL_COLUMNS[0] in observations
        is_index = name.startswith(_INDEX)
        if is_reserved(name) or is_channel or is_index or not can_be_column(table.content[name]):
            ignored.append(name)
            continue
        if name in observations or name in own:
            raise UserError(
                f"column {name!r} of {table.path} must not have the name of metadata or of a column of another table; "
                "rename one of them"
            )
        names.append(name)
    if not names:
        raise UserError(f"annotations must have a column to add, {table.path} has only {', '.join(table.content)}")
    return names, ignored


def _check_spelling(path: Path, names: list[str]) -> None:
    known = spellings(names)
    for name in names:
        check_spelling(f"columns of {path} and of metadata and other annotations", name, known)
