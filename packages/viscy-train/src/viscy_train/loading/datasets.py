"""Pairs: an anchor's crop and that of its positive, for the batches that a sampler composes.

A batch travels from the sampler to the dataset as a `Batch`, its rows with its epoch and number: a worker then knows
all that the random choices of the batch are addressed by (`viscy_train.loading.rng`), and it does not matter which
process loads it, in what order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from viscy_train.loading.batches import Batch
from viscy_train.loading.crops import CropReader
from viscy_train.loading.rng import Purpose, words

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from viscy_train.anchors.lineages import Lineages
    from viscy_train.anchors.table import AnchorTable


class PairDataset(Dataset):
    """Anchors and positives: the same cell, or one of its lineage, at two times.

    Parameters
    ----------
    table : AnchorTable
        The cells.
    lineages : Lineages
        Chooses the positives.
    seed : int
        Of the run.
    cache_mb : int, default 256
        Memory for decoded chunks in each process that reads, in MB.

    Notes
    -----
    Pass ``collate_fn=as_loaded`` to the loader: a batch is read as a whole.
    """

    def __init__(self, table: AnchorTable, lineages: Lineages, seed: int, *, cache_mb: int = 256) -> None:
        self._reader = CropReader(table, cache_mb=cache_mb)
        self._lineages, self._seed = lineages, seed
        self._lineage = table.observations["lineage_id"].to_numpy(np.int64)
        self._condition = table.observations["condition"].astype("category").cat.codes.to_numpy(np.int64)

    def __len__(self) -> int:
        return len(self._lineage)

    def __getitems__(self, batch: Batch) -> dict[str, Tensor]:
        """Read a batch.

        Parameters
        ----------
        batch : Batch
            Of n anchors.

        Returns
        -------
        dict of str to torch.Tensor
            ``anchor`` and ``positive``, float32, shape (n, n_channels, z_slices, side, side); ``row``,
            ``positive_row``, ``lineage`` and ``condition`` (a code of the table's categories), int64, shape (n,);
            ``epoch`` and ``batch`` (its number), int64, shape ().

        Raises
        ------
        UserError
            As `CropReader.read` does.
        """
        n = len(batch.rows)
        positives = self.positives_of(batch)
        crops = torch.from_numpy(self._reader.read(np.concatenate([batch.rows, positives])))
        return {
            "anchor": crops[:n],
            "positive": crops[n:],
            "row": torch.tensor(batch.rows),
            "positive_row": torch.tensor(positives),
            "lineage": torch.tensor(self._lineage[batch.rows]),
            "condition": torch.tensor(self._condition[batch.rows]),
            "epoch": torch.tensor(batch.epoch),
            "batch": torch.tensor(batch.number),
        }

    def positives_of(self, batch: Batch) -> NDArray[np.int64]:
        """Return the rows of a batch's positives, without reading them.

        Parameters
        ----------
        batch : Batch
            Of n anchors.

        Returns
        -------
        numpy.ndarray
            Rows of the table of cells, shape (n,).
        """
        step, cell = words(self._seed, batch.epoch, batch.number, Purpose.POSITIVE, len(batch.rows), 2).T
        return self._lineages.choose(batch.rows, step, cell)


class CropDataset(Dataset):
    """Cells one by one, as for embedding them.

    Parameters
    ----------
    table : AnchorTable
        The cells.
    cache_mb : int, default 256
        Memory for decoded chunks in each process that reads, in MB.

    Notes
    -----
    Pass ``collate_fn=as_loaded`` to the loader: a batch is read as a whole.
    """

    def __init__(self, table: AnchorTable, *, cache_mb: int = 256) -> None:
        self._reader = CropReader(table, cache_mb=cache_mb)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        """Read cells.

        Parameters
        ----------
        rows : list of int
            Rows of the table of cells, shape (n,).

        Returns
        -------
        dict of str to torch.Tensor
            ``crops``, float32, shape (n, n_channels, z_slices, side, side), and ``row``, int64, shape (n,).

        Raises
        ------
        UserError
            As `CropReader.read` does.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        return {"crops": torch.from_numpy(self._reader.read(wanted)), "row": torch.tensor(wanted)}


def as_loaded(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch as the dataset made it: a loader's ``collate_fn``."""
    return batch
