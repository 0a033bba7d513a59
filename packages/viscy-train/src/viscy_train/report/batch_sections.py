"""Batch sections: what a run's page and a dry run's page both show of the composition of batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.composition.check import conditions_are_chosen, number_batches, own_experiments, shares_of_batches
from viscy_train.composition.targets import batch_targets
from viscy_train.composition.temporal import find_temporal_windows
from viscy_train.loading.axes import HOURS, axis_names
from viscy_train.report.batch_plots import MAX_BATCHES_WITH_TARGETS, plot_batches
from viscy_train.report.formatting import percent, thousands
from viscy_train.report.html import svg_uri

if TYPE_CHECKING:
    import pandas as pd

    from viscy_data import PlannedComposition

MAX_BATCHES_SHOWN = 300
_MAX_TIMES = 80
MAX_ROWS_OF_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class BatchesFigure:
    """The figure of the composition of each batch, and what its caption must explain.

    Parameters
    ----------
    figure : str
        Data URI.
    n_batches, n_shown : int
        Number of batches, and number of those shown.
    shows_targets, shows_windows : bool
        Whether targets and temporal windows are marked.
    """

    figure: str
    n_batches: int
    n_shown: int
    shows_targets: bool
    shows_windows: bool


def make_batches_figure(
    batches: pd.DataFrame, anchors: pd.DataFrame, planned: PlannedComposition, time: str = HOURS
) -> BatchesFigure:
    """Plot the composition of each batch, or of an evenly spaced subset if there are many.

    Parameters
    ----------
    batches, anchors, planned
        See `viscy_train.composition.check.check_targets`.
    time : str
        What the times of the anchors are called.

    Returns
    -------
    BatchesFigure
        Shows at most `MAX_BATCHES_SHOWN` batches.
    """
    shown, n_batches, n_shown = _thin(batches)
    experiments = shares_of_batches(shown, anchors, "experiment")
    conditions = shares_of_batches(shown, anchors, "condition")
    hours = shares_of_batches(shown, anchors, "hours_post_infection").sort_index(axis=1)
    is_enriched = planned.options["temporal_enrichment"]
    of_strata = batch_targets(anchors, planned).loc[own_experiments(shown, anchors, planned)]
    targets = {
        axis: of_strata.T.groupby(level=axis, sort=False).sum().T[columns]
        for axis, columns in (("experiment", experiments.columns), ("condition", conditions.columns))
    }
    if conditions_are_chosen(targets["condition"], planned):
        targets["condition"] = targets["condition"].iloc[:, :0]
    figure = plot_batches(
        experiments=experiments,
        conditions=conditions,
        hours=_on_even_hours(hours),
        targets=targets,
        focal_hours=find_temporal_windows(shown, anchors, planned)["hours"] if is_enriched else None,
        half_width=planned.options["temporal_window_hours"],
        titles=_titles(planned, f"Times: {time}" if time in anchors else f"{time[0].upper()}{time[1:]}"),
        anchors=anchors,
    )
    return BatchesFigure(
        figure=svg_uri(figure),
        n_batches=n_batches,
        n_shown=n_shown,
        shows_targets=n_shown <= MAX_BATCHES_WITH_TARGETS,
        shows_windows=is_enriched,
    )


def _titles(planned: PlannedComposition, time: str) -> tuple[str, str, str]:
    """Return the titles of the panels: groups and conditions with their columns unless those are the default, times."""
    group, condition = axis_names(planned.options)
    return (
        "Experiments" if group == "experiment" else f"Groups: {group}",
        "Conditions" if condition == "condition" else f"Conditions: {condition}",
        time,
    )


def composition_rows(targets: pd.DataFrame, observed: pd.Series, *more: list[str]) -> list[list[Any]]:
    """Format a composition as the rows of a table.

    Parameters
    ----------
    targets : pandas.DataFrame
        From `viscy_train.composition.targets.target_composition`.
    observed : pandas.Series
        Observed share of the slots by (experiment, condition); NaN if it is unknown.
    *more : list of str
        Formatted values of further columns, in the order of `targets`.

    Returns
    -------
    list of list
        Experiment, condition, anchors, share of the table, target, observed and the further columns. Of more than 1,000
        rows, the first ones, and their number in a last row.
    """
    n_more = len(targets) - MAX_ROWS_OF_PAGE
    targets = targets.iloc[:MAX_ROWS_OF_PAGE]
    rows: list[list[Any]] = [
        [
            experiment,
            condition,
            thousands(row["anchors"]),
            percent(row["table_share"], 1),
            percent(row["target"], 1),
            "unknown" if np.isnan(share) else percent(share, 1),
            *values,
        ]
        for (experiment, condition), row, share, *values in zip(
            targets.index,
            targets.to_dict("records"),
            observed.reindex(targets.index),
            *(column[:MAX_ROWS_OF_PAGE] for column in more),
            strict=True,
        )
    ]
    return [*rows, [f"and {n_more:,} more", *[""] * (5 + len(more))]] if n_more > 0 else rows


def _thin(batches: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Return the slots of at most `MAX_BATCHES_SHOWN` batches, the number of batches and the number of those kept."""
    number, index = number_batches(batches)
    n_batches = len(index)
    if n_batches <= MAX_BATCHES_SHOWN:
        return batches, n_batches, n_batches
    kept = np.unique(np.linspace(0, n_batches - 1, MAX_BATCHES_SHOWN).round().astype(np.int64))
    return batches[np.isin(number, kept)], n_batches, len(kept)


def _on_even_hours(hours: pd.DataFrame) -> pd.DataFrame:
    """Sum shares on evenly spaced hours, as an image requires."""
    times = hours.columns.to_numpy(dtype=float)
    gaps = np.diff(times)
    step = float(np.median(gaps)) if len(gaps) else 1.0
    n_bins = min(round((times[-1] - times[0]) / step) + 1, _MAX_TIMES)
    even = np.linspace(times[0], times[-1], n_bins)
    nearest = np.abs(times[:, None] - even).argmin(axis=1)
    return hours.T.groupby(even[nearest]).sum().reindex(even, fill_value=0.0).T
