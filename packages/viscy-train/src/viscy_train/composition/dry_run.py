"""DryRun: an epoch's batches, drawn before anything is trained, and what they hold."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition.diagnostics import diagnose
from viscy_train.composition.result import Draws, DryRun
from viscy_train.composition.targets import encode, target_composition
from viscy_train.composition.temporal import check_all_targets
from viscy_train.loading.sampler import collect_sampler_warnings, make_sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data import FlexibleBatchSampler
    from viscy_train.config.schema import SamplerConfig

# Counting draws is much cheaper than looking at a batch.
_COUNTED_PER_LOOKED_AT = 20
_BATCHES_AT_ONCE = 1000


def run_dry(
    anchors: pd.DataFrame,
    options: SamplerConfig,
    *,
    seed: int,
    world_size: int = 1,
    epochs: int = 1,
    most_batches: int = 2000,
) -> DryRun:
    """Draw the batches of an epoch, as training would, and look at them.

    Parameters
    ----------
    anchors : pandas.DataFrame
        What is trained on, with a RangeIndex: experiment, condition, hours_post_infection, lineage_id.
    options : SamplerConfig
        Composition.
    seed : int
        Of the run.
    world_size : int, default 1
        Processes of the run.
    epochs : int, default 1
        How many epochs to draw.
    most_batches : int, default 2000
        Batches to look at one by one, spread evenly; draws are counted in twenty times as many.

    Returns
    -------
    DryRun
        Of these batches.

    Raises
    ------
    UserError
        If the sampler refuses the options or the table.
    """
    began = time.perf_counter()
    with collect_sampler_warnings() as told:
        sampler = make_sampler(anchors, options, seed, 0, 1, as_arrays=True)
    seconds_to_begin = time.perf_counter() - began
    total = len(sampler)
    counted = min(total * epochs, _COUNTED_PER_LOOKED_AT * most_batches)
    looked_at = np.unique(np.linspace(0, max(counted - 1, 0), min(counted, most_batches)).round().astype(np.int64))
    draws, batches, seconds = _draw(sampler, len(anchors), total, counted, looked_at)
    lineage = _lineages(batches, anchors)
    inspection = DryRun(
        anchors=anchors,
        options=options,
        world_size=world_size,
        epochs=epochs,
        batches_of_epoch=total,
        batches=batches,
        strata=_strata(anchors, options, draws),
        checks=check_all_targets(batches, anchors, options) if counted else [],
        draws=draws,
        distinct_lineages=lineage[0],
        lineage_pairs=lineage[1],
        doubled=_doubled(batches, len(anchors)),
        seconds_to_begin=seconds_to_begin,
        seconds_of_batch=float(seconds.mean()) if counted else 0.0,
        seconds_of_slowest=float(seconds.max()) if counted else 0.0,
        findings=[],
    )
    inspection.findings.extend([*told, *diagnose(inspection)])
    return inspection


def _draw(
    sampler: FlexibleBatchSampler, n_anchors: int, total: int, counted: int, looked_at: NDArray[np.int64]
) -> tuple[Draws, pd.DataFrame, NDArray[np.float64]]:
    """Draw batches as a loader does; return draws, the slots of some, and the seconds that each took."""
    counts, most = np.zeros(n_anchors, dtype=np.int64), np.zeros(n_anchors, dtype=np.int64)
    kept: list[tuple[int, int, NDArray[np.int64]]] = []
    seconds: list[float] = []
    wanted = deque(looked_at.tolist())
    for start in range(0, counted, total):
        epoch = start // total
        sampler.set_epoch(epoch)
        of_epoch, waiting = np.zeros(n_anchors, dtype=np.int64), []
        before = time.perf_counter()
        for number, rows in zip(range(min(total, counted - start)), sampler, strict=False):
            seconds.append(time.perf_counter() - before)
            waiting.append(rows)
            if wanted and wanted[0] == start + number:
                kept.append((epoch, number, np.array(rows)))
                wanted.popleft()
            if len(waiting) == _BATCHES_AT_ONCE:
                of_epoch += np.bincount(np.concatenate(waiting), minlength=n_anchors)
                waiting = []
            before = time.perf_counter()
        if waiting:
            of_epoch += np.bincount(np.concatenate(waiting), minlength=n_anchors)
        counts, most = counts + of_epoch, np.maximum(most, of_epoch)
    slots = [len(rows) for _, _, rows in kept]
    batches = pd.DataFrame(
        {
            "epoch": np.repeat([epoch for epoch, _, _ in kept], slots),
            "batch": np.repeat([number for _, number, _ in kept], slots),
            "row": np.concatenate([rows for _, _, rows in kept] or [np.zeros(0, dtype=np.int64)]),
        }
    )
    return Draws(counts=counts, most=most, epochs=counted / max(total, 1)), batches, np.array(seconds)


def _strata(anchors: pd.DataFrame, options: SamplerConfig, draws: Draws) -> pd.DataFrame:
    experiment, experiments = encode(anchors["experiment"])
    condition, conditions = encode(anchors["condition"])
    cell = experiment * len(conditions) + condition
    planned = target_composition(anchors, options)
    place = [experiments.index(one) * len(conditions) + conditions.index(other) for one, other in planned.index]
    n_cells = len(experiments) * len(conditions)
    counted = np.bincount(cell, weights=draws.counts, minlength=n_cells)[place]
    most = np.zeros(n_cells, dtype=np.int64)
    np.maximum.at(most, cell, draws.most)
    never = np.bincount(cell, weights=draws.counts == 0, minlength=n_cells)[place]
    return planned.assign(
        drawn=counted / max(counted.sum(), 1),
        draws=counted / planned["anchors"] / max(draws.epochs, 1e-12),
        most=most[place],
        never=never if draws.is_whole else np.nan,
    )


def _lineages(batches: pd.DataFrame, anchors: pd.DataFrame) -> tuple[float, float]:
    """Return how many lineages a batch has and how many pairs of slots are of one, on average."""
    lineage = encode(anchors["lineage_id"])[0][batches["row"].to_numpy()]
    batch = batches.groupby(["epoch", "batch"]).ngroup().to_numpy(dtype=np.int64)
    if not len(batch):
        return 0.0, 0.0
    times = np.unique(batch * (int(lineage.max()) + 1) + lineage, return_counts=True)[1]
    n_batches = int(batch.max()) + 1
    return len(times) / n_batches, float((times * (times - 1) // 2).sum()) / n_batches


def _doubled(batches: pd.DataFrame, n_anchors: int) -> float:
    batch = batches.groupby(["epoch", "batch"]).ngroup().to_numpy(dtype=np.int64)
    if not len(batch):
        return 0.0
    distinct = len(np.unique(batch * n_anchors + batches["row"].to_numpy()))
    return (len(batch) - distinct) / (int(batch.max()) + 1)
