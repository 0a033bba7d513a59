"""Dry run: the batches of an epoch, drawn and examined before training."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition.check import number_batches
from viscy_train.composition.result import DrawCounts, DryRun
from viscy_train.composition.step import StepSettings
from viscy_train.composition.step_count import count_content, count_step
from viscy_train.composition.step_plan import plan_step
from viscy_train.composition.targets import encode, target_composition
from viscy_train.composition.temporal import check_all_targets
from viscy_train.config.schema import LossConfig
from viscy_train.loading.axes import add_labels, check_axes, label_plan
from viscy_train.loading.sampler import collect_sampler_warnings, make_sampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from viscy_data import ComposedBatches, PlannedComposition
    from viscy_train.composition.frames import FrameCounts
    from viscy_train.config.schema import SamplerConfig

# Counting draws is much cheaper than examining a batch.
_COUNTED_PER_EXAMINED = 20
_BATCHES_PER_BINCOUNT = 1000


def dry_run(
    anchors: pd.DataFrame,
    options: SamplerConfig,
    *,
    seed: int,
    loss: LossConfig | None = None,
    world_size: int = 1,
    epochs: int = 1,
    max_batches: int = 2000,
    labeled: pd.DataFrame | None = None,
    count_frames: Callable[[pd.DataFrame], FrameCounts | None] | None = None,
) -> DryRun:
    """Draw the batches of an epoch exactly as training would, and examine them.

    Parameters
    ----------
    anchors : pandas.DataFrame
        The anchors to train on, with a RangeIndex: lineage_id, and the columns that the options name.
    options : SamplerConfig
        Target composition of the batches.
    seed : int
        Seed of the run.
    loss : LossConfig, optional
        The loss, by default with its default settings.
    world_size : int, default 1
        Number of processes of the run.
    epochs : int, default 1
        Number of epochs to draw.
    max_batches : int, default 2000
        Maximum number of batches to examine, those of evenly spaced steps; draws are counted in up to twenty times as
        many. At least one step is examined.
    labeled : pandas.DataFrame, optional
        The anchors with the labels of `viscy_train.loading.axes.add_labels`, if their lineages are not those of the
        loss.
    count_frames : callable, optional
        Function of the slots of batches that counts their frames; see `viscy_train.composition.frames.count_frames`,
        of which the rows are those of all observations.

    Returns
    -------
    DryRun
        The composition of the batches, as numbers; `viscy_train.composition.diagnostics.diagnose` puts problems into
        words.

    Raises
    ------
    UserError
        If the sampler rejects the options or the table, or the processes cannot share a batch.
    """
    start = time.perf_counter()
    with collect_sampler_warnings() as warnings:
        sampler = make_sampler(anchors, options, seed, 0, 1, as_arrays=True)
        if options.split_batches:
            make_sampler(anchors, options, seed, 0, world_size)
    seconds_to_start = time.perf_counter() - start
    check_axes(anchors, options, positives=(loss or LossConfig()).positives)
    planned, anchors = label_plan(sampler.planned()), add_labels(anchors, options) if labeled is None else labeled
    n_counted = min(planned.n_batches * epochs, _COUNTED_PER_EXAMINED * max_batches)
    settings = StepSettings.from_config(
        loss or LossConfig(), split_batches=options.split_batches, world_size=world_size
    )
    examined = _choose_batches(planned.n_batches, n_counted, settings.n_compared, max_batches)
    draws, batches, seconds = _draw(sampler, len(anchors), planned.n_batches, n_counted, examined)
    distinct_lineages, lineage_pairs = _count_lineages(batches, anchors)
    complete, size = _number_complete_steps(batches, settings.n_compared), planned.options["batch_size"]
    return DryRun(
        anchors=anchors,
        planned=planned,
        world_size=world_size,
        epochs=epochs,
        batches=batches,
        strata=_summarize_strata(anchors, planned, draws),
        checks=check_all_targets(batches, anchors, planned) if n_counted else [],
        draws=draws,
        planned_step=plan_step(anchors, planned, settings),
        step=count_step(complete, anchors, complete["batch_key"].to_numpy() // settings.n_compared, settings, size),
        content=count_content(batches.assign(batch_key=number_batches(batches)[0]), anchors),
        distinct_lineages=distinct_lineages,
        lineage_pairs=lineage_pairs,
        duplicate_slots=_count_duplicate_slots(batches, len(anchors)),
        frames=None if count_frames is None else count_frames(batches),
        seconds_to_start=seconds_to_start,
        seconds_per_batch=float(seconds.mean()) if n_counted else 0.0,
        seconds_of_slowest_batch=float(seconds.max()) if n_counted else 0.0,
        sampler_warnings=tuple(warnings),
    )


def _choose_batches(n_batches: int, n_counted: int, n_in_step: int, max_batches: int) -> NDArray[np.int64]:
    """Return the numbers of the batches to examine, ascending, counted over all epochs: those of some steps."""
    n_in_step = min(n_in_step, n_batches)
    first_of_epoch = np.arange(0, n_counted, n_batches)[:, None]
    first = (first_of_epoch + np.arange(0, n_batches, n_in_step)).ravel()
    first = first[first < n_counted]
    n_chosen = min(len(first), max(1, max_batches // n_in_step))
    chosen = first[np.unique(np.linspace(0, len(first) - 1, n_chosen).round().astype(np.int64))]
    number = (chosen[:, None] + np.arange(n_in_step)).ravel()
    is_in_epoch = number // n_batches == np.repeat(chosen // n_batches, n_in_step)
    return number[is_in_epoch & (number < n_counted)]


def _number_complete_steps(batches: pd.DataFrame, n_in_step: int) -> pd.DataFrame:
    """Return the slots of the complete steps, or of all batches if there are none, with consecutive `batch_key`s."""
    number, index = number_batches(batches)
    step = index.get_level_values("batch").to_numpy() // n_in_step
    n_found = pd.Series(1, index=[index.get_level_values("epoch"), step]).groupby(level=[0, 1]).transform("sum")
    is_complete = n_found.to_numpy() == n_in_step
    if not is_complete.any():
        return batches.assign(batch_key=number)
    key = np.cumsum(is_complete) - 1
    return batches.assign(batch_key=key[number])[is_complete[number]]


def _draw(
    sampler: ComposedBatches, n_anchors: int, n_batches: int, n_counted: int, examined: NDArray[np.int64]
) -> tuple[DrawCounts, pd.DataFrame, NDArray[np.float64]]:
    """Draw batches as a loader does; return the draws, the slots of the examined batches, and seconds per batch."""
    total, most = np.zeros(n_anchors, dtype=np.int64), np.zeros(n_anchors, dtype=np.int64)
    kept: list[tuple[int, int, NDArray[np.int64]]] = []
    seconds: list[float] = []
    drawn: list[int] = []
    to_examine = deque(examined.tolist())
    for first in range(0, n_counted, n_batches):
        epoch = first // n_batches
        sampler.set_epoch(epoch)
        draws_of_epoch, uncounted = np.zeros(n_anchors, dtype=np.int64), []
        start = time.perf_counter()
        for number, rows in zip(range(min(n_batches, n_counted - first)), sampler, strict=False):
            seconds.append(time.perf_counter() - start)
            uncounted.append(rows)
            if to_examine and to_examine[0] == first + number:
                kept.append((epoch, number, np.array(rows)))
                to_examine.popleft()
            if len(uncounted) == _BATCHES_PER_BINCOUNT:
                draws_of_epoch += np.bincount(np.concatenate(uncounted), minlength=n_anchors)
                uncounted = []
            start = time.perf_counter()
        if uncounted:
            draws_of_epoch += np.bincount(np.concatenate(uncounted), minlength=n_anchors)
        total, most = total + draws_of_epoch, np.maximum(most, draws_of_epoch)
        drawn.append(int((total > 0).sum()))
    slots = [len(rows) for _, _, rows in kept]
    batches = pd.DataFrame(
        {
            "epoch": np.repeat([epoch for epoch, _, _ in kept], slots),
            "batch": np.repeat([number for _, number, _ in kept], slots),
            "row": np.concatenate([rows for _, _, rows in kept] or [np.zeros(0, dtype=np.int64)]),
        }
    )
    counts = DrawCounts(total=total, most=most, epochs=n_counted / max(n_batches, 1), drawn=tuple(drawn))
    return counts, batches, np.array(seconds)


def _summarize_strata(anchors: pd.DataFrame, planned: PlannedComposition, draws: DrawCounts) -> pd.DataFrame:
    """Return target, observed share and draws by (experiment, condition); the columns are described in `DryRun`."""
    experiment, experiments = encode(anchors["experiment"])
    condition, conditions = encode(anchors["condition"])
    stratum = experiment * len(conditions) + condition
    n_strata = len(experiments) * len(conditions)
    targets = target_composition(anchors, planned)
    present = [experiments.index(one) * len(conditions) + conditions.index(other) for one, other in targets.index]
    total = np.bincount(stratum, weights=draws.total, minlength=n_strata)[present]
    most = np.zeros(n_strata, dtype=np.int64)
    np.maximum.at(most, stratum, draws.most)
    never = np.bincount(stratum, weights=draws.total == 0, minlength=n_strata)[present]
    # A rare stratum that a part of an epoch has drawn by chance is not as frequent in all of it.
    slots = planned.n_batches * planned.options["batch_size"]
    of_an_epoch = total / draws.epochs if draws.covers_an_epoch else targets["target"] * slots
    return targets.assign(
        observed=total / max(total.sum(), 1),
        draws=of_an_epoch / targets["anchors"],
        most=most[present],
        never=never if draws.covers_an_epoch else np.nan,
    )


def _count_lineages(batches: pd.DataFrame, anchors: pd.DataFrame) -> tuple[float, float]:
    """Return how many lineages a batch has and how many pairs of its slots share one, averaged over the batches."""
    lineage = encode(anchors["lineage_id"])[0][batches["row"].to_numpy()]
    batch = batches.groupby(["epoch", "batch"]).ngroup().to_numpy(dtype=np.int64)
    if not len(batch):
        return 0.0, 0.0
    slots = np.unique(batch * (int(lineage.max()) + 1) + lineage, return_counts=True)[1]
    n_batches = int(batch.max()) + 1
    return len(slots) / n_batches, float((slots * (slots - 1) // 2).sum()) / n_batches


def _count_duplicate_slots(batches: pd.DataFrame, n_anchors: int) -> float:
    """Return how many slots of a batch have an anchor that another slot already has, averaged over the batches."""
    batch = batches.groupby(["epoch", "batch"]).ngroup().to_numpy(dtype=np.int64)
    if not len(batch):
        return 0.0
    distinct = len(np.unique(batch * n_anchors + batches["row"].to_numpy()))
    return (len(batch) - distinct) / (int(batch.max()) + 1)
