"""Datasets: pairs of crops for training, and single crops for prediction.

The sampler passes a `Batch` to the dataset, its rows together with its epoch and index. This is the complete key of the
batch's random numbers (`viscy_train.loading.rng`), so it does not matter which process loads a batch, or in what order.
"""

from __future__ import annotations

import os
from copy import copy
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from viscy_train.loading.batches import Batch
from viscy_train.loading.crop_source import READS
from viscy_train.loading.crops import CropReader
from viscy_train.loading.positive_choice import PositiveChoice
from viscy_train.loading.rng import Purpose, random_uniform
from viscy_train.row_slices import as_category

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.loading.crop_source import CropSource
    from viscy_train.positives.rule import Positives


class PairDataset(Dataset):
    """Pairs of an anchor and a positive: crops of one cell or of a cell and a relative at two times, or of two cells.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    positives : Positives
        Chooses the positives.
    seed : int
        Seed of the run.
    cache_mb : int, default 256
        Memory for decoded chunks, for each process that reads, in MB.
    labeled : pandas.DataFrame, optional
        Lineage and condition of each observation as the loss sees them, by default those of the table.
    store : pathlib.Path, optional
        Crop store to read from instead of plates.
    source : CropSource, optional
        What to read from instead of plates and store.

    Notes
    -----
    Pass ``collate_fn=no_collation`` to the loader, because a batch is read as a unit.
    """

    def __init__(
        self,
        table: AnchorTable,
        positives: Positives,
        seed: int,
        *,
        cache_mb: int = 256,
        labeled: pd.DataFrame | None = None,
        store: Path | None = None,
        source: CropSource | None = None,
        choice: PositiveChoice | None = None,
    ) -> None:
        self._reader = CropReader(table, cache_mb=cache_mb, store=store, source=source)
        self._choice, self._seed = choice or PositiveChoice(positives, seed), seed
        labeled = table.observations if labeled is None else labeled
        self._lineage = labeled["lineage_id"].to_numpy(np.int64)
        # As codes are stored, so that it needs no copy.
        self._condition = as_category(labeled["condition"]).array.codes
        self._has_random_slices = table.crops.z == "random"

    def in_the_middle(self) -> PairDataset:
        """Return the same pairs, with the middle of the stack where slices are random; the two share their memory."""
        other = copy(self)
        other._has_random_slices = False
        return other

    def __len__(self) -> int:
        return len(self._lineage)

    def __getitems__(self, batch: Batch) -> dict[str, Any]:
        """Read a batch.

        Parameters
        ----------
        batch : Batch
            Batch of n anchors.

        Returns
        -------
        dict of str to CropBatch or torch.Tensor
            ``crops``, those of the anchors, then those of the positives (see `finish_batch`); ``row``,
            ``positive_row``, ``lineage`` and ``condition`` (a code of its label), int64, shape (n,);
            ``epoch``, ``batch`` (the batch index) and ``first_slot``, int64, shape (); ``reads``, the id of this
            process and what it has read so far (`viscy_train.loading.crop_source.ReadCounts`), int64, shape (7,).

        Raises
        ------
        UserError
            As `CropReader.read` does.
        """
        positives = self.choose_positives(batch)
        rows = np.concatenate([batch.rows, positives])
        return {
            "crops": self._reader.read_native(rows, self._draw_slices(batch)),
            "row": torch.tensor(batch.rows),
            "positive_row": torch.tensor(positives),
            "lineage": torch.tensor(self._lineage[batch.rows]),
            "condition": torch.tensor(self._condition[batch.rows].astype(np.int64)),
            "epoch": torch.tensor(batch.epoch),
            "batch": torch.tensor(batch.index),
            "first_slot": torch.tensor(batch.first_slot),
            READS: torch.tensor([os.getpid(), *astuple(self._reader.source.counts)]),
        }

    def choose_positives(self, batch: Batch) -> NDArray[np.int64]:
        """Choose the positives of a batch, without reading crops.

        Parameters
        ----------
        batch : Batch
            Batch of n anchors.

        Returns
        -------
        numpy.ndarray
            Rows of the anchor table, shape (n,).
        """
        return self._choice.choose(batch)

    def _draw_slices(self, batch: Batch) -> NDArray[np.float64] | None:
        """Return a random number for the slices of each anchor, then of each positive; None if they are not random."""
        if not self._has_random_slices:
            return None
        n_slots = batch.first_slot + len(batch.rows)
        purposes = (Purpose.SLICES_OF_ANCHOR, Purpose.SLICES_OF_POSITIVE)
        draws = [random_uniform(self._seed, batch.epoch, batch.index, purpose, n_slots, 1) for purpose in purposes]
        return np.concatenate([part[batch.first_slot :, 0] for part in draws])


class CropDataset(Dataset):
    """Crops of single observations, for prediction.

    Parameters
    ----------
    table : AnchorTable
        The anchor table.
    cache_mb : int, default 256
        Memory for decoded chunks, for each process that reads, in MB.
    store : pathlib.Path, optional
        Crop store to read from instead of plates.
    source : CropSource, optional
        What to read from instead of plates and store.

    Notes
    -----
    Pass ``collate_fn=no_collation`` to the loader, because a batch is read as a unit.
    """

    def __init__(
        self,
        table: AnchorTable,
        *,
        cache_mb: int = 256,
        store: Path | None = None,
        source: CropSource | None = None,
    ) -> None:
        self._reader = CropReader(table, cache_mb=cache_mb, store=store, source=source)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitems__(self, rows: list[int]) -> dict[str, Any]:
        """Read the crops of some observations.

        Parameters
        ----------
        rows : list of int
            Rows of the anchor table, shape (n,).

        Returns
        -------
        dict of str to CropBatch or torch.Tensor
            ``crops`` (see `finish_batch`), and ``row``, int64, shape (n,).

        Raises
        ------
        UserError
            As `CropReader.read` does.
        """
        indices = np.asarray(rows, dtype=np.int64)
        return {"crops": self._reader.read_native(indices), "row": torch.tensor(indices)}


def no_collation(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch unchanged; a loader's ``collate_fn``."""
    return batch


def finish_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch of a dataset with normalized crops, made on the device where its pixels are.

    Returns
    -------
    dict
        The values of the batch, but of pairs ``anchor`` and ``positive`` instead of ``crops``: float32, shape (n,
        n_channels, z_slices, side, side).
    """
    rest = {name: value for name, value in batch.items() if name != "crops"}
    crops = batch["crops"].finish()
    if "positive_row" not in batch:
        return {"crops": crops} | rest
    anchor, positive = crops.chunk(2)
    return {"anchor": anchor, "positive": positive} | rest
