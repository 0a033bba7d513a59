import numpy as np
import pytest

from viscy_train.config.schema import SplitConfig
from viscy_train.errors import UserError
from viscy_train.loading.split import split_anchors

STRATUM = ["experiment", "condition", "position"]


def positions(table, rows):
    return set(table.observations.iloc[rows][STRATUM].astype(str).itertuples(index=False, name=None))


@pytest.mark.parametrize("split", [SplitConfig(fraction=0.5), SplitConfig(by="experiment", experiments=["tuesday"])])
def test_every_anchor_is_in_one_part_and_no_lineage_in_both(table, split):
    train, validation = split_anchors(table, split, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), table.anchors)
    lineage = table.observations["lineage_id"].to_numpy()
    assert not set(lineage[train]) & set(lineage[validation])
    assert len(train)
    assert len(validation)


def test_some_positions_of_each_condition_of_each_experiment_are_kept(table):
    train, validation = split_anchors(table, SplitConfig(fraction=0.5), seed=0)
    for part in (train, validation):
        assert len({(experiment, condition) for experiment, condition, _ in positions(table, part)}) == 4
    assert not positions(table, train) & positions(table, validation)


def test_another_seed_keeps_other_positions(table):
    kept = {frozenset(positions(table, split_anchors(table, SplitConfig(fraction=0.5), seed)[1])) for seed in range(8)}
    assert len(kept) > 1


def test_a_whole_experiment_is_kept(table):
    train, validation = split_anchors(table, SplitConfig(by="experiment", experiments=["tuesday"]), seed=0)
    assert {experiment for experiment, _, _ in positions(table, validation)} == {"tuesday"}
    assert {experiment for experiment, _, _ in positions(table, train)} == {"monday"}


@pytest.mark.parametrize("split", [SplitConfig(fraction=0.2), SplitConfig(by="none")])
def test_nothing_is_kept_where_nothing_can_be_spared_or_is_asked_for(table, split):
    assert not len(split_anchors(table, split, seed=0)[1])


@pytest.mark.parametrize(
    ("experiments", "message"),
    [(["sunday"], "got 'sunday'; there are monday, tuesday"), (["monday", "tuesday"], "must leave")],
)
def test_a_split_that_cannot_be_is_told(table, experiments, message):
    with pytest.raises(UserError, match=message):
        split_anchors(table, SplitConfig(by="experiment", experiments=experiments), seed=0)
