"""Axes: the columns by which batches are grouped, balanced and enriched in time, and the labels of their values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_data import PlannedComposition
from viscy_train.errors import UserError
from viscy_train.positives.column_codes import with_qualifiers
from viscy_train.row_slices import has_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.config.schema import SamplerConfig

GROUP, CONDITION, TIME = "experiment", "condition", "hours_post_infection"
"""The columns of the axes by default, and of their labels in a table that `add_labels` returns."""
HOURS = "hours post infection"
"""What the hours of the experiments are called unless ``evaluation.time`` names them."""
WEIGHTS = {GROUP: "experiment_weights", CONDITION: "condition_ratio"}
"""The option with the weights of the labels of each axis."""
SEPARATOR = " | "
"""Separates the values of several columns in a label."""
ALL_OTHERS = "..."
"""Key of the weights that stands for all labels that are not keys."""
_MISSING = "(none)"
_PLACE = ("position", "t", "channel")
_MAX_NAMES = 4


def columns_of(by: Sequence[str] | str | None) -> list[str]:
    """Return the columns of an axis, which may be given as one text; a well is one of its experiment."""
    return [] if by is None else with_qualifiers([by] if isinstance(by, str) else list(by))


def axis_names(options: SamplerConfig | Mapping[str, Any]) -> list[str]:
    """Return the names of what batches are grouped and balanced by, such as ``experiment | marker``.

    Parameters
    ----------
    options : SamplerConfig or mapping
        The options of a sampler, as configured or as a plan has them. An axis that is off has its default name.
    """
    values = options if isinstance(options, Mapping) else vars(options)
    names = (GROUP, values["experiment_by"]), (CONDITION, values["condition_by"])
    return [SEPARATOR.join(columns_of(by)) or axis for axis, by in names]


def time_name(time_by: str | None, hours: str = HOURS) -> str:
    """Return the name of the times of an axis: what the hours are called, or the column in their place."""
    return hours if time_by in (None, TIME) else time_by


def check_axes(anchors: pd.DataFrame, options: SamplerConfig, *, positives: str = "") -> None:
    """Refuse columns that the anchors do not have, and missing values in columns that batches are composed by.

    Parameters
    ----------
    anchors : pandas.DataFrame
        The anchors.
    options : SamplerConfig
        Composition of the batches.
    positives : str
        What crops that attract each other have in common: ``model.loss.positives``.

    Raises
    ------
    UserError
        If a column does not exist, or has a missing value and is used; the message names the experiments. If times
        are not numbers.
    """
    used = {
        "experiment_by": options.experiment_aware,
        "condition_by": options.condition_balanced or positives == CONDITION,
        # Reports have an axis of it.
        "time_by": options.temporal_enrichment or options.locality > 1 or options.time_by != TIME,
        "distinct_by": True,
        "place_by": options.locality > 1,
    }
    for option, is_used in used.items():
        for name in columns_of(getattr(options, option)):
            if not is_used and name in (GROUP, CONDITION, TIME):
                continue
            if name not in anchors:
                near = difflib.get_close_matches(name, [str(column) for column in anchors], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(
                    f"data.sampler.{option} must name columns of the anchor table ({', '.join(anchors)}), got "
                    f"{name!r}{hint}"
                )
            if option == "time_by" and anchors[name].dtype.kind not in "iuf":
                raise UserError(f"data.sampler.time_by must name a column of numbers, got {name!r}")
            if is_used and has_missing(anchors[name]):
                raise UserError(_describe_missing(anchors, anchors[name].isna().to_numpy(), option, name))


def columns_of_axes(options: SamplerConfig, anchors: pd.DataFrame) -> list[str]:
    """Return all columns of the anchors that a sampler with the options reads, each once."""
    named = (options.experiment_by, options.condition_by, options.time_by, options.distinct_by)
    names = [name for by in named for name in columns_of(by)]
    return list(dict.fromkeys(names + places_of(options, anchors)))


def add_labels(observations: pd.DataFrame, options: SamplerConfig) -> pd.DataFrame:
    """Return observations whose columns `GROUP`, `CONDITION` and `TIME` are those of the axes.

    Parameters
    ----------
    observations : pandas.DataFrame
        Observations, or anchors.
    options : SamplerConfig
        Names the columns of the axes.

    Returns
    -------
    pandas.DataFrame
        Labels are text: the values of several columns are joined by `SEPARATOR`. With the default columns, the
        observations as they are.

    Raises
    ------
    UserError
        If different values have the same label.
    """
    changed: dict[str, Any] = {}
    for axis, by in ((GROUP, options.experiment_by), (CONDITION, options.condition_by)):
        if columns_of(by) != [axis]:
            changed[axis] = _labels(observations, columns_of(by))
    if options.time_by != TIME:
        changed[TIME] = observations[options.time_by]
    return observations.assign(**changed) if changed else observations


def sampler_arguments(options: SamplerConfig, anchors: pd.DataFrame) -> dict[str, Any]:
    """Return the options as arguments of the sampler: the keys of weights are values of columns, not their labels."""
    changed: dict[str, Any] = {name: _plain(getattr(options, name)) for name in ("experiment_by", "condition_by")}
    if len(distinct := columns_of(options.distinct_by)) > 1:
        changed["distinct_by"] = distinct
    if options.locality > 1:
        changed["place_by"] = places_of(options, anchors) or None
    for axis, by in ((GROUP, options.experiment_by), (CONDITION, options.condition_by)):
        weights = getattr(options, WEIGHTS[axis])
        columns = columns_of(by)
        if isinstance(weights, dict) and not (columns == [axis] or set(columns) - set(anchors)):
            value_of = {label_of(value): value for value in _distinct(anchors, columns)}
            changed[WEIGHTS[axis]] = {_value(key, value_of): weight for key, weight in weights.items()}
    return asdict(options) | changed


def places_of(options: SamplerConfig, anchors: pd.DataFrame) -> list[str]:
    """Return the columns of ``place_by``: by default, those that say which image an anchor is of, as far as they exist.

    Without locality, there are none.
    """
    if options.locality == 1:
        return []
    return columns_of(options.place_by) or columns_of([name for name in _PLACE if name in anchors])


def label_of(value: Any) -> str:
    """Return the label of a value, or of a tuple of the values of several columns."""
    if isinstance(value, tuple):
        return SEPARATOR.join(map(label_of, value))
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    if isinstance(value, (float, np.floating)):
        return _MISSING if np.isnan(value) else repr(float(value)).removesuffix(".0")
    return _MISSING if value is None else str(value)


@dataclass(frozen=True, kw_only=True, eq=False)
class _LabeledComposition(PlannedComposition):
    """A plan whose groups and conditions have labels instead of values."""

    _plan: PlannedComposition = field(repr=False)
    _value_of: Mapping[str, Any] = field(repr=False)

    def batch_shares(self, group: Any = None) -> pd.Series:
        """Return the target share of a batch's slots for each stratum, given the label of its group."""
        shares = self._plan.batch_shares(self._value_of.get(group, group))
        return shares.set_axis(self.strata.index)


def label_plan(planned: PlannedComposition) -> PlannedComposition:
    """Return the plan of a sampler with the labels of `add_labels` instead of values, which may be the same."""
    names = {GROUP: planned.options["experiment_by"], CONDITION: planned.options["condition_by"]}
    if all(by is None or by == axis for axis, by in names.items()):
        return planned
    index: Any = planned.strata.index
    levels = [pd.Index([label_of(value) for value in level], dtype=object) for level in index.levels]
    groups = planned.group_shares.index
    options = dict(planned.options)
    for option in WEIGHTS.values():
        if options[option] is not None:
            options[option] = {label_of(value): share for value, share in options[option].items()}
    labels = pd.Index([None if value is None else label_of(value) for value in groups], dtype=object, name=groups.name)
    return _LabeledComposition(
        strata=planned.strata.set_axis(index.set_levels(levels)),
        group_shares=planned.group_shares.set_axis(labels),
        n_batches=planned.n_batches,
        options=options,
        _index=planned._index,
        _quotas=planned._quotas,
        _plan=planned,
        _value_of={label_of(value): value for value in groups},
    )


def _plain(by: Sequence[str] | str) -> Sequence[str] | str:
    """Return the only column of a list as text: its values are then not tuples."""
    return columns_of(by)[0] if len(columns_of(by)) == 1 else columns_of(by)


def _value(key: Any, value_of: Mapping[str, Any]) -> Any:
    """Return the value of a label, which is a number in other words for ``2.0`` instead of ``2``; or the key itself."""
    if key in value_of:
        return value_of[key]
    try:
        return value_of.get(label_of(float(key)), key)
    except ValueError:
        return key


def _distinct(anchors: pd.DataFrame, columns: list[str]) -> list[Any]:
    """Return the distinct values of a column, or tuples of those of several, as the sampler returns them."""
    rows = anchors[columns].drop_duplicates().dropna()
    values = [[_item(value) for value in row] for row in rows.itertuples(index=False)]
    return [tuple(row) if len(row) > 1 else row[0] for row in values]


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _labels(observations: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Return the labels of the values of some columns."""
    code = np.zeros(len(observations), dtype=np.int64)
    labels = [""]
    for number, name in enumerate(columns):
        codes, values = pd.factorize(observations[name], use_na_sentinel=False)
        texts = [label_of(_item(value)) if not pd.isna(value) else _MISSING for value in values]
        code, used = pd.factorize(code * len(texts) + codes)
        prefixes = [labels[one // len(texts)] for one in used]
        labels = [
            texts[one % len(texts)] if not number else f"{prefix}{SEPARATOR}{texts[one % len(texts)]}"
            for prefix, one in zip(prefixes, used, strict=True)
        ]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise UserError(f"different values of {', '.join(columns)} must not have the same label, {twice!r}; rename one")
    categories = pd.Index(labels, dtype="str")
    return pd.Series(pd.Categorical.from_codes(code, categories=categories), index=observations.index)


def _describe_missing(anchors: pd.DataFrame, is_missing: Any, option: str, name: str) -> str:
    where = f" ({_by_experiment(anchors, is_missing)})" if GROUP in anchors else ""
    return (
        f"data.sampler.{option} must name columns without missing values: {int(is_missing.sum()):,} of "
        f"{len(anchors):,} anchors have no value of {name!r}{where}; give them the key {name!r} in the "
        "experiments file or its annotations, and run `viscy-train index` again"
    )


def _by_experiment(anchors: pd.DataFrame, is_missing: Any) -> str:
    """Return how many anchors of which experiments are without a value: ``day1: 28 of 192, day2: 160 of 160``."""
    sizes = anchors[GROUP].value_counts(sort=False)
    counts = anchors[GROUP][is_missing].value_counts(sort=False)
    texts = [f"{name}: {n:,} of {sizes[name]:,}" for name, n in counts.items() if n]
    more = f" and {len(texts) - _MAX_NAMES} more" if len(texts) > _MAX_NAMES else ""
    return ", ".join(texts[:_MAX_NAMES]) + more
