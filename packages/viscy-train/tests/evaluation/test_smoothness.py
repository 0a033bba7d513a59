"""How far tracks move, where it is known."""

import numpy as np
import pytest

from viscy_train.evaluation.smoothness import measure_smoothness


def measure(anchors, embeddings, is_query=None):
    is_query = np.ones(len(anchors), dtype=bool) if is_query is None else is_query
    return measure_smoothness(embeddings, embeddings, anchors, is_query)


def test_a_track_that_does_not_move_is_smooth(anchors, embeddings_by_label):
    smoothness = measure(anchors, embeddings_by_label(anchors["track_id"]))
    assert smoothness.trained == smoothness.untrained == pytest.approx(0)
    assert (smoothness.unit, smoothness.n_units, smoothness.n_steps) == ("position", 12, 280)


def test_random_embeddings_move_as_far_as_random_pairs_are_apart(anchors, random_embeddings):
    smoothness = measure(anchors, random_embeddings(anchors))
    low, high = smoothness.interval
    assert low < smoothness.trained < high
    assert low < 1 < high
    assert high - low < 0.2


def test_only_some_anchors_are_measured(anchors, random_embeddings):
    is_query = (anchors["track_id"] < 10).to_numpy()
    assert measure(anchors, random_embeddings(anchors), is_query).n_steps == 70


def test_embeddings_that_are_all_equal_or_without_consecutive_frames_have_no_smoothness(anchors, random_embeddings):
    assert measure(anchors, np.ones((len(anchors), 4), dtype=np.float32)) is None
    assert measure(anchors, random_embeddings(anchors), (anchors["t"] == 0).to_numpy()) is None


def test_one_lineage_says_nothing_about_others(anchors, random_embeddings):
    alone = measure(anchors, random_embeddings(anchors), (anchors["track_id"] == 0).to_numpy())
    assert alone.interval == (0.0, np.inf)
