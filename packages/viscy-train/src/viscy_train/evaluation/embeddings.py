"""Embeddings: what a trained encoder makes of every anchor, and what can be read off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from viscy_train.evaluation.retrieval import Retrieval, find_again
from viscy_train.loading.crops import CropReader

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.model.encoder import Encoder

_CROPS_AT_ONCE = 256
# At most.
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well the condition can be told from the embeddings of a span of hours.

    Parameters
    ----------
    from_hours, to_hours : float
        The span, both ends included.
    unseen : str
        What the classifier has not seen any cell of where it is asked: ``position``, or ``lineage``.
    chance : float
        Balanced accuracy of a guess.
    untrained, trained : float
        Balanced accuracy, before and after training.
    """

    from_hours: float
    to_hours: float
    unseen: str
    chance: float
    untrained: float
    trained: float


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What an encoder makes of some cells, before and after training.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the cells in the anchor table, shape (n_cells,).
    embeddings : numpy.ndarray
        Theirs after training, shape (n_cells, features).
    found : list of Retrieval
        How often cells are found again by them: those that were kept, if any, else all.
    probes : list of Probe
        How well the condition can be told from them.
    """

    rows: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    found: list[Retrieval]
    probes: list[Probe]


def look_back(
    untrained: Encoder,
    trained: Encoder,
    table: AnchorTable,
    kept: NDArray[np.int64],
    seed: int,
    console: Console,
    at_most: int = 20_000,
) -> Learned:
    """Embed cells with an encoder as it began and as it is, and read off what it has learned.

    Parameters
    ----------
    untrained, trained : Encoder
        On one device.
    table : AnchorTable
        The cells.
    kept : numpy.ndarray
        Rows of those that were kept for validation, shape (n_kept,); may be none.
    seed : int
        Of the probes.
    console : rich.console.Console
        For the progress.
    at_most : int, default 20000
        How many cells; whole positions are left out beyond that.

    Returns
    -------
    Learned
        Of the cells that were embedded.
    """
    rows = rows_to_embed(table, kept, at_most)
    before, after = embed([untrained, trained], table, rows, console)
    cells = table.observations.iloc[rows].reset_index(drop=True)
    new = np.isin(rows, kept)
    return Learned(
        rows=rows,
        embeddings=after,
        found=find_again(before, after, cells, new if new.any() else None),
        probes=probe_conditions(before, after, cells, seed),
    )


def rows_to_embed(table: AnchorTable, kept: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    """Choose anchors to be embedded for a report: those of whole positions, evenly over experiments and conditions.

    Parameters
    ----------
    table : AnchorTable
        The cells.
    kept : numpy.ndarray
        Rows of cells that were kept for validation: their positions come first.
    at_most : int
        How many; one position of each experiment and condition is taken whatever its size.

    Returns
    -------
    numpy.ndarray
        Rows of the table, ascending.
    """
    cells = table.observations.iloc[table.anchors].assign(trained_on=~np.isin(table.anchors, kept))
    sizes = cells.groupby(["experiment", "condition", "trained_on", "position"], observed=True).size()
    turn = sizes.groupby(level=["experiment", "condition"], observed=True).cumcount()
    sizes = sizes.iloc[np.argsort(turn.to_numpy(), kind="stable")]
    fits = (sizes.cumsum() <= at_most) | (np.sort(turn.to_numpy()) == 0)
    chosen = sizes.index[fits].droplevel(["condition", "trained_on"])
    return table.anchors[pd.MultiIndex.from_frame(cells[["experiment", "position"]]).isin(chosen)]


@torch.inference_mode()
def embed(
    encoders: list[Encoder], table: AnchorTable, rows: NDArray[np.int64], console: Console
) -> list[NDArray[np.float32]]:
    """Embed cells, reading each crop once.

    Parameters
    ----------
    encoders : list of Encoder
        One or more, all on one device.
    table : AnchorTable
        The cells.
    rows : numpy.ndarray
        Which, shape (n_rows,).
    console : rich.console.Console
        For the progress.

    Returns
    -------
    list of numpy.ndarray
        For each encoder, shape (n_rows, features).
    """
    reader = CropReader(table)
    device = next(encoders[0].parameters()).device
    found: list[list[NDArray[np.float32]]] = [[] for _ in encoders]
    starts = range(0, len(rows), _CROPS_AT_ONCE)
    for start in track(starts, "  embedding", console=console, transient=True, disable=not console.is_terminal):
        crops = torch.from_numpy(reader.read(rows[start : start + _CROPS_AT_ONCE])).to(device)
        for encoder, parts in zip(encoders, found, strict=True):
            parts.append(encoder.eval()(crops).float().cpu().numpy())
    return [np.concatenate(parts) for parts in found]


def probe_conditions(
    untrained: NDArray[np.float32], trained: NDArray[np.float32], anchors: pd.DataFrame, seed: int
) -> list[Probe]:
    """Tell the condition of each cell from its embedding, in the first and the last third of the hours.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings, shape (n_anchors, features).
    anchors : pandas.DataFrame
        The anchor table.
    seed : int
        Of the split.

    Returns
    -------
    list of Probe
        Early and late; without those spans in which some condition has too few lineages.

    Notes
    -----
    Cells of one position look alike for reasons of their own, such as light and focus. Where each condition has two
    positions or more, the cells of a position are therefore told by a classifier that was fitted to others.
    """
    hours = anchors["hours_post_infection"].to_numpy()
    first, second = hours.min() + np.ptp(hours) / 3, hours.max() - np.ptp(hours) / 3
    probes = []
    for low, high in ((hours.min(), first), (second, hours.max())):
        span = (hours >= low) & (hours <= high)
        condition = anchors["condition"].astype(str).to_numpy()[span]
        unseen, groups, n_folds = _groups(anchors[span], condition)
        if n_folds:
            scores = [_accuracy(found[span], condition, groups, n_folds, seed) for found in (untrained, trained)]
            chance = 1 / len(np.unique(condition))
            probes.append(
                Probe(
                    from_hours=low,
                    to_hours=high,
                    unseen=unseen,
                    chance=chance,
                    untrained=scores[0],
                    trained=scores[1],
                )
            )
    return probes


def _groups(anchors: pd.DataFrame, condition: NDArray) -> tuple[str, NDArray[np.int64], int]:
    """Return what cells are split by, its number for each cell, and into how many folds; 0 where there are too few."""
    for unseen, columns, fewest in (("position", ["experiment", "position"], 2), ("lineage", ["lineage_id"], _FOLDS)):
        groups = anchors.groupby(columns, observed=True).ngroup().to_numpy()
        names = np.unique(condition)
        n_folds = min(_FOLDS, *(len(np.unique(groups[condition == name])) for name in names))
        if len(names) > 1 and n_folds >= fewest:
            return unseen, groups, n_folds
    return "", np.empty(0, dtype=np.int64), 0


def _accuracy(
    found: NDArray[np.float32], condition: NDArray, groups: NDArray[np.int64], n_folds: int, seed: int
) -> float:
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    told = cross_val_predict(classifier, found, condition, groups=groups, cv=folds)
    return float(balanced_accuracy_score(condition, told))
