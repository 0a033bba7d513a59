"""Focus: where in time the batches of a temporally enriched run concentrate, found from the batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition.check import TargetCheck, check_targets, numbered, own_experiments
from viscy_train.composition.targets import WHOLE_TABLE, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import SamplerConfig

# Times that differ by exactly the window's half-width lie inside, whatever their binary fractions.
SLOT_TOLERANCE = 1e-9


def check_all_targets(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig) -> list[TargetCheck]:
    """Return what was asked of batches and what they held, the focal window included.

    Parameters
    ----------
    batches, anchors, options
        As in `viscy_train.composition.check.check_targets`.

    Returns
    -------
    list of TargetCheck
        For each axis that is on.
    """
    made = check_targets(batches, anchors, options)
    if is_enriched(options):
        made.append(check_temporal_target(find_focus(batches, anchors, options)))
    return made


def is_enriched(options: SamplerConfig) -> bool:
    """Whether batches have a focal window."""
    return options.temporal_enrichment and options.temporal_global_fraction < 1


def find_focus(batches: pd.DataFrame, anchors: pd.DataFrame, options: SamplerConfig) -> pd.DataFrame:
    """Find the focal time of each batch: that with most of the batch's own experiment around it.

    Parameters
    ----------
    batches : pandas.DataFrame
        A row for each slot: `epoch`, `batch`, `row` of the anchor table.
    anchors : pandas.DataFrame
        The anchor table.
    options : SamplerConfig
        Composition.

    Returns
    -------
    pandas.DataFrame
        By (epoch, batch): `hours`, the focal time; `drawn`, the share of the own experiment's slots in the window;
        `asked`, the share to be expected there; `least`, the share that must be there.
    """
    own = own_experiments(batches, anchors, options)
    number, index = numbered(batches)
    experiment, experiments = encode(anchors["experiment"])
    condition = (
        encode(anchors["condition"])[0] if options.condition_balanced else np.zeros(len(anchors), dtype=np.int64)
    )
    hours, rows = anchors["hours_post_infection"].to_numpy(dtype=float), batches["row"].to_numpy()
    found = pd.DataFrame(index=index, columns=["hours", "drawn", "asked", "least"], dtype=float)
    for group in own.unique():
        is_own = own.to_numpy() == group
        member = np.full(len(anchors), True) if group == WHOLE_TABLE else experiment == experiments.index(group)
        slots = is_own[number] & member[rows]
        place = (np.cumsum(is_own) - 1)[number[slots]]
        found[is_own] = _focus_of_group(
            hours[member], condition[member], place, hours[rows[slots]], condition[rows[slots]], options
        )
    return found


def check_temporal_target(focus: pd.DataFrame) -> TargetCheck:
    """Sum up what `find_focus` found.

    Parameters
    ----------
    focus : pandas.DataFrame
        Its result.

    Returns
    -------
    TargetCheck
        Of the shares within the window.
    """
    return TargetCheck(
        what="of the own experiment's part, within the focal window",
        asked=float(focus["asked"].mean()),
        drawn=float(focus["drawn"].mean()),
        lowest=float(focus["drawn"].min()),
        highest=float(focus["drawn"].max()),
        off=float((focus["drawn"] < focus["least"] - SLOT_TOLERANCE).mean()),
    )


def _focus_of_group(
    hours: NDArray[np.float64],
    condition: NDArray[np.int64],
    batch: NDArray[np.int64],
    drawn_hours: NDArray[np.float64],
    drawn_condition: NDArray[np.int64],
    options: SamplerConfig,
) -> NDArray[np.float64]:
    """Return focal hour, drawn, asked and least share of each batch of an experiment, shape (n_batches, 4).

    Parameters are hours and condition of the experiment's anchors; then batch, hours and condition of each slot.
    """
    times, time = np.unique(hours, return_inverse=True)
    reach = options.temporal_window_hours + SLOT_TOLERANCE
    first, last = np.searchsorted(times, times - reach), np.searchsorted(times, times + reach)
    n_batches, n_conditions = int(batch.max()) + 1, int(condition.max()) + 1
    slots = _counted(batch, np.searchsorted(times, drawn_hours), n_batches, len(times))
    inside = _in_windows(slots, first, last)
    focal = _middle_of_best(inside)
    in_window = _in_windows(_counted(condition, time, n_conditions, len(times)), first, last)[:, focal].T
    # The parts of a batch that are each enriched by themselves: its conditions.
    parts = _counted(batch, drawn_condition, n_batches, n_conditions)
    n_slots = parts.sum(axis=1, keepdims=True)
    local = 1 - options.temporal_global_fraction
    covered = in_window / np.maximum(np.bincount(condition, minlength=n_conditions), 1)
    asked = parts / n_slots * (local + options.temporal_global_fraction * covered)
    least = np.floor(parts * local + SLOT_TOLERANCE) / n_slots
    there = in_window > 0
    drawn = inside[np.arange(n_batches), focal] / n_slots[:, 0]
    return np.stack([times[focal], drawn, (asked * there).sum(axis=1), (least * there).sum(axis=1)], axis=1)


def share_in_window(hours: NDArray[np.float64], window: float) -> float:
    """Return the share of anchors within the window, the mean over the focal times.

    Parameters
    ----------
    hours : numpy.ndarray
        Of the anchors, shape (n_anchors,).
    window : float
        Half-width, in hours.
    """
    times, counts = np.unique(hours, return_counts=True)
    reach = window + SLOT_TOLERANCE
    first, last = np.searchsorted(times, times - reach), np.searchsorted(times, times + reach)
    return float(_in_windows(counts[None], first, last).mean() / len(hours))


def _counted(row: NDArray[np.int64], column: NDArray[np.int64], n_rows: int, n_columns: int) -> NDArray[np.int64]:
    """Return how often each pair comes, shape (n_rows, n_columns)."""
    return np.bincount(row * n_columns + column, minlength=n_rows * n_columns).reshape(n_rows, n_columns)


def _in_windows(counts: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum up counts, shape (n, n_times), over a window around each time; the same shape."""
    before = np.concatenate([np.zeros((len(counts), 1), dtype=np.int64), counts.cumsum(axis=1)], axis=1)
    return before[:, last] - before[:, first]


def _middle_of_best(inside: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each row is largest, of several such places the one in the middle; shape (n_rows,)."""
    best = inside == inside.max(axis=1, keepdims=True)
    return (best.cumsum(axis=1) == best.sum(axis=1, keepdims=True) // 2 + 1).argmax(axis=1)
