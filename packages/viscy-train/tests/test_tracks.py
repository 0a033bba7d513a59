import numpy as np
import pandas as pd
import pytest

from viscy_train import simulation
from viscy_train.errors import UserError
from viscy_train.tracks import COLUMNS, read_tracks, write_tracks

INTEGERS = ["track_id", "t", "id", "parent_track_id", "parent_id"]


@pytest.fixture
def tracks():
    return simulation.tracks_of(simulation.simulate_cells(np.random.default_rng(0), 3, infected=False))


def test_tracks_come_back_as_they_were_written(tmp_path, tracks):
    write_tracks(tmp_path / "A" / "0.csv", tracks)
    header = (tmp_path / "A" / "0.csv").read_text().splitlines()[0]
    assert header == "track_id,t,y,x,id,parent_track_id,parent_id"
    pd.testing.assert_frame_equal(read_tracks(tmp_path / "A" / "0.csv"), tracks)


def test_a_parent_is_the_cell_of_the_frame_before(tracks):
    by_id = tracks.set_index("id")
    children = tracks[tracks["parent_id"] >= 0]
    parents = by_id.loc[children["parent_id"]]
    assert (parents["t"].to_numpy() == children["t"].to_numpy() - 1).all()
    same_track = parents["track_id"].to_numpy() == children["track_id"].to_numpy()
    mothers = parents["track_id"].to_numpy() == children["parent_track_id"].to_numpy()
    assert (same_track | mothers).all()
    assert (tracks.loc[tracks["parent_id"] < 0, "parent_track_id"] == -1).all()


def test_a_division_gives_two_daughters_where_the_mother_ends(tracks):
    daughters = tracks[tracks["parent_track_id"] > 0].groupby("track_id").first()
    assert len(daughters) == 2
    mother = tracks[tracks["track_id"] == daughters["parent_track_id"].iloc[0]]
    assert (daughters["t"] == mother["t"].max() + 1).all()


def broken(tracks, how):
    if how == "no column":
        return tracks.drop(columns=["parent_id"])
    if how == "no row":
        return tracks.iloc[:0]
    if how == "missing":
        return tracks.assign(y=tracks["y"].where(tracks.index != 4))
    if how == "text":
        return tracks.assign(x=tracks["x"].astype(object).where(tracks.index != 4, "left"))
    if how == "fraction":
        return tracks.assign(t=tracks["t"] + 0.5)
    if how == "infinite":
        return tracks.assign(y=np.inf)
    if how.startswith("huge "):
        return tracks.assign(**{how.removeprefix("huge "): 1e30})
    return pd.concat([tracks, tracks.iloc[:1]])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no column", "lacks parent_id"),
        ("no row", "need at least one row"),
        ("missing", "'y' of tracks has no value in data row 5"),
        ("text", "'x' of tracks must be a finite number, got 'left' in data row 5"),
        ("fraction", "'t' of tracks must be an integer from .*, got 0.5 in row 1"),
        ("infinite", "'y' of tracks must be a finite number, got inf in data row 1"),
        *((f"huge {column}", f"'{column}' of tracks must be an integer from") for column in INTEGERS),
        ("twice", "track 1 is twice in frame 0"),
    ],
)
def test_unusable_tracks_are_refused(tmp_path, tracks, how, message):
    broken(tracks, how).to_csv(tmp_path / "0.csv", index=False)
    with pytest.raises(UserError, match=message):
        read_tracks(tmp_path / "0.csv")


@pytest.mark.parametrize("content", ["", "a,b\n1,2,3\n4,5,6,7,8\n"])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "0.csv").write_text(content)
    with pytest.raises(UserError, match="is no CSV of tracks"):
        read_tracks(tmp_path / "0.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no tracks file .*nowhere\.csv"):
        read_tracks(tmp_path / "nowhere.csv")


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "tracks").touch()
    with pytest.raises(UserError, match="must be a folder of CSVs"):
        read_tracks(tmp_path / "tracks" / "A" / "0.csv")


def test_the_columns_are_those_of_the_format():
    assert COLUMNS == ["track_id", "t", "y", "x", "id", "parent_track_id", "parent_id"]
