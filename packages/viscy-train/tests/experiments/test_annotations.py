"""Tables of annotations are joined to the observations of their experiment."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.errors import UserError
from viscy_train.experiments.annotation_files import read_annotations
from viscy_train.experiments.annotations import add_annotations, annotation_checksums
from viscy_train.experiments.experiments_file import Experiment
from viscy_train.experiments.position_metadata import add_metadata


@pytest.fixture
def observations():
    """Two experiments of two positions in a well each, with two tracks of three frames; tracks differ by position."""
    rows = [
        {
            "experiment": name,
            "well": "A/1",
            "position": f"A/1/{position}",
            "track_id": 10 * position + track,
            "t": frame,
        }
        for name in ("monday", "friday")
        for position in range(2)
        for track in range(2)
        for frame in range(3)
    ]
    names = dict.fromkeys(("experiment", "well", "position"), "category")
    return pd.DataFrame(rows).astype(names)


@pytest.fixture
def join(observations, tmp_path):
    """A function that joins a table, or the text of a CSV file, to the experiment monday; returns columns and note."""

    def join_table(*tables, names=("monday",), metadata=None, **options):
        paths = []
        for number, table in enumerate(tables):
            path = tmp_path / f"annotations{number}.csv"
            if isinstance(table, str):
                path.write_text(table)
            else:
                path = path.with_suffix(".parquet")
                table.to_parquet(path)
            paths.append(path)
        experiments = [
            Experiment(
                name=name,
                plate="a",
                tracks="b",
                channels=["c"],
                conditions={"A/1": "mock"},
                minutes_per_frame=1,
                annotations=paths if name in names else [],
                metadata=(metadata or {}).get(name, {}),
                **options,
            )
            for name in ("monday", "friday")
        ]
        joined, notes = add_annotations(add_metadata(observations, experiments), experiments)
        return joined[[name for name in joined if name not in observations]], notes

    return join_table


def expected(observations, function):
    """Return a value for each observation of monday, and None for those of friday."""
    records = observations.astype(object).to_dict("records")
    return [function(one) if one["experiment"] == "monday" else None for one in records]


def as_list(column):
    return [None if pd.isna(value) else value for value in column.astype(object)]


@pytest.mark.parametrize("position", ["position", "fov_name", "fov"])
@pytest.mark.parametrize(("track", "frame"), [("track_id", "t"), ("track", "frame")])
def test_observations_are_annotated_by_position_track_and_frame(join, observations, position, track, frame):
    columns, notes = join(f"{position},{track},{frame},state\nA/1/0,1,2,dead\nA/1/1,10,0,alive\nA/1/1,99,0,alive\n")
    values = {("A/1/0", 1, 2): "dead", ("A/1/1", 10, 0): "alive"}
    found = expected(observations, lambda one: values.get((one["position"], one["track_id"], one["t"])))
    assert as_list(columns["state"]) == found
    assert columns["state"].dtype == "category"
    assert notes == [
        "monday: annotations of annotations0.csv by position, track_id, t: state for 2 of 12 observations; 1 of its 3 "
        "rows is of no observation"
    ]


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("position,track_id,v\nA/1/0,1,7\n", lambda one: 7.0 if one["track_id"] == 1 else None),
        ("position,v\nA/1/0,7\n", lambda one: 7.0 if one["position"] == "A/1/0" else None),
        ("track_id,v\n1,7\n", lambda one: 7.0 if one["track_id"] == 1 else None),
        ("track_id,t,v\n1,2,7\n", lambda one: 7.0 if (one["track_id"], one["t"]) == (1, 2) else None),
        ("position,t,v\nA/1/1,2,7\n", lambda one: 7.0 if (one["position"], one["t"]) == ("A/1/1", 2) else None),
        ("well,v\nA/1,7\n", lambda one: 7.0),
        ("well,fov,v\nA/1,0,7\n", lambda one: 7.0 if one["position"] == "A/1/0" else None),
        ("t,v\n2,7\n", lambda one: 7.0 if one["t"] == 2 else None),
        ("position;v\n/A/1/0/;7\n", lambda one: 7.0 if one["position"] == "A/1/0" else None),
        ("position,v\n,8\nA/1/0,7\n", lambda one: 7.0 if one["position"] == "A/1/0" else None),
        ("position\tv\r\nA/1/0\t7\r\n", lambda one: 7.0 if one["position"] == "A/1/0" else None),
        ("\ufeffposition,v\nA/1/0,7\n", lambda one: 7.0 if one["position"] == "A/1/0" else None),
        ("position,track_id,v\nA/1/0,1.0,7\n", lambda one: 7.0 if one["track_id"] == 1 else None),
        (
            "experiment,position,v\nmonday,A/1/0,7\nfriday,A/1/0,8\n",
            lambda one: 7.0 if one["position"] == "A/1/0" else None,
        ),
    ],
)
def test_the_columns_that_a_table_has_decide_what_is_annotated(join, observations, text, function):
    columns, _ = join(text)
    assert as_list(columns["v"]) == expected(observations, function)


def test_columns_have_the_types_of_an_anchor_table(join, observations):
    positions = ["A/1/0", "A/1/1"]
    table = pd.DataFrame(
        {
            "position": positions,
            "number": [1, 2],
            "ratio": [0.5, np.nan],
            "name": pd.Categorical(["b", "a"]),
            "flag": [True, False],
            "mixed": pd.Series([True, None], dtype=object),
            "day": pd.to_datetime(["2024-10-09", "2024-10-10"]),
            "list": [[1], [2]],
            "y": [0.0, 0.0],
        }
    )
    columns, notes = join(table, names=("monday", "friday"))
    types = {"number": "int64", "ratio": "float64", "name": "category", "flag": "bool", "mixed": "category"}
    assert columns.dtypes.astype(str).to_dict() == types | {"day": "category"}
    assert columns["name"].cat.categories.tolist() == ["a", "b"]
    assert columns["mixed"].cat.categories.tolist() == ["true"]
    assert columns["day"].cat.categories[0].startswith("2024-10-09")
    unused = "list (neither text, numbers, booleans nor times); y (in every anchor table or embedding)"
    assert notes[0].endswith(f"; not used: {unused}")


def test_columns_of_embeddings_are_not_annotated(join):
    columns, notes = join("position,fov_name,split,fov/name,v\nA/1/0,0,test,0,1\n")
    assert columns.columns.tolist() == ["v"]
    assert notes[0].endswith("; not used: fov_name, split, fov/name (in every anchor table or embedding)")
    with pytest.raises(UserError, match=r"must have a column to add, .* has only position, split"):
        join("position,split\nA/1/0,test\n")


@pytest.mark.parametrize(
    ("text", "by"),
    [
        ("channel,v\nred,1\ngreen,2\n", "channel"),
        ("position,channel_name,v\nA/1/0,red,1\nA/1/0,green,2\nA/1/1,red,1\n", "position, channel"),
        ("position,channel,v\nA/1/0,red,1\nA/1/1,red,1\n", "position"),
    ],
)
def test_rows_that_differ_in_the_channel_are_joined_by_it(join, observations, text, by):
    """Where each observation is of one channel."""
    channels = pd.Categorical(np.resize(["red", "green"], len(observations)))
    observations["channel"] = channels
    columns, (note,) = join(text)
    assert f" by {by}: v for " in note
    expected_values = {"red": 1.0, "green": 2.0} if "channel" in by else dict.fromkeys(channels, 1.0)
    known = columns["v"].notna().to_numpy()
    assert known.any()
    assert (columns["v"][known] == pd.Series(channels).astype(str).map(expected_values)[known]).all()


def test_an_index_of_pandas_is_not_used(join):
    columns, notes = join("Unnamed: 0,position,v\n0,A/1/0,1\n")
    assert columns.columns.tolist() == ["v"]
    assert "Unnamed" not in notes[0]


def test_integers_and_booleans_of_some_observations_can_be_missing(join):
    columns, _ = join("position,number,flag\nA/1/0,3,true\n")
    assert columns["number"].dtype == "float64"
    assert columns["flag"].cat.categories.tolist() == ["true"]
    assert columns.isna().sum().tolist() == [18, 18]


def test_the_treatment_none_is_not_a_missing_value(join):
    columns, _ = join("position,drug,dose\nA/1/0,None,\nA/1/1,NA,3\n")
    assert columns["drug"].cat.categories.tolist() == ["None"]
    assert as_list(columns["dose"].drop_duplicates()) == [None, 3.0]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("position,v\nA/1/0,0123\nA/1/1,7\n", ["0123", "7"]),
        ("position,v\nA/1/0,-012\nA/1/1,\n", ["-012", None]),
        ('position,v\nA/1/0,"007"\nA/1/1,0\n', ["007", "0"]),
        ("position,v\nA/1/0, 01.5\nA/1/1,1.5\n", ["01.5", "1.5"]),
        ("position,v\nA/1/0,0\nA/1/1,0.50\n", [0.0, 0.5]),
        ("position;v\nA/1/0;0,5\nA/1/1;3\n", [0.5, 3.0]),
        ("position\tv\nA/1/0\t-1,5e-1\nA/1/1\t\n", [-0.15, None]),
        ("position;v\nA/1/0;01,5\nA/1/1;3\n", ["01,5", "3"]),
        ("sep=;\nposition;v\nA/1/0;0,5\nA/1/1;0012\n", ["0,5", "0012"]),
        ("sep=|\r\nposition|v\r\nA/1/0|0,5\r\nA/1/1|1\r\n", [0.5, 1.0]),
        ("sep=,\nposition,v\nA/1/0,0123\nA/1/1,7\n", ["0123", "7"]),
        ("position;v\nA/1/0;1,5\nA/1/1;high\n", ["1,5", "high"]),
        ('position,v\nA/1/0,"1,5"\nA/1/1,2\n', ["1,5", "2"]),
    ],
)
def test_values_are_those_that_are_written(join, observations, text, values):
    columns, _ = join(text)
    of_position = dict(zip(["A/1/0", "A/1/1"], values, strict=True))
    assert as_list(columns["v"]) == expected(observations, lambda one: of_position[one["position"]])


@pytest.mark.parametrize(
    "table",
    [
        "position , track_id, v , n\n A/1/0 , 1 , dead , 1 \n A/1/1, 11,alive, 2\nA/1/1 ,10, NA , 3\n",
        pd.DataFrame(
            {
                "position": [" A/1/0", "A/1/1 ", "A/1/1"],
                "track_id": [1, 11, 10],
                "v": pd.Categorical(["dead ", " alive", None]),
                "n": [1, 2, 3],
            }
        ),
    ],
)
def test_spaces_around_values_are_left_out(join, observations, table):
    columns, _ = join(table)
    values = {1: "dead", 11: "alive"}
    assert as_list(columns["v"]) == expected(observations, lambda one: values.get(one["track_id"]))
    assert columns["n"].dtype == "float64"


def test_several_tables_are_joined_one_after_the_other(join, observations):
    columns, notes = join("position,a\nA/1/0,1\n", "track_id,b\n11,x\n")
    assert as_list(columns["a"]) == expected(observations, lambda one: 1.0 if one["position"] == "A/1/0" else None)
    assert as_list(columns["b"]) == expected(observations, lambda one: "x" if one["track_id"] == 11 else None)
    assert len(notes) == 2


def test_observations_stay_as_they_are_without_annotations(join):
    columns, notes = join()
    assert columns.empty
    assert notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "position,track_id,t,v\nA/1/0,1,2,a\nA/1/0,1,2,b\n",
            r"one row for each position and track_id and t, .* for position A/1/0, track_id 1, t 2 \(1 row too",
        ),
        ("v,w\n1,2\n", "must have a column by which they are joined .position or fov_name or fov; .* has v, w"),
        ("position\nA/1/0\n", "must have a column to add, .* has only position"),
        (
            "position,track_id,v\nA/1/0,a,1\n",
            "track_id of annotations must be integers without missing values, got a in line 2 of",
        ),
        ("position,track_id,v\nA/1/0,,1\n", "track_id of annotations must be integers .* got nan in line 2 of"),
        ("position,t,v\nA/1/0,1.5,1\n", "t of annotations must be integers .* got 1.5"),
        ("sep=;\nt;v\n\n1;a\n\n1.5;b\n", "got 1.5 in line 6 of"),
        ('t,v\n1,"a\nb"\n1.5,b\n', "got 1.5 in line 4 of"),
        ("experiment,t,v\nfriday,0,a\nmonday,0,a\nfriday,1,b\nmonday,1.5,b\n", "got 1.5 in line 5 of"),
        (pd.DataFrame({"t": [0.0, 1.5], "v": "ab"}), "got 1.5 in row 2 of"),
        (
            "position,track_id,condition,y\nA/1/0,1,a,2\n",
            r"has only position, track_id, condition, y; not used: condition, y \(in every anchor table or embedding\)"
            "; rename what you want to add",
        ),
        ("position,v,v\nA/1/0,1,2\n", "must have different names, .* has 'v' twice"),
        ("position,v,\nA/1/0,1,2\n", "must be non-empty text"),
        ("", "must begin with the names of their columns"),
        ("position,v\n", "must have rows, .* has only position, v; fill it in, or remove it from `annotations`"),
        ("position,v", "must have rows, .* has only position, v"),
        (pd.DataFrame({"position": ["A/1/0"], "v": [1]})[:0], "must have rows, .* has only position, v"),
        (pd.DataFrame({"v": []}), "must have rows, .* has only v"),
        (",position,v\n0,A/1/0,1\n", "first column of annotations must have a name, .*, write it with index=False"),
        ("position,v\nA/1/0,inf\n", "column 'v' of annotations: numbers must be finite"),
        ("position,v\nA/1/0,1,2\n", "rows of annotations must have as many values as the header"),
        ("position,v\nA/1/0,1\nA/1/1,1,2\n", "must be a CSV or Parquet file, cannot read"),
        (
            "experiment,position,v\nsunday,A/1/0,1\n",
            "annotations of experiment 'monday' must have rows of it, .* of sunday",
        ),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused(join, text, message):
    with pytest.raises(UserError, match=message) as error:
        join(text)
    assert "\n" not in str(error.value)


FROM_1 = "position,track_id,t,stage\n" + "".join(f"A/1/0,1,{t},s{t}\nA/1/1,10,{t},s{t}\n" for t in (1, 2, 3))


@pytest.mark.parametrize("column", ["t", "frame"])
def test_frames_of_annotations_are_counted_as_those_of_tracks(join, observations, column):
    columns, _ = join(FROM_1.replace(",t,", f",{column},"), tracks_first_frame=1)
    own = (1, 10)
    stages = expected(observations, lambda one: f"s{one['t'] + 1}" if one["track_id"] in own else None)
    assert as_list(columns["stage"]) == stages
    with pytest.raises(UserError, match=r"at least 1 as `tracks_first_frame` states, got 0"):
        join("t,v\n0,1\n1,2\n", tracks_first_frame=1)


@pytest.mark.parametrize("first", ["auto", 0])
@pytest.mark.parametrize("text", [FROM_1, "t,v\n1,a\n2,b\n3,c\n", "position,frame,v\nA/1/1,2,a\nA/1/1,3,a\n"])
def test_frames_of_annotations_that_seem_to_be_counted_from_1_are_refused(join, text, first):
    with pytest.raises(UserError, match=r"seems to count from 1: none is 0, .* set `tracks_first_frame` of"):
        join(text, tracks_first_frame=first)


@pytest.mark.parametrize("text", ["t,v\n1,a\n2,b\n", "t,v\n0,a\n1,b\n2,b\n3,c\n", "track_id,t,v\n1,2,a\n99,3,a\n"])
def test_some_frames_may_be_annotated(join, text):
    columns, _ = join(text)
    assert columns["v"].notna().any()


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("well,v\nA1,1\n", "well is A1 in the table, but well is A/1 in the observations"),
        ("fov_name,v\nA_1_0,1\nA_1_1,1\n", "fov_name is A_1_0, A_1_1 in the table, but position is A/1/0, A/1/1 in"),
        ("position,track,v\nA/01/000,1,1\n", "position is A/01/000 in the table"),
        ("position,track,v\nA/1/0,77,1\n", "track is 77 in the table, but track_id is 0, 1, 10, 11 in the"),
        ("position,track,v\nA/1/0,11,1\n", "position is A/1/0 in the table, .*; track is 11 in the table"),
        ("t,v\n100,1\n", "t is 100 in the table, but t is 0, 1, 2 in the observations"),
    ],
)
def test_a_table_of_no_observation_is_refused_with_the_names_on_both_sides(join, text, sides):
    with pytest.raises(UserError, match=rf"must have rows of observations, .* has none \(rows: \d\): {sides}"):
        join(text)


def test_a_track_in_several_positions_needs_the_position(join, observations):
    observations["track_id"] %= 10
    with pytest.raises(UserError, match=r"column for the position .*, because track 1 is in several: A/1/0, A/1/1"):
        join("track_id,v\n1,2\n")


def test_a_column_of_two_tables_is_refused(join):
    with pytest.raises(
        UserError, match=r"column 'v' of .* must not have the name of metadata or of a column of another"
    ):
        join("position,v\nA/1/0,1\n", "track_id,v\n1,2\n")


STATES = "position,t,state\nA/1/0,0,a\nA/1/0,1,b\nA/1/0,2,c\n"


@pytest.mark.parametrize(
    ("text", "metadata", "annotated", "other"),
    [
        (STATES, {"state": "alive"}, "a", "alive"),
        (STATES, {"state": 3}, "a", "3"),
        (STATES, {"state": True}, "a", "true"),
        ("position,state\nA/1/0,0.5\nA/1/1,1\n", {"state": 3}, 0.5, 3.0),
        ("position,state\nA/1/0,2\nA/1/1,1\n", {"state": 3}, 2, 3),
        ("position,state\nA/1/0,1.5\n", {"state": "high"}, "1.5", "high"),
    ],
)
def test_metadata_of_one_experiment_may_be_annotations_of_another(join, observations, text, metadata, annotated, other):
    columns, _ = join(text, metadata={"friday": metadata})
    state = columns["state"]
    assert (state[0], state.iloc[-1]) == (annotated, other)
    assert state[(observations["experiment"] == "friday").to_numpy()].nunique() == 1
    n_annotated = len(observations) / 2 if "A/1/1" in text else 6
    assert state.notna().sum() == len(observations) / 2 + n_annotated


@pytest.mark.parametrize("wells", [{"A/1": {"v": 2}}, {"A/1/1": {"v": 2}}])
def test_a_key_of_metadata_and_a_column_of_the_same_experiment_are_refused(join, wells):
    with pytest.raises(UserError, match=r"column 'v' of .* must not have the name of metadata .* of its experiment"):
        join("position,v\nA/1/0,1\n", wells=wells)


def test_columns_whose_names_look_alike_are_refused(join, observations):
    with pytest.raises(UserError, match=r"other annotations must not differ only in upper and lower case, got .*State"):
        join("position,State\nA/1/0,1\n", "track_id,state\n1,2\n")
    with pytest.raises(UserError, match="must not differ only in upper and lower case"):
        join("position,State,state\nA/1/0,1,2\n")
    observations["dose"] = 1
    with pytest.raises(UserError, match="must not differ only in upper and lower case"):
        join("position,Dose\nA/1/0,1\n")
    columns, _ = join("position,T\nA/1/0,1\n")
    assert columns.columns.tolist() == ["T"]


@pytest.mark.parametrize(
    ("header", "keys"),
    [
        ("Position,Track_ID,T,v", "position, track_id"),
        ("FOV name,Track ID,Frame,v", "position, track_id, t"),
        ("WELL,TRACK,t,v", "well, track_id, t"),
        ("Experiment,Position,track_id,v", "position, track_id"),
    ],
)
def test_columns_by_which_a_table_is_joined_may_be_in_capitals_and_have_spaces(join, header, keys):
    values = {"fov_name": "A/1/0", "position": "A/1/0", "well": "A/1", "experiment": "monday", "v": "a"}
    line = ",".join(values.get(name.lower().replace(" ", "_"), "0") for name in header.split(","))
    columns, notes = join(f"{header}\n{line}\n", tracks_unit="pixel")
    assert columns.columns.tolist() == ["T", "v"] if ",T," in header else ["v"]
    assert columns["v"][0] == "a"
    assert f" by {keys}: " in notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("position,v\nA/1/0,café\n".encode("latin-1"), "its text is not in UTF-8 .* save it as UTF-8"),
        ("position,é\nA/1/0,1\n".encode("latin-1"), "its text is not in UTF-8 .* save it as UTF-8"),
        ("position,v\nA/1/0,1\n".encode("utf-16"), "its text is not in UTF-8 .* save it as UTF-8"),
        (b"PK\x03\x04\x80\x80", "it is a spreadsheet or another archive; save its table as CSV in UTF-8"),
    ],
)
def test_a_table_that_is_not_utf_8_is_refused_with_what_to_save_it_as(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_annotations(path)


def test_a_file_that_is_not_a_table_is_refused(join, tmp_path):
    (tmp_path / "annotations0.csv").write_bytes(b"PAR1 damaged")
    table = pd.DataFrame({"position": ["A/1/0"], "v": [1]})
    with pytest.raises(UserError, match="must be a CSV or Parquet file, cannot read"):
        join("PAR1")
    (tmp_path / "annotations0.parquet").mkdir()
    with pytest.raises(UserError, match="must be a regular file, got a directory"):
        add_annotations_of(tmp_path / "annotations0.parquet", table)
    with pytest.raises(UserError, match="annotations not found"):
        add_annotations_of(tmp_path / "missing.csv", table)


def add_annotations_of(path, observations):
    """Join one file to observations of no experiment."""
    experiment = Experiment(
        name="monday",
        plate="a",
        tracks="b",
        channels=["c"],
        conditions={"A/1": "m"},
        minutes_per_frame=1,
        annotations=path,
    )
    return add_annotations(observations.assign(experiment="monday"), [experiment])


def test_the_checksum_of_a_table_is_that_of_its_content(tmp_path):
    path = tmp_path / "a.csv"
    experiment = Experiment(
        name="monday",
        plate="a",
        tracks="b",
        channels=["c"],
        conditions={"A/1": "m"},
        minutes_per_frame=1,
        annotations=path,
    )
    assert annotation_checksums(experiment) == {}
    path.write_text("position,v\n")
    before = annotation_checksums(experiment)
    path.write_text("position,w\n")
    assert before.keys() == annotation_checksums(experiment).keys() == {"1: a.csv"}
    assert before != annotation_checksums(experiment)
