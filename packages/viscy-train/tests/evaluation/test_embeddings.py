from types import SimpleNamespace

import numpy as np
import pandas as pd

from viscy_train.evaluation.embeddings import probe_conditions, rows_to_embed
from viscy_train.evaluation.probes import Accuracy


def test_held_out_positions_are_embedded_first_and_evenly_over_conditions():
    """Four positions of ten cells for each condition, the third of which is held out."""
    positions = pd.Categorical([f"{well}/1/{n}" for well in "AB" for n in range(4) for _ in range(10)])
    observations = pd.DataFrame({"position": positions}).assign(
        experiment="monday", condition=np.repeat(["uninfected", "infected"], 40)
    )
    table = SimpleNamespace(observations=observations, anchors=np.arange(1, 80))
    held_out = np.flatnonzero(positions.isin(["A/1/2", "B/1/2"]))

    def chosen_positions(max_anchors):
        return observations["position"].iloc[rows_to_embed(table, held_out, max_anchors)].unique().tolist()

    assert chosen_positions(5) == chosen_positions(20) == ["A/1/2", "B/1/2"]
    assert len(chosen_positions(35)) == 3
    assert {"A/1/2", "B/1/2"} < set(chosen_positions(35))
    assert len(chosen_positions(1000)) == 8
    assert rows_to_embed(table, held_out, 1000).tolist() == list(range(1, 80))


def test_a_probe_predicts_a_condition_in_positions_that_it_was_not_fitted_to(anchors, random_embeddings):
    informative = random_embeddings(anchors)
    informative[:, 0] += 20 * (anchors["condition"] == "infected")
    early, late = probe_conditions(random_embeddings(anchors), informative, anchors, seed=0)
    assert (early.from_hours, late.to_hours) == (3.0, 6.5)
    assert early.held_out == late.held_out == "position"
    assert early.chance == late.chance == 0.5
    assert early.trained == late.trained == Accuracy(mean=1.0, error=0.0)
    assert max(early.untrained.mean, late.untrained.mean) < 0.8
    assert (early.n_units, early.n_fewest, early.is_conclusive) == (12, 6, True)


def test_the_appearance_of_a_position_does_not_help_a_probe(anchors, embeddings_by_label):
    """Illumination distinguishes positions, but says nothing about a position that the probe was not fitted to."""
    embeddings = embeddings_by_label(anchors.groupby(["experiment", "position"]).ngroup())
    early, _ = probe_conditions(embeddings, embeddings, anchors, seed=0)
    assert early.trained.mean < 0.8


def test_the_appearance_of_a_lineage_does_not_help_a_probe(anchors, embeddings_by_label):
    """If each condition has one position, lineages are held out: the others say nothing about them."""
    alone = anchors[anchors["experiment"] == "monday"].assign(position="A/1/0")
    kin = alone.assign(lineage_id=alone["track_id"] // 8 * 8 + alone["track_id"] % 4).reset_index(drop=True)
    embeddings = embeddings_by_label(kin["lineage_id"])
    early, _ = probe_conditions(embeddings, embeddings, kin, seed=0)
    assert early.held_out == "lineage"
    assert early.trained.mean < 0.8


def test_noise_has_the_accuracy_of_chance_within_its_error(anchors):
    """One position of each condition has more cells than the other, and positions look different."""
    table = anchors[anchors["experiment"] == "monday"]
    sizes = {"A/1/0": 4, "A/1/1": 1, "B/1/0": 1, "B/1/1": 4}
    table = pd.concat([table[table["position"] == position].iloc[: 8 * n] for position, n in sizes.items()])
    table = table.assign(lineage_id=np.arange(len(table))).reset_index(drop=True)
    codes = table.groupby("position").ngroup().to_numpy()
    deviations = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        noise = (rng.normal(size=(4, 8))[codes] + rng.normal(size=(len(table), 8))).astype(np.float32)
        early, _ = probe_conditions(noise, noise, table, seed=0)
        assert (early.held_out, early.n_fewest, early.is_conclusive) == ("position", 2, False)
        deviations.append(abs(early.trained.mean - early.chance) / early.trained.error)
    assert np.median(deviations) < 3, deviations


def test_too_few_lineages_are_not_probed(anchors, random_embeddings):
    few = anchors[anchors["track_id"] < 8].assign(position="A/1/0", experiment="monday").reset_index(drop=True)
    assert probe_conditions(random_embeddings(few), random_embeddings(few), few, seed=0) == []
