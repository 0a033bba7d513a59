from dataclasses import replace

import numpy as np
import pytest

from viscy_train.config.schema import SplitConfig
from viscy_train.errors import UserError
from viscy_train.loading.split import split_anchors, split_warnings

COLUMNS = ["experiment", "condition", "position"]


def positions(table, rows):
    """Return the positions of some rows, with their experiment and condition."""
    return set(table.observations.iloc[rows][COLUMNS].astype(str).itertuples(index=False, name=None))


@pytest.mark.parametrize("split", [SplitConfig(fraction=0.5), SplitConfig(by="experiment", experiments=["tuesday"])])
def test_every_anchor_is_in_one_part_and_no_lineage_is_in_both(table, split):
    train, validation = split_anchors(table, split, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), table.anchors)
    lineage = table.observations["lineage_id"].to_numpy()
    assert not set(lineage[train]) & set(lineage[validation])
    assert len(train)
    assert len(validation)


def test_positions_of_every_stratum_are_kept_for_validation(table):
    train, validation = split_anchors(table, SplitConfig(fraction=0.5), seed=0)
    for part in (train, validation):
        assert len({(experiment, condition) for experiment, condition, _ in positions(table, part)}) == 4
    assert not positions(table, train) & positions(table, validation)


def test_a_field_of_view_in_several_experiments_is_in_one_part(table):
    monday, _ = table.experiments
    same_plate = replace(monday, name="tuesday", conditions={"A/1": "uninfected", "B/1/0": "infected"})
    observations = table.observations
    is_used = (observations["experiment"] == "monday") | (observations["position"] != "B/1/1")
    shared = replace(table, observations=observations[is_used].reset_index(drop=True), experiments=[monday, same_plate])
    for seed in range(4):
        train, validation = split_anchors(shared, SplitConfig(fraction=0.5), seed)
        fields = [{position for *_, position in positions(shared, part)} for part in (train, validation)]
        assert not fields[0] & fields[1]
        assert len(fields[1]) == 2
        # The only position of its stratum is left for training.
        assert ("tuesday", "infected", "B/1/0") in positions(shared, train)


def test_another_seed_keeps_other_positions(table):
    kept = {frozenset(positions(table, split_anchors(table, SplitConfig(fraction=0.5), seed)[1])) for seed in range(8)}
    assert len(kept) > 1


def test_a_complete_experiment_can_be_kept_for_validation(table):
    train, validation = split_anchors(table, SplitConfig(by="experiment", experiments=["tuesday"]), seed=0)
    assert {experiment for experiment, _, _ in positions(table, validation)} == {"tuesday"}
    assert {experiment for experiment, _, _ in positions(table, train)} == {"monday"}


@pytest.mark.parametrize("split", [SplitConfig(fraction=0.2), SplitConfig(by="none")])
def test_nothing_is_kept_if_positions_are_too_few_or_the_split_is_off(table, split):
    assert not len(split_anchors(table, split, seed=0)[1])


@pytest.mark.parametrize(
    ("experiments", "message"),
    [(["sunday"], r"\(monday, tuesday\), got 'sunday'"), (["monday", "tuesday"], "must leave")],
)
def test_an_impossible_split_is_refused(table, experiments, message):
    with pytest.raises(UserError, match=message):
        split_anchors(table, SplitConfig(by="experiment", experiments=experiments), seed=0)


@pytest.mark.parametrize(
    ("split", "n_validation", "expected"),
    [
        (SplitConfig(fraction=0.2), 0, ["no anchors are kept for validation"]),
        (SplitConfig(fraction=0.2), 5, []),
        (SplitConfig(fraction=0.0), 0, []),
        (SplitConfig(by="none"), 0, []),
    ],
)
def test_an_empty_validation_part_is_a_warning_unless_it_is_intended(split, n_validation, expected):
    assert [warning.partition(":")[0] for warning in split_warnings(split, n_validation)] == expected
