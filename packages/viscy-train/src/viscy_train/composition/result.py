"""Result: the batches of a dry run, and how often anchors were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.composition.check import TargetCheck
    from viscy_train.config.schema import SamplerConfig


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How often anchors are drawn.

    Parameters
    ----------
    counts : numpy.ndarray
        Of each anchor, draws in the batches that were counted, shape (n_anchors,).
    most : numpy.ndarray
        Of each anchor, most draws in one epoch, shape (n_anchors,).
    epochs : float
        How many epochs the counted batches are, such as 0.25.
    """

    counts: NDArray[np.int64]
    most: NDArray[np.int64]
    epochs: float

    @property
    def is_whole(self) -> bool:
        """Whether whole epochs were counted: only then is it known what is never drawn."""
        return self.epochs >= 1


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What the batches of an epoch hold.

    Parameters
    ----------
    anchors : pandas.DataFrame
        What they were drawn from.
    options : SamplerConfig
        Composition.
    world_size : int
        Processes that share an epoch's batches.
    epochs : int
        How many epochs were drawn.
    batches_of_epoch : int
        On all processes, without those that fill the last step.
    batches : pandas.DataFrame
        Slots of the batches that were looked at: `epoch`, `batch`, `row`; of many batches, some that are spread evenly.
    strata : pandas.DataFrame
        By (experiment, condition): `anchors`, `of_table`, `asked` and `drawn`, shares of the slots; `draws`, how often
        one of its anchors is drawn in an epoch on average; `most`, the most that one is; `never`, how many anchors are
        not drawn, missing where no whole epoch was counted.
    checks : list of TargetCheck
        What was asked of each batch, and what they held.
    draws : Draws
        By anchor.
    distinct_lineages : float
        In a batch, on average.
    lineage_pairs : float
        Pairs of slots of a batch that are of one lineage, on average.
    doubled : float
        Slots of a batch with an anchor that another slot has already, on average.
    seconds_to_begin, seconds_of_batch, seconds_of_slowest : float
        To make the sampler; to compose a batch on average; the longest time between two batches.
    findings : list of str
        What to look at, in words.
    """

    anchors: pd.DataFrame
    options: SamplerConfig
    world_size: int
    epochs: int
    batches_of_epoch: int
    batches: pd.DataFrame
    strata: pd.DataFrame
    checks: list[TargetCheck]
    draws: Draws
    distinct_lineages: float
    lineage_pairs: float
    doubled: float
    seconds_to_begin: float
    seconds_of_batch: float
    seconds_of_slowest: float
    findings: list[str]

    @property
    def steps(self) -> int:
        """Steps of an epoch, on each process."""
        return -(-self.batches_of_epoch // self.world_size)

    @property
    def looked_at(self) -> int:
        """How many batches were looked at one by one."""
        return len(self.batches.drop_duplicates(["epoch", "batch"]))
