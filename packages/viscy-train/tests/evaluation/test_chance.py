"""What a probe scores if its labels are permuted."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.evaluation.chance import measure_chance
from viscy_train.evaluation.embeddings import probe_conditions
from viscy_train.evaluation.interval import interval_of_t


def chance_of(probe):
    """Return what permuted labels give."""
    assert probe.permuted is not None
    return probe.permuted


def make_cells(n_experiments=2, n_positions=6, n_cells=20):
    """Make a table in which half of the positions of each experiment have each condition."""
    position = np.repeat(np.arange(n_experiments * n_positions), n_cells)
    return pd.DataFrame(
        {
            "experiment": [f"day {one // n_positions}" for one in position],
            "position": [f"A/{one % n_positions}" for one in position],
            "lineage_id": np.arange(len(position)),
            "condition": np.where(position % 2 == 0, "mock", "virus"),
            "hours_post_infection": np.tile(np.linspace(0, 9, n_cells), n_experiments * n_positions),
        }
    )


def look_of_positions(cells, seed):
    """Return embeddings that depend on the position only, and noise."""
    rng = np.random.default_rng(seed)
    number = cells.groupby(["experiment", "position"]).ngroup().to_numpy()
    look = rng.normal(size=(number.max() + 1, 8))[number]
    return (look + 0.3 * rng.normal(size=(len(cells), 8))).astype(np.float32)


def test_what_positions_look_like_is_indistinguishable_from_a_condition_by_chance():
    """At the level of 0.05, 2 of 40 false alarms are expected; more than 7 have a probability of 0.001."""
    cells = make_cells()
    alarms = []
    for seed in range(20):
        embeddings = look_of_positions(cells, seed)
        alarms += [not chance_of(probe).explains for probe in probe_conditions(embeddings, embeddings, cells, seed)]
    assert len(alarms) == 40
    assert sum(alarms) <= 7


def test_a_condition_that_the_embeddings_contain_is_not_chance():
    cells = make_cells(n_experiments=4)
    embeddings = look_of_positions(cells, 0)
    embeddings[:, 0] += 20 * (cells["condition"] == "virus")
    early, late = probe_conditions(embeddings, embeddings, cells, 0)
    for probe in (early, late):
        assert probe.trained.mean > 0.9
        chance = chance_of(probe)
        assert chance.p < 0.02
        assert chance.low < 0.5 < chance.high < 0.95
        assert not chance.explains
    assert (early.n_anchors, early.n_units, chance_of(early).n_arrangements) == (168, 24, 160000.0)


def test_three_positions_of_each_condition_say_little():
    """Of 20 labelings, two separate the positions: no accuracy is significant."""
    cells = make_cells(n_experiments=1)
    embeddings = np.where(cells["condition"] == "virus", 1.0, -1.0)[:, np.newaxis].astype(np.float32)
    early, _ = probe_conditions(embeddings, embeddings, cells, 0)
    assert early.trained.mean == 1.0
    assert chance_of(early).n_arrangements == 20
    assert chance_of(early).explains


def scores_of_permutations(labels, units, strata):
    """Return the labelings that a measurement of chance has tried."""
    seen = []
    measure_chance(lambda permuted: seen.append(permuted) or 0.0, *map(np.asarray, (labels, units, strata)), 0)
    return np.array(seen)


def test_units_change_labels_within_their_experiment_if_that_allows_enough_arrangements():
    units, strata = np.repeat(np.arange(20), 3), np.repeat([0, 1], 30)
    labels = units % 2
    permuted = scores_of_permutations(labels, units, strata)
    for labeling in permuted:
        assert all(len(set(labeling[units == unit])) == 1 for unit in range(20)), "a unit has two labels"
        assert labeling[:30].sum() == labeling[30:].sum() == 15
    apart = scores_of_permutations(strata, units, strata)
    assert len({tuple(labeling) for labeling in apart}) > 100, "labels of whole experiments change between them"


def test_labels_that_change_within_a_unit_are_shifted():
    units = np.repeat([0, 1], 10)
    labels = np.tile([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], 2)
    for labeling in scores_of_permutations(labels, units, np.zeros(20, dtype=int)):
        for rows in (labeling[:10], labeling[10:]):
            assert rows.sum() == 5
            assert (np.diff(np.append(rows, rows[0])) != 0).sum() == 2, "a run of labels was broken"


def test_labels_that_are_all_the_same_have_no_chance():
    assert measure_chance(lambda _: 1.0, np.zeros(4, dtype=int), np.arange(4), np.zeros(4, dtype=int), 0) is None


@pytest.mark.parametrize(("n_units", "expected"), [(1, (0.0, 1.0)), (3, (0.585, 1.0)), (1000, (0.702, 0.898))])
def test_an_interval_is_wider_with_fewer_units(n_units, expected):
    assert interval_of_t(0.8, 0.05, n_units) == pytest.approx(expected, abs=5e-4)
