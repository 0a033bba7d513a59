"""Swaps: the nearest points are those of a tree, however many there are."""

import numpy as np
from scipy.spatial import KDTree

from viscy_train.tracks.formats import swaps


def test_the_nearest_point_within_a_radius_is_the_one_that_a_tree_finds():
    rng = np.random.default_rng(0)
    points, others, radius = rng.random((40, 2)), rng.random((60, 2)), rng.uniform(0, 0.1, 40)
    point, other, distance = swaps._nearest_within(points, others, radius)
    of_tree, nearest = KDTree(others).query(points)
    close = np.flatnonzero(of_tree < radius)
    assert 0 < len(close) < 40
    np.testing.assert_array_equal(point, close)
    np.testing.assert_array_equal(other, nearest[close])
    np.testing.assert_allclose(distance, of_tree[close], rtol=1e-12)


def test_the_first_of_two_points_that_are_equally_near_is_the_nearest():
    points, others = np.array([[1.0, 1.0]]), np.array([[2.0, 1.0], [0.0, 1.0]])
    _, other, _ = swaps._nearest_within(points, others, np.array([1.5]))
    assert other.tolist() == [0]


def test_the_spacings_of_few_points_are_those_that_a_tree_finds(monkeypatch):
    points = np.random.default_rng(0).random((40, 2))
    spacings = swaps._spacings(points)
    monkeypatch.setattr(swaps, "_MAX_PAIRS", 0)
    np.testing.assert_allclose(swaps._spacings(points), spacings, rtol=1e-12)
