"""Nuclei are found once, labeled by phase, and divided into positions that share no pixels and no cells."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.study.hela_nuclei import cached_tracks, divide_nuclei, is_dividing, make_positions
from viscy_train.tracks.tracks import COLUMNS


def make_tracks(tracks):
    """Return tracks of nuclei, from the parent, the first frame and the centers (y, x) of each, by number."""
    rows = [
        {"track_id": track, "t": first + i, "y": y, "x": x, "parent_track_id": parent}
        for track, (parent, first, centers) in tracks.items()
        for i, (y, x) in enumerate(centers)
    ]
    table = pd.DataFrame(rows).astype({"y": float, "x": float})
    return table.assign(id=np.arange(1, len(table) + 1), parent_id=-1)[COLUMNS]


def labels():
    """Return two nuclei that stand still for three frames."""
    found = np.zeros((3, 60, 60), dtype=np.uint16)
    found[:, 10:15, 10:15], found[:, 40:45, 40:45] = 1, 2
    return found


def refuse():
    raise AssertionError("nuclei are found twice")


def test_nuclei_are_found_and_linked_once(tmp_path):
    path = tmp_path / "new" / "nuclei.npz"
    first = cached_tracks(path, labels)
    assert first["track_id"].value_counts().tolist() == [3, 3]
    pd.testing.assert_frame_equal(cached_tracks(path, refuse), first)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_mother_divides_in_her_last_frame_and_her_daughters_in_their_first():
    tracks = make_tracks(
        {
            1: (-1, 0, [(5, 5)] * 3),
            2: (1, 3, [(2, 5)] * 2),
            3: (1, 3, [(8, 5)] * 2),
            4: (-1, 0, [(30, 30)] * 5),
        }
    )
    dividing = tracks[is_dividing(tracks)]
    assert list(zip(dividing["track_id"], dividing["t"], strict=True)) == [(1, 2), (2, 3), (3, 3)]


def test_a_track_with_one_daughter_does_not_divide():
    tracks = make_tracks({1: (-1, 0, [(5, 5)] * 2), 2: (1, 2, [(5, 6)] * 2)})
    assert not is_dividing(tracks).any()


@pytest.mark.parametrize("size", [(150, 160), (700, 1100), (701, 1099)])
def test_six_experiments_of_two_positions_cover_the_field_and_share_no_pixels(size):
    times = np.zeros(size, dtype=int)
    positions = make_positions(*size)
    for tile in positions.values():
        times[tile] += 1
    assert (times == 1).all()
    assert list(positions) == [(number, f"A/1/{half}") for number in range(6) for half in range(2)]


def test_a_lineage_is_in_one_position_the_one_with_most_of_its_nuclei():
    # Positions are 50 pixels high and 40 wide.
    tracks = make_tracks(
        {
            1: (-1, 0, [(20, 34), (20, 37), (20, 41)]),  # leaves
            2: (-1, 0, [(20, 60), (45, 60)]),
            3: (2, 2, [(47, 60)]),
            4: (2, 2, [(53, 60)]),  # in the next experiment
            5: (-1, 0, [(120, 39), (120, 40)]),  # as often on both sides
        }
    )
    nuclei = divide_nuclei(tracks, make_positions(150, 160))
    found = nuclei[["experiment", "position", "track_id", "t", "x"]].to_numpy().tolist()
    assert found == [
        [0, "A/1/0", 1, 0, 34],
        [0, "A/1/0", 1, 1, 37],
        [0, "A/1/1", 2, 0, 20],
        [0, "A/1/1", 2, 1, 20],
        [0, "A/1/1", 3, 2, 20],
        [2, "A/1/0", 5, 0, 39],
    ]


def test_phases_are_those_before_tracks_are_cut():
    tracks = make_tracks({1: (-1, 0, [(45, 20)] * 2), 2: (1, 2, [(47, 20)]), 3: (1, 2, [(53, 20)])})
    nuclei = divide_nuclei(tracks, make_positions(150, 160))
    assert nuclei["track_id"].tolist() == [1, 1, 2]
    assert nuclei["phase"].tolist() == ["interphase", "dividing", "dividing"]
