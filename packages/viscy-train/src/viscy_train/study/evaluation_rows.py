"""Evaluation rows: the observations of a case that are embedded and measured after training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable

# Enough for probes and neighbors; more lineages say more than more frames of them.
_MAX_PER_LINEAGE = 8


def evaluation_rows(table: AnchorTable, is_held_out: NDArray[np.bool_], max_rows: int) -> NDArray[np.int64]:
    """Choose anchors to measure: of all conditions of all experiments, trained on and held out.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    is_held_out : numpy.ndarray
        Whether each observation is held out, shape (n_observations,).
    max_rows : int
        About how many rows; one lineage of each condition of each experiment is chosen in any case.

    Returns
    -------
    numpy.ndarray
        Rows of the table, ascending; all anchors if they are few enough. Otherwise, some frames of each lineage that
        follow each other, as recall@1 needs, and as many lineages of each stratum as fit: strata have the same number
        of rows, as far as there are enough. The choice depends on the table only.
    """
    anchors = table.anchors
    if len(anchors) <= max_rows:
        return anchors
    generator = np.random.default_rng(0)
    columns = ["experiment", "position", "lineage_id", "track_id", "t"]
    rows = table.observations[[*columns, "condition"]].iloc[anchors].assign(row=anchors, part=is_held_out[anchors])
    kept = _runs(rows, generator)
    of_lineages = kept.groupby("lineage_id", sort=False)
    lineages = of_lineages[["experiment", "condition", "part"]].first().assign(size=of_lineages.size())
    lineages = lineages.iloc[generator.permutation(len(lineages))]
    strata = lineages.groupby(["experiment", "condition", "part"], observed=True, sort=True)
    before = strata["size"].cumsum() - lineages["size"]
    limit = _limit(strata["size"].sum().to_numpy(), max_rows)
    chosen = lineages.index[before.to_numpy() < limit]
    return np.sort(kept["row"][kept["lineage_id"].isin(chosen)].to_numpy())


def _runs(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Return of each track, or of the longest track of each lineage, some rows that follow each other in time."""
    rows = rows.sort_values(["lineage_id", "track_id", "t"], kind="stable")
    tracks = rows.groupby(["lineage_id", "track_id"], sort=False)
    length = tracks["t"].transform("size").to_numpy()
    is_first = ~rows.duplicated(["lineage_id", "track_id"]).to_numpy()
    # Where the run of a track begins, at random.
    starts = np.floor(generator.random(int(is_first.sum())) * np.maximum(length[is_first] - _MAX_PER_LINEAGE + 1, 1))
    start = starts[np.cumsum(is_first) - 1]
    number = tracks.cumcount().to_numpy()
    is_in_run = (number >= start) & (number < start + _MAX_PER_LINEAGE)
    longest = rows.assign(length=length).groupby("lineage_id", sort=False)["length"].transform("max").to_numpy()
    candidates = rows[is_in_run & (length == longest)]
    first = candidates.groupby("lineage_id", sort=False)["track_id"].transform("first")
    return candidates[candidates["track_id"].to_numpy() == first.to_numpy()]


def _limit(sizes: NDArray[np.int64], total: int) -> float:
    """Return the largest number of rows that each stratum may have so that all together have about so many."""
    left, limit = float(total), 0.0
    for number, size in enumerate(sorted(sizes.tolist())):
        limit = left / (len(sizes) - number)
        if size > limit:
            return limit
        left -= size
    return limit
