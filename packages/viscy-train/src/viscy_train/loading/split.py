"""Split: which anchors are used for training, and which are kept for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.anchors.array_store import name_of
from viscy_train.errors import UserError
from viscy_train.row_slices import as_category, distinct_values, mapped_arrays, row_slices, run_starts
from viscy_train.wording import are, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.array_store import ArrayStore
    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import SplitConfig

_MAX_LABELS = 4


def split_anchors(
    table: AnchorTable, split: SplitConfig, seed: int, condition: pd.Series | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the anchors by experiment or by position, so that no lineage is in both parts.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    split : SplitConfig
        How to split, and the fraction to keep for validation.
    seed : int
        Seed of the choice of positions.
    condition : pandas.Series, optional
        What batches balance, for each observation; by default its condition.

    Returns
    -------
    train, validation : numpy.ndarray
        Rows of the anchor table, ascending.

    Raises
    ------
    UserError
        If an experiment is unknown, or no anchors are left for training.
    """
    return anchors_of_parts(table, kept_for_validation(table, split, seed, condition))


def anchors_of_parts(
    table: AnchorTable, is_kept: NDArray[np.bool_], store: ArrayStore | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the anchors for training and for validation, given which observations are kept for it.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    is_kept : numpy.ndarray
        Which observations are kept, shape (n_observations,).
    store : ArrayStore, optional
        Where to share the rows with the other processes of the machine.

    Raises
    ------
    UserError
        If no anchors are left for training.
    """
    is_anchor = table.observations["has_positive"].to_numpy()
    train, validation = (_rows_of_part(is_anchor, is_kept, part, store) for part in (False, True))
    if not len(train):
        raise UserError("data.split must leave anchors for training, but keeps all of them for validation")
    return train, validation


def _rows_of_part(
    is_anchor: NDArray[np.bool_], is_kept: NDArray[np.bool_], part: bool, store: ArrayStore | None
) -> NDArray[np.int64]:
    """Return the anchors that are kept or not, some rows at a time."""

    def find() -> Iterator[NDArray[np.int64]]:
        for rows in row_slices(len(is_anchor), is_anchor, is_kept):
            yield rows.start + np.flatnonzero(is_anchor[rows] & (is_kept[rows] == part))

    if store is None:
        return np.concatenate([np.empty(0, np.int64), *find()])
    origin = f"anchors {name_of(is_anchor)} of which {name_of(is_kept)} is {part}"
    return store.derive(origin, np.int64, sum(map(len, find())), find)


def kept_for_validation(
    table: AnchorTable, split: SplitConfig, seed: int, condition: pd.Series | None = None
) -> NDArray[np.bool_]:
    """Return which observations, anchors and others, are kept for validation, shape (n_observations,).

    Parameters
    ----------
    table, split, seed, condition
        As for `split_anchors`.

    Raises
    ------
    UserError
        If an experiment is unknown.
    """
    if split.by == "experiment":
        return _in_experiments(table, split)
    if split.by == "position":
        return _in_chosen_positions(table, split, seed, condition)
    return np.zeros(len(table.observations), dtype=bool)


def drop_unpaired(
    parts: tuple[NDArray[np.int64], NDArray[np.int64]], has_positive: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the anchors for training and for validation that have a positive of the same part.

    Parameters
    ----------
    parts : tuple of numpy.ndarray
        Rows for training and for validation.
    has_positive : numpy.ndarray
        Whether an observation has a positive of its part, shape (n_observations,).

    Raises
    ------
    UserError
        If no anchors are left for training.
    """
    train, validation = (rows[has_positive[rows]] for rows in parts)
    if not len(train):
        raise UserError(
            f"data.split must leave anchors with a positive for training, got none of {len(parts[0])}: keep fewer "
            "positions with data.split, or widen data.positive"
        )
    return train, validation


def count_unpaired(
    parts: tuple[NDArray[np.int64], NDArray[np.int64]], kept: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> list[str]:
    """Return a sentence for each part of which `drop_unpaired` has dropped anchors."""
    return [
        f"{len(rows) - len(left):,} of {count(len(rows), 'anchor')} for {name} {are(len(rows) - len(left))} left out, "
        "because data.split has put all their positives into the other part"
        for name, rows, left in zip(("training", "validation"), parts, kept, strict=True)
        if len(left) < len(rows)
    ]


def name_untrained(
    labels: pd.DataFrame, names: Sequence[str], expected: Sequence[NDArray[np.int64]], trained: NDArray[np.int64]
) -> list[str]:
    """Return a sentence for each axis with labels that anchors have, but those for training have not.

    Parameters
    ----------
    labels : pandas.DataFrame
        The label of each observation on each axis.
    names : sequence of str
        A name for each axis.
    expected : sequence of numpy.ndarray
        Rows of the anchors whose labels are expected in training.
    trained : numpy.ndarray
        Rows of those for training.

    Returns
    -------
    list of str
        The sentences, with the first labels that are lost.
    """
    sentences = []
    for name, axis in zip(names, labels, strict=True):
        column: Any = labels[axis]
        kept = set(distinct_values(column, trained))
        wanted = dict.fromkeys(label for rows in expected for label in distinct_values(column, rows))
        lost = [str(label) for label in wanted if label not in kept]
        if lost:
            more = f" and {len(lost) - _MAX_LABELS} more" if len(lost) > _MAX_LABELS else ""
            sentences.append(
                f"nothing is trained on {name} {', '.join(map(repr, lost[:_MAX_LABELS]))}{more}: data.split and "
                "data.positive leave no anchors of it for training"
            )
    return sentences


def split_warnings(split: SplitConfig, n_validation: int) -> list[str]:
    """Return warnings about a split.

    Parameters
    ----------
    split : SplitConfig
        How the anchors were split.
    n_validation : int
        Number of anchors kept for validation.

    Returns
    -------
    list of str
        A sentence for each warning.
    """
    if split.by != "position" or not split.fraction or n_validation:
        return []
    return [
        "no anchors are kept for validation: no condition of an experiment has enough positions for a "
        f"data.split.fraction of {split.fraction:g}; a larger one keeps some"
    ]


def _in_experiments(table: AnchorTable, split: SplitConfig) -> NDArray[np.bool_]:
    names = [experiment.name for experiment in table.experiments]
    for name in split.experiments:
        if name not in names:
            raise UserError(
                f"data.split.experiments must name experiments of the project ({', '.join(names)}), got {name!r}"
            )
    experiment: Any = as_category(table.observations["experiment"])
    is_named, codes = experiment.cat.categories.isin(split.experiments), experiment.array.codes
    return np.concatenate([np.empty(0, bool), *(is_named[codes[part]] for part in row_slices(len(codes), codes))])


def _in_chosen_positions(
    table: AnchorTable, split: SplitConfig, seed: int, condition: pd.Series | None
) -> NDArray[np.bool_]:
    """Choose positions of each stratum at random; at least one position of each is left for training.

    Experiments may have the same fields of view of a plate in other channels; all of them keep such a field, or none.
    """
    labels = table.observations[["experiment", "condition", "position"]]
    if condition is not None:
        labels = labels.assign(condition=condition)
    anchors = _distinct_rows(labels, table.observations["has_positive"].to_numpy())
    positions = _conditions_of_positions(anchors)
    plates = {experiment.name: experiment.plate.resolve() for experiment in table.experiments}
    of_strata: Any = positions.groupby(["experiment", "condition"], observed=True, sort=False)
    strata = [
        [(plates[str(name)], position) for position in stratum["position"].astype(str)]
        for (name, _), stratum in of_strata
    ]
    chosen = _choose_fields(strata, split.fraction, seed)
    first = run_starts(table.observations[["experiment", "position"]])
    names = table.observations[["experiment", "position"]].iloc[first].astype(str).itertuples(index=False)
    is_chosen = np.array([(plates[name], position) in chosen for name, position in names], dtype=bool)
    return np.repeat(is_chosen, np.diff(first, append=len(table.observations)))


def _distinct_rows(columns: pd.DataFrame, is_used: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the distinct ones of some rows, in the order in which they first appear."""
    parts = []
    for rows in row_slices(len(columns), is_used, *mapped_arrays(columns)):
        part = columns.iloc[rows][is_used[rows]]
        # Only rows that differ from the one before, because duplicates are found with much memory.
        parts.append(part.iloc[run_starts(part)].drop_duplicates())
    return pd.concat(parts).drop_duplicates()


def _choose_fields(strata: list[list[tuple[Path, str]]], fraction: float, seed: int) -> set[tuple[Path, str]]:
    """Choose a fraction of the fields of view of each stratum; a field may be in several, and none loses all."""
    generator = np.random.default_rng(seed)
    left = [len(fields) for fields in strata]
    strata_of: dict[tuple[Path, str], list[int]] = {}
    for number, fields in enumerate(strata):
        for field in fields:
            strata_of.setdefault(field, []).append(number)
    chosen: set[tuple[Path, str]] = set()
    for number, fields in enumerate(strata):
        n_left = max(len(fields) - round(fraction * len(fields)), 1)
        for field in [fields[index] for index in generator.permutation(len(fields))]:
            if left[number] > n_left and field not in chosen and all(left[one] > 1 for one in strata_of[field]):
                chosen.add(field)
                for one in strata_of[field]:
                    left[one] -= 1
    return chosen


def _conditions_of_positions(positions: pd.DataFrame) -> pd.DataFrame:
    """Return each position once; all conditions of its anchors together are its condition, if it has several."""
    is_first = ~positions.duplicated(["experiment", "position"]).to_numpy()
    if is_first.all():
        return positions
    code = positions.groupby(["experiment", "position"], observed=True, sort=False).ngroup().to_numpy()
    names = positions["condition"].astype("str").groupby(code).agg(lambda values: " | ".join(sorted(values)))
    return positions[is_first].assign(condition=names.to_numpy())
