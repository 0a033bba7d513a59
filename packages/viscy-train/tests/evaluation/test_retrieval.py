"""Retrieval and probe: what can be read off embeddings, on embeddings of which it is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from viscy_train.evaluation.embeddings import probe_conditions, rows_to_embed
from viscy_train.evaluation.retrieval import find_again

N_TRACKS, N_FRAMES = 40, 8


@pytest.fixture
def anchors():
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


def cell_by_cell(anchors):
    """Return embeddings in which each cell has a direction of its own."""
    return np.eye(N_TRACKS, dtype=np.float32)[anchors["track_id"]]


def of_nothing(anchors):
    return np.random.default_rng(0).normal(size=(len(anchors), 16)).astype(np.float32)


def test_a_cell_with_a_direction_of_its_own_is_always_found_again(anchors):
    found = find_again(of_nothing(anchors), cell_by_cell(anchors), anchors)
    assert [(one.frames, one.hours) for one in found] == [(1, 0.5), (4, 2.0)]
    assert [one.trained for one in found] == [1.0, 1.0]
    assert [one.chance for one in found] == pytest.approx([1 / 20, 1 / 20])


def test_embeddings_of_nothing_find_a_cell_by_chance(anchors):
    """Of 280 searches among 20 cells 14 succeed; more than 40 or none at all do with probability below 1e-6."""
    (one, _) = find_again(of_nothing(anchors), cell_by_cell(anchors), anchors)
    assert 0 < one.untrained < 40 / 280


def test_cells_are_sought_in_their_own_experiment(anchors):
    """Two cells of one direction in different experiments are no hindrance, in one experiment they are."""
    embeddings = np.eye(N_TRACKS // 2, dtype=np.float32)[anchors["track_id"] // 2]
    assert find_again(embeddings, embeddings, anchors)[0].trained == 1.0
    embeddings = np.eye(N_TRACKS // 2, dtype=np.float32)[anchors["track_id"] % 20]
    assert find_again(embeddings, embeddings, anchors)[0].trained == 0.5


def test_cells_that_are_gone_are_not_sought(anchors):
    gone = anchors[(anchors["track_id"] > 30) | (anchors["t"] == 0)].reset_index(drop=True)
    found = find_again(of_nothing(gone), cell_by_cell(gone), gone)
    assert [one.trained for one in found] == [1.0, 1.0]


def test_cells_are_sought_among_all_but_only_those_that_are_asked_for(anchors):
    """Tracks 0 and 2 share a direction, so each is found in half of the cases, or never where the other is nearer."""
    direction = anchors["track_id"].replace({2: 0}).to_numpy()
    embeddings = np.eye(N_TRACKS, dtype=np.float32)[direction]
    confused = anchors["track_id"].isin([0, 2]).to_numpy()
    assert find_again(embeddings, embeddings, anchors, confused)[0].trained == 0.5
    assert find_again(embeddings, embeddings, anchors, ~confused)[0].trained == 1.0
    assert find_again(embeddings, embeddings, anchors, confused)[0].chance == pytest.approx(1 / 20)
    assert find_again(embeddings, embeddings, anchors, np.zeros(len(anchors), dtype=bool)) == []


def test_positions_that_were_kept_are_embedded_first_evenly_over_conditions():
    """Four positions a condition, ten cells each, of which the third of either condition was kept."""
    positions = pd.Categorical([f"{well}/1/{n}" for well in "AB" for n in range(4) for _ in range(10)])
    cells = pd.DataFrame({"position": positions}).assign(
        experiment="monday", condition=np.repeat(["uninfected", "infected"], 40)
    )
    table = SimpleNamespace(observations=cells, anchors=np.arange(1, 80))
    kept = np.flatnonzero(positions.isin(["A/1/2", "B/1/2"]))
    chosen = [cells["position"].iloc[rows_to_embed(table, kept, most)].unique().tolist() for most in (5, 20, 35, 1000)]
    assert chosen[0] == chosen[1] == ["A/1/2", "B/1/2"]
    assert len(chosen[2]) == 3
    assert {"A/1/2", "B/1/2"} < set(chosen[2])
    assert len(chosen[3]) == 8
    assert rows_to_embed(table, kept, 1000).tolist() == list(range(1, 80))


def test_without_two_times_there_is_nothing_to_find(anchors):
    once = anchors[anchors["t"] == 0].reset_index(drop=True)
    assert find_again(of_nothing(once), cell_by_cell(once), once) == []


def test_a_condition_that_embeddings_hold_is_named_in_unseen_positions(anchors):
    told = of_nothing(anchors)
    told[:, 0] += 20 * (anchors["condition"] == "infected")
    early, late = probe_conditions(of_nothing(anchors), told, anchors, seed=0)
    assert (early.from_hours, late.to_hours) == (3.0, 6.5)
    assert early.unseen == late.unseen == "position"
    assert early.chance == late.chance == 0.5
    assert early.trained == late.trained == 1.0
    assert max(early.untrained, late.untrained) < 0.8


def test_what_a_position_looks_like_does_not_help_to_name_its_condition(anchors):
    """Light and focus tell one position from another; of a position that was not seen they say nothing."""
    number = anchors.groupby(["experiment", "position"]).ngroup()
    embeddings = np.eye(number.max() + 1, dtype=np.float32)[number]
    early, _ = probe_conditions(embeddings, embeddings, anchors, seed=0)
    assert early.trained < 0.8


def test_a_lineage_that_is_its_own_giveaway_does_not_help_to_name_its_condition(anchors):
    """With one position a condition, splits are by lineage: of one that was not seen the others say nothing."""
    alone = anchors[anchors["experiment"] == "monday"].assign(position="A/1/0")
    kin = alone.assign(lineage_id=alone["track_id"] // 8 * 8 + alone["track_id"] % 4).reset_index(drop=True)
    embeddings = np.eye(N_TRACKS, dtype=np.float32)[kin["lineage_id"]]
    early, _ = probe_conditions(embeddings, embeddings, kin, seed=0)
    assert early.unseen == "lineage"
    assert early.trained < 0.8


def test_too_few_lineages_are_not_probed(anchors):
    few = anchors[anchors["track_id"] < 8].assign(position="A/1/0", experiment="monday").reset_index(drop=True)
    assert probe_conditions(of_nothing(few), of_nothing(few), few, seed=0) == []
