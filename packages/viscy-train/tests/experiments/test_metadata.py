"""Keys of experiments, wells and fields of view become columns of the anchor table."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import yaml

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_settings, check_sources
from viscy_train.anchors.table import COLUMNS, AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.errors import ProjectError, UserError
from viscy_train.experiments.experiments_file import Experiment, load_experiments

POSITIVE = PositiveConfig(min_frames=1, max_frames=3)
ONE = {
    "name": "monday",
    "plate": "monday.zarr",
    "tracks": "tracks/monday",
    "channels": ["Phase3D", "Virus"],
    "conditions": {"A/1": "mock", "B/1": "infected"},
    "minutes_per_frame": 30,
}


@pytest.fixture
def build(data_folder):
    """A function that builds the table of the experiment monday, or of several, with changes."""

    def build_with(*changes, crop=16, channels="all"):
        monday = partial(
            Experiment,
            name="monday",
            plate=data_folder / "plates/monday.zarr",
            tracks=data_folder / "tracks/monday",
            channels=["Phase3D", "Virus"],
            minutes_per_frame=30,
        )
        tuesday = {
            "name": "tuesday",
            "plate": data_folder / "plates/tuesday.zarr",
            "tracks": data_folder / "tracks/tuesday",
        }
        of_name = {"monday": {}, "tuesday": tuesday}
        experiments = [monday(**(of_name[change.get("name", "monday")] | change)) for change in changes]
        return build_anchor_table(experiments, POSITIVE, CropSettings(crop=crop))

    return build_with


def by_position(table, column):
    """Return the values of a column by position, each of which must have one."""
    values = table.observations.groupby("position", observed=True)[column].unique()
    assert (values.str.len() == 1).all()
    return {position: None if pd.isna(value[0]) else value[0] for position, value in values.items()}


def test_the_more_specific_value_of_a_key_wins(build):
    table = build(
        {
            "conditions": {"A/1": "mock", "B/1": "infected"},
            "metadata": {"microscope": "Dragonfly", "dose": 0},
            "wells": {"B/1": {"dose": 0.5, "cell_line": "A549"}, "B/1/1": {"dose": 2}},
        }
    )
    assert table.extra_columns == ["microscope", "dose", "cell_line"]
    assert set(by_position(table, "microscope").values()) == {"Dragonfly"}
    assert by_position(table, "dose") == {"A/1/0": 0.0, "A/1/1": 0.0, "B/1/0": 0.5, "B/1/1": 2.0}
    assert by_position(table, "cell_line") == {"A/1/0": None, "A/1/1": None, "B/1/0": "A549", "B/1/1": "A549"}


@pytest.mark.parametrize(
    ("one", "other", "dtype", "expected"),
    [
        (1, 2, "int64", [1, 2]),
        (1, 2.5, "float64", [1.0, 2.5]),
        (1, None, "float64", [1.0, None]),
        (2**60, None, "category", [str(2**60), None]),
        (True, False, "bool", [True, False]),
        (True, None, "category", ["true", None]),
        (True, 1, "category", ["true", "1"]),
        ("a", 3, "category", ["a", "3"]),
        ("a", None, "category", ["a", None]),
    ],
)
def test_a_column_has_the_type_that_holds_all_values(build, one, other, dtype, expected):
    metadata = [{} if value is None else {"key": value} for value in (one, other)]
    conditions = {"A/1": "mock"}
    table = build(
        {"conditions": conditions, "metadata": metadata[0]},
        {"name": "tuesday", "conditions": conditions, "metadata": metadata[1]},
    )
    assert table.observations["key"].dtype == dtype
    first = table.observations.groupby("experiment", observed=True)["key"].agg(lambda values: values.iloc[0])
    assert [None if pd.isna(value) else value for value in first] == expected


def test_a_condition_may_belong_to_a_field_of_view(build):
    table = build({"conditions": {"A/1": "mock", "A/1/1": "infected", "B/1/0": "infected"}})
    assert by_position(table, "condition") == {"A/1/0": "mock", "A/1/1": "infected", "B/1/0": "infected"}
    assert by_position(table, "well") == {"A/1/0": "A/1", "A/1/1": "A/1", "B/1/0": "B/1"}


def test_a_condition_may_be_a_key_of_a_well(build):
    keys = {"A/1": {"condition": "mock", "dose": 1}, "B/1/0": {"condition": "infected"}}
    given, moved = build({"wells": keys}), build({"conditions": {"A/1": "mock", "B/1/0": "infected"}})
    pd.testing.assert_frame_equal(given.observations[COLUMNS], moved.observations)


def test_a_column_may_have_the_name_of_what_is_counted_while_a_table_is_built(build, tmp_path):
    (tmp_path / "a.csv").write_text("position,reason\nA/1/0,debris\n")
    metadata = {"defect": "scratch", "row": 3}
    table = build({"conditions": {"A/1": "mock"}, "metadata": metadata, "annotations": [tmp_path / "a.csv"]})
    assert table.extra_columns == ["defect", "row", "reason"]
    assert set(table.observations["defect"]) == {"scratch"}


def test_the_columns_are_written_and_read(build, tmp_path):
    metadata = {"dose": 0.5, "passage": 3, "is_control": True, "marker": "SEC61B"}
    table = build({"conditions": {"A/1": "mock"}, "metadata": metadata, "wells": {"A/1/0": {"note": "blurred"}}})
    table.write(tmp_path / "anchors.parquet")
    read = AnchorTable.read(tmp_path / "anchors.parquet")
    pd.testing.assert_frame_equal(read.observations, table.observations)
    assert read.extra_columns == [*metadata, "note"]
    assert read.experiments == table.experiments
    assert read.fingerprint == table.fingerprint


@pytest.mark.parametrize(("states", "damage"), [(("dead", "alive"), "dead"), ((1, 2), 3), (("1.5", True), "false")])
def test_a_column_of_annotations_and_of_metadata_of_another_experiment_is_written_and_read(
    build, tmp_path, states, damage
):
    (tmp_path / "a.csv").write_text(f"position,t,state\nA/1/0,1,{states[0]}\n")
    monday = {"conditions": {"A/1": "mock"}, "annotations": [tmp_path / "a.csv"]}
    tuesday = {"name": "tuesday", "conditions": {"A/1": "mock"}, "wells": {"A/1/1": {"state": states[1]}}}
    table = build(monday, tuesday)
    path = tmp_path / "anchors.parquet"
    table.write(path)
    read = AnchorTable.read(path)
    pd.testing.assert_frame_equal(read.observations, table.observations)
    assert read.observations["state"].nunique() == 2
    is_damaged = (read.observations["experiment"] == "tuesday") & (read.observations["position"] == "A/1/1")
    state = read.observations["state"].astype(object).where(~is_damaged, damage)
    typed = state.astype(table.observations["state"].dtype) if isinstance(damage, int) else state.astype("category")
    replace(table, observations=read.observations.assign(state=typed)).write(path)
    with pytest.raises(UserError, match=r"state of position A/1/1 of experiment 'tuesday' must be .*, got "):
        AnchorTable.read(path)


def test_a_changed_value_changes_the_fingerprint_of_its_column_only(build):
    one, other = (build({"conditions": {"A/1": "mock"}, "metadata": {"dose": dose, "line": "A"}}) for dose in (1, 2))
    changed = {name for name in one.fingerprint if one.fingerprint[name] != other.fingerprint[name]}
    assert changed == {"column 'dose'"}


def test_a_table_of_other_metadata_is_stale(build):
    table = build({"conditions": {"A/1": "mock"}, "wells": {"A/1": {"dose": 1}}})
    changed = [replace(table.experiments[0], wells={"A/1": {"dose": 2}})]
    with pytest.raises(UserError, match=r"wells of 'monday' was .*'dose': 1.*, is now .*'dose': 2.*; rebuild it"):
        check_settings(table, changed, POSITIVE, table.crops)


@pytest.mark.parametrize(
    ("key", "one", "other", "message"),
    [
        ("dose", 1, 2, "dose of position A/1/1 of experiment 'monday' must be 2, got 7"),
        ("dose", 1, None, "dose of position A/1/1 of experiment 'monday' must be nan, got 7"),
        ("line", "a", "b", "line of position A/1/1 of experiment 'monday' must be b, got a"),
        ("line", "a", None, "line of position A/1/1 of experiment 'monday' must be nan, got a"),
    ],
)
def test_a_damaged_value_of_a_position_is_refused(build, tmp_path, key, one, other, message):
    of_wells = {"A/1/0": {key: one}} | ({} if other is None else {"A/1/1": {key: other}})
    table = build({"conditions": {"A/1": "mock"}, "wells": of_wells})
    observations = table.observations.copy()
    observations.loc[observations["position"] == "A/1/1", key] = 7 if key == "dose" else "a"
    replace(table, observations=observations).write(tmp_path / "anchors.parquet")
    with pytest.raises(UserError, match=message):
        AnchorTable.read(tmp_path / "anchors.parquet")


def test_a_missing_column_of_metadata_is_refused(build, tmp_path):
    table = build({"conditions": {"A/1": "mock"}, "metadata": {"dose": 1}})
    replace(table, observations=table.observations.drop(columns="dose")).write(tmp_path / "anchors.parquet")
    with pytest.raises(UserError, match="it must have the column 'dose' of the metadata"):
        AnchorTable.read(tmp_path / "anchors.parquet")


def test_wells_and_fields_that_the_plate_does_not_have_are_refused(build):
    with pytest.raises(ProjectError) as error:
        build({"conditions": {"A/1": "mock", "C/1": "mock", "A/1/7": "mock"}, "wells": {"A/1/9": {"dose": 1}}})
    assert all(problem.startswith("experiment 'monday': ") for problem in error.value.problems)
    assert len(error.value.problems) == 3
    assert "no well 'C/1'" in error.value.problems[0]
    assert "has no field of view '7'; it has 0, 1" in error.value.problems[1]
    assert "has no field of view '9'" in error.value.problems[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "experiments.yaml"


def write(path, text):
    """Write an experiment in the YAML of the keys that are the same for all, and of more lines."""
    path.write_text("experiments:\n" + yaml.safe_dump([ONE], sort_keys=False) + text)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("  metadata: [a]\n", 12, "metadata of experiment 'monday' must be a mapping"),
        ("  metadata:\n    dose: .nan\n", 13, "'dose' in metadata of experiment 'monday' must be finite"),
        ("  metadata:\n    dose: .inf\n", 13, "must be finite"),
        ("  metadata:\n    dose:\n", 13, "must be text, a number or a boolean, got null"),
        ("  metadata:\n    dose: [1, 2]\n", 13, r"must be text, a number or a boolean, got \[1, 2\]"),
        ("  metadata:\n    a: 1\n    line: ' A549'\n", 14, "must not begin or end with a space"),
        ("  metadata:\n    line: ''\n", 13, "must be non-empty text"),
        ("  metadata:\n    condition: mock\n", 13, "must not be a column of every anchor table .*'condition'"),
        ("  metadata:\n    lineage_id: 3\n", 13, "must not be a column of every anchor table"),
        ("  metadata:\n    split: test\n", 13, "must not be a column of .* embeddings .*got 'split'"),
        ("  metadata:\n    a: 1\n    fov/name: b\n", 14, "must not be a column of .* embeddings .*got 'fov/name'"),
        ("  wells:\n    A/1/0: {fov_name: b}\n", 13, "must not be a column of .* embeddings .*got 'fov_name'"),
        ("  metadata:\n    Dose: 1\n    dose: 2\n", 13, "must not differ only in upper and lower case"),
        ("  metadata:\n    dose: 1\n    dose: 2\n", 14, "key 'dose' is already defined in line 13"),
        ("  wells: A/1\n", 12, "wells of experiment 'monday' must be a mapping"),
        ("  wells:\n    A/1: 3\n", 13, "well 'A/1' of experiment 'monday' must be a mapping"),
        (
            "  wells:\n    A/1:\n      dose: {}\n",
            14,
            "'dose' in well 'A/1' of experiment 'monday' must be text, a number",
        ),
        ("  wells:\n    A/1/0:\n      well: A/2\n", 14, "must not be a column of every anchor table"),
        (
            "  wells:\n    A/2:\n      dose: 3\n",
            13,
            "well 'A/2' of experiment 'monday' must have a condition to be used",
        ),
        ("  wells:\n    C/1/0:\n      dose: 3\n", 13, "well 'C/1/0' .* must have a condition to be used"),
        ("  wells:\n    A/1:\n      condition: x\n", 14, r"must be given once, .* got \['mock', 'x'\]"),
        ("  wells:\n    A/2:\n      condition:\n", 14, "condition of well 'A/2' .* must be non-empty text, got null"),
        ("  annotations: {3: a}\n", 12, "annotations of experiment 'monday' must be a path, or a list of paths, got"),
        ("  annotations: [a.csv, {}]\n", 12, "annotations .* must be a path, or a list of paths"),
    ],
)
def test_a_mistake_is_refused_in_one_line_that_names_its_line(path, text, line, message):
    write(path, text)
    with pytest.raises(UserError, match=message) as error:
        load_experiments(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert "\n" not in str(error.value)


def test_values_that_yaml_takes_for_others_are_those_that_the_user_wrote(path):
    texts = {
        "date": "2024_10_09",
        "clock": "12:30",
        "barcode": "0123",
        "stain": "off",
        "hex": "0x1F",
        "day": "2024-10-09",
    }
    numbers = {"dose": "0.50", "small": "1e-3", "negative": "-2", "quoted": "'5'", "flag": "True"}
    write(path, "  metadata:\n" + "".join(f"    {key}: {text}\n" for key, text in (texts | numbers).items()))
    (experiment,) = load_experiments(path)
    values = {"dose": 0.5, "small": 0.001, "negative": -2, "quoted": "5", "flag": True}
    assert experiment.metadata == texts | values
    assert isinstance(experiment.metadata["negative"], int)


def test_names_in_wells_are_spelled_as_in_the_file(path):
    write(path, "  wells:\n    C/1:\n      condition: 0123\n      1: a\n    0123:\n      condition: off\n")
    (experiment,) = load_experiments(path)
    assert experiment.wells == {"C/1": {"1": "a"}, "0123": {}}
    assert experiment.conditions == {"A/1": "mock", "B/1": "infected", "C/1": "0123", "0123": "off"}


def test_two_experiments_may_share_a_well_but_no_field_of_view(path):
    def write_two(one, other):
        experiments = [ONE | {"conditions": one}, ONE | {"name": "friday", "conditions": other}]
        path.write_text("experiments:\n" + "".join(yaml.safe_dump([one]) for one in experiments))
        return load_experiments(path)

    assert len(write_two({"A/1/0": "mock"}, {"A/1/1": "mock"})) == 2
    for one, other in (({"A/1": "mock"}, {"A/1/1": "x"}), ({"A/1/1": "mock"}, {"A/1": "x"})):
        with pytest.raises(UserError, match=r"both use well A/1/1 of plate .* counted twice"):
            write_two(one, other)


def test_a_key_may_have_the_value_of_many_wells(path):
    n_wells = 1000
    wells = "".join(f"    {row}/{column}: {{dose: {row}}}\n" for row in range(40) for column in range(25))
    conditions = "".join(f"    {row}/{column}: c{row}\n" for row in range(40) for column in range(25))
    text = yaml.safe_dump([{key: value for key, value in ONE.items() if key != "conditions"}], sort_keys=False)
    path.write_text(f"experiments:\n{text}  conditions:\n{conditions}  wells:\n{wells}")
    (experiment,) = load_experiments(path)
    assert len(experiment.wells) == len(experiment.conditions) == n_wells
    assert experiment.metadata_of("39/24/0", "39/24") == {"dose": 39}
    assert np.array_equal(sorted({values["dose"] for values in experiment.wells.values()}), np.arange(40))


def test_a_table_of_annotations_that_changed_is_noticed(build, tmp_path):
    path = tmp_path / "states.csv"
    path.write_text("fov_name,track_id,state\nA/1/0,1,dead\n")
    table = build({"conditions": {"A/1": "mock"}, "annotations": [path]})
    assert table.extra_columns == ["state"]
    check_sources(table)
    path.write_text("fov_name,track_id,state\nA/1/0,1,alive\n")
    with pytest.raises(UserError, match=r"annotations changed after the anchor table was built: states.csv; rebuild"):
        check_sources(table)
    path.unlink()
    check_sources(table)
    without = [replace(table.experiments[0], annotations=[])]
    with pytest.raises(UserError, match=r"annotations of 'monday' was \['states.csv'\], is now \[\]; rebuild it"):
        check_settings(table, without, POSITIVE, table.crops)
