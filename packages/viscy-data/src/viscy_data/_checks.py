"""Checks of the options against the table: errors before the first batch, and warnings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.quotas import list_labels

if TYPE_CHECKING:
    from viscy_data._compose.quotas import Quotas
    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex

_log = logging.getLogger("viscy_data.sampler")


def check_fit(index: AnchorIndex, options: SamplerOptions) -> None:
    """Raise ValueError unless the index has the columns that the options name and enough rows for a batch."""
    for name, wanted in options.axes.items():
        if getattr(index, name) != wanted:
            later = {"distinct_by": None, "place_by": None}
            named = {key: value for key, value in options.axes.items() if (key, value) not in later.items()}
            raise ValueError(
                f"the index must have the columns that the sampler's options use, got an index with "
                f"{name}={getattr(index, name)!r}, but the options need {name}={wanted!r}; build another one with "
                f"AnchorIndex.build(anchors, {', '.join(f'{key}={value!r}' for key, value in named.items())})"
            )
    if options.batch_size > len(index) and options.epoch_batches is not None:
        raise ValueError(
            f"batch_size must be at most the number of anchors with epoch_batches, got {options.batch_size} for "
            f"{len(index)} anchors, so that a round would have no full batch; reduce batch_size"
        )
    if options.batch_size > len(index) and options.drop_last:
        raise ValueError(
            f"batch_size must be at most the number of anchors with drop_last=True, got {options.batch_size} for "
            f"{len(index)} anchors, so that an epoch would have no batch; reduce batch_size or set drop_last=False"
        )


def warn_of_options_without_effect(options: SamplerOptions) -> None:
    """Log a warning for every option that is set but belongs to an axis that is off."""
    if not options.experiment_aware and options.experiment_weights is not None:
        _log.warning("experiment_weights has no effect: experiment_aware=False")
    if not options.experiment_aware and options.leaky > 0:
        _log.warning("leaky=%g has no effect: experiment_aware=False; batches are full without a leak", options.leaky)
    if not options.condition_balanced and options.condition_ratio is not None:
        _log.warning("condition_ratio has no effect: condition_balanced=False")
    if not options.condition_balanced and options.anchors_per_condition is not None:
        _log.warning("anchors_per_condition has no effect: condition_balanced=False")
    if options.temporal_enrichment and not options.enriched:
        _log.warning("temporal_enrichment has no effect: temporal_global_fraction=1")
    if not options.is_local and options.place_by is not None:
        _log.warning("place_by has no effect: locality=1")


def warn_of_changed_shares(index: AnchorIndex, options: SamplerOptions, quotas: Quotas) -> None:
    """Log a warning if a condition cannot have its share because all others must have several anchors."""
    if quotas.choice is None or options.condition_ratio is None:
        return
    present = index.stratum_size > 0
    wanted = quotas.ratio * present
    wanted /= np.maximum(wanted.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    held = quotas.total_shares()
    has_batches = (quotas.group_share > 0)[:, None]
    group, condition = np.nonzero(has_batches & (np.abs(held - wanted) > 0.01 * wanted))
    if group.size:
        worst = np.argmax(np.abs(held - wanted)[group, condition])
        at = group[worst], condition[worst]
        _log.warning(
            "condition_ratio cannot be kept with anchors_per_condition=%d and batch_size=%d: condition %r is due %.3g "
            "of the slots of a batch and gets %.3g (group %r); lower anchors_per_condition or raise batch_size",
            options.anchors_per_condition,
            options.batch_size,
            index.conditions[at[1]],
            wanted[at],
            held[at],
            index.groups[at[0]],
        )


def warn_of_shortages(index: AnchorIndex, options: SamplerOptions, quotas: Quotas) -> None:
    """Log a warning if nothing can leak, and others if pools have fewer anchors or values than slots to fill."""
    has_batches = quotas.group_share > 0
    without_leak = int((has_batches & (quotas.leaky == 0)).sum())
    if options.experiment_aware and options.leaky > 0 and without_leak:
        _log.warning(
            "leaky=%g has no effect for %d of %d groups: no other group has anchors that may leak; their batches are "
            "full without a leak",
            options.leaky,
            without_leak,
            int(has_batches.sum()),
        )
    primary = np.ceil(quotas.most_primary_slots(options.batch_size) - 1e-9)
    leak = np.ceil(quotas.most_leak_slots(options.batch_size) - 1e-9)
    short = has_batches & ((primary > index.stratum_size) | (leak > quotas.leak_pool)).any(axis=1)
    if short.any():
        _log.warning(
            "%d of %d groups have fewer anchors than they need for a batch of %d: sampling with replacement fills the "
            "batch (first: %s)",
            int(short.sum()),
            int(has_batches.sum()),
            options.batch_size,
            list_labels([index.groups[g] for g in np.flatnonzero(short)]),
        )
    if index.values is not None:
        few = has_batches & (primary > index.values.values_of_stratum).any(axis=1)
        few |= has_batches & (index.values.n_values < options.batch_size)
        if few.any():
            _log.warning(
                "%d of %d groups have fewer values of distinct_by=%r than they need for a batch of %d: batches repeat "
                "values (first: %s)",
                int(few.sum()),
                int(has_batches.sum()),
                options.distinct_by,
                options.batch_size,
                list_labels([index.groups[g] for g in np.flatnonzero(few)]),
            )
