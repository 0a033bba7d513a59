import os

import numpy as np
import pandas as pd
import pytest

from viscy_train.errors import NoTracksError, UserError
from viscy_train.sample_projects import simulation
from viscy_train.tracks.tracks import COLUMNS, Tracks, write_tracks

OUTPUT_COLUMNS = ["track_id", "t", "y", "x", "parent_track_id"]


@pytest.fixture
def tracks():
    return simulation.tracks_of(simulation.simulate_cells(np.random.default_rng(0), 3, infected=False))


def test_tracks_read_from_disk_equal_those_written_but_sorted(tmp_path, tracks):
    write_tracks(tmp_path / "A/1/0.csv", tracks.sample(frac=1, random_state=0))
    assert (tmp_path / "A/1/0.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    expected = tracks.sort_values(["track_id", "t"], ignore_index=True)[OUTPUT_COLUMNS]
    pd.testing.assert_frame_equal(Tracks(tmp_path).of("A/1/0"), expected)


def test_the_only_csv_in_the_folder_of_a_position_is_read(tmp_path, tracks):
    write_tracks(tmp_path / "A/1/0/tracks_A_1_0.csv", tracks)
    (tmp_path / "A/1/0/._tracks_A_1_0.csv").write_bytes(b"\0")
    assert len(Tracks(tmp_path).of("A/1/0")) == len(tracks)


@pytest.mark.parametrize("other", ["A/1/0.csv", "A/1/0/old.csv"])
def test_two_csv_files_for_a_position_are_refused(tmp_path, tracks, other):
    for name in ("A/1/0/new.csv", other):
        write_tracks(tmp_path / name, tracks)
    with pytest.raises(UserError, match=rf"has .*{other}.*; keep one of them"):
        Tracks(tmp_path).of("A/1/0")


@pytest.mark.parametrize(("column", "prefix"), [("position", ""), ("fov_name", "/")])
def test_one_parquet_file_can_hold_all_positions(tmp_path, tracks, column, prefix):
    several = [tracks.assign(**{column: f"{prefix}A/1/{number}"}).iloc[number:] for number in range(3)]
    pd.concat(several).sample(frac=1, random_state=0).to_parquet(tmp_path / "all.parquet")
    source = Tracks(tmp_path / "all.parquet")
    for number in range(3):
        expected = tracks.iloc[number:].sort_values(["track_id", "t"], ignore_index=True)[OUTPUT_COLUMNS]
        pd.testing.assert_frame_equal(source.of(f"A/1/{number}"), expected)


def test_a_parquet_file_may_have_categories_and_small_integers(tmp_path, tracks):
    small = tracks.astype({"track_id": "uint16", "t": "int32", "y": "float32"}).assign(
        position=pd.Categorical(["B/2/0"] * len(tracks))
    )
    small.to_parquet(tmp_path / "all.parquet")
    assert Tracks(tmp_path / "all.parquet").of("B/2/0").dtypes.astype(str).tolist() == [
        "int64",
        "int64",
        "float64",
        "float64",
        "int64",
    ]


@pytest.mark.parametrize("extra", ["", ",id,z\n", ",parent_id\n"])
def test_mothers_and_unused_columns_are_optional(tmp_path, extra):
    header, row = "track_id,t,y,x", "7,0,1.5,2.5"
    text = f"{header}\n{row}\n" if not extra else header + extra + row + ",nonsense" * extra.count(",") + "\n"
    (tmp_path / "0.csv").write_text(text)
    assert Tracks(tmp_path).of("0").to_numpy().tolist() == [[7, 0, 1.5, 2.5, -1]]


def make_csv(*rows, header="track_id,parent_track_id,t,y,x"):
    return "\n".join([header, *rows]) + "\n"


def test_gaps_and_divisions_into_three_are_accepted(tmp_path):
    rows = ["1,-1,5,0,0", "1,-1,2,0,0", *(f"{daughter},1,9,0,0" for daughter in (2, 3, 4))]
    (tmp_path / "0.csv").write_text(make_csv(*rows))
    assert Tracks(tmp_path).of("0")["t"].tolist() == [2, 5, 9, 9, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "0.csv is not a CSV of tracks: it is empty"),
        ("track_id,t,y,x\n1,0,5,6,7\n", "0.csv is not a CSV of tracks: .* loss of data"),
        (b"track_id,t,y,x\n\xff\xfe", "0.csv is not a CSV of tracks: 'utf-8' codec"),
        (make_csv(header="track_id,t,y,x"), "tracks need at least one row, .*0.csv has none"),
        (
            make_csv("1,0,2", header="track_id,t,y"),
            "tracks need the columns track_id, t, y, x, .*0.csv lacks x, its header is 'track_id, t, y'$",
        ),
        (
            make_csv("1|0|2|3", header="track_id|t|y|x"),
            "separated by commas, semicolons or tabs; .* lacks track_id, t, y",
        ),
        (
            make_csv('1,-1,0,"10,5",5'),
            r"'y' of tracks must be a finite number, got '10,5' \(write decimals with a point",
        ),
        (make_csv("1,-1,0,10,5,5"), "is not a CSV of tracks: .* loss of data"),
        (make_csv("1;0;1.234,5;2", header="track_id;t;y;x"), "'y' of tracks must be a finite number, got '1.234,5'"),
        (make_csv("1;0;2;3;4", header="track_id;t;y;x"), "is not a CSV of tracks: .* loss of data"),
        (make_csv("1;0;2;3;4", header="track_id;t;y;y;x"), "a column of tracks must occur once, .* has 2 columns 'y'"),
        (make_csv("1,0,2,3", header="cell,t,y,x"), "lacks track_id, its header is 'cell, t, y, x'"),
        ("\0\0\0\0", "tracks need the columns"),
        (
            make_csv("1,-1,0,5,5", "1,-1,1,,5"),
            r"'y' of tracks has no value in data row 2 of .*0.csv \(1 row affected\)",
        ),
        (make_csv("1,-1,0,5,5", "1,-1,1,2"), "'x' of tracks has no value in data row 2"),
        (make_csv("1,-1,0,5,left"), "'x' of tracks must be a finite number, got 'left' in data row 1"),
        (
            make_csv("0,1,2", header="frame,y,x"),
            "need the columns track_id, frame, y, x, .* lacks track_id, its header is 'frame, y, x'; set "
            "`tracks_format: detections` if the cells were not tracked",
        ),
        (
            make_csv("9007199254740995,-1,0,1,5"),
            "'track_id' .*, got 9007199254740995 in data row 1 of .*; number the tracks or frames from 0",
        ),
        (
            make_csv("90071992547409936,-1,0,1,5\n1.0,-1,1,1,5"),
            "'track_id' .*, got 90071992547409936 in data row 1 of",
        ),
        (make_csv("1,-1,0,,5"), "'y' of tracks has no value in data row 1 of .*; correct or remove these rows"),
        (make_csv("1,-1,0,inf,5"), "'y' of tracks must be a finite number, got inf in data row 1"),
        (make_csv("1,-1,0,5," + "x" * 999), "'x' of tracks must be a finite number, got 'x{59}[.]{3} in data row 1"),
        (make_csv("1.5,-1,0,5,5"), "'track_id' of tracks must be an integer from .*, got 1.5 in data row 1"),
        (make_csv("1,-1,0,5,5", "1,-1,0.5,5,5"), "'t' of tracks must be an integer from .*, got 0.5 in data row 2"),
        (make_csv("1,1e30,0,5,5"), r"'parent_track_id' of tracks must be an integer from .*, got 1e\+30"),
        (make_csv("1,-1,-1,5,5"), "'t' of tracks must be at least 0, got -1 in data row 1"),
        (make_csv("-1,-1,0,5,5"), "'track_id' of tracks must be at least 0, got -1 in data row 1"),
        (make_csv("1,-1,4,5,5", "1,-1,4,6,6"), "track 1 has a second one in frame 4, in data row 2"),
        (
            make_csv("1,-1,0,5,5", "2,1,1,5,5", "2,3,2,5,5"),
            r"one mother, track 2 of .* has \[1, 3\]; write the mother, or -1 .* in each row",
        ),
        (make_csv("1,-1,3,5,5", "2,1,2,5,5"), "track 2 of .* begins in frame 2, its mother 1 ends in frame 3"),
        (make_csv("1,-1,0,5,5", "1,-1,4,5,5", "2,1,3,5,5"), "begins in frame 3, its mother 1 ends in frame 4"),
        (make_csv("1,-1,2,5,5", "2,1,2,5,5"), "begins in frame 2, its mother 1 ends in frame 2"),
        (make_csv("1,2,0,5,5", "2,1,1,5,5"), "a track must not descend from itself, track [12] of .* does"),
        (
            make_csv("0,-1,4,5,5", "2,0,1,5,5"),
            "begins in frame 1, its mother 0 ends in frame 4 .*; write -1 for a track",
        ),
        (make_csv("9,1,7,5,5", "1,2,0,5,5", "2,3,1,5,5", "3,1,2,5,5"), r"descend from itself, track [123] of"),
    ],
)
def test_invalid_tracks_are_refused(tmp_path, content, message):
    (tmp_path / "0.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        Tracks(tmp_path).of("0")
    assert "\n" not in str(error.value)


def test_a_mother_that_was_filtered_out_is_a_doubt(tmp_path):
    for name, rows in {"0": ("1,-1,0,5,5", "2,9,1,5,5", "3,9,1,7,7"), "1": ("1,-1,0,5,5",)}.items():
        (tmp_path / f"{name}.csv").write_text(make_csv(*rows))
    tracks = Tracks(tmp_path)
    assert tracks.of("0")["parent_track_id"].tolist() == [-1, 9, 9]
    tracks.of("1")
    (doubt,) = tracks.doubts()
    assert doubt.startswith("the mother of 2 tracks is not in the tracks (0), first mother 9 of track 2 of 0; ")


@pytest.mark.parametrize("content", ["", "track_id,parent_track_id,t,y,x\n", None])
def test_a_position_without_tracks_differs_from_one_whose_tracks_are_damaged(tmp_path, content):
    if content is not None:
        (tmp_path / "0.csv").write_text(content)
    with pytest.raises(NoTracksError):
        Tracks(tmp_path).of("0")


def test_errors_give_the_row_number_in_the_parquet_file(tmp_path):
    tracks = pd.DataFrame({"position": ["A/1/0", "B/1/0"], "track_id": 1, "t": 0, "y": [1, np.nan], "x": 1})
    tracks.to_parquet(tmp_path / "all.parquet")
    with pytest.raises(UserError, match=r"'y' of tracks has no value in data row 2 of .*all\.parquet"):
        Tracks(tmp_path / "all.parquet").of("B/1/0")
    with pytest.raises(UserError, match=r"no tracks for position C/1/0 in .*all\.parquet"):
        Tracks(tmp_path / "all.parquet").of("C/1/0")


def write_parquet(path, columns=("position", "track_id", "t", "y", "x")):
    pd.DataFrame({name: [1, 2, 3] for name in columns}).to_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(write_parquet(path)[:-20]), "is not a Parquet file of tracks, or is damaged"),
        (lambda path: path.write_bytes(b""), "is not a Parquet file of tracks: it is empty"),
        (lambda path: path.write_text("cells\n1\n"), "tracks need the columns track_id, t, y, x"),
        (
            lambda path: pd.DataFrame(
                {"fov_name": ["A/1/0", None], "track_id": 1, "t": [0, 1], "y": 2, "x": 3}
            ).to_parquet(path),
            r"column 'fov_name' of tracks has no value in data row 2 of .*\(1 row affected\)",
        ),
        (lambda path: write_parquet(path, ["position", "t", "y"]), r"all\.parquet lacks track_id, x"),
        (lambda path: None, "tracks not found: .*; correct `tracks` of its experiment"),
        (lambda path: path.mkdir(), "a Parquet file of tracks must be a regular file, got a directory"),
    ],
)
def test_an_invalid_parquet_file_is_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "all.parquet")
    with pytest.raises(UserError, match=message) as error:
        Tracks(tmp_path / "all.parquet")
    assert "\n" not in str(error.value)


def test_a_file_that_names_no_position_is_of_the_only_one(tmp_path):
    write_parquet(tmp_path / "all.parquet", ["track_id", "t", "y", "x"])
    assert len(Tracks(tmp_path / "all.parquet").of("A/1/0", is_only=True)) == 3
    with pytest.raises(UserError, match=r"need the column `position` or `fov_name`, .*all\.parquet has neither"):
        Tracks(tmp_path / "all.parquet").of("A/1/0")


def test_the_name_of_a_file_does_not_decide_its_format(tmp_path, tracks):
    tracks.assign(position="A/1/0").to_csv(tmp_path / "all.parquet", index=False)
    (tmp_path / "A" / "1").mkdir(parents=True)
    tracks.to_parquet(tmp_path / "A/1/0.csv")
    named, inside = Tracks(tmp_path / "all.parquet").of("A/1/0"), Tracks(tmp_path).of("A/1/0")
    pd.testing.assert_frame_equal(named, inside)


def test_an_empty_mother_means_none(tmp_path):
    (tmp_path / "0.csv").write_text(make_csv("1,,0,5,5", "1,,1,5,5", "2,1,2,5,5"))
    assert Tracks(tmp_path).of("0")["parent_track_id"].tolist() == [-1, -1, 1]


def test_a_source_of_tracks_must_exist_and_have_a_known_format(tmp_path):
    with pytest.raises(UserError, match=r"tracks not found: .*nowhere"):
        Tracks(tmp_path / "nowhere")
    (tmp_path / "tracks.txt").touch()
    with pytest.raises(UserError, match=r"must have a known format, .* has tracks\.txt, tracks\.txt is empty; export"):
        Tracks(tmp_path / "tracks.txt")


def test_the_error_for_a_missing_file_names_it(tmp_path):
    with pytest.raises(UserError, match=r"tracks file not found: .*A/1/0\.csv; each position of a well"):
        Tracks(tmp_path).of("A/1/0")


def test_a_parent_is_the_observation_in_the_previous_frame(tracks):
    by_id = tracks.set_index("id")
    children = tracks[tracks["parent_id"] >= 0]
    parents = by_id.loc[children["parent_id"]]
    assert (parents["t"].to_numpy() == children["t"].to_numpy() - 1).all()
    same_track = parents["track_id"].to_numpy() == children["track_id"].to_numpy()
    mothers = parents["track_id"].to_numpy() == children["parent_track_id"].to_numpy()
    assert (same_track | mothers).all()
    assert (tracks.loc[tracks["parent_id"] < 0, "parent_track_id"] == -1).all()


def test_a_division_gives_two_daughters_after_the_mother_ends(tracks):
    daughters = tracks[tracks["parent_track_id"] > 0].groupby("track_id").first()
    assert len(daughters) == 2
    mother = tracks[tracks["track_id"] == daughters["parent_track_id"].iloc[0]]
    assert (daughters["t"] == mother["t"].max() + 1).all()


def test_the_columns_match_the_track_format():
    assert COLUMNS == ["track_id", "t", "y", "x", "id", "parent_track_id", "parent_id"]


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize(
    ("separator", "first"),
    [(";", ""), ("\t", ""), (";", "sep=;\r\n"), (";", '"sep=;"\n'), (";", "\ufeff"), ("\t", "\ufeff")],
)
def test_other_separators_and_decimal_commas_are_read(tmp_path, tracks, separator, first, decimal):
    """As spreadsheet programs write them, with a byte order mark or the separator before the header."""
    table = tracks.assign(**{"a, b": "1,5; none", "y": tracks["y"] + 1e-7})
    text = table.to_csv(index=False, sep=separator, decimal=decimal)
    (tmp_path / "0.csv").write_text(first + text, encoding="utf-8")
    expected = table.sort_values(["track_id", "t"], ignore_index=True)[OUTPUT_COLUMNS]
    pd.testing.assert_frame_equal(Tracks(tmp_path).of("0"), expected)


@pytest.mark.parametrize("first", ["", "sep=,\n", "\ufeff"])
def test_quoted_fields_and_spaces_around_names_are_read(tmp_path, first):
    (tmp_path / "0.csv").write_text(f'{first}"track_id", "t" ,y , x,"note; with, signs"\n"1","0", 1.5,2,"a;b,c"\n')
    assert Tracks(tmp_path).of("0").to_numpy().tolist() == [[1, 0, 1.5, 2, -1]]


@pytest.mark.parametrize(
    ("column", "none"),
    [
        ("parent_track_id", "-1"),
        ("parent_track_id", ""),
        ("parent_track_id", "0"),
        ("parent_track_id", "own"),
        ("parent", "own"),
    ],
)
def test_a_track_without_a_mother_is_written_as_the_trackers_do(tmp_path, column, none):
    rows = [f"{track},{t},5,5,{track if none == 'own' else none}" for track, t in ((1, 0), (1, 1), (4, 0))]
    (tmp_path / "0.csv").write_text(make_csv(*rows, "2,2,5,5,1", header=f"track_id,t,y,x,{column}"))
    assert Tracks(tmp_path).of("0")["parent_track_id"].tolist() == [-1, -1, 1, -1]


def test_track_0_can_be_a_mother(tmp_path):
    (tmp_path / "0.csv").write_text(make_csv("0,-1,0,5,5", "2,0,1,5,5", "3,3,0,5,5"))
    assert Tracks(tmp_path).of("0")["parent_track_id"].tolist() == [-1, 0, -1]


@pytest.mark.parametrize(
    "index",
    [["track_id"], ["track_id", "t"], ["position"], ["position", "track_id", "t"], ["y"], [None], ["row"], "range"],
)
def test_a_parquet_file_may_have_been_written_with_an_index(tmp_path, tracks, index):
    table = tracks.assign(position="A/1/0")
    if index == "range":
        table = table.sort_values(["track_id", "t"]).drop_duplicates("track_id").assign(t=0, parent_track_id=-1)
        expected = table.assign(track_id=range(3, 3 + len(table)))
        table = table.set_index(pd.RangeIndex(3, 3 + len(table), name="track_id")).drop(columns="track_id")
        assert "track_id" not in table
    elif index in ([None], ["row"]):
        expected, table = table, table.set_index(pd.Index(range(len(table))[::-1], name=index[0]))
    else:
        expected, table = table, table.set_index(index)
    table.to_parquet(tmp_path / "all.parquet")
    expected = expected.sort_values(["track_id", "t"], ignore_index=True)[OUTPUT_COLUMNS]
    pd.testing.assert_frame_equal(Tracks(tmp_path / "all.parquet").of("A/1/0"), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": pd.Timestamp(2024, 1, 1)}, "'t' of tracks must be a finite number, got "),
        ({"y": [[1.0, 2.0]] * 3}, "'y' of tracks must be a finite number, got"),
        ({"x": ["1,5"] * 3}, r"'x' of tracks must be a finite number, got '1,5' \(write decimals with a point\)"),
    ],
)
def test_values_of_other_types_are_refused(tmp_path, change, message):
    table = pd.DataFrame({"position": "A/1/0", "track_id": [1, 2, 3], "t": 0, "y": 1.0, "x": 2.0}).assign(**change)
    table.to_parquet(tmp_path / "all.parquet")
    with pytest.raises(UserError, match=message) as error:
        Tracks(tmp_path / "all.parquet").of("A/1/0")
    assert "\n" not in str(error.value)


def test_a_pipe_is_not_opened(tmp_path):
    for name in ("0.csv", "all.parquet"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="a CSV of tracks must be a regular file, got a named pipe"):
        Tracks(tmp_path).of("0")
    with pytest.raises(UserError, match="a Parquet file of tracks must be a regular file, got a named pipe"):
        Tracks(tmp_path / "all.parquet")
