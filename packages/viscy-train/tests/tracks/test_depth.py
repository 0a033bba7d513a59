"""Cells that are in other slices than those that crops have are noticed."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.tracks.depth import ReadSlices, slices_away
from viscy_train.tracks.tracks import Tracks

MIDDLE = ReadSlices(slice(7, 8), 15, 0.5)
SHAPE = (4, 1, 15, 48, 64)


def away(z, micrometers=None, read=MIDDLE):
    return slices_away(pd.DataFrame({"z": z}), micrometers, read)


def test_cells_are_so_many_slices_away():
    assert away([0, 5, 9, 9.5, 14]).tolist() == [7, 0, 0, 2.5, 7]
    assert away([0, 14], read=ReadSlices(slice(3, 12), 15, None)).tolist() == [3, 3]
    assert away([0.0, 2.5, 3.5, 7.0], micrometers=1.0).tolist() == [7, 0, 0, 7]


@pytest.mark.parametrize(
    ("z", "micrometers", "read"),
    [
        ([0, 0, 0], None, MIDDLE),  # tracks of a projection
        ([1, 2, "x"], None, MIDDLE),
        ([1, 2, None], None, MIDDLE),
        ([1, 20], None, MIDDLE),  # probably in another unit
        ([1, 2], 1.0, MIDDLE._replace(micrometers=None)),
        ([1, 2], None, ReadSlices(slice(0, 1), 1, None)),
    ],
)
def test_what_is_not_known_is_not_guessed(z, micrometers, read):
    assert away(z, micrometers, read) is None


def test_tracks_without_z_say_nothing():
    assert slices_away(pd.DataFrame({"y": [1.0]}), None, MIDDLE) is None


def write(folder, column, z):
    names = ["ID", "T", "Z", "Y", "X"] if column == "Z" else ["track_id", "t", "z", "y", "x"]
    if column == "POSITION_Z":
        names = ["TRACK_ID", "FRAME", "POSITION_Z", "POSITION_Y", "POSITION_X"]
    rows = [(cell, t, z + 0.1 * t, 6.0 * cell, 60 - 7.0 * cell) for cell in range(1, 8) for t in range(4)]
    pd.DataFrame(rows, columns=names).assign(**{"ID": range(28)} if "POSITION_Z" in names else {}).to_csv(
        folder / "0.csv", index=False
    )


@pytest.mark.parametrize("column", ["z", "Z", "POSITION_Z"])
@pytest.mark.parametrize(("z", "is_far"), [(2.0, True), (7.0, False), (8.5, False)])
def test_tables_that_say_the_slice_of_a_cell_are_a_doubt_if_it_is_not_read(tmp_path, column, z, is_far):
    write(tmp_path, column, z)
    tracks = Tracks(tmp_path)
    read = tracks.of("0", shape=SHAPE, read=MIDDLE)
    assert "z" not in read
    if not is_far:
        assert tracks.doubts() == []
        return
    (doubt,) = tracks.doubts()
    assert doubt == (
        "100% of the cells are more than 2 slices away from slice 7 of 0 to 14, which crops contain, as z in the "
        "tracks says (0); set `data.z` to sharpest or maximum"
    )


def test_some_cells_far_from_the_slices_are_accepted(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(cell, t, rng.uniform(4, 14), 6.0 * cell, 50.0) for cell in range(1, 8) for t in range(4)]
    pd.DataFrame(rows, columns=["track_id", "t", "z", "y", "x"]).to_csv(tmp_path / "0.csv", index=False)
    tracks = Tracks(tmp_path)
    tracks.of("0", shape=SHAPE, read=ReadSlices(slice(6, 11), 15, None))
    assert tracks.doubts() == []
