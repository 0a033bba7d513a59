"""Temporal window: the range of hours around the focal time of each batch, estimated from its composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition.check import TargetCheck, check_targets, number_batches, own_experiments
from viscy_train.composition.targets import encode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from viscy_data import PlannedComposition

# A time exactly half a window away from the focal time is inside, despite rounding errors of floating-point numbers.
_TOLERANCE = 1e-9


def check_all_targets(batches: pd.DataFrame, anchors: pd.DataFrame, planned: PlannedComposition) -> list[TargetCheck]:
    """Compare batches with all of their targets, including that of the temporal window.

    Parameters
    ----------
    batches, anchors, planned
        See `viscy_train.composition.check.check_targets`.

    Returns
    -------
    list of TargetCheck
        At least one for each axis of the sampler that is on.
    """
    checks = check_targets(batches, anchors, planned)
    if planned.options["temporal_enrichment"]:
        checks.append(check_temporal_target(find_temporal_windows(batches, anchors, planned)))
    return checks


def find_temporal_windows(batches: pd.DataFrame, anchors: pd.DataFrame, planned: PlannedComposition) -> pd.DataFrame:
    """Estimate the focal time of each batch: the time whose window contains most slots of the batch's own experiment.

    Parameters
    ----------
    batches : pandas.DataFrame
        A row for each slot: `epoch`, `batch` and `row`, the row number in `anchors`.
    anchors : pandas.DataFrame
        The sampler's table.
    planned : viscy_data.PlannedComposition
        The plan of a sampler with temporal enrichment.

    Returns
    -------
    pandas.DataFrame
        By (epoch, batch): `hours`, the focal time; `observed`, the share of the own experiment's slots in the window;
        `target`, the expected share; `guaranteed`, the share below which the batch is off target.
    """
    own = own_experiments(batches, anchors, planned)
    number, index = number_batches(batches)
    experiment, experiments = encode(anchors["experiment"])
    is_aware, is_balanced = planned.options["experiment_aware"], planned.options["condition_balanced"]
    condition = encode(anchors["condition"])[0] if is_balanced else np.zeros(len(anchors), dtype=np.int64)
    hours, rows = anchors["hours_post_infection"].to_numpy(dtype=float), batches["row"].to_numpy()
    windows = pd.DataFrame(index=index, columns=["hours", "observed", "target", "guaranteed"], dtype=float)
    for group in own.unique():
        is_own = own.to_numpy() == group
        member = experiment == experiments.index(group) if is_aware else np.full(len(anchors), True)
        slots = is_own[number] & member[rows]
        batch = (np.cumsum(is_own) - 1)[number[slots]]
        windows[is_own] = _windows_of_group(
            hours[member], condition[member], batch, hours[rows[slots]], condition[rows[slots]], planned.options
        )
    return windows


def check_temporal_target(windows: pd.DataFrame) -> TargetCheck:
    """Summarize temporal windows.

    Parameters
    ----------
    windows : pandas.DataFrame
        From `find_temporal_windows`.

    Returns
    -------
    TargetCheck
        For the share of the own experiment's slots that are in the window.
    """
    return TargetCheck(
        name="own slots in temporal window",
        target=float(windows["target"].mean()),
        observed=float(windows["observed"].mean()),
        lowest=float(windows["observed"].min()),
        highest=float(windows["observed"].max()),
        off_target=float((windows["observed"] < windows["guaranteed"] - _TOLERANCE).mean()),
    )


def _windows_of_group(
    hours: NDArray[np.float64],
    condition: NDArray[np.int64],
    slot_batch: NDArray[np.int64],
    slot_hours: NDArray[np.float64],
    slot_condition: NDArray[np.int64],
    options: Mapping[str, Any],
) -> NDArray[np.float64]:
    """Return the columns of `find_temporal_windows` for the batches of one group, shape (n_batches, 4).

    The parameters are hours and condition of each anchor of the group; then batch, hours and condition of each slot.
    """
    times, time = np.unique(hours, return_inverse=True)
    reach = options["temporal_window_hours"] + _TOLERANCE
    first, last = np.searchsorted(times, times - reach), np.searchsorted(times, times + reach)
    n_batches, n_conditions = int(slot_batch.max()) + 1, int(condition.max()) + 1
    slots = _count_pairs(slot_batch, np.searchsorted(times, slot_hours), n_batches, len(times))
    inside = _sum_windows(slots, first, last)
    focal = _middle_maximum(inside)
    in_window = _sum_windows(_count_pairs(condition, time, n_conditions, len(times)), first, last)[:, focal].T
    # Enrichment acts within each condition of a batch.
    parts = _count_pairs(slot_batch, slot_condition, n_batches, n_conditions)
    n_slots = parts.sum(axis=1, keepdims=True)
    global_fraction = options["temporal_global_fraction"]
    window_fraction = in_window / np.maximum(np.bincount(condition, minlength=n_conditions), 1)
    target = parts / n_slots * ((1 - global_fraction) + global_fraction * window_fraction)
    guaranteed = np.floor(parts * (1 - global_fraction) + _TOLERANCE) / n_slots
    # A condition without an anchor in the window is drawn from all times.
    has_anchors = in_window > 0
    observed = inside[np.arange(n_batches), focal] / n_slots[:, 0]
    return np.stack(
        [times[focal], observed, (target * has_anchors).sum(axis=1), (guaranteed * has_anchors).sum(axis=1)], axis=1
    )


def share_in_window(hours: NDArray[np.float64], half_width: float) -> float:
    """Return the fraction of anchors within the temporal window, averaged over all focal times.

    Parameters
    ----------
    hours : numpy.ndarray
        Time of each anchor in hours, shape (n_anchors,).
    half_width : float
        Half-width of the window in hours.
    """
    times, counts = np.unique(hours, return_counts=True)
    reach = half_width + _TOLERANCE
    first, last = np.searchsorted(times, times - reach), np.searchsorted(times, times + reach)
    return float(_sum_windows(counts[None], first, last).mean() / len(hours))


def _count_pairs(row: NDArray[np.int64], column: NDArray[np.int64], n_rows: int, n_columns: int) -> NDArray[np.int64]:
    """Return how often each pair occurs, shape (n_rows, n_columns)."""
    return np.bincount(row * n_columns + column, minlength=n_rows * n_columns).reshape(n_rows, n_columns)


def _sum_windows(counts: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum counts, shape (n, n_times), over the window around each time; the result has the same shape."""
    before = np.concatenate([np.zeros((len(counts), 1), dtype=np.int64), counts.cumsum(axis=1)], axis=1)
    return before[:, last] - before[:, first]


def _middle_maximum(inside: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the column of the maximum of each row, the middle one if there are several; shape (n_rows,)."""
    best = inside == inside.max(axis=1, keepdims=True)
    return (best.cumsum(axis=1) == best.sum(axis=1, keepdims=True) // 2 + 1).argmax(axis=1)
