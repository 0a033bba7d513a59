"""A contact sheet shows a bounded number of the conditions of any table, and names the others."""

import numpy as np
import pytest

from viscy_train.contact_sheet.selection import MAX_EXPERIMENTS, MAX_ROWS, select, share_rows
from viscy_train.loading.observed_positions import ObservedPositions


def selected(table):
    return select(table, ObservedPositions(table))


def test_each_condition_of_a_small_table_is_shown_in_two_frames(table):
    selection = selected(table)
    assert selection.left_out == ()
    for index, experiment in enumerate(selection.experiments):
        assert experiment.index == index
        assert [one.name for one in experiment.conditions] == ["uninfected", "infected"]
        assert experiment.left_out == ()
        for condition in experiment.conditions:
            assert len({(one.position, one.frame) for one in condition.frames}) == 2


def test_crops_are_of_the_frame_and_dots_are_all_of_its_cells(table):
    observations = table.observations
    for experiment, frame in selected(table).frames:
        shown = observations.iloc[frame.rows]
        assert set(shown["t"]) == {frame.frame}
        assert set(shown["position"]) == {frame.position}
        of_frame = observations[
            (observations["experiment"] == table.experiments[experiment].name)
            & (observations["position"] == frame.position)
            & (observations["t"] == frame.frame)
        ]
        assert sorted(frame.tracks) == sorted(of_frame["track_id"])
        assert {tuple(cell) for cell in frame.cells} == {tuple(cell) for cell in of_frame[["y", "x"]].to_numpy()}
        assert len(set(frame.rows.tolist())) == min(4, len(of_frame))


def test_of_many_conditions_some_are_shown_that_are_spread_over_all(many_of):
    (experiment,) = selected(many_of(1, 96)).experiments
    numbers = [int(one.name[:4]) for one in experiment.conditions]
    assert len(numbers) == MAX_ROWS
    assert set(np.diff(numbers)) == {4}
    assert len(experiment.left_out) == 72
    assert {one.name for one in experiment.conditions}.isdisjoint(experiment.left_out)


def test_of_many_experiments_the_first_ones_are_shown(many_of):
    selection = selected(many_of(30, 1))
    assert [one.index for one in selection.experiments] == list(range(MAX_EXPERIMENTS))
    assert selection.left_out == tuple(f"day {number}" for number in range(MAX_EXPERIMENTS, 30))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([2, 2], [2, 2]),
        ([1000], [24]),
        ([1000, 3], [21, 3]),
        ([50, 50], [12, 12]),
        ([1, 50, 50], [1, 12, 11]),
        ([2] * 12, [2] * 12),
        ([], []),
    ],
)
def test_experiments_share_the_rows(wanted, expected):
    assert share_rows(wanted, 24) == expected


def test_cells_are_counted_by_frame_and_field_of_view(table):
    observations = table.observations
    for experiment in selected(table).experiments:
        name = table.experiments[experiment.index].name
        for condition in experiment.conditions:
            rows = observations[(observations["experiment"] == name) & (observations["condition"] == condition.name)]
            expected = rows.groupby("t").size() / rows["position"].nunique()
            assert condition.counts.tolist() == expected.tolist()
            assert condition.n_observations == len(rows)
