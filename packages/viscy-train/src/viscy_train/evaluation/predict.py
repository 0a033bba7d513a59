"""Predict: the embeddings of all observations, gathered from all processes and written as one AnnData file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.atomic import atomic_write, atomic_write_directory
from viscy_train.errors import UserError
from viscy_train.evaluation.plain_columns import plain_columns
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


def _is_zarr_of_embeddings(path: Path) -> bool:
    return all((path / "uns" / name / ".zarray").is_file() for name in _METADATA)


ZARR = ".zarr"
H5AD = ".h5ad"
EMBEDDINGS = OutputKind("a file of embeddings of viscy-train", _is_embeddings)
_EMBEDDINGS_ZARR = OutputKind("a zarr store of embeddings of viscy-train", _is_zarr_of_embeddings, is_directory=True)


def kind_of_output(path: Path) -> OutputKind:
    """Return what is written to a path: a zarr store if it ends in ``.zarr``, a file if it ends in ``.h5ad``.

    Raises
    ------
    UserError
        If it ends in something else, by which other software would take the file for another format.
    """
    if path.suffix not in (ZARR, H5AD):
        raise UserError(
            f"embeddings are written as AnnData, so their path must end in {H5AD} or {ZARR}, got {path}; name it "
            f"{path.with_suffix(H5AD).name}"
        )
    return _EMBEDDINGS_ZARR if path.suffix == ZARR else EMBEDDINGS


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


def split_of_rows(n_rows: int, training: NDArray[np.int64], validation: NDArray[np.int64]) -> pd.Categorical:
    """Return for each row of a table whether it was an anchor of ``training``, of ``validation`` or of ``none``."""
    codes = np.zeros(n_rows, dtype=np.int8)
    codes[training], codes[validation] = 1, 2
    return pd.Categorical.from_codes(codes, ["none", "training", "validation"])


def write_embeddings(
    path: Path,
    predictions: dict[str, NDArray],
    table: AnchorTable,
    metadata: dict[str, Any],
    split: pd.Categorical | None = None,
) -> None:
    """Write embeddings and their observations as AnnData, in one atomic step.

    Parameters
    ----------
    path : pathlib.Path
        File to write or replace, ``.h5ad``, or directory ``.zarr``.
    predictions : dict of numpy.ndarray
        `row` of each observation in the table, shape (n_rows,); `embeddings`, shape (n_rows, features); `projections`,
        shape (n_rows, projection).
    table : AnchorTable
        The anchor table, whose observations become `obs`.
    metadata : dict
        `checkpoint` and `config`, and whatever else says how the embeddings came about, stored in `uns`: texts, numbers
        and dicts of these.
    split : pandas.Categorical, optional
        For each row of the table, see `split_of_rows`.

    Raises
    ------
    UserError
        If the file cannot be written, or if it exists and does not contain embeddings of viscy-train.

    Notes
    -----
    `obs` has the columns of the table, and in addition `fov_name`, the name of the field of view as VisCy calls it, and
    `split`, unless the table has such columns. All are plain, see `viscy_train.evaluation.plain_columns`. A zarr store
    has version 2 of the format, which all versions of AnnData read.
    """
    require_replaceable(path, kind_of_output(path))
    import anndata  # takes seconds to import

    rows, embeddings = predictions["row"], predictions["embeddings"].astype(np.float32)
    content = anndata.AnnData(
        X=embeddings,
        obs=plain_columns(_observations(table, split).iloc[rows]),
        var=plain_columns(pd.DataFrame(index=range(embeddings.shape[1]))),
        uns=metadata,
    )
    content.obsm["projections"] = predictions["projections"].astype(np.float32)
    if path.suffix != ZARR:
        with atomic_write(path) as unfinished:
            content.write_h5ad(unfinished)
        return
    with atomic_write_directory(path) as unfinished:
        _write_zarr(content, unfinished)


def _observations(table: AnchorTable, split: pd.Categorical | None) -> pd.DataFrame:
    added: dict[str, Any] = {"fov_name": table.observations["position"].to_numpy()}
    added |= {} if split is None else {"split": split}
    return table.observations.assign(**{name: x for name, x in added.items() if name not in table.observations})


def _write_zarr(content: Any, path: Path) -> None:
    import zarr
    from anndata.io import write_elem

    group = zarr.open_group(path, mode="w", zarr_format=2)
    write_elem(group, "/", content)
    if "raw" in group:  # a note that there is none, which AnnData 0.10 cannot read
        del group["raw"]
    zarr.consolidate_metadata(group.store, zarr_format=2)
