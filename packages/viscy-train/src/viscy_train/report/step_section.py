"""Step section: what a run's page, a dry run's page and the terminal show of the composition of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.report.formatting import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.composition.step import StepComposition
    from viscy_train.composition.step_count import BatchContent

_MAX_EPOCHS = 12


def step_rows(planned: StepComposition, observed: StepComposition, content: BatchContent) -> list[list[str]]:
    """Format the composition of a step as the rows of a table.

    Parameters
    ----------
    planned, observed : StepComposition
        As expected, and as counted.
    content : BatchContent
        Conditions and lineages of batches.

    Returns
    -------
    list of list of str
        What was counted, the planned value, which may be empty, and the observed one.
    """
    rows = [[f"negatives from other {planned.group}s", *_percents(planned.from_others, observed.from_others)]]
    if planned.settings.n_compared > 1:
        in_batch = _percents(planned.from_others_in_batch, observed.from_others_in_batch)
        rows.append(["the same with each anchor's own batch only", *in_batch])
    if planned.settings.positives == "condition":
        without = _percents(planned.without_positive, observed.without_positive)
        rows.append(["anchors without another cell of their condition", *without])
        alike = _percents(planned.without_negative, observed.without_negative)
        rows.append(["anchors without an anchor of another condition", *alike])
    return [
        *rows,
        ["conditions in a batch", "", f"{content.conditions:.1f}"],
        ["conditions with two anchors or more", "", f"{content.conditions_with_several:.1f}"],
        ["anchors whose lineage is in the batch again", "", percent(content.shared_lineage, 1)],
        ["most anchors of one lineage in a batch", "", f"{content.most_of_a_lineage}"],
    ]


def coverage_rows(shares: Sequence[float], n_batches: Sequence[int] = (), planned: int = 0) -> list[list[str]]:
    """Format the share of the anchors drawn at least once after each epoch, or after some epochs if there are many.

    Parameters
    ----------
    shares : sequence of float
        The shares.
    n_batches : sequence of int, optional
        Number of batches of each epoch; by default, all have those planned.
    planned : int, optional
        Number of batches of a complete epoch.

    Returns
    -------
    list of list of str
        Epoch, with the number of batches if it has fewer than planned, and share.
    """
    last = len(shares) - 1
    shown = np.unique(np.linspace(0, last, min(len(shares), _MAX_EPOCHS)).round().astype(int)) if shares else []
    return [[_name_epoch(int(epoch), n_batches, planned), percent(shares[epoch], 1)] for epoch in shown]


def _name_epoch(epoch: int, n_batches: Sequence[int], planned: int) -> str:
    is_complete = epoch >= len(n_batches) or n_batches[epoch] >= planned
    return f"{epoch + 1}" + ("" if is_complete else f" ({n_batches[epoch]:,} of {planned:,} batches)")


def _percents(*shares: float) -> list[str]:
    return [percent(share, 1) for share in shares]
