"""Result: what a dry run found about the batches of an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_data import PlannedComposition
    from viscy_train.composition.check import TargetCheck
    from viscy_train.composition.frames import FrameCounts
    from viscy_train.composition.step import StepComposition
    from viscy_train.composition.step_count import BatchContent


@dataclass(frozen=True, kw_only=True)
class DrawCounts:
    """How often each anchor was drawn.

    Parameters
    ----------
    total : numpy.ndarray
        Draws of each anchor in all counted batches, shape (n_anchors,).
    most : numpy.ndarray
        Draws of each anchor in the epoch that drew it most often, shape (n_anchors,).
    epochs : float
        Number of epochs that were counted, for example 0.25.
    drawn : tuple of int
        Number of anchors that were drawn at least once, after each of these epochs.
    """

    total: NDArray[np.int64]
    most: NDArray[np.int64]
    epochs: float
    drawn: tuple[int, ...]

    @property
    def covers_an_epoch(self) -> bool:
        """Whether at least one epoch was counted; otherwise it is unknown which anchors are never drawn."""
        return self.epochs >= 1


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The batches that training would use, drawn without training.

    Parameters
    ----------
    anchors : pandas.DataFrame
        The sampler's table, with the labels of `viscy_train.loading.axes.add_labels`.
    planned : viscy_data.PlannedComposition
        The sampler's plan and options.
    world_size : int
        Number of processes of the run.
    epochs : int
        Number of epochs requested.
    batches : pandas.DataFrame
        Slots of the examined batches: `epoch`, `batch` and `row`. If there are many batches, an evenly spaced subset
        was examined.
    strata : pandas.DataFrame
        By (experiment, condition): `anchors`, `table_share` and `target`, see
        `viscy_train.composition.targets.target_composition`; `observed`, the observed share of the slots; `draws`, the
        mean number of draws of an anchor per epoch, that of the target if less than an epoch was counted; `most`, the
        number of draws in one epoch of the anchor drawn most often; `never`, the number of anchors never drawn, missing
        if less than an epoch was counted.
    checks : list of TargetCheck
        Observed composition of the examined batches against the targets.
    draws : DrawCounts
        Draws of each anchor.
    planned_step, step : StepComposition
        What the loss of a step compares an anchor with, as expected and as counted in the examined batches.
    content : BatchContent
        Conditions and lineages of the examined batches.
    distinct_lineages : float
        Lineages in a batch, on average.
    lineage_pairs : float
        Pairs of slots of a batch that belong to the same lineage, on average.
    duplicate_slots : float
        Slots of a batch whose anchor another slot already has, on average.
    frames : FrameCounts or None
        Frames of a batch; None if it is not known how positives are chosen.
    seconds_to_start, seconds_per_batch, seconds_of_slowest_batch : float
        Time to create the sampler; mean and maximum time to compose a batch.
    sampler_warnings : tuple of str
        Warnings that the sampler logged at construction.
    """

    anchors: pd.DataFrame
    planned: PlannedComposition
    world_size: int
    epochs: int
    batches: pd.DataFrame
    strata: pd.DataFrame
    checks: list[TargetCheck]
    draws: DrawCounts
    planned_step: StepComposition
    step: StepComposition
    content: BatchContent
    distinct_lineages: float
    lineage_pairs: float
    duplicate_slots: float
    frames: FrameCounts | None
    seconds_to_start: float
    seconds_per_batch: float
    seconds_of_slowest_batch: float
    sampler_warnings: tuple[str, ...]

    @property
    def batch_size(self) -> int:
        """Slots of a batch."""
        return self.planned.options["batch_size"]

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch on all processes, without those that fill up its last step."""
        return self.planned.n_batches

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch on each process."""
        return -(-self.batches_per_epoch // self.planned_step.settings.n_batches)

    @property
    def epochs_per_round(self) -> int:
        """Epochs that have together as many batches as the table fills: 1 unless epochs are short."""
        return max(1, -(-(len(self.anchors) // self.batch_size) // max(self.batches_per_epoch, 1)))

    @property
    def coverage(self) -> list[float]:
        """Share of the anchors drawn at least once after each counted epoch, among those that batches may contain."""
        n_included = self.strata.loc[self.strata["target"] > 0, "anchors"].sum()
        return [count / n_included for count in self.draws.drawn]

    @property
    def batches_of_epochs(self) -> list[int]:
        """Number of batches of each counted epoch in which draws were counted."""
        n_counted, n = round(self.draws.epochs * self.batches_per_epoch), self.batches_per_epoch
        return [min(n, n_counted - first) for first in range(0, n_counted, max(n, 1))]

    @property
    def n_examined(self) -> int:
        """Number of examined batches."""
        return len(self.batches.drop_duplicates(["epoch", "batch"]))
