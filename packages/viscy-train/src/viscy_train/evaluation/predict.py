"""Predict: the embeddings of all observations, gathered from all processes and written as one AnnData file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.atomic import atomic_write
from viscy_train.output import OutputKind, require_replaceable

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import Trainer
    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable

# By which a file of embeddings is recognized.
_METADATA = ("checkpoint", "config")


def _is_embeddings(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return all(f"uns/{name}" in file for name in _METADATA)
    except (OSError, RuntimeError, KeyError, ValueError):  # h5py raises many types for a damaged file
        return False


EMBEDDINGS = OutputKind("a file of embeddings of viscy-train", _is_embeddings)


def gather_predictions(predictions: list[dict[str, Any]], trainer: Trainer, path: Path) -> dict[str, NDArray] | None:
    """Gather the predictions of all processes through files in a shared directory.

    Parameters
    ----------
    predictions : list of dict
        Predictions of this process, one dict for each batch: `row` and other arrays with one entry for each row.
    trainer : lightning.pytorch.Trainer
        The trainer, which provides rank, world size and barrier.
    path : pathlib.Path
        File that the predictions will be written to. The temporary files are in its directory, and are deleted.

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
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(_part(path, trainer.global_rank), **arrays)
        trainer.strategy.barrier("predicted")
        if not trainer.is_global_zero:
            return None
        parts = []
        for rank in range(trainer.world_size):
            part = _part(path, rank)
            with np.load(part) as saved:
                if saved.files:
                    parts.append({name: saved[name] for name in saved.files})
            part.unlink()
        gathered = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(gathered["row"])
    return {name: values[order] for name, values in gathered.items()}


def _part(path: Path, rank: int) -> Path:
    return path.with_name(f".{path.name}.{rank}.npz")


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
        `checkpoint` and `config`, stored in `uns`.

    Raises
    ------
    UserError
        If the file cannot be written, or if it exists and does not contain embeddings of viscy-train.
    """
    require_replaceable(path, EMBEDDINGS)
    import anndata  # takes seconds to import

    embeddings = predictions["embeddings"].astype(np.float32)
    content = anndata.AnnData(
        X=embeddings,
        obs=_with_plain_strings(table.observations.iloc[predictions["row"]]),
        var=_with_plain_strings(pd.DataFrame(index=range(embeddings.shape[1]))),
        uns=metadata,
    )
    content.obsm["projections"] = predictions["projections"].astype(np.float32)
    with atomic_write(path) as unfinished:
        content.write_h5ad(unfinished)


def _with_plain_strings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose index and categories are Python strings.

    AnnData writes the string types of pandas 3 and of Arrow as nullable arrays, which its earlier versions cannot read.
    """
    frame = frame.set_axis(pd.Index([str(row) for row in frame.index], dtype=object), axis=0)
    for column in frame:
        if frame[column].dtype.kind not in "iufb":
            values: Any = frame[column].astype("category")
            names = pd.Index([str(name) for name in values.cat.categories], dtype=object)
            frame[column] = pd.Categorical.from_codes(values.cat.codes, names)
    return frame
