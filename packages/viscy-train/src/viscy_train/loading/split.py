"""Split: which anchors are trained on, and which are kept for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import SplitConfig


def split_anchors(table: AnchorTable, split: SplitConfig, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the anchors by experiment or by position, so that no lineage is in both parts.

    Parameters
    ----------
    table : AnchorTable
        The cells.
    split : SplitConfig
        By what, and how much.
    seed : int
        Of the choice of positions.

    Returns
    -------
    train, validation : numpy.ndarray
        Rows of the table, ascending.

    Raises
    ------
    UserError
        If an experiment is named that is not there, or nothing is left for training.
    """
    anchors = table.anchors
    if split.by == "experiment":
        kept = _of_experiments(table, split)
    elif split.by == "position":
        kept = _of_positions(table, split, seed)
    else:
        kept = np.zeros(len(table.observations), dtype=bool)
    train, validation = anchors[~kept[anchors]], anchors[kept[anchors]]
    if not len(train):
        raise UserError("data.split must leave anchors for training, it keeps all of them for validation")
    return train, validation


def _of_experiments(table: AnchorTable, split: SplitConfig) -> NDArray[np.bool_]:
    names = [experiment.name for experiment in table.experiments]
    for name in split.experiments:
        if name not in names:
            raise UserError(f"data.split.experiments must name experiments, got {name!r}; there are {', '.join(names)}")
    return table.observations["experiment"].isin(split.experiments).to_numpy()


def _of_positions(table: AnchorTable, split: SplitConfig, seed: int) -> NDArray[np.bool_]:
    """Keep some positions of each condition of each experiment, and always leave one to train on."""
    cells = table.observations.iloc[table.anchors]
    positions = cells[["experiment", "condition", "position"]].drop_duplicates()
    generator = np.random.default_rng(seed)
    kept = []
    for _, group in positions.groupby(["experiment", "condition"], observed=True, sort=False):
        n_kept = min(round(split.fraction * len(group)), len(group) - 1)
        kept += list(group.iloc[generator.permutation(len(group))[:n_kept]].index)
    code = table.observations.groupby(["experiment", "position"], observed=True, sort=False).ngroup().to_numpy()
    return np.isin(code, code[kept])
