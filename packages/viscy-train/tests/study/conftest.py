"""Evaluation rows of which measures are known."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from viscy_train.study.results import RUN_COLUMNS

N_FRAMES = 4


@pytest.fixture
def make_rows() -> Callable[..., pd.DataFrame]:
    """Make observations of tracks of four frames, one an hour, in two positions of each condition and experiment."""

    def make(
        n_experiments: int = 4, n_tracks: int = 4, conditions: tuple[str, ...] = ("mock", "virus")
    ) -> pd.DataFrame:
        names = [f"day{number + 1}" for number in range(n_experiments)]
        rows = pd.MultiIndex.from_product(
            [names, conditions, [0, 1], range(n_tracks), range(N_FRAMES)],
            names=["experiment", "condition", "field", "cell", "t"],
        ).to_frame(index=False)
        table = rows.assign(
            position=rows["condition"] + "/" + rows["field"].astype(str),
            hours_post_infection=rows["t"].astype(float),
        )
        table["track_id"] = table.groupby(["experiment", "position", "cell"]).ngroup()
        return table.assign(lineage_id=table["track_id"])

    return make


@pytest.fixture
def make_embeddings() -> Callable[..., np.ndarray]:
    """Make noise of eight features, to which named signals are added: each a pair of labels and strength."""

    def make(table: pd.DataFrame, seed: int = 0, **strengths: float) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=(len(table), 8))
        for feature, (column, strength) in enumerate(strengths.items()):
            noise[:, feature] += strength * pd.factorize(table[column], sort=True)[0]
        return noise.astype(np.float32)

    return make


@pytest.fixture
def make_runs() -> Callable[..., pd.DataFrame]:
    """Make runs of a world: for each measure, the values of each arm in each seed; other measures are 0."""

    def make(world: str = "base", **values: dict[str, Sequence[float]]) -> pd.DataFrame:
        rows: dict[tuple[str, int], dict[str, object]] = {}
        for measure, of_arms in values.items():
            for arm, numbers in of_arms.items():
                for seed, number in enumerate(numbers):
                    rows.setdefault((arm, seed), {"arm": arm, "seed": seed})[measure] = number
        table = pd.DataFrame(list(rows.values())).assign(world=world, fold="held out", steps=100)
        return table.reindex(columns=RUN_COLUMNS, fill_value=0.0)

    return make
