"""Folds of a project hold each experiment or position out once, and what is measured is chosen from all strata."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from viscy_train.errors import UserError
from viscy_train.study.cases import experiment_folds, held_out_rows, position_folds
from viscy_train.study.evaluation_rows import evaluation_rows

CONFIG = Path("config.yaml")


def places(table, is_in):
    """Return the experiments and positions of some observations."""
    rows = table.observations[is_in][["experiment", "position"]].drop_duplicates().astype(str)
    return set(rows.itertuples(index=False, name=None))


def of_experiment(table, name):
    """Return a table with the observations of one experiment."""
    rows = table.observations
    return replace(table, observations=rows[(rows["experiment"] == name).to_numpy()].reset_index(drop=True))


def test_each_experiment_is_held_out_once(table):
    folds = experiment_folds(table, "project", CONFIG)
    assert [(case.world, case.fold) for case in folds] == [("project", "monday"), ("project", "tuesday")]
    for case in folds:
        is_held_out = held_out_rows(table, case.held_out)
        assert is_held_out.tolist() == (table.observations["experiment"] == case.fold).tolist()


def test_each_position_is_held_out_once_and_every_stratum_stays_in_training(table):
    folds = position_folds(table, "project", CONFIG)
    assert [case.fold for case in folds] == ["positions 1 of 2", "positions 2 of 2"]
    masks = np.stack([held_out_rows(table, case.held_out) for case in folds])
    assert (masks.sum(axis=0) == 1).all()
    strata = table.observations[["experiment", "condition"]].astype(str).agg(" ".join, axis=1)
    for is_held_out in masks:
        assert set(strata[~is_held_out]) == set(strata[is_held_out]) == set(strata)
    assert not places(table, masks[0]) & places(table, masks[1])
    assert position_folds(table, "project", CONFIG) == folds


def test_a_field_of_view_in_several_experiments_is_held_out_in_all_of_them(table):
    monday, _ = table.experiments
    shared = replace(table, experiments=[monday, replace(monday, name="tuesday")])
    assert places(shared, held_out_rows(shared, (("monday", "A/1/0"),))) == {("monday", "A/1/0"), ("tuesday", "A/1/0")}
    assert held_out_rows(shared, (("monday", None),)).all()


def test_too_few_experiments_or_positions_are_refused(table):
    monday = of_experiment(table, "monday")
    with pytest.raises(UserError, match=r"at least 2 with anchors, got 1 experiment; .* --hold-out position"):
        experiment_folds(monday, "project", CONFIG)
    rows = table.observations
    is_kept = ((rows["experiment"] != "tuesday") | (rows["position"] != "B/1/1")).to_numpy()
    few = replace(table, observations=rows[is_kept].reset_index(drop=True))
    with pytest.raises(UserError, match=r"got 1 of 'infected' in 'tuesday'; .* --hold-out experiment"):
        position_folds(few, "project", CONFIG)


def test_all_anchors_are_measured_if_they_are_few(table):
    is_held_out = held_out_rows(table, (("monday", None),))
    np.testing.assert_array_equal(evaluation_rows(table, is_held_out, len(table.anchors)), table.anchors)


@pytest.mark.parametrize("max_rows", [1, 40, 100])
def test_of_many_anchors_runs_of_frames_of_each_stratum_are_measured(table, max_rows):
    is_held_out = held_out_rows(table, (("monday", None),))
    rows = evaluation_rows(table, is_held_out, max_rows)
    assert set(rows) < set(table.anchors)
    assert (np.diff(rows) > 0).all()
    chosen = table.observations.iloc[rows]
    assert len(chosen[["experiment", "condition"]].drop_duplicates()) == 4
    for _, frames in chosen.groupby(["lineage_id", "track_id"], observed=True)["t"]:
        assert 2 <= len(frames) <= 8
        assert (np.diff(frames) == 1).all()
    assert (chosen.groupby("lineage_id")["track_id"].nunique() == 1).all()
    sizes = chosen.groupby(["experiment", "condition"], observed=True).size()
    assert len(rows) <= max_rows + 8 * len(sizes)
    assert sizes.max() - sizes.min() <= 8 or sizes.min() >= max_rows / len(sizes) - 8
    np.testing.assert_array_equal(evaluation_rows(table, is_held_out, max_rows), rows)
