"""The options of a sampler, each checked on its own; `_checks` checks them against the table."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np

_MAX_SLOTS = 2**30
_MAX_BATCHES = 2**30
_WEIGHTINGS = ("proportional", "sqrt", "uniform")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerOptions:
    """Options that determine the sequence of batches; the fields are the parameters of `FlexibleBatchSampler`."""

    batch_size: int
    experiment_aware: bool
    leaky: float
    experiment_weights: Mapping[Any, float] | str | None
    condition_balanced: bool
    condition_ratio: Mapping[Any, float] | None
    temporal_enrichment: bool
    temporal_window_hours: float
    temporal_global_fraction: float
    seed: int
    drop_last: bool
    experiment_by: str | tuple[str, ...]
    condition_by: str | tuple[str, ...]
    time_by: str
    anchors_per_condition: int | None = None
    epoch_batches: int | None = None
    distinct_by: str | tuple[str, ...] | None = None
    locality: int = 1
    place_by: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check every option on its own and convert it to a plain type."""
        for name in ("experiment_aware", "condition_balanced", "temporal_enrichment", "drop_last"):
            flag(name, getattr(self, name))
        plain = {
            "batch_size": integer("batch_size", self.batch_size, at_least=1, at_most=_MAX_SLOTS),
            "seed": integer("seed", self.seed, at_least=0),
            "leaky": number("leaky", self.leaky, "in [0, 1)", lambda x: 0 <= x < 1),
            "temporal_window_hours": number(
                "temporal_window_hours", self.temporal_window_hours, "finite and at least 0", lambda x: x >= 0
            ),
            "temporal_global_fraction": number(
                "temporal_global_fraction", self.temporal_global_fraction, "in [0, 1]", lambda x: 0 <= x <= 1
            ),
            "locality": integer("locality", self.locality, at_least=1, at_most=_MAX_SLOTS),
            "experiment_weights": weights("experiment_weights", self.experiment_weights, _WEIGHTINGS),
            "condition_ratio": weights("condition_ratio", self.condition_ratio, ()),
        }
        column("time_by", self.time_by)
        plain["anchors_per_condition"] = optional_integer(
            "anchors_per_condition", self.anchors_per_condition, at_most=plain["batch_size"], limit="batch_size"
        )
        plain["epoch_batches"] = optional_integer("epoch_batches", self.epoch_batches, at_most=_MAX_BATCHES)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def axes(self) -> dict[str, Any]:
        """The columns that batches depend on, by parameter name; None for an axis that is off."""
        return axes_of(**{field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def enriched(self) -> bool:
        """Whether batches have window slots."""
        return is_enriched(self.temporal_enrichment, self.temporal_global_fraction)

    @property
    def is_local(self) -> bool:
        """Whether slots are filled by runs of rows that follow each other in time and place."""
        return self.locality > 1

    def n_batches(self, n_anchors: int) -> int:
        """Return the number of batches in an epoch of a table, on all ranks together."""
        return self.epoch_batches or self._batches_for(n_anchors)

    def n_epochs(self, n_anchors: int) -> int:
        """Return the number of epochs of a round: how many it takes to draw as many slots as the table has rows."""
        return -(-self._batches_for(n_anchors) // self.n_batches(n_anchors))

    def short_slots(self, n_anchors: int) -> int:
        """Return the number of slots of the epoch's short last batch, 0 if there is none."""
        return 0 if self.drop_last or self.epoch_batches else n_anchors % self.batch_size

    def _batches_for(self, n_anchors: int) -> int:
        """Return the number of batches that have as many slots as there are anchors."""
        return n_anchors // self.batch_size + (not self.drop_last and n_anchors % self.batch_size > 0)


def flag(name: str, value: object) -> bool:
    """Return `value` if it is True or False; raise TypeError otherwise."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def integer(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> int:
    """Return `value` as an int; TypeError if it is not an integer, ValueError if it is out of bounds."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")
    value = operator.index(value)
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    if at_most is not None and value > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {value}")
    return value


def optional_integer(name: str, value: Any, *, at_most: int, limit: str | None = None) -> int | None:
    """Return `value` as an int of at least 1, or None; `limit` is the name of the option that is the upper bound."""
    if value is None:
        return None
    value = integer(name, value, at_least=1)
    if value > at_most:
        raise ValueError(f"{name} must be at most {f'{limit}, ' if limit else ''}{at_most}, got {value}")
    return value


def number(name: str, value: Any, rule: str, holds: Any) -> float:
    """Return `value` as a float; TypeError if it is not a number, ValueError unless it is finite and the rule holds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number {rule}, got {value!r} of type {type(value).__name__}")
    try:
        plain = float(value)
    except OverflowError:
        plain = math.inf
    if not (math.isfinite(plain) and holds(plain)):
        raise ValueError(f"{name} must be {rule}, got {value!r}")
    return plain


def is_enriched(temporal_enrichment: bool, temporal_global_fraction: float) -> bool:
    """Return whether batches have window slots: with a global fraction of 1, enrichment changes nothing."""
    return temporal_enrichment and temporal_global_fraction < 1


def axes_of(
    *,
    experiment_aware: bool = True,
    condition_balanced: bool = True,
    temporal_enrichment: bool = False,
    temporal_global_fraction: float = 0.3,
    locality: int = 1,
    experiment_by: Any = "experiment",
    condition_by: Any = "condition",
    time_by: str = "hours_post_infection",
    distinct_by: Any = None,
    place_by: Any = None,
    **_others: Any,
) -> dict[str, Any]:
    """Return the columns that batches of a sampler depend on, which are the arguments of `AnchorIndex.build` for it.

    Parameters
    ----------
    experiment_aware, condition_balanced, temporal_enrichment, temporal_global_fraction, locality
        Options of `FlexibleBatchSampler` that switch axes on.
    experiment_by, condition_by, time_by, distinct_by, place_by
        Its columns.
    _others
        Its other options, which do not change the columns.

    Returns
    -------
    dict
        The columns by parameter name; None for an axis that is off.
    """
    is_timed = is_enriched(temporal_enrichment, temporal_global_fraction) or locality > 1
    return {
        "experiment_by": experiment_by if experiment_aware else None,
        "condition_by": condition_by if condition_balanced else None,
        "time_by": time_by if is_timed else None,
        "distinct_by": distinct_by,
        "place_by": place_by if locality > 1 else None,
    }


def column(name: str, value: Any) -> str:
    """Return the name of a column; raise TypeError if it is not a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be the name of one column, got {value!r}")
    return value


def columns(name: str, value: Any) -> str | tuple[str, ...]:
    """Return the name of a column, or a tuple of the names of several."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not all(isinstance(column, str) for column in value):
        raise TypeError(f"{name} must be the name of a column or a sequence of names, got {value!r}")
    if not value or len(set(value)) < len(value):
        raise ValueError(f"{name} must name at least one column and none twice, got {value!r}")
    return tuple(value)


def weights(name: str, value: Any, keywords: tuple[str, ...]) -> Mapping[Any, float] | str | None:
    """Return weights by key, or one of the keywords that stand for weights; check everything except the keys."""
    if isinstance(value, str) and value in keywords[:1]:
        return None  # the first keyword names the default
    if value is None or (isinstance(value, str) and value in keywords):
        return value
    allowed = " or ".join(["None", *map(repr, keywords), "a mapping from key to weight"])
    if isinstance(value, str):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be {allowed}, got {type(value).__name__}")
    plain = {
        _plain(key): number(f"{name}[{key!r}]", weight, "finite and at least 0", lambda x: x >= 0)
        for key, weight in value.items()
    }
    if not any(plain.values()):
        raise ValueError(f"{name} must give at least one key a weight above 0, got {dict(value)!r}")
    return plain


def _plain(key: Any) -> Any:
    """Return a key as a Python object, as labels are."""
    if isinstance(key, tuple):
        return tuple(map(_plain, key))
    return key.item() if isinstance(key, np.generic) else key
