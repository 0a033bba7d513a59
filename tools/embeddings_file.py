"""Write a file of embeddings as `viscy-train predict` does, and check that anndata can read and rewrite it.

The two commands run in different environments: ``write`` needs viscy-train, ``read`` only anndata.
"""

import argparse
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

N_ROWS, N_FEATURES, N_PROJECTED = 6, 3, 2
NAMES = ("experiment", "condition", "well", "position")


def write(path: Path) -> None:
    """Write the file, and a zarr store with the same content."""
    import numpy as np
    import pandas as pd

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import CropSettings, PositiveConfig
    from viscy_train.evaluation.predict import split_of_rows, write_embeddings
    from viscy_train.experiments.experiments_file import Experiment

    observations = pd.DataFrame(
        {
            **{name: pd.Categorical([f"{name} {row % 2} µ" for row in range(N_ROWS)]) for name in NAMES},
            **dict.fromkeys(("track_id", "parent_track_id", "lineage_id", "t"), np.arange(N_ROWS)),
            **dict.fromkeys(("hours_post_infection", "y", "x"), np.linspace(0, 1, N_ROWS)),
            "has_positive": np.arange(N_ROWS) % 2 == 0,
            # Columns of the user, which may be of any type and have missing values.
            "marker": pd.array(["GFP", None] * (N_ROWS // 2), dtype="string"),
            "dose/µM": pd.array([1, None] * (N_ROWS // 2), dtype="Int64"),
            "is_control": pd.array([True, None] * (N_ROWS // 2), dtype="boolean"),
            "nothing": pd.Series([None] * N_ROWS, dtype=object),
        }
    )
    experiment = Experiment(
        name="a", plate=Path("a.zarr"), tracks=Path("a"), channels=["c"], conditions={"A/1": "b"}, minutes_per_frame=1
    )
    table = AnchorTable(
        observations=observations,
        experiments=[experiment],
        positive=PositiveConfig(),
        crops=CropSettings(crop=8),
        intensity={"a": [[0.0, 1.0]]},
        excluded=[],
    )
    arrays = {"row": np.arange(N_ROWS), "embeddings": np.eye(N_ROWS, N_FEATURES)}
    arrays["projections"] = np.eye(N_ROWS, N_PROJECTED)
    metadata = {"checkpoint": "last.ckpt", "config": "seed_everything: 0\n", "step": 3, "versions": {"torch": "2"}}
    split = split_of_rows(N_ROWS, np.array([0, 1]), np.array([2]))
    for output in (path, path.with_suffix(".zarr")):
        write_embeddings(output, arrays, table, metadata, split)


def read(path: Path) -> None:
    """Read the file, write a part of it, and read that again."""
    import anndata

    whole = anndata.read_h5ad(path)
    check(whole, list(range(N_ROWS)))
    part = whole[whole.obs["condition"] == "condition 1 µ", :2].copy()
    copy = path.with_name("part.h5ad")
    part.write_h5ad(copy)
    check(anndata.read_h5ad(copy), [1, 3, 5])
    check(anndata.read_zarr(path.with_suffix(".zarr")), list(range(N_ROWS)))
    backed = anndata.read_h5ad(path, backed="r")
    check(backed[backed.obs["has_positive"]].to_memory(), [0, 2, 4])
    backed.file.close()
    print(f"anndata {version('anndata')} with pandas {version('pandas')} and NumPy {version('numpy')}: ok")


def check(content, rows: list[int]) -> None:
    """Check some rows of the file."""
    names = [f"condition {row % 2} µ" for row in rows]
    found = content.obs["condition"].astype(str).tolist(), content.obs["t"].tolist(), content.obs_names.tolist()
    expected = names, rows, [str(row) for row in rows]
    found += content.obs["marker"].isna().tolist(), content.obs["dose_µM"].isna().tolist()
    expected += tuple([[row % 2 == 1 for row in rows]] * 2)
    if content.uns["step"] != 3 or content.uns["versions"]["torch"] != "2" or not content.obs["nothing"].isna().all():
        raise SystemExit("the origin of the embeddings or a column without values is missing")
    if found != expected or content.uns["checkpoint"] != "last.ckpt" or content.X[0, 0] != float(rows[0] == 0):
        raise SystemExit(f"the rows must be {expected}, got {found}")


def main() -> int:
    """Run a command on a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["write", "read"])
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    {"write": write, "read": read}[options.command](options.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
