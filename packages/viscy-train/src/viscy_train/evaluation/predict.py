"""Predict: the embedding of every cell, gathered from all processes into one AnnData file."""

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


def gather(predicted: list[dict[str, Any]], trainer: Trainer, folder: Path) -> dict[str, NDArray] | None:
    """Gather what the processes have predicted, by way of files in a folder that they share.

    Parameters
    ----------
    predicted : list of dict
        Of this process, one for each batch: `row`, and arrays with a row for each of them.
    trainer : lightning.pytorch.Trainer
        Knows the processes.
    folder : pathlib.Path
        For files that are gone afterwards.

    Returns
    -------
    dict of numpy.ndarray, optional
        In the process of rank 0 each array in the order of `row`; None in the others.
    """
    part = (
        {name: np.concatenate([np.asarray(batch[name]) for batch in predicted]) for name in predicted[0]}
        if predicted
        else {}
    )
    path = folder / f".predicted-{trainer.global_rank}.npz"
    if trainer.world_size > 1:
        arrays: Any = part
        np.savez(path, **arrays)
        trainer.strategy.barrier("predicted")
        if not trainer.is_global_zero:
            return None
        parts = []
        for rank in range(trainer.world_size):
            file = folder / f".predicted-{rank}.npz"
            with np.load(file) as saved:
                if saved.files:
                    parts.append({name: saved[name] for name in saved.files})
            file.unlink()
        part = {name: np.concatenate([other[name] for other in parts]) for name in parts[0]}
    order = np.argsort(part["row"])
    return {name: values[order] for name, values in part.items()}


def write_embeddings(path: Path, found: dict[str, NDArray], table: AnchorTable, about: dict[str, str]) -> None:
    """Write embeddings with their cells as AnnData; a file is there only once it is whole.

    Parameters
    ----------
    path : pathlib.Path
        File to write or to replace, ``.h5ad``.
    found : dict of numpy.ndarray
        `row` of each cell in the table, shape (n_cells,); `embeddings`, shape (n_cells, features); `projections`, shape
        (n_cells, projection).
    table : AnchorTable
        The cells, which become `obs`.
    about : dict of str to str
        What to keep with them, in `uns`.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    import anndata  # seconds to load, which other commands save

    content = anndata.AnnData(
        X=found["embeddings"].astype(np.float32),
        obs=_named(table.observations.iloc[found["row"]]),
        uns=about,
    )
    content.obsm["projections"] = found["projections"].astype(np.float32)
    with atomic_write(path) as unfinished:
        content.write_h5ad(unfinished)


def _named(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells under names that AnnData wants to be texts: their row numbers."""
    return cells.set_axis(cells.index.astype(str), axis=0)
