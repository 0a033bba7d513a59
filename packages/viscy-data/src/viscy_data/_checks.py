"""What must hold of a table, and of the options against it, before the first batch; and what is worth a warning."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Sampler

from viscy_data._options import integer
from viscy_data._table.tables import table_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.quotas import Quotas
    from viscy_data._options import SamplerOptions
    from viscy_data._table.tables import Table
    from viscy_data.index import AnchorIndex

MAX_ANCHORS = 2**30
_log = logging.getLogger("viscy_data.sampler")


def check_table(anchors: object) -> Table:
    """Return anchors as a table; TypeError if they are none, ValueError unless their number can be indexed."""
    if isinstance(anchors, Sampler):
        raise TypeError(
            f"valid_anchors must be a table, got the sampler {type(anchors).__name__}: Lightning has rebuilt this "
            "batch sampler around its own; set Trainer(use_distributed_sampler=False), FlexibleBatchSampler deals "
            "the batches to the ranks by itself"
        )
    table = table_of(anchors)
    if table.n_rows == 0:
        raise ValueError("valid_anchors must have at least one row, got an empty table")
    if table.n_rows > MAX_ANCHORS:
        raise ValueError(f"valid_anchors must have at most {MAX_ANCHORS} rows, got {table.n_rows}; split the table")
    return table


def check_fit(index: AnchorIndex, options: SamplerOptions) -> None:
    """Raise ValueError unless the index is of the columns that the options name and has rows for a batch."""
    for name, wanted in options.axes.items():
        if getattr(index, name) != wanted:
            raise ValueError(
                f"the index must be of the columns that the sampler's options use, got one with "
                f"{name}={getattr(index, name)!r}, while the options ask for {name}={wanted!r}; build another with "
                f"AnchorIndex.build(anchors, {', '.join(f'{key}={value!r}' for key, value in options.axes.items())})"
            )
    if options.batch_size > len(index) and options.drop_last:
        raise ValueError(
            f"batch_size must be at most the number of anchors with drop_last=True, got {options.batch_size} for "
            f"{len(index)} anchors (an epoch of no batch); take a smaller batch or drop_last=False"
        )


def ranks(rank: Any, num_replicas: Any) -> tuple[int, int] | None:
    """Return rank and number of replicas as given, None where neither is; raise where they are off."""
    if rank is None and num_replicas is None:
        return None
    if rank is None or num_replicas is None:
        raise ValueError(
            f"num_replicas and rank must be given together or not at all, got num_replicas={num_replicas}, rank={rank}"
        )
    num_replicas = integer("num_replicas", num_replicas, at_least=1, at_most=2**48)
    rank = integer("rank", rank, at_least=0)
    if rank >= num_replicas:
        raise ValueError(f"rank must be in [0, num_replicas), got {rank} of {num_replicas}")
    return rank, num_replicas


def weight_of_each(name: str, given: Mapping[Any, float], labels: Collection[Any]) -> NDArray[np.float64]:
    """Return the weight of each label, shape (n_labels,); ValueError where the keys are not the labels."""
    known = set(labels)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(repr(key), list(map(repr, labels)), n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"{name} must name labels of the table, got {key!r}; {hint}There are {_some(labels)}")
    left_out = [label for label in labels if label not in given]
    if left_out:
        raise ValueError(
            f"{name} must name every label of the table, {_some(left_out)} left out; give a weight of 0 to exclude one "
            "on purpose"
        )
    return np.array([given[label] for label in labels], np.float64)


def check_groups_can_be_drawn(index: AnchorIndex, share: NDArray[np.float64], ratio: NDArray[np.float64]) -> None:
    """Raise ValueError where a group that is to be drawn has anchors only of conditions that are excluded."""
    rows = index.cell_size @ (ratio > 0)
    unfit = [index.groups[g] for g in np.flatnonzero((share > 0) & (rows == 0))]
    if unfit:
        raise ValueError(
            f"condition_ratio must leave every group anchors to draw, got none for {_some(unfit)}; give such a group "
            "weight 0 in experiment_weights, or one of its conditions a ratio above 0"
        )


def warn_of_options_without_effect(options: SamplerOptions) -> None:
    """Log a warning for every option that was set but belongs to an axis that is off."""
    if not options.experiment_aware and options.experiment_weights is not None:
        _log.warning("experiment_weights has no effect: experiment_aware=False")
    if not options.experiment_aware and options.leaky > 0:
        _log.warning("leaky=%g has no effect: experiment_aware=False; batches are full without a leak", options.leaky)
    if not options.condition_balanced and options.condition_ratio is not None:
        _log.warning("condition_ratio has no effect: condition_balanced=False")
    if options.temporal_enrichment and not options.enriched:
        _log.warning("temporal_enrichment has no effect: temporal_global_fraction=1")


def warn_of_shortages(index: AnchorIndex, options: SamplerOptions, quotas: Quotas) -> None:
    """Log a warning where no leak is possible, and one where pools are smaller than the slots they fill."""
    drawn = quotas.group_share > 0
    without_leak = int((drawn & (quotas.leaky == 0)).sum())
    if options.experiment_aware and options.leaky > 0 and without_leak:
        _log.warning(
            "leaky=%g has no effect for %d of %d groups: there is no other group to leak from; their batches are full "
            "without a leak",
            options.leaky,
            without_leak,
            int(drawn.sum()),
        )
    primary = np.ceil(quotas.primary_slots(options.batch_size) - 1e-9)
    leak = np.ceil(quotas.leak_slots(options.batch_size) - 1e-9)
    short = drawn & ((primary > index.cell_size) | (leak > quotas.leak_pool)).any(axis=1)
    if short.any():
        _log.warning(
            "%d of %d groups have fewer anchors than they need for a batch of %d: sampling with replacement fills the "
            "batch (first: %s)",
            int(short.sum()),
            int(drawn.sum()),
            options.batch_size,
            _some([index.groups[g] for g in np.flatnonzero(short)]),
        )


def _some(labels: Collection[Any]) -> str:
    shown = ", ".join(map(repr, list(labels)[:10]))
    return f"{shown} and {len(labels) - 10} more" if len(labels) > 10 else shown
