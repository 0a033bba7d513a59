"""Annotations: tables of a project whose columns are joined to observations, tracks, frames, positions or wells."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from viscy_train.errors import UserError, require_regular_file
from viscy_train.experiments.annotation_table import CHANNEL, EXPERIMENT, AnnotationTable, list_reasons
from viscy_train.experiments.columns import CHANNEL_COLUMNS, is_reserved
from viscy_train.experiments.position_metadata import metadata_keys, values_of_positions
from viscy_train.experiments.spelling import check_spelling, spellings
from viscy_train.experiments.typed_columns import can_be_column, type_column

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.experiments.experiments_file import Experiment


def add_annotations(observations: pd.DataFrame, experiments: list[Experiment]) -> tuple[pd.DataFrame, list[str]]:
    """Join the annotations of experiments to their observations.

    Parameters
    ----------
    observations : pandas.DataFrame
        Observations of all experiments and their metadata, with a RangeIndex.
    experiments : list of Experiment
        Name the tables.

    Returns
    -------
    observations : pandas.DataFrame
        The observations with the columns of the tables, which are missing for observations that no table has. What is
        metadata in one experiment may be annotations in another: both are then in one column.
    notes : list of str
        What was joined, a sentence for each table.

    Raises
    ------
    UserError
        If a table cannot be read or joined, has two rows for the same observations, or has a column of the metadata or
        of another table of its experiment.
    """
    joined: dict[str, list[_Joined]] = {}
    notes = []
    for experiment in experiments:
        rows = np.flatnonzero((observations["experiment"] == experiment.name).to_numpy())
        own = set(metadata_keys([experiment]))
        for table in _tables_of(experiment, has_channels=CHANNEL in observations):
            names, ignored = _names_to_add(table, observations, own)
            _check_spelling(table.path, [*(name for name in observations if not is_reserved(name)), *joined, *names])
            own |= set(names)
            row = table.match(observations.iloc[rows])
            for name in names:
                joined.setdefault(name, []).append(_Joined(table.content[name], rows, row))
            notes.append(f"{experiment.name}: {table.describe(names, ignored, row)}")
    for name in set(joined) & set(metadata_keys(experiments)):
        joined[name].append(_metadata(name, observations, experiments))
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


def _tables_of(experiment: Experiment, *, has_channels: bool) -> Iterator[AnnotationTable]:
    for path in experiment.annotations:
        yield from AnnotationTable.read(path, experiment, has_channels=has_channels)


class _Joined(NamedTuple):
    """A column of a table, the observations that it was joined to, and the row of each, -1 for none."""

    values: pd.Series
    observations: NDArray[np.int64]
    row: NDArray[np.int64]


def _metadata(name: str, observations: pd.DataFrame, experiments: list[Experiment]) -> _Joined:
    """Return the values of a key of metadata, as they are written, and the observations of the positions with one."""
    code, values = values_of_positions(observations, experiments)
    known = [number for number, of in enumerate(values) if name in of]
    row_of_position = np.full(len(values), -1)
    row_of_position[known] = np.arange(len(known))
    row = row_of_position[code]
    written = pd.Series([values[number][name] for number in known], dtype=object)
    return _Joined(written, np.flatnonzero(row >= 0), row[row >= 0])


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


def _names_to_add(
    table: AnnotationTable, observations: pd.DataFrame, own: set[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the columns of a table that are added to observations, and why others are not."""
    names, ignored = [], {}
    # A well is part of the name of a field of view.
    used = (*table.keys.values(), EXPERIMENT, *(("well",) if "position" in table.keys else ()))
    for name in table.content.columns:
        if name in used:
            continue
        is_channel = name in CHANNEL_COLUMNS and CHANNEL in observations
        if is_reserved(name) or is_channel:
            ignored[name] = "in every anchor table or embedding"
            continue
        if not can_be_column(table.content[name]):
            ignored[name] = "neither text, numbers, booleans nor times"
            continue
        if name in own:
            raise UserError(
                f"column {name!r} of {table.path} must not have the name of metadata or of a column of another table "
                "of its experiment; rename one of them"
            )
        names.append(name)
    if not names:
        unused = list_reasons(table.left_out | ignored)
        why = f"; not used: {unused}" if unused else ""
        remedy = "; rename what you want to add" if ignored else ""
        raise UserError(
            f"annotations must have a column to add, {table.path} has only {', '.join(table.content)}{why}{remedy}"
        )
    return names, ignored


def _check_spelling(path: Path, names: list[str]) -> None:
    known = spellings(names)
    for name in names:
        check_spelling(f"columns of {path} and of metadata and other annotations", name, known)
