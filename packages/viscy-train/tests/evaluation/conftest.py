"""Anchors and embeddings whose recall@1 and linear probes are known."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

N_TRACKS, N_FRAMES = 40, 8


@pytest.fixture
def anchors() -> pd.DataFrame:
    """Two experiments, two conditions, three positions of each well and 40 tracks of 8 frames."""
    rows = [(track, t) for track in range(N_TRACKS) for t in range(N_FRAMES)]
    table = pd.DataFrame(rows, columns=["track_id", "t"])
    infected = table["track_id"] % 4 >= 2
    return table.assign(
        lineage_id=table["track_id"],
        experiment=np.where(table["track_id"] % 2 == 0, "monday", "tuesday"),
        position=np.where(infected, "B/1/", "A/1/") + (table["track_id"] // 4 % 3).astype(str).astype(object),
        condition=np.where(infected, "infected", "uninfected"),
        hours_post_infection=3.0 + table["t"] * 0.5,
    )


@pytest.fixture
def embeddings_by_label() -> Callable[..., np.ndarray]:
    """Make embeddings in which each value of some integer labels has a direction of its own."""
    return lambda labels: np.eye(int(labels.max()) + 1, dtype=np.float32)[np.asarray(labels)]


@pytest.fixture
def random_embeddings() -> Callable[..., np.ndarray]:
    """Make embeddings that depend on nothing."""
    return lambda anchors: np.random.default_rng(0).normal(size=(len(anchors), 16)).astype(np.float32)
