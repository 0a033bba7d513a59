"""What embeddings say about an encoder while it trains."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.evaluation.representation import (
    Representation,
    describe_representation,
    effective_rank,
    rows_to_watch,
    temporal_smoothness,
    warn_of_collapse,
)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_the_effective_rank_is_the_number_of_equal_singular_values(shape):
    rng = np.random.default_rng(0)
    for rank in (1, 3, 6):
        left, right = (np.linalg.qr(rng.normal(size=(side, rank)))[0] for side in shape)
        assert effective_rank((7 * left @ right.T).astype(np.float32)) == pytest.approx(rank, rel=1e-4)


def test_the_effective_rank_is_the_exponential_of_the_entropy_of_the_singular_values():
    """Singular values 2, 1, 1: the entropy of 1/2, 1/4, 1/4 is 1.5 bits."""
    assert effective_rank(np.diag([2.0, 1.0, 1.0, 0.0])) == pytest.approx(2**1.5)


@pytest.mark.parametrize("matrix", [np.zeros((5, 3)), np.ones((5, 3)), np.ones((1, 3))])
def test_the_effective_rank_of_a_point_is_1(matrix):
    assert effective_rank(matrix) == pytest.approx(1.0)


def test_noise_of_rounding_does_not_raise_the_effective_rank():
    rng = np.random.default_rng(0)
    point = np.ones((200, 64)) + rng.normal(scale=1e-7, size=(200, 64))
    assert effective_rank(point.astype(np.float32)) < 1.01


def brute_force(embeddings, anchors):
    """Return the smoothness by its definition, over all pairs."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    moved, random = [], []
    rows = anchors.reset_index(drop=True)
    for i, one in rows.iterrows():
        for j, two in rows.iterrows():
            same = all(one[name] == two[name] for name in ("experiment", "position", "track_id"))
            if same and two["t"] == one["t"] + 1:
                moved.append(distance[i, j])
                others = [k for k in range(len(rows)) if rows["experiment"][k] == one["experiment"]]
                pairs = distance[np.ix_(others, others)][~np.eye(len(others), dtype=bool)]
                random.append(pairs.mean())
    return np.sum(moved) / np.sum(random)


def test_the_smoothness_is_that_of_all_consecutive_frames_and_all_pairs(anchors, random_embeddings):
    some = anchors[anchors["track_id"] < 7].sample(frac=0.8, random_state=0)  # in any order, with gaps
    embeddings = random_embeddings(some) + 1.0
    assert temporal_smoothness(embeddings, some) == pytest.approx(brute_force(embeddings, some), rel=1e-9)


def test_random_embeddings_have_a_smoothness_of_1(anchors, random_embeddings):
    """The mean of 280 cosine distances, of standard deviation 1/4: below 0.9 or above 1.1 with probability 1e-10."""
    assert temporal_smoothness(random_embeddings(anchors), anchors) == pytest.approx(1, abs=0.1)


def test_tracks_that_do_not_move_have_a_smoothness_of_0(anchors, embeddings_by_label):
    assert temporal_smoothness(embeddings_by_label(anchors["track_id"]), anchors) == pytest.approx(0, abs=1e-9)


def test_the_difference_between_experiments_does_not_make_tracks_smooth(anchors, random_embeddings):
    apart = random_embeddings(anchors) + 30 * (anchors["experiment"] == "monday").to_numpy()[:, None]
    assert temporal_smoothness(apart, anchors) == pytest.approx(1, abs=0.1)


def test_channels_of_a_cell_are_tracks_of_their_own(anchors, embeddings_by_label):
    """A table with a row for each channel: frames of two channels do not follow each other."""
    channel = np.where(anchors["t"] % 2 == 0, "GFP", "Phase")
    each = anchors.assign(channel=channel)
    assert temporal_smoothness(embeddings_by_label(anchors["track_id"]), each) is None
    both = pd.concat([anchors.assign(channel=name) for name in ("GFP", "Phase")])
    embeddings = embeddings_by_label(pd.Series(pd.factorize(both["channel"])[0]) * 40 + both["track_id"].to_numpy())
    assert temporal_smoothness(embeddings, both) == pytest.approx(0, abs=1e-9)


def test_smoothness_needs_consecutive_frames_and_differences(anchors, random_embeddings):
    assert temporal_smoothness(random_embeddings(anchors)[::2], anchors[::2]) is None
    assert temporal_smoothness(np.ones((len(anchors), 4)), anchors) is None


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_not_described(anchors, random_embeddings, damage):
    embeddings = random_embeddings(anchors)
    embeddings[3, 2] = damage
    assert describe_representation(embeddings, anchors) is None
    assert describe_representation(random_embeddings(anchors)[:1], anchors[:1]) is None


def test_complete_tracks_are_watched(anchors):
    rows = np.flatnonzero(anchors["track_id"] < 30)
    assert rows_to_watch(anchors, rows, 1000, seed=0).tolist() == rows.tolist()
    some = rows_to_watch(anchors, rows, 50, seed=0)
    sizes = anchors.iloc[some].groupby("track_id").size()
    assert sizes.tolist() == [8] * 6
    assert sizes.index.max() < 30
    assert np.array_equal(some, rows_to_watch(anchors, rows, 50, seed=0))
    assert not np.array_equal(some, rows_to_watch(anchors, rows, 50, seed=1))
    assert len(rows_to_watch(anchors, rows, 3, seed=0)) == 8
    assert not len(rows_to_watch(anchors, rows[:0], 50, seed=0))


@pytest.mark.parametrize(("rank", "n", "warns"), [(1.02, 500, True), (1.2, 500, False), (1.02, 20, False)])
def test_a_warning_needs_a_low_rank_of_enough_embeddings(rank, n, warns):
    found = Representation(n_observations=n, effective_rank=rank, temporal_smoothness=None)
    assert (warn_of_collapse(found) is not None) == warns
