"""Swaps: the nearest points are those of a tree, however many there are."""

import numpy as np
import pytest

from viscy_train.tracks.formats import swaps


@pytest.mark.parametrize("k", [1, 2])
def test_few_points_have_the_neighbors_that_a_tree_finds(monkeypatch, k):
    rng = np.random.default_rng(0)
    points, others = rng.random((40, 2)), rng.random((60, 2))
    distances, indices = swaps._nearest(points, others, k)
    monkeypatch.setattr(swaps, "_MAX_PAIRS", 0)
    of_tree = swaps._nearest(points, others, k)
    assert distances.shape == indices.shape == (40, k)
    np.testing.assert_allclose(of_tree[0], distances, rtol=1e-12)
    np.testing.assert_array_equal(of_tree[1], indices)
