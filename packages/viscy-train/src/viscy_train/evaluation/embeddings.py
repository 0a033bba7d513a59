"""Embeddings: the output of an encoder for many anchors, before and after training, and what it reveals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from viscy_train.console import track
from viscy_train.evaluation.neighbors import NeighborShare, measure_neighbors
from viscy_train.evaluation.probes import Accuracy, ColumnProbe, measure_accuracies, probe_columns
from viscy_train.evaluation.retrieval import Recall, recall_at_1
from viscy_train.evaluation.smoothness import Smoothness, measure_smoothness
from viscy_train.loading.crops import CropReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.evaluation.chance import Chance
    from viscy_train.model.encoder import Encoder

_CROPS_PER_BATCH = 256
_MAX_FOLDS, _FEW_UNITS = 5, 3


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A linear probe: how well a linear classifier predicts the condition from the embeddings of a range of hours.

    Parameters
    ----------
    from_hours, to_hours : float
        The range, both ends included.
    held_out : str
        The unit of cross-validation, ``position`` or ``lineage``: the classifier is tested on units that it was not
        fitted to.
    n_units, n_fewest : int
        Number of these units, and number of those of the condition that has the fewest.
    chance : float
        Balanced accuracy of a random guess.
    untrained, trained : Accuracy
        Balanced accuracy before and after training. The error is that of a bootstrap over the units.
    n_anchors : int
        Number of anchors.
    permuted : Chance, optional
        Balanced accuracy after training if conditions are permuted among the units.
    """

    from_hours: float
    to_hours: float
    held_out: str
    n_units: int
    n_fewest: int
    chance: float
    untrained: Accuracy
    trained: Accuracy
    n_anchors: int = 0
    permuted: Chance | None = None

    @property
    def is_conclusive(self) -> bool:
        """Whether each condition has at least three units: with two, a classifier is fitted to one of each only."""
        return self.n_fewest >= _FEW_UNITS


@dataclass(frozen=True, kw_only=True)
class EncoderEvaluation:
    """The embeddings of some anchors and what they reveal, before and after training.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of the anchors in the anchor table, shape (n_rows,).
    embeddings : numpy.ndarray
        Their embeddings after training, shape (n_rows, features).
    recall : list of Recall
        Recall@1. The queries are the held-out anchors if there are any, otherwise all anchors.
    probes : list of Probe
        Linear probes of the condition.
    column_probes : list of ColumnProbe
        Linear probes of the condition and of other columns, at all hours.
    neighbors : list of NeighborShare
        What nearest neighbors share with their anchors. Queries are those of recall@1.
    smoothness : Smoothness, optional
        How far tracks move from frame to frame.
    """

    rows: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    recall: list[Recall]
    probes: list[Probe]
    column_probes: list[ColumnProbe] = field(default_factory=list)
    neighbors: list[NeighborShare] = field(default_factory=list)
    smoothness: Smoothness | None = None


def evaluate_encoders(
    untrained: Encoder,
    trained: Encoder,
    table: AnchorTable,
    held_out: NDArray[np.int64],
    seed: int,
    max_anchors: int = 20_000,
    columns: Sequence[str] = (),
    store: Path | None = None,
) -> EncoderEvaluation:
    """Evaluate the encoder before and after training on a subset of the anchors.

    Parameters
    ----------
    untrained, trained : Encoder
        The encoder before and after training, on the same device.
    table : AnchorTable
        The anchor table.
    held_out : numpy.ndarray
        Rows held out for validation, shape (n_held_out,); may be empty.
    seed : int
        Seed of the cross-validation of the probes.
    max_anchors : int, default 20000
        Maximum number of anchors to embed; positions beyond that are left out completely.
    columns : sequence of str
        Columns to probe at all hours.
    store : pathlib.Path, optional
        Crop store to read from instead of plates.

    Returns
    -------
    EncoderEvaluation
        The embeddings, recall@1, linear probes, and what neighbors share.
    """
    rows = rows_to_embed(table, held_out, max_anchors)
    before, after = embed([untrained, trained], table, rows, store)
    anchors = table.observations.iloc[rows].reset_index(drop=True)
    is_held_out = np.isin(rows, held_out)
    is_query = is_held_out if is_held_out.any() else np.ones(len(rows), dtype=bool)
    plates = {experiment.name: str(experiment.plate) for experiment in table.experiments}
    return EncoderEvaluation(
        rows=rows,
        embeddings=after,
        recall=recall_at_1(before, after, anchors, is_query),
        probes=probe_conditions(before, after, anchors, seed),
        column_probes=probe_columns(before, after, anchors, columns, seed),
        neighbors=measure_neighbors(before, after, anchors, is_query, plates, seed),
        smoothness=measure_smoothness(before, after, anchors, is_query),
    )


def rows_to_embed(table: AnchorTable, held_out: NDArray[np.int64], max_anchors: int) -> NDArray[np.int64]:
    """Choose anchors to embed: those of complete positions, evenly over experiments and conditions.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    held_out : numpy.ndarray
        Rows held out for validation; their positions are chosen first.
    max_anchors : int
        Maximum number of anchors. One position of each experiment and condition is chosen whatever its size.

    Returns
    -------
    numpy.ndarray
        Rows of the table, ascending.
    """
    anchors = table.observations.iloc[table.anchors].assign(is_trained_on=~np.isin(table.anchors, held_out))
    sizes = anchors.groupby(["experiment", "condition", "is_trained_on", "position"], observed=True).size()
    # Alternate between experiments and conditions: all first positions, then all second positions, and so on.
    rank = sizes.groupby(level=["experiment", "condition"], observed=True).cumcount()
    sizes = sizes.iloc[np.argsort(rank.to_numpy(), kind="stable")]
    fits = (sizes.cumsum() <= max_anchors) | (np.sort(rank.to_numpy()) == 0)
    chosen = sizes.index[fits].droplevel(["condition", "is_trained_on"])
    return table.anchors[pd.MultiIndex.from_frame(anchors[["experiment", "position"]]).isin(chosen)]


@torch.inference_mode()
def embed(
    encoders: list[Encoder], table: AnchorTable, rows: NDArray[np.int64], store: Path | None = None
) -> list[NDArray[np.float32]]:
    """Embed anchors with several encoders, reading each crop once.

    Parameters
    ----------
    encoders : list of Encoder
        At least one, all on the same device.
    table : AnchorTable
        The anchor table.
    rows : numpy.ndarray
        Rows to embed, shape (n_rows,).
    store : pathlib.Path, optional
        Crop store to read from instead of plates.

    Returns
    -------
    list of numpy.ndarray
        Embeddings of each encoder, shape (n_rows, features).
    """
    reader = CropReader(table, store=store)
    device = next(encoders[0].parameters()).device
    embeddings: list[list[NDArray[np.float32]]] = [[] for _ in encoders]
    for start in track(range(0, len(rows), _CROPS_PER_BATCH), "embedding"):
        crops = reader.read_native(rows[start : start + _CROPS_PER_BATCH]).to(device).finish()
        for encoder, parts in zip(encoders, embeddings, strict=True):
            dtype = next(encoder.parameters()).dtype  # not float32 after training in bf16-true
            parts.append(encoder.eval()(crops.to(dtype)).float().cpu().numpy())
    return [np.concatenate(parts) for parts in embeddings]


def probe_conditions(
    untrained: NDArray[np.float32], trained: NDArray[np.float32], anchors: pd.DataFrame, seed: int
) -> list[Probe]:
    """Fit linear probes of the condition in the first and in the last third of the hours.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings before and after training, shape (n_anchors, features).
    anchors : pandas.DataFrame
        The anchor of each embedding.
    seed : int
        Seed of the cross-validation.

    Returns
    -------
    list of Probe
        The early and the late probe, without those for which a condition has too few lineages.

    Notes
    -----
    Cells of one position resemble each other for reasons other than their condition, such as illumination. If each
    condition has at least two positions, the classifier is therefore tested on positions that it was not fitted to.
    """
    hours = anchors["hours_post_infection"].to_numpy()
    first, second = hours.min() + np.ptp(hours) / 3, hours.max() - np.ptp(hours) / 3
    probes = []
    for low, high in ((hours.min(), first), (second, hours.max())):
        in_range = (hours >= low) & (hours <= high)
        condition = anchors["condition"].astype(str).to_numpy()[in_range]
        held_out, groups, n_fewest = _cross_validation_groups(anchors[in_range], condition)
        if not n_fewest:
            continue
        names, labels = np.unique(condition, return_inverse=True)
        before, after, permuted = measure_accuracies(
            untrained[in_range], trained[in_range], labels, anchors[in_range], held_out, seed
        )
        probes.append(
            Probe(
                from_hours=low,
                to_hours=high,
                held_out=held_out,
                n_units=len(np.unique(groups)),
                n_fewest=n_fewest,
                chance=1 / len(names),
                untrained=before,
                trained=after,
                n_anchors=len(labels),
                permuted=permuted,
            )
        )
    return probes


def _cross_validation_groups(anchors: pd.DataFrame, condition: NDArray) -> tuple[str, NDArray[np.int64], int]:
    """Return the unit of cross-validation, each anchor's unit and the fewest units of a condition, 0 if too few."""
    units = (("position", ["experiment", "position"], 2), ("lineage", ["lineage_id"], _MAX_FOLDS))
    for held_out, columns, least in units:
        groups = anchors.groupby(columns, observed=True).ngroup().to_numpy()
        names = np.unique(condition)
        n_fewest = min(len(np.unique(groups[condition == name])) for name in names)
        if len(names) > 1 and n_fewest >= least:
            return held_out, groups, n_fewest
    return "", np.empty(0, dtype=np.int64), 0
