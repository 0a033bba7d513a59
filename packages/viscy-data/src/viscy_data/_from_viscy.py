"""from_viscy: a sampler constructed with the arguments of VisCy's sampler."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from viscy_data._compose.quotas import ALL_OTHERS, list_labels, suggest_label
from viscy_data._options import columns, flag, weights
from viscy_data.index import AnchorIndex
from viscy_data.sampler import FlexibleBatchSampler

if TYPE_CHECKING:
    from viscy_data._table.tables import Anchors

_log = logging.getLogger("viscy_data.sampler")
_STRATIFY_BY = "perturbation"
_OWN_NAMES = {"experiment_by": "batch_group_by", "condition_by": "stratify_by"}


def from_viscy(
    valid_anchors: Anchors | AnchorIndex,
    batch_size: int = 128,
    batch_group_by: str | Sequence[str] | None = None,
    leaky: float = 0.0,
    group_weights: Mapping[Any, float] | None = None,
    stratify_by: str | Sequence[str] | None = _STRATIFY_BY,
    temporal_enrichment: bool = False,
    temporal_window_hours: float = 2.0,
    temporal_global_fraction: float = 0.3,
    num_replicas: int | None = 1,
    rank: int | None = 0,
    seed: int = 0,
    drop_last: bool = True,
    *,
    experiment_aware: bool | None = None,
    experiment_weights: Mapping[Any, float] | None = None,
    condition_balanced: bool | None = None,
    condition_ratio: Mapping[Any, float] | None = None,
    **options: Any,
) -> FlexibleBatchSampler:
    """Construct a `FlexibleBatchSampler` with the arguments of the class of that name in VisCy's viscy-data.

    Names, order and defaults are those of VisCy, so that code and configurations written for it need no change. The
    batches follow the rules of `FlexibleBatchSampler`; the README of this package lists where they differ.

    Parameters
    ----------
    valid_anchors : DataFrame, Table, path or AnchorIndex
        The table; the sampler yields positions of rows, which VisCy's labels of rows equal if the index is 0 to n - 1.
    batch_size : int, default 128
        Slots of a batch.
    batch_group_by : str or sequence of str, optional
        `experiment_by`; ``experiment_aware=False`` if it is None or empty.
    leaky : float, default 0.0
        `leaky`.
    group_weights : mapping, optional
        `experiment_weights`. A key is a label of a group or, as in VisCy, its text, with the texts of several columns
        joined by ``"|"``. A label comes first: the key ``"1"`` is the text "1" if the column has it, otherwise the
        number 1. Groups left out have weight 0, as in VisCy, and a warning names them; the key ``"..."`` gives them
        another weight.
    stratify_by : str or sequence of str, default "perturbation"
        `condition_by`; ``condition_balanced=False`` if it is None or empty.
    temporal_enrichment, temporal_window_hours, temporal_global_fraction
        The options of the same names; the column of times is "hours_post_perturbation".
    num_replicas, rank : int, default 1 and 0
        The options of the same names. Pass None for both to take them from `torch.distributed`.
    seed, drop_last
        The options of the same names.
    experiment_aware, experiment_weights, condition_balanced, condition_ratio
        The arguments of VisCy's sampler before it had `batch_group_by` and `stratify_by`. If any of them is given, the
        columns are "experiment", "condition" and "hours_post_infection", and both axes are on by default.
    **options
        Further options of `FlexibleBatchSampler`, such as `even_batches`, `split_batches` or `time_by`.

    Returns
    -------
    FlexibleBatchSampler
        The sampler.

    Raises
    ------
    TypeError, ValueError
        As for `FlexibleBatchSampler`; also if arguments of both versions of VisCy are given, or if a key of
        `group_weights` is not a group, is the text of several groups, or names a group a second time.

    Examples
    --------
    >>> import pandas as pd
    >>> from viscy_data import from_viscy
    >>> anchors = pd.DataFrame({
    ...     "marker": ["TOMM20", "SEC61B"] * 40, "well": ["A1"] * 40 + ["B1"] * 40, "perturbation": ["mock"] * 80,
    ... })
    >>> sampler = from_viscy(
    ...     anchors, 8, batch_group_by=["marker", "well"],
    ...     group_weights={"TOMM20|A1": 1, "TOMM20|B1": 1, "SEC61B|A1": 2, "SEC61B|B1": 0},
    ... )
    >>> sampler.experiment_by, sampler.condition_by
    (('marker', 'well'), 'perturbation')
    >>> sampler.planned().group_shares.to_dict()
    {('SEC61B', 'A1'): 0.5, ('SEC61B', 'B1'): 0.0, ('TOMM20', 'A1'): 0.25, ('TOMM20', 'B1'): 0.25}
    """
    _check_names(options)
    weights_name, time_by = "group_weights", "hours_post_perturbation"
    earlier = (experiment_aware, experiment_weights, condition_balanced, condition_ratio)
    if any(value is not None for value in earlier):
        _check_one_version(batch_group_by, group_weights, stratify_by)
        batch_group_by = "experiment" if _is_on("experiment_aware", experiment_aware) else None
        stratify_by = "condition" if _is_on("condition_balanced", condition_balanced) else None
        group_weights, weights_name, time_by = experiment_weights, "experiment_weights", "hours_post_infection"
    groups, conditions = _columns("batch_group_by", batch_group_by), _columns("stratify_by", stratify_by)
    if weights_name == "group_weights":
        _check_columns(valid_anchors, batch_group_by=groups, stratify_by=conditions)
    columns_in_use = {} if groups is None else {"experiment_by": groups}
    columns_in_use |= {} if conditions is None else {"condition_by": conditions}
    arguments: dict[str, Any] = {"time_by": time_by} | options | columns_in_use
    return FlexibleBatchSampler(
        valid_anchors,
        batch_size,
        experiment_aware=groups is not None,
        leaky=leaky,
        experiment_weights=_weights(weights_name, group_weights, valid_anchors, groups),
        condition_balanced=conditions is not None,
        condition_ratio=condition_ratio,
        temporal_enrichment=temporal_enrichment,
        temporal_window_hours=temporal_window_hours,
        temporal_global_fraction=temporal_global_fraction,
        num_replicas=num_replicas,
        rank=rank,
        seed=seed,
        drop_last=drop_last,
        **arguments,
    )


def _check_names(options: Mapping[str, Any]) -> None:
    """Raise TypeError if columns are given under our names."""
    for own, name in _OWN_NAMES.items():
        if own in options:
            raise TypeError(
                f"from_viscy must get the columns as {name}, got {own}={options[own]!r}; rename the argument"
            )


def _check_columns(anchors: Anchors | AnchorIndex, **used: str | tuple[str, ...] | None) -> None:
    """Raise ValueError if the table lacks a column, with the names that from_viscy has for the arguments."""
    if isinstance(anchors, AnchorIndex):
        return
    from viscy_data._table.tables import check_table

    present = check_table(anchors).names
    for name, by in used.items():
        for column in (by,) if isinstance(by, str) else by or ():
            if column not in present:
                raise ValueError(
                    f"{name} must name columns of the table, got {column!r}, which it lacks; it has {present}; "
                    f"name others, or switch it off with {name}=[]"
                )


def _check_one_version(batch_group_by: Any, group_weights: Any, stratify_by: Any) -> None:
    """Raise TypeError if arguments of the later version are given in addition to those of the earlier one."""
    if (batch_group_by, group_weights, stratify_by) != (None, None, _STRATIFY_BY):
        raise TypeError(
            f"from_viscy must get the arguments of one version of VisCy, got batch_group_by={batch_group_by!r}, "
            f"group_weights={group_weights!r} and stratify_by={stratify_by!r} in addition to those of the earlier "
            "version; write batch_group_by='experiment' for experiment_aware=True, group_weights for "
            "experiment_weights, and stratify_by='condition' for condition_balanced=True"
        )


def _is_on(name: str, value: object) -> bool:
    return value is None or flag(name, value)


def _columns(name: str, value: Any) -> str | tuple[str, ...] | None:
    """Return the columns of an axis: None if there are none, and one column by its name alone."""
    if value is None or (isinstance(value, Sequence) and not isinstance(value, str) and not value):
        return None
    by = columns(name, value)
    return by[0] if isinstance(by, tuple) and len(by) == 1 else by


def _weights(
    name: str, given: Any, anchors: Anchors | AnchorIndex, by: str | tuple[str, ...] | None
) -> Mapping[Any, float] | str | None:
    """Return the weight of each group of the table; None if there are no weights or no groups."""
    given = weights(name, given, ("proportional", "sqrt", "uniform"))
    if by is None and given is not None:
        _log.warning("%s has no effect: batches are not grouped", name)
        return None
    if by is None or not isinstance(given, Mapping):
        return given
    labels = _labels(anchors, by)
    others = given.get(ALL_OTHERS, 0.0) if ALL_OTHERS not in labels else 0.0
    named = {key: weight for key, weight in given.items() if key != ALL_OTHERS or key in labels}
    by_label = _by_label(name, named, labels)
    left_out = [label for label in labels if label not in by_label]
    if left_out and ALL_OTHERS not in given:
        _log.warning("%s leaves out %s: weight 0, so that they have no batches", name, list_labels(left_out))
    return {label: by_label.get(label, others) for label in labels}


def _labels(anchors: Anchors | AnchorIndex, by: str | tuple[str, ...]) -> Sequence[Any]:
    """Return the labels of the groups, without sorting the table."""
    if isinstance(anchors, AnchorIndex):
        return anchors.groups
    from viscy_data._table.columns import label_codes
    from viscy_data._table.tables import check_table

    return list(label_codes(check_table(anchors), "experiment", by).labels)


def _by_label(name: str, named: Mapping[Any, float], labels: Sequence[Any]) -> dict[Any, float]:
    """Return the weights by label, of keys that are labels or the text of labels."""
    known, by_text = set(labels), {}
    for label in labels:
        by_text.setdefault(_text(label), []).append(label)
    result: dict[Any, float] = {}
    for key, weight in named.items():
        matches = [key] if key in known else by_text.get(key, [])
        if len(matches) > 1:
            raise ValueError(
                f"{name} must name one group with each key, got {key!r}, the text of {list_labels(matches)}; use these "
                "labels as keys"
            )
        if not matches:
            raise ValueError(f"{name} must name groups of the table, got {key!r}; {suggest_label(key, labels)}")
        if matches[0] in result:
            raise ValueError(
                f"{name} must name each group once, got {key!r} for {matches[0]!r}, which another key names; remove one"
            )
        result[matches[0]] = weight
    return result


def _text(label: Any) -> str:
    """Return a label as text, with those of several columns joined by "|"."""
    return "|".join(map(str, label)) if isinstance(label, tuple) else str(label)
