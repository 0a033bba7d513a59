from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viscy_train.anchors import COLUMNS, build_anchors, partners_of, read_anchors, write_anchors
from viscy_train.config import PositiveConfig
from viscy_train.errors import UserError
from viscy_train.tracks import read_tracks


@pytest.fixture
def anchors(config):
    return build_anchors(config)


def test_there_is_a_row_for_each_tracked_cell_in_a_frame(config, anchors):
    assert list(anchors.columns) == COLUMNS
    for experiment in config.experiments:
        for well, condition in experiment.conditions.items():
            tracks = read_tracks(experiment.tracks / well / "0.csv").sort_values(["track_id", "t"])
            rows = anchors[(anchors["experiment"] == experiment.name) & (anchors["position"] == f"{well}/0")]
            assert (rows["condition"] == condition).all()
            assert (rows["well"] == well).all()
            for column in ("track_id", "t", "y", "x", "id"):
                np.testing.assert_array_equal(rows[column], tracks[column])


def test_hours_count_from_the_infection(config, anchors):
    assert config.experiments[0].hours_at_start == 3.0
    np.testing.assert_allclose(anchors["hours_post_infection"], 3.0 + 0.5 * anchors["t"])


def test_an_anchor_table_survives_the_disk(tmp_path, anchors):
    write_anchors(tmp_path / "anchors.csv", anchors)
    pd.testing.assert_frame_equal(read_anchors(tmp_path / "anchors.csv"), anchors)


def test_conditions_that_look_like_numbers_or_nothing_stay_text(tmp_path, anchors):
    odd = anchors.assign(condition=np.where(anchors["condition"] == "infected", "1", "NA"))
    write_anchors(tmp_path / "anchors.csv", odd)
    assert set(read_anchors(tmp_path / "anchors.csv")["condition"]) == {"1", "NA"}


def cells(times, track=1):
    return pd.DataFrame({"experiment": "monday", "position": "A/1/0", "track_id": track, "t": times})


def test_partners_are_those_of_the_track_within_the_bounds():
    table = pd.concat([cells([0, 1, 3, 9]), cells([0, 2], track=2)], ignore_index=True)
    found = partners_of(table, PositiveConfig(min_frames=2, max_frames=3))
    sets = [set(row[row >= 0].tolist()) for row in found]
    assert sets == [{2}, {2}, {0, 1}, set(), {5}, {4}]


def test_partners_do_not_depend_on_the_order_of_the_rows():
    table = pd.concat([cells([0, 1, 3, 9]), cells([0, 2], track=2)], ignore_index=True)
    order = np.array([4, 0, 3, 5, 2, 1])
    bounds = PositiveConfig(min_frames=1, max_frames=3)
    for row, found in zip(order, partners_of(table.iloc[order].reset_index(drop=True), bounds), strict=True):
        expected = partners_of(table, bounds)[row]
        assert set(order[found[found >= 0]]) == set(expected[expected >= 0])


def test_cells_without_another_time_are_no_anchors(config):
    far = build_anchors(replace(config, positive=PositiveConfig(min_frames=20, max_frames=23)))
    assert set(far["t"]) == {0, 1, 2, 3, 20, 21, 22, 23}
    with pytest.raises(UserError, match="no cell is tracked at two times 24 to 30 frames apart"):
        build_anchors(replace(config, positive=PositiveConfig(min_frames=24, max_frames=30)))
