import numpy as np
import pytest

from viscy_train.study.neighbors import mixing, vote


def mixing_by_loops(embeddings, experiments, lineages, n_neighbors):
    """Compute mixing row by row from its definition."""
    observed, expected = [], []
    for row in range(len(embeddings)):
        candidates = [other for other in range(len(embeddings)) if lineages[other] != lineages[row]]
        cosine = {
            other: float(np.dot(embeddings[row], embeddings[other]))
            / float(np.linalg.norm(embeddings[row]) * np.linalg.norm(embeddings[other]))
            for other in candidates
        }
        nearest = sorted(candidates, key=lambda other: -cosine[other])[:n_neighbors]
        observed.append(np.mean([experiments[other] != experiments[row] for other in nearest]))
        expected.append(np.mean([experiments[other] != experiments[row] for other in candidates]))
    return np.mean(observed) / np.mean(expected)


@pytest.mark.parametrize("look", [0.0, 0.7, 3.0])
def test_mixing_is_that_of_a_computation_row_by_row(look):
    rng = np.random.default_rng(0)
    experiments = rng.choice(3, size=120, p=[0.5, 0.3, 0.2])
    lineages = np.arange(120) // 4
    embeddings = rng.normal(size=(120, 6)) + look * np.eye(6)[experiments]
    expected = mixing_by_loops(embeddings, experiments, lineages, 7)
    assert mixing(embeddings, experiments, lineages, seed=1, n_neighbors=7) == pytest.approx(expected)


def test_mixing_is_0_apart_and_1_by_chance():
    rng = np.random.default_rng(0)
    experiments = np.arange(800) % 4
    noise = rng.normal(size=(800, 8))
    assert mixing(noise + 100 * np.eye(8)[experiments], experiments, np.arange(800), seed=0) == 0
    assert mixing(noise, experiments, np.arange(800), seed=0) == pytest.approx(1, abs=0.03)


def test_rows_of_the_own_lineage_are_not_neighbors():
    """Each cell is seen eight times at the same place; else all its neighbors would be itself."""
    rng = np.random.default_rng(0)
    lineages = np.repeat(np.arange(100), 8)
    embeddings = rng.normal(size=(100, 8))[lineages] + 1e-3 * rng.normal(size=(800, 8))
    assert mixing(embeddings, lineages % 4, lineages, seed=0) == pytest.approx(1, abs=0.1)


def test_equal_embeddings_mix_by_chance_whatever_their_order():
    experiments = np.repeat(np.arange(4), 100)
    assert mixing(np.ones((400, 3)), experiments, np.arange(400), seed=0) == pytest.approx(1, abs=0.25)


def test_mixing_of_one_experiment_is_not_defined():
    assert np.isnan(mixing(np.eye(5), np.zeros(5, int), np.arange(5), seed=0))
    assert np.isnan(mixing(np.eye(4), np.array([0, 0, 1, 1]), np.zeros(4, int), seed=0))
    assert np.isnan(mixing(np.empty((0, 3)), np.empty(0, int), np.empty(0, int), seed=0))


def test_the_nearest_rows_vote_with_their_weights():
    near, far = np.eye(2)
    fitted = np.concatenate([np.tile(near, (15, 1)), np.tile(far, (15, 1))])
    labels = np.array([0] * 10 + [1] * 5 + [2] * 15)
    weights = np.array([1.0] * 10 + [3.0] * 5 + [1.0] * 15)
    votes = vote(fitted, labels, weights, np.stack([5 * near, 0.1 * far]))
    np.testing.assert_allclose(votes, [[10 / 25, 15 / 25, 0], [0, 0, 1]])


def test_fewer_rows_than_neighbors_all_vote():
    np.testing.assert_allclose(vote(np.eye(3), np.array([0, 1, 1]), np.ones(3), np.eye(3)[:1]), [[1 / 3, 2 / 3]])
