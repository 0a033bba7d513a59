"""Observations: the columns of an anchor table, and the rules that the values of ``viscy-train index`` obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.crops.channel_groups import ChannelsMode, row_order
from viscy_train.crops.geometry import coordinate_bounds
from viscy_train.errors import UserError
from viscy_train.experiments.columns import CHANNEL_COLUMNS, COLUMNS, FLOATS, INTEGERS, NAMES
from viscy_train.experiments.position_metadata import check_metadata
from viscy_train.positives.claimed import wrong_claims
from viscy_train.positives.description import setting_text
from viscy_train.positives.lineages import CHANNEL, number_tracks, starts_run
from viscy_train.wording import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment

_MAX_INTEGER = {"track_id": 2**53, "lineage_id": 2**53, "t": 2**31 - 1}
# Hours are computed from frames; the rounding error is far below this fraction of them.
_TOLERANCE = 1e-6


def check_observations(
    observations: pd.DataFrame,
    experiments: list[Experiment],
    positive: PositiveConfig,
    *,
    channels_mode: ChannelsMode = "all",
    with_metadata: bool = True,
) -> None:
    """Check that the observations are some that ``viscy-train index`` can have written. No pixels are read.

    Parameters
    ----------
    observations : pandas.DataFrame
        Columns `COLUMNS` and any others, with a RangeIndex.
    experiments : list of Experiment
        Experiments of the table.
    positive : PositiveConfig
        Which frames may be positives.
    channels_mode : {"all", "one"}, default "all"
        Whether rows are of all channels, or of one.
    with_metadata : bool, default True
        Whether to check the metadata of positions, too.

    Raises
    ------
    UserError
        If a rule is broken. The message gives the rule, the first row that breaks it, and how many rows do.
    """
    is_one = channels_mode == "one"
    _check_types(observations, [*NAMES, *(CHANNEL_COLUMNS if is_one else [])])
    _check_extra_columns(observations)
    _check_values(observations)
    codes = check_experiments(observations, experiments)
    check_order(observations, codes, row_order(channels_mode))
    if is_one:
        _check_channels(observations, experiments, codes)
    _check_wells(observations, experiments, codes)
    if with_metadata:
        check_metadata(observations, experiments)
    _check_hours(observations, experiments, codes)
    _check_lineages(observations)
    _check_has_positive(observations, experiments, positive)


def _refuse(rule: str, values: Any, invalid: NDArray[np.bool_]) -> None:
    """Raise an error with a rule and the first value that breaks it, if there is one."""
    if invalid.any():
        row, n = int(np.argmax(invalid)), int(invalid.sum())
        value = values.iloc[row] if isinstance(values, pd.Series) else values[row]
        value = value.item() if isinstance(value, np.generic) else value
        raise UserError(f"{rule}, got {value!r} in row {row} ({count(n, 'row')} affected)")


def _check_types(observations: pd.DataFrame, names: list[str]) -> None:
    expected = dict.fromkeys(INTEGERS, "int64") | dict.fromkeys(FLOATS, "float64") | {"has_positive": "bool"}
    for column in names:
        if column not in observations:
            raise UserError(f"it must have the column {column!r}, got {', '.join(observations.columns)}")
        values: Any = observations[column]
        if not isinstance(values.dtype, pd.CategoricalDtype):
            raise UserError(f"column {column!r} must be a dictionary of text, got {values.dtype}")
        _check_categories(values, column)
        _refuse(f"column {column!r} must have no missing values", values, values.array.codes < 0)
    for column, dtype in expected.items():
        if observations[column].dtype != dtype:
            raise UserError(
                f"column {column!r} must be {dtype} without missing values, got {observations[column].dtype}"
            )


def _check_categories(values: Any, column: str) -> None:
    categories = list(values.cat.categories)
    if not all(isinstance(name, str) for name in categories):
        raise UserError(f"column {column!r} must be a dictionary of text, got {categories[:3]}")


def _check_extra_columns(observations: pd.DataFrame) -> None:
    """Check the types of metadata and annotations, whose text and floating-point numbers may be missing."""
    for column in observations.columns.difference(COLUMNS, sort=False):
        values = observations[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            _check_categories(values, column)
        elif values.dtype not in ("int64", "float64", "bool"):
            raise UserError(
                f"column {column!r} must be a dictionary of text, float64, int64 or bool, got {values.dtype}"
            )
        elif values.dtype == "float64":
            _refuse(f"column {column!r} must not be infinite", values, np.isinf(values.to_numpy()))


def _check_values(observations: pd.DataFrame) -> None:
    if not observations["has_positive"].any():
        raise UserError(f"at least one observation must have a positive, got none of {len(observations)}")
    for column in ("track_id", "lineage_id", "t"):
        values, largest = observations[column].to_numpy(), _MAX_INTEGER[column]
        _refuse(f"column {column!r} must be in [0, {largest}]", values, (values < 0) | (values > largest))
    for column in FLOATS:
        values = observations[column].to_numpy()
        _refuse(f"column {column!r} must be finite", values, ~np.isfinite(values))
    for column in ("y", "x"):
        values, (smallest, _) = observations[column].to_numpy(), coordinate_bounds((0,) * 5)[column]
        _refuse(f"column {column!r} must be at least {smallest}", values, values < smallest)


def _codes(column: Any, names: list[str]) -> NDArray[np.int64]:
    """Return the index of each value of a categorical column in a list of names, -1 for other values."""
    return pd.Index(names).get_indexer(column.cat.categories).astype(np.int64)[column.array.codes]


def check_experiments(observations: pd.DataFrame, experiments: list[Experiment]) -> NDArray[np.int64]:
    """Return the index of each observation's experiment."""
    names = [experiment.name for experiment in experiments]
    codes = _codes(observations["experiment"], names)
    _refuse(f"experiments must be those of the table ({', '.join(names)})", observations["experiment"], codes < 0)
    return codes


def check_order(observations: pd.DataFrame, experiment: NDArray[np.int64], order: list[str]) -> None:
    """Check that rows ascend by some columns, which implies that no track has two rows in a frame."""
    keys = []
    for column in order:
        values: Any = observations[column]
        if column == "experiment":
            keys.append(experiment)
        elif isinstance(values.dtype, pd.CategoricalDtype):
            keys.append(_codes(values, sorted(values.cat.categories)))
        else:
            keys.append(values.to_numpy())
    ascends = np.zeros(len(observations) - 1, dtype=bool)
    for key in keys[::-1]:  # the last key decides only where all others are equal
        ascends = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & ascends)
    invalid = np.concatenate([[False], ~ascends])
    first = observations[order].iloc[[int(np.argmax(invalid))]].astype(object).to_dict("records")[0]
    rule = f"rows must be sorted by {', '.join(order)}, without repeats"
    if invalid.any():
        raise UserError(f"{rule}, got {tuple(first.values())} out of order in row {int(np.argmax(invalid))}")


def _check_channels(observations: pd.DataFrame, experiments: list[Experiment], codes: NDArray[np.int64]) -> None:
    """Check that the channel of each row is one of its experiment, with its marker."""
    channel, marker = (observations[name] for name in CHANNEL_COLUMNS)
    for code, experiment in enumerate(experiments):
        rows = codes == code
        expected = channel[rows].astype("str").map(experiment.markers)
        unknown, other = np.zeros((2, len(codes)), dtype=bool)
        unknown[rows] = expected.isna()
        rule = f"channels must be those of experiment {experiment.name!r} ({', '.join(experiment.channel_names)})"
        _refuse(rule, channel, unknown)
        other[rows] = marker[rows].astype("str") != expected
        _refuse(f"markers must be those of the channels of experiment {experiment.name!r}", marker, other)


def _check_wells(observations: pd.DataFrame, experiments: list[Experiment], codes: NDArray[np.int64]) -> None:
    """Check that positions, wells and conditions match."""
    starts = starts_run(codes)
    for column in ("condition", "well", "position"):
        values: Any = observations[column]
        starts |= starts_run(values.array.codes)
    rows = np.flatnonzero(starts)
    parts = observations[["condition", "well", "position"]].iloc[rows].astype(str).assign(code=codes[rows], row=rows)
    for condition, well, position, code, row in parts.drop_duplicates(list(parts.columns[:4])).itertuples(index=False):
        experiment = experiments[code]
        where = f"in row {row}"
        expected = experiment.condition_of(position, well)
        if expected is None:
            raise UserError(f"wells must be those of experiment {experiment.name!r}, got {well!r} {where}")
        if condition != expected:
            raise UserError(
                f"the condition of well {well} of experiment {experiment.name!r} must be {expected!r}, got "
                f"{condition!r} {where}"
            )
        # An image of a plate without wells is its own well, or is in a folder.
        if position != well and not position.startswith(f"{well}/"):
            raise UserError(f"positions must be in their well, {well}, got {position!r} {where}")


def _check_hours(observations: pd.DataFrame, experiments: list[Experiment], codes: NDArray[np.int64]) -> None:
    frames, hours = observations["t"].to_numpy(), observations["hours_post_infection"].to_numpy()
    for code, experiment in enumerate(experiments):
        rows = np.flatnonzero(codes == code)
        expected = experiment.hours_post_infection(frames[rows].astype(float))
        invalid = np.zeros(len(hours), dtype=bool)
        invalid[rows] = np.abs(hours[rows] - expected) > _TOLERANCE * np.maximum(1, np.abs(expected))
        _refuse(f"hours_post_infection must follow from the frame in experiment {experiment.name!r}", hours, invalid)


def _check_lineages(observations: pd.DataFrame) -> None:
    """Check that a track has one mother and one lineage, that a lineage has one root, and that mothers come first."""
    position: Any = observations["position"]
    experiment: Any = observations["experiment"]
    starts = starts_run(experiment.array.codes) | starts_run(position.array.codes)
    position_of_row = np.cumsum(starts)
    starts |= starts_run(observations["track_id"].to_numpy())
    channel: Any = observations.get(CHANNEL)
    if channel is not None:
        starts |= starts_run(channel.array.codes)
    for column in ("parent_track_id", "lineage_id"):
        values = observations[column].to_numpy()
        _refuse(f"column {column!r} must be the same in all rows of a track", values, starts_run(values) & ~starts)
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(starts)) - 1
    tracks = observations.iloc[first]
    _, mother = number_tracks(tracks)
    lineage, frame = tracks["lineage_id"].to_numpy(), observations["t"].to_numpy()
    known = np.flatnonzero(mother >= 0)
    early, foreign = np.zeros((2, len(starts)), dtype=bool)
    early[first[known]] = frame[first[known]] <= frame[last[mother[known]]]
    _refuse("a mother must end before her daughter begins", observations["parent_track_id"], early)
    foreign[first[known]] = lineage[known] != lineage[mother[known]]
    _refuse("a daughter must be in the lineage of her mother", observations["lineage_id"], foreign)
    of_track = pd.Series(position_of_row[first])
    elsewhere = np.zeros(len(starts), dtype=bool)
    elsewhere[first] = (of_track != of_track.groupby(lineage).transform("first")).to_numpy()
    _refuse("a lineage must be in a single position", observations["lineage_id"], elsewhere)
    second = np.zeros(len(starts), dtype=bool)
    roots = first[tracks["parent_track_id"].to_numpy() < 0]
    of_lineage = ["lineage_id"] if channel is None else ["lineage_id", CHANNEL]
    second[roots] = observations[of_lineage].iloc[roots].duplicated().to_numpy()
    _refuse("a lineage must have a single track without a mother", observations["lineage_id"], second)


def _check_has_positive(observations: pd.DataFrame, experiments: list[Experiment], positive: PositiveConfig) -> None:
    wrong = wrong_claims(observations, experiments, positive)
    where = "the lineage has an observation" if not positive.match else "there is another observation"
    rule = (
        f"has_positive must be true where {where} that data.positive permits ({setting_text(positive)}), and only there"
    )
    _refuse(rule, observations["has_positive"].to_numpy(), wrong)
