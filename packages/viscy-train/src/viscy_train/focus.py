"""Focus: where in time the batches of a temporally enriched run concentrate, found from the batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.composition import WHOLE_TABLE, Promise, own_experiments

if TYPE_CHECKING:
    from viscy_train.config import SamplerConfig

# Times that differ by exactly the window's half-width lie inside, whatever their binary fractions.
_TOLERANCE = 1e-9


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
    rows = dict(iter(batches.groupby(["epoch", "batch"])["row"]))
    found = [_focus_of_batch(anchors.iloc[rows[key]], anchors, group, options) for key, group in own.items()]
    return pd.DataFrame(found, index=own.index, columns=["hours", "drawn", "asked", "least"])


def focus_promise(focus: pd.DataFrame) -> Promise:
    """Sum up what `find_focus` found.

    Parameters
    ----------
    focus : pandas.DataFrame
        Its result.

    Returns
    -------
    Promise
        Of the shares within the window.
    """
    return Promise(
        what="of the own experiment's part, within the focal window",
        asked=float(focus["asked"].mean()),
        drawn=float(focus["drawn"].mean()),
        lowest=float(focus["drawn"].min()),
        highest=float(focus["drawn"].max()),
        kept=bool((focus["drawn"] >= focus["least"] - _TOLERANCE).all()),
    )


def _focus_of_batch(
    batch: pd.DataFrame, anchors: pd.DataFrame, group: str, options: SamplerConfig
) -> tuple[float, float, float, float]:
    if group != WHOLE_TABLE:
        batch, anchors = batch[batch["experiment"] == group], anchors[anchors["experiment"] == group]
    reach = options.temporal_window_hours + _TOLERANCE
    times = np.sort(anchors["hours_post_infection"].unique())
    drawn_times = np.sort(batch["hours_post_infection"].to_numpy())
    inside = np.searchsorted(drawn_times, times + reach) - np.searchsorted(drawn_times, times - reach)
    best = np.flatnonzero(inside == inside.max())
    focal = float(times[best[len(best) // 2]])
    in_window = anchors["hours_post_infection"].sub(focal).abs() <= reach
    local = 1 - options.temporal_global_fraction
    asked = least = 0.0
    for name, share in _strata(batch, options).items():
        there = in_window if name is None else in_window[anchors["condition"] == name]
        if there.any():
            asked += share * (local + options.temporal_global_fraction * there.mean())
            least += np.floor(share * len(batch) * local + _TOLERANCE) / len(batch)
    return focal, inside.max() / len(batch), asked, least


def _strata(batch: pd.DataFrame, options: SamplerConfig) -> dict[str | None, float]:
    """Return the parts of a batch that are each enriched by themselves, and their shares."""
    if not options.condition_balanced:
        return {None: 1.0}
    return batch["condition"].value_counts(normalize=True).to_dict()
