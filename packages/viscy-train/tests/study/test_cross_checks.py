"""Measures against other people's libraries, where the extra `crosscheck` is installed (600 MB, most of it jax)."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from viscy_train.study.measures import measure
from viscy_train.study.neighbors import mixing

pytestmark = pytest.mark.weekly
STRENGTHS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mixing_orders_embeddings_as_ilisi_does():
    """Of 800 rows of four experiments; both are 1 by chance and 0 for experiments that are apart."""
    nearest_neighbors = pytest.importorskip("scib_metrics.nearest_neighbors")
    metrics = pytest.importorskip("scib_metrics")
    rng = np.random.default_rng(0)
    experiments, noise = np.arange(800) % 4, rng.normal(size=(800, 8))
    ours, theirs = [], []
    for look in STRENGTHS:
        embeddings = noise + 3 * look * np.eye(8)[experiments]
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        distance = np.sqrt(np.maximum(2 - 2 * unit @ unit.T, 0))
        nearest = np.argsort(distance, axis=1)[:, :45]
        near = nearest_neighbors.NeighborsResults(nearest, np.take_along_axis(distance, nearest, axis=1))
        ours.append(mixing(embeddings, experiments, np.arange(800), seed=0))
        # Of few neighbors, the index is below 1 even by chance.
        theirs.append(metrics.ilisi_knn(near, experiments) / metrics.ilisi_knn(near, rng.permutation(experiments)))
    assert spearmanr(ours, theirs).statistic > 0.9
    assert ours[0] == pytest.approx(1, abs=0.05)
    assert theirs[0] == pytest.approx(1, abs=0.05)
    assert max(ours[-1], theirs[-1]) < 0.05


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_condition_by_neighbors_orders_embeddings_as_average_precision_does(make_rows, make_embeddings):
    """Pairs of the same condition in different experiments are to be nearer than those of different conditions."""
    precision = pytest.importorskip("copairs.map")
    table = make_rows(n_tracks=8)
    held_out = table["experiment"].isin(["day3", "day4"]).to_numpy()
    ours, theirs = [], []
    for strength in STRENGTHS:
        embeddings = make_embeddings(table)
        embeddings[:, 0] += strength * np.where(table["condition"] == "virus", 1, -1)
        ours.append(measure(embeddings, table, ~held_out, seed=0).values["condition_by_neighbors"])
        found = precision.average_precision(
            table, embeddings, ["condition"], ["experiment"], [], ["condition", "experiment"], progress_bar=False
        )
        theirs.append(found["average_precision"].mean())
    assert spearmanr(ours, theirs).statistic > 0.9
    assert ours[0] == pytest.approx(0.5, abs=0.1)
    assert theirs[0] == pytest.approx(0.5, abs=0.1)
    assert min(ours[-1], theirs[-1]) > 0.85
