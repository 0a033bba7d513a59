"""Nearest neighbors of embeddings whose likeness is known."""

import numpy as np
import pytest

from viscy_train.evaluation.neighbors import find_neighbors, labels_of, lineages_of, measure_neighbors

PLATES = {"monday": "one", "tuesday": "one"}


def measure(anchors, embeddings, is_query=None, plates=PLATES):
    """Measure shares, by what is shared and among what."""
    is_query = np.ones(len(anchors), dtype=bool) if is_query is None else is_query
    shares = measure_neighbors(embeddings, embeddings, anchors, is_query, plates, seed=0)
    return {(share.label, share.among): share for share in shares}


def look_of(anchors, label, noise=0.1):
    """Return embeddings that are a direction for each value of a label, and noise."""
    labels = labels_of(anchors, label, PLATES)
    noises = np.random.default_rng(0).normal(size=(len(anchors), 16)) * noise
    return (np.eye(16)[labels % 16] + noises).astype(np.float32)


@pytest.mark.parametrize("among", ["lineage", "position", "experiment"])
def test_neighbors_are_what_sorting_all_similarities_gives(anchors, random_embeddings, among):
    embeddings = random_embeddings(anchors)
    queries = np.arange(0, len(anchors), 7)
    found = find_neighbors(embeddings, anchors, queries, among, 3)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    own = {"lineage": anchors["track_id"], "experiment": anchors["experiment"]}
    of_row = lineages_of(anchors).of_row
    for number, query in enumerate(queries):
        is_other = (
            own.get(among, anchors["experiment"] + anchors["position"])
            != own.get(among, anchors["experiment"] + anchors["position"]).iloc[query]
        )
        similarity = (unit[query] @ unit.T)[is_other.to_numpy()]
        best = anchors[is_other].assign(similarity=similarity, lineage=of_row[is_other])
        best = best.groupby("lineage")["similarity"].max().nlargest(3)
        assert found.lineages[number].tolist() == best.index.tolist()
        assert found.similarity[number] == pytest.approx(best.to_numpy(), abs=1e-5)


def test_too_few_lineages_leave_places_empty(anchors, random_embeddings):
    few = anchors[anchors["track_id"] < 3].reset_index(drop=True)
    found = find_neighbors(random_embeddings(few), few, np.arange(len(few)), "lineage")
    assert found.lineages.shape == (24, 3)
    assert (found.lineages[:, -1] == -1).all()
    assert (found.lineages[:, :2] >= 0).all()


def test_neighbors_have_the_channel_of_their_anchor(anchors, random_embeddings):
    of_channels = anchors.assign(channel=np.where(anchors["t"] % 2, "Phase", "GFP"))
    lineages = lineages_of(of_channels)
    found = find_neighbors(random_embeddings(anchors), of_channels, np.arange(40), "lineage")
    channel = of_channels["channel"].to_numpy()
    assert (channel[lineages.first][found.lineages] == channel[:40, None]).all()


def test_random_embeddings_share_nothing_beyond_chance(anchors):
    """Of 40 shares, 2 raise an alarm on average, and more than 8 with a probability below 1e-3."""
    shares = []
    for seed in range(10):
        embeddings = np.random.default_rng(seed).normal(size=(len(anchors), 8)).astype(np.float32)
        shares += measure(anchors, embeddings).values()
    assert len(shares) == 40
    assert sum(not share.permuted.explains for share in shares) <= 8
    for share in shares:
        assert share.trained_interval[0] <= share.trained <= share.trained_interval[1]
        assert (share.n_queries, share.unit, share.n_units) == (320, "position", 12)


@pytest.mark.parametrize(
    ("look", "found"),
    [
        ("condition", {("condition", "experiment"), ("condition", "position")}),
        ("experiment", {("experiment", "position")}),
        # The neighbors of other positions are of any: the look of a position says nothing about its condition.
        ("position", {("position", "lineage")}),
    ],
)
def test_what_the_embeddings_look_like_is_shared_and_nothing_else(anchors, look, found):
    shares = measure(anchors, look_of(anchors, look))
    assert {kind for kind, share in shares.items() if not share.permuted.explains} == found
    # A position has only three or four lineages.
    assert all(shares[kind].trained > (0.4 if look == "position" else 0.9) for kind in found)


def test_conditions_of_one_experiment_each_are_not_compared_across_experiments_in_vain(anchors):
    """Neighbors of another experiment never have the condition: permuted labels show it, so nothing is claimed."""
    confounded = anchors.assign(condition=anchors["experiment"])
    shares = measure(confounded, look_of(confounded, "experiment"))
    assert shares["condition", "experiment"].trained == 0
    assert shares["condition", "experiment"].permuted.p > 0.5


def test_wells_and_plates_count_where_they_are_not_positions_and_experiments(anchors, random_embeddings):
    assert ("well", "position") not in measure(anchors, random_embeddings(anchors))
    wells = anchors.assign(well=anchors["position"].str[:3])
    assert ("well", "position") in measure(wells, random_embeddings(wells))
    assert ("plate", "position") not in measure(wells, random_embeddings(wells))
    three = wells.assign(experiment=np.where(wells["track_id"] % 8 == 0, "friday", wells["experiment"]))
    assert ("plate", "position") in measure(three, random_embeddings(three), plates=PLATES | {"friday": "two"})


def test_only_queries_are_counted_but_neighbors_are_any(anchors):
    is_query = (anchors["experiment"] == "monday").to_numpy()
    share = measure(anchors, look_of(anchors, "condition"), is_query)["condition", "experiment"]
    assert share.n_queries == is_query.sum()
    assert share.trained > 0.9


def test_a_position_is_not_compared_if_it_is_the_only_one_of_its_condition(anchors, random_embeddings):
    merged = anchors.assign(position=anchors["position"].str[:3])
    assert {kind[0] for kind in measure(merged, random_embeddings(merged))} == {"condition", "experiment"}


def test_one_position_of_one_condition_has_nothing_to_share(anchors, random_embeddings):
    alone = anchors[(anchors["experiment"] == "monday") & (anchors["position"] == "A/1/0")].reset_index(drop=True)
    assert measure(alone, random_embeddings(alone)) == {}


def test_of_many_queries_a_random_part_is_taken(anchors, monkeypatch, random_embeddings):
    monkeypatch.setattr("viscy_train.evaluation.neighbors.MAX_QUERIES", 50)
    shares = measure(anchors, random_embeddings(anchors))
    assert {share.n_queries for share in shares.values()} == {50}
