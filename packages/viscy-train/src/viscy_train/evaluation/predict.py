"""Predict: the embeddings of all observations, gathered from all processes and written as one AnnData file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.atomic import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from lightning.pytorch import Trainer
    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable


def gather_predictions(
    predictions: list[dict[str, Any]], trainer: Trainer, directory: Path
) -> dict[str, NDArray] | None:
    """Gather the predictions of all processes through files in a shared directory.

    Parameters
    ----------
    predictions : list of dict
        Predictions of this process, one dict for each batch: `row` and other arrays with one entry for each row.
    trainer : lightning.pytorch.Trainer
        The trainer, which provides rank, world size and barrier.
    directory : pathlib.Path
        Directory for temporary files, which are deleted.

    Returns
    -------
    dict of numpy.ndarray, optional
        In the process of rank 0, each array sorted by `row`; None in all others.
    """
    gathered = (
        {name: np.concatenate([np.asarray(batch[name]) for batch in predictions]) for name in predictions[0]}
        if predictions
        else {}
    )
    if trainer.world_size > 1:
        arrays: Any = gathered
        np.savez(directory / f".predicted-{trainer.global_rank}.npz", **arrays)
        trainer.strategy.barrier("predicted")
        if not trainer.is_global_zero:
            return None
        parts = []
        for rank in range(trainer.world_size):
            path = directory / f".predicted-{rank}.npz"
            with np.load(path) as saved:
                if saved.files:
                    parts.append({name: saved[name] for name in saved.files})
            path.unlink()
        gathered = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(gathered["row"])
    return {name: values[order] for name, values in gathered.items()}


def write_embeddings(path: Path, predictions: dict[str, NDArray], table: AnchorTable, metadata: dict[str, str]) -> None:
    """Write embeddings and their observations as AnnData, in one atomic step.

    Parameters
    ----------
    path : pathlib.Path
        File to write or replace, ``.h5ad``.
    predictions : dict of numpy.ndarray
        `row` of each observation in the table, shape (n_rows,); `embeddings`, shape (n_rows, features); `projections`,
        shape (n_rows, projection).
    table : AnchorTable
        The anchor table, whose observations become `obs`.
    metadata : dict of str to str
        Stored in `uns`.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    import anndata  # takes seconds to import

    content = anndata.AnnData(
        X=predictions["embeddings"].astype(np.float32),
        obs=_with_string_index(table.observations.iloc[predictions["row"]]),
        uns=metadata,
    )
    content.obsm["projections"] = predictions["projections"].astype(np.float32)
    with atomic_write(path) as unfinished:
        content.write_h5ad(unfinished)


def _with_string_index(observations: pd.DataFrame) -> pd.DataFrame:
    """Return observations whose index is the row number as a string, as AnnData requires."""
    return observations.set_axis(observations.index.astype(str), axis=0)
