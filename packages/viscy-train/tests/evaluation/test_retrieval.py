import numpy as np
import pytest

from viscy_train.evaluation.retrieval import recall_at_1


def test_recall_is_1_if_each_track_has_its_own_direction(anchors, random_embeddings, embeddings_by_label):
    recall = recall_at_1(random_embeddings(anchors), embeddings_by_label(anchors["track_id"]), anchors)
    assert [(one.frames, one.hours) for one in recall] == [(1, 0.5), (4, 2.0)]
    assert [one.trained for one in recall] == [1.0, 1.0]
    assert [one.chance for one in recall] == pytest.approx([1 / 20, 1 / 20])


def test_the_hours_of_different_intervals_are_a_range(anchors, random_embeddings, embeddings_by_label):
    recall = recall_at_1(random_embeddings(anchors), embeddings_by_label(anchors["track_id"]), anchors)
    assert [one.time for one in recall] == ["0.5 hours", "2.0 hours"]
    fast = anchors.assign(
        hours_post_infection=3 + anchors["t"] * np.where(anchors["experiment"] == "tuesday", 1 / 3, 2.0)
    )
    recall = recall_at_1(random_embeddings(fast), embeddings_by_label(fast["track_id"]), fast)
    assert [one.time for one in recall] == ["1 frame (0.33 to 2.0 hours)", "4 frames (1.3 to 8.0 hours)"]


def test_random_embeddings_have_the_recall_of_chance(anchors, random_embeddings, embeddings_by_label):
    """Of 280 queries among 20 cells 14 succeed; more than 40 or none at all do with probability below 1e-6."""
    (one, _) = recall_at_1(random_embeddings(anchors), embeddings_by_label(anchors["track_id"]), anchors)
    assert 0 < one.untrained < 40 / 280


def test_the_gallery_is_the_experiment_of_the_query(anchors, embeddings_by_label):
    """Two tracks with the same direction are confused in one experiment, but not across experiments."""
    across_experiments = embeddings_by_label(anchors["track_id"] // 2)
    assert recall_at_1(across_experiments, across_experiments, anchors)[0].trained == 1.0
    in_one_experiment = embeddings_by_label(anchors["track_id"] % 20)
    assert recall_at_1(in_one_experiment, in_one_experiment, anchors)[0].trained == 0.5


def test_tracks_that_have_ended_are_not_queried(anchors, random_embeddings, embeddings_by_label):
    ended = anchors[(anchors["track_id"] > 30) | (anchors["t"] == 0)].reset_index(drop=True)
    recall = recall_at_1(random_embeddings(ended), embeddings_by_label(ended["track_id"]), ended)
    assert [one.trained for one in recall] == [1.0, 1.0]


def test_the_gallery_is_all_cells_but_only_those_chosen_are_queried(anchors, embeddings_by_label):
    """Tracks 0 and 2 have the same direction, so that each is recalled in half of the queries."""
    embeddings = embeddings_by_label(anchors["track_id"].replace({2: 0}))
    confused = anchors["track_id"].isin([0, 2]).to_numpy()
    assert recall_at_1(embeddings, embeddings, anchors, confused)[0].trained == 0.5
    assert recall_at_1(embeddings, embeddings, anchors, ~confused)[0].trained == 1.0
    assert recall_at_1(embeddings, embeddings, anchors, confused)[0].chance == pytest.approx(1 / 20)
    assert recall_at_1(embeddings, embeddings, anchors, np.zeros(len(anchors), dtype=bool)) == []


def test_recall_is_not_measured_on_a_single_timepoint(anchors, random_embeddings, embeddings_by_label):
    once = anchors[anchors["t"] == 0].reset_index(drop=True)
    assert recall_at_1(random_embeddings(once), embeddings_by_label(once["track_id"]), once) == []


def test_recall_has_an_interval_over_positions(anchors, random_embeddings, embeddings_by_label):
    (one, _) = recall_at_1(random_embeddings(anchors), embeddings_by_label(anchors["track_id"]), anchors)
    assert (one.n_queries, one.unit, one.n_units, one.is_lower) == (280, "position", 12, False)
    assert one.trained_interval == (1.0, 1.0)
    assert one.untrained_interval is not None
    low, high = one.untrained_interval
    assert low < one.untrained < high < 0.2
    worse, _ = recall_at_1(embeddings_by_label(anchors["track_id"]), random_embeddings(anchors), anchors)
    assert worse.is_lower


def test_an_interval_over_few_positions_is_one_over_lineages(anchors, random_embeddings):
    few = anchors[anchors["position"].eq("A/1/0") | anchors["position"].eq("B/1/0")].reset_index(drop=True)
    few = few[few["experiment"] == "monday"].reset_index(drop=True)
    (one, _) = recall_at_1(random_embeddings(few), random_embeddings(few), few)
    assert (one.unit, one.n_units) == ("lineage", few["lineage_id"].nunique())


def test_recognizing_the_position_only_is_chance_within_the_position(anchors, embeddings_by_label):
    """Each position of an experiment has 3 or 4 tracks; the first of them is the nearest to all."""
    number = anchors.groupby(["experiment", "position"]).ngroup()
    (one, _) = recall_at_1(embeddings_by_label(number), embeddings_by_label(number), anchors)
    assert one.chance == pytest.approx(1 / 20)
    assert one.chance_in_position == pytest.approx(one.trained) == pytest.approx(12 / 40)
