"""Position metadata: which positions of a plate are used, and the metadata of each as columns of the anchor table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.errors import UserError
from viscy_train.experiments.metadata import well_of
from viscy_train.experiments.typed_columns import text_column, type_column
from viscy_train.wording import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.errors import Problems
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.experiments.metadata import Value
    from viscy_train.plates.plate import Plate


def used_positions(plate: Plate, experiment: Experiment, problems: Problems) -> dict[str, str]:
    """Return the positions of an experiment that have a condition.

    Parameters
    ----------
    plate : Plate
        Plate of the experiment. Wells that the experiment does not name are not looked at.
    experiment : Experiment
        The experiment.
    problems : Problems
        Receives wells and fields of view that the plate does not have, also those that are excluded.

    Returns
    -------
    dict of str to str
        The well of each position, in the order of the conditions.
    """
    positions: dict[str, str] = {}
    for name in [*experiment.conditions, *experiment.wells]:
        with problems.collected(f"experiment {experiment.name!r}"):
            found = {position: well_of(position) for position in plate.list_positions(name)}
            positions |= {one: well for one, well in found.items() if experiment.condition_of(one, well) is not None}
    for name in experiment.exclude:
        with problems.collected(f"experiment {experiment.name!r}"):
            plate.list_positions(name)
    return positions


def add_metadata(observations: pd.DataFrame, experiments: list[Experiment]) -> pd.DataFrame:
    """Add a column for each key of the metadata of experiments, wells and fields of view.

    Parameters
    ----------
    observations : pandas.DataFrame
        Columns experiment, well and position, which are categoricals.
    experiments : list of Experiment
        Experiments of the table.

    Returns
    -------
    pandas.DataFrame
        The observations with further columns, in the order in which the experiments name them. A position without a
        value has a missing one.

    Raises
    ------
    UserError
        If a key is the name of a column already.
    """
    keys = metadata_keys(experiments)
    if not keys:
        return observations
    for key in keys:
        if key in observations:
            raise UserError(
                f"the key {key!r} of an experiment, well or field of view is also a column of the channels with "
                "data.channels: one; rename the key, or map `channels` to markers instead"
            )
    code, values = values_of_positions(observations, experiments)
    columns = {key: type_column(_values(key, values)).iloc[code].set_axis(observations.index) for key in keys}
    return observations.assign(**columns)


def values_of_positions(
    observations: pd.DataFrame, experiments: list[Experiment]
) -> tuple[NDArray[np.int64], list[dict[str, Value]]]:
    """Return the number of the position of each observation, and the value of each key at each position.

    Parameters
    ----------
    observations, experiments
        As in `add_metadata`.
    """
    code = observations.groupby(["experiment", "position"], observed=True, sort=False).ngroup().to_numpy()
    first = np.unique(code, return_index=True)[1]
    by_name = {experiment.name: experiment for experiment in experiments}
    positions = observations[["experiment", "position", "well"]].iloc[first].astype(str)
    values = [by_name[name].metadata_of(position, well) for name, position, well in positions.itertuples(index=False)]
    return code, values


def metadata_keys(experiments: list[Experiment]) -> list[str]:
    """Return the keys of experiments, wells and fields of view, each once, in the order in which they are named."""
    return list(dict.fromkeys(key for one in experiments for of in (one.metadata, *one.wells.values()) for key in of))


def check_metadata(observations: pd.DataFrame, experiments: list[Experiment]) -> None:
    """Refuse columns of metadata that are not those of the experiments; observations are as in `add_metadata`.

    Experiments with annotations may have a column from there whose values are metadata in other experiments.
    """
    keys = metadata_keys(experiments)
    for key in keys:
        if key not in observations:
            raise UserError(f"it must have the column {key!r} of the metadata, got {', '.join(observations.columns)}")
    if not keys:
        return
    code, values = values_of_positions(observations, experiments)
    for key in keys:
        found, wanted = observations[key], type_column(_values(key, values))
        annotated = [one.name for one in experiments if one.annotations and key not in metadata_keys([one])]
        is_free = observations["experiment"].isin(annotated).to_numpy()
        if annotated and _is_text(found) and not _is_text(wanted):
            wanted = text_column(_values(key, values))
        wanted = wanted.iloc[code].set_axis(found.index)
        differ = _differ(found, wanted) & ~is_free
        if differ.any():
            row = int(np.argmax(differ))
            experiment, position = observations[["experiment", "position"]].iloc[row]
            raise UserError(
                f"{key} of position {position} of experiment {experiment!r} must be {wanted.iloc[row]}, got "
                f"{found.iloc[row]} in row {row} ({count(int(differ.sum()), 'row')} affected)"
            )


def _values(key: str, of_positions: list[dict[str, Value]]) -> pd.Series:
    """Return the value of a key at each position, None where it has none."""
    return pd.Series([one.get(key) for one in of_positions], dtype=object)


def _differ(found: Any, wanted: Any) -> NDArray[np.bool_]:
    """Return where the values of two columns differ; two missing values are equal."""
    are_text = [_is_text(found), _is_text(wanted)]
    if all(are_text):
        code = np.append(wanted.cat.categories.get_indexer(found.cat.categories), -1)
        # Another text has the code -2: it is not a missing value.
        code[:-1] = np.where(code[:-1] < 0, -2, code[:-1])
        return code[found.array.codes] != wanted.array.codes
    if any(are_text):
        return np.ones(len(found), dtype=bool)
    return ((found != wanted) & ~(found.isna() & wanted.isna())).to_numpy()


def _is_text(column: Any) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)
