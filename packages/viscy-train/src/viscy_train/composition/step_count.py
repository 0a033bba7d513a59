"""Step count: the composition of steps, counted in drawn batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.composition.step import StepComposition, share_of_others
from viscy_train.composition.targets import encode

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.composition.step import StepSettings


def count_step(
    slots: pd.DataFrame, anchors: pd.DataFrame, compared: NDArray[np.int64], settings: StepSettings, batch_size: int
) -> StepComposition:
    """Count what the anchors of drawn batches are compared with.

    Parameters
    ----------
    slots : pandas.DataFrame
        A row for each slot, at least one: `batch_key`, a number of its batch, and `row`, the row number in `anchors`.
    anchors : pandas.DataFrame
        The sampler's table.
    compared : numpy.ndarray
        Number of the set of anchors that the loss compares a slot with, shape (n_slots,).
    settings : StepSettings
        The processes and the loss.
    batch_size : int
        Slots of a batch.

    Returns
    -------
    StepComposition
        Observed shares.
    """
    rows, batch = slots["row"].to_numpy(), slots["batch_key"].to_numpy()
    codes = {name: encode(anchors[name])[0][rows] for name in ("experiment", "condition", "lineage_id")}
    without = _count_without_positive(compared, codes) if settings.positives == "condition" else 0.0
    return StepComposition(
        settings=settings,
        batch_size=batch_size,
        from_others=share_of_others(*_count_pairs(compared, codes, settings.positives)),
        from_others_in_batch=share_of_others(*_count_pairs(batch, codes, settings.positives)),
        without_positive=without,
        without_negative=_count_without_negative(compared, codes, settings.positives),
    )


@dataclass(frozen=True, kw_only=True)
class BatchContent:
    """What drawn batches contain, as means over the batches.

    Parameters
    ----------
    conditions, conditions_with_several : float
        Number of conditions of a batch, and of those with two anchors or more.
    shared_lineage : float
        Share of the anchors whose lineage another slot of the batch has, too.
    most_of_a_lineage : int
        Largest number of anchors of one lineage in a batch.
    """

    conditions: float
    conditions_with_several: float
    shared_lineage: float
    most_of_a_lineage: int


def count_content(slots: pd.DataFrame, anchors: pd.DataFrame) -> BatchContent:
    """Count conditions and lineages in drawn batches; the parameters are those of `count_step`."""
    rows, batch = slots["row"].to_numpy(), slots["batch_key"].to_numpy()
    n_batches = len(np.unique(batch))
    of_conditions = np.bincount(_combine(batch, encode(anchors["condition"])[0][rows]))
    of_lineages = _sizes(batch, encode(anchors["lineage_id"])[0][rows])
    return BatchContent(
        conditions=len(of_conditions) / n_batches,
        conditions_with_several=float((of_conditions > 1).sum()) / n_batches,
        shared_lineage=float((of_lineages > 1).mean()),
        most_of_a_lineage=int(of_lineages.max()),
    )


def number_compared(slots: pd.DataFrame, settings: StepSettings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of the batch of each recorded slot, and that of the set that the loss compares it with.

    Parameters
    ----------
    slots : pandas.DataFrame
        A row for each slot: `step`, `epoch`, `batch` and `rank`, sorted by epoch and batch.
    settings : StepSettings
        The processes and the loss. The number of processes is that of each recorded step.

    Returns
    -------
    batch, compared : numpy.ndarray
        Numbers from 0, each of shape (n_slots,).
    """
    batch = slots.groupby(["step", "epoch", "batch"]).ngroup().to_numpy()
    if settings.split_batches or settings.negatives == "batch":
        return batch, batch
    # A step that accumulates gradients compares the first batches of all processes, then the second ones, and so on.
    lines = slots[["step", "rank", "epoch", "batch"]]
    first = ~lines.duplicated().to_numpy()
    turn = lines[first].groupby(["step", "rank"]).cumcount().to_numpy()
    of_line = lines.groupby(["step", "rank", "epoch", "batch"]).ngroup().to_numpy()
    turn_of_line = np.zeros(len(turn), dtype=np.int64)
    turn_of_line[of_line[first]] = turn
    return batch, slots.assign(turn=turn_of_line[of_line]).groupby(["step", "turn"]).ngroup().to_numpy()


def _count_pairs(compared: NDArray[np.int64], codes: dict[str, NDArray[np.int64]], positives: str) -> tuple[int, int]:
    """Return the ordered pairs of an anchor and a negative, and those of them from one experiment."""
    total, same = _count_alike(compared), _count_alike(compared, codes["experiment"])
    if positives == "pair":
        return total, same
    label = codes["condition" if positives == "condition" else "lineage_id"]
    return total - _count_alike(compared, label), same - _count_alike(compared, codes["experiment"], label)


def _count_without_positive(compared: NDArray[np.int64], codes: dict[str, NDArray[np.int64]]) -> float:
    """Return the share of the slots whose set has no slot of the same condition and another lineage."""
    of_condition = _sizes(compared, codes["condition"])
    return float((of_condition == _sizes(compared, codes["condition"], codes["lineage_id"])).mean())


def _count_without_negative(compared: NDArray[np.int64], codes: dict[str, NDArray[np.int64]], positives: str) -> float:
    """Return the share of the slots whose set has only slots with their label."""
    if positives == "pair":
        return float((_sizes(compared) == 1).mean())
    label = codes["condition" if positives == "condition" else "lineage_id"]
    return float((_sizes(compared) == _sizes(compared, label)).mean())


def _sizes(*codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each slot how many slots have the same codes."""
    number = _combine(*codes)
    return np.bincount(number)[number]


def _count_alike(*codes: NDArray[np.int64]) -> int:
    """Return the number of ordered pairs of slots that have the same codes."""
    sizes = np.bincount(_combine(*codes))
    return int((sizes * (sizes - 1)).sum())


def _combine(*codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number from 0 for each combination of codes that occurs."""
    number = np.unique(codes[0], return_inverse=True)[1].astype(np.int64)
    for one in codes[1:]:
        number = np.unique(number * (int(one.max(initial=0)) + 1) + one, return_inverse=True)[1].astype(np.int64)
    return number
