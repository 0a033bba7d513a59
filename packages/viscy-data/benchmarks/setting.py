"""The setting: the table and the options with which every sampler is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

BATCH_SIZE = 256
N_GROUPS = 10
N_CONDITIONS = 2
N_TIMES = 97
FRAME_HOURS = 0.5

OPTIONS: dict[str, Any] = {
    "batch_size": BATCH_SIZE,
    "leaky": 0.1,
    "experiment_weights": "uniform",
    "temporal_enrichment": True,
}


def make_table(n_rows: int, n_conditions: int = N_CONDITIONS) -> pd.DataFrame:
    """Make a table of anchors in random order, with no other columns than those the axes use.

    Parameters
    ----------
    n_rows : int
        Number of anchors.
    n_conditions : int
        Number of conditions.

    Returns
    -------
    pandas.DataFrame
        Shape (n_rows, 3): ``experiment`` and ``condition`` (categorical), ``hours_post_infection`` (float32, hours).
    """
    rng = np.random.default_rng(0)
    group = rng.integers(0, N_GROUPS, n_rows, dtype=np.int8)
    condition = rng.integers(0, n_conditions, n_rows, dtype=np.min_scalar_type(-n_conditions))
    frame = rng.integers(0, N_TIMES, n_rows, dtype=np.int8)
    return pd.DataFrame(
        {
            "experiment": pd.Categorical.from_codes(group, [f"experiment {i}" for i in range(N_GROUPS)]),
            "condition": pd.Categorical.from_codes(condition, _conditions(n_conditions)),
            "hours_post_infection": (np.arange(N_TIMES) * FRAME_HOURS).astype(np.float32)[frame],
        },
        copy=False,
    )


def _conditions(n_conditions: int) -> list[str]:
    """Return labels of conditions: uninfected cells, and cells infected by one virus or by several."""
    return ["uninfected", "infected", *(f"infected by virus {i}" for i in range(2, n_conditions))]


def power_of_ten(n_rows: int) -> str:
    """Format a number of rows as a power of ten, such as 1e7."""
    return f"{n_rows:.0e}".replace("e+0", "e")


def group_codes(table: pd.DataFrame) -> np.ndarray:
    """Return the code of each row's experiment, shape (n_rows,)."""
    return table["experiment"].cat.codes.to_numpy()


def stratum_codes(table: pd.DataFrame) -> np.ndarray:
    """Return the code of each row's stratum (experiment and condition), shape (n_rows,)."""
    return group_codes(table) * np.int8(N_CONDITIONS) + table["condition"].cat.codes.to_numpy()
