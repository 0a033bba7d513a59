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
    """Write the file."""
    import numpy as np
    import pandas as pd

    from viscy_train.anchors.experiments import Experiment
    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import CropSettings, PositiveConfig
    from viscy_train.evaluation.predict import write_embeddings

    observations = pd.DataFrame(
        {
            **{name: pd.Categorical([f"{name} {row % 2} µ" for row in range(N_ROWS)]) for name in NAMES},
            **dict.fromkeys(("track_id", "parent_track_id", "lineage_id", "t"), np.arange(N_ROWS)),
            **dict.fromkeys(("hours_post_infection", "y", "x"), np.linspace(0, 1, N_ROWS)),
            "has_positive": np.arange(N_ROWS) % 2 == 0,
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
    write_embeddings(path, arrays, table, {"checkpoint": "last.ckpt", "config": "seed_everything: 0\n"})


def read(path: Path) -> None:
    """Read the file, write a part of it, and read that again."""
    import anndata

    whole = anndata.read_h5ad(path)
    check(whole, list(range(N_ROWS)))
    part = whole[whole.obs["condition"] == "condition 1 µ", :2].copy()
    copy = path.with_name("part.h5ad")
    part.write_h5ad(copy)
    check(anndata.read_h5ad(copy), [1, 3, 5])
    backed = anndata.read_h5ad(path, backed="r")
    check(backed[backed.obs["has_positive"]].to_memory(), [0, 2, 4])
    backed.file.close()
    print(f"anndata {version('anndata')} with pandas {version('pandas')} and NumPy {version('numpy')}: ok")


def check(content, rows: list[int]) -> None:
    """Check some rows of the file."""
    names = [f"condition {row % 2} µ" for row in rows]
    found = content.obs["condition"].astype(str).tolist(), content.obs["t"].tolist(), content.obs_names.tolist()
    expected = names, rows, [str(row) for row in rows]
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
