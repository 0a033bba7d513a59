"""A collection of VisCy becomes experiments with the same names, wells, channels and times."""

import copy
import re

import pytest
import yaml

from viscy_train.anchors.build import build_anchor_table
from viscy_train.cli.entry_point import main
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.errors import UserError
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.plates.plate import open_plate
from viscy_train.project_files.importer import import_collection

ENTRY = {
    "name": "g3bp1",
    "data_path": "${datasets_root}/plates/monday.zarr",
    "tracks_path": "${datasets_root}/tracks/monday",
    "channels": [{"name": "Phase3D", "marker": "Phase3D"}, {"name": "Virus", "marker": "G3BP1"}],
    "perturbation_wells": {"uninfected": ["A/1"], "ZIKV": ["B/1"]},
    "interval_minutes": 30.0,
    "start_hpi": 3.5,
    "marker": "G3BP1",
    "organelle": "stress_granules",
    "microscope": "mantis",
    "date": "2025_07_24",
    "moi": 5.0,
    "pixel_size_xy_um": 0.1494,
    "pixel_size_z_um": 0.174,
    "exclude_fovs": [],
}


@pytest.fixture
def imported(tmp_path, data_folder):
    """A function that imports a collection of entries, and returns its experiments and what the user is shown."""

    def run(*changes, **top):
        changed = [copy.deepcopy(ENTRY) | one for one in changes]
        entries = [{key: value for key, value in one.items() if value is not None} for one in changed]
        content = {"name": "two markers", "datasets_root": f"{data_folder}/", "experiments": entries} | top
        path = tmp_path / "collection.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        lines = import_collection(path, tmp_path / "out")
        return load_experiments(tmp_path / "out" / "experiments.yaml", "one"), lines

    return run


def test_an_entry_becomes_an_experiment(imported, data_folder):
    (one,), lines = imported({})
    assert (one.name, one.plate) == ("g3bp1", data_folder / "plates" / "monday.zarr")
    assert one.tracks == data_folder / "tracks" / "monday"
    assert one.channels == {"Phase3D": "Phase3D", "Virus": "G3BP1"}
    assert one.conditions == {"A/1": "uninfected", "B/1": "ZIKV"}
    assert (one.minutes_per_frame, one.hour_of_infection) == (30, -3.5)
    assert one.hours_post_infection(1) == 4.0  # start_hpi + t * interval_minutes / 60
    assert (one.micrometers_per_pixel, one.micrometers_per_slice) == (0.1494, 0.174)
    assert one.metadata == {"organelle": "stress_granules", "microscope": "mantis", "date": "2025_07_24", "moi": 5}
    assert lines == ["1 experiment of the collection became 1, with 2 markers"]


def test_the_table_of_an_imported_collection_has_its_hours_and_conditions(imported):
    experiments, _ = imported({})
    table = build_anchor_table(experiments, PositiveConfig(), CropSettings(crop=16))
    rows = table.observations
    assert set(zip(rows["well"], rows["condition"], strict=True)) == {("A/1", "uninfected"), ("B/1", "ZIKV")}
    assert rows["hours_post_infection"].min() == 3.5
    assert set(rows["microscope"]) == {"mantis"}


def test_entries_may_share_wells_in_other_channels(imported, tmp_path):
    first = {"name": "a", "channels": [{"name": "Phase3D", "marker": "Phase3D"}]}
    experiments, lines = imported(first, {"name": "b", "channels": [{"name": "Virus", "marker": "G3BP1"}]})
    assert [one.channels for one in experiments] == [{"Phase3D": "Phase3D"}, {"Virus": "G3BP1"}]
    assert [one.conditions for one in experiments] == [experiments[0].conditions] * 2
    assert not [line for line in lines if line.startswith("Warning")]
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["data"]["channels"] == "one"


def test_entries_that_share_a_channel_of_a_well_are_reported(imported):
    with pytest.raises(UserError, match="counted twice"):
        imported({}, {"name": "again"})


def test_a_channel_that_only_some_wells_have_is_an_experiment_of_its_own(imported):
    channels = [{"name": "Phase3D", "marker": "Phase3D"}, {"name": "Virus", "marker": "pAL40", "wells": ["B/1"]}]
    first, second = imported({"channels": channels})[0]
    assert (first.name, first.channels, list(first.conditions)) == ("g3bp1", {"Phase3D": "Phase3D"}, ["A/1", "B/1"])
    assert (second.name, second.channels, list(second.conditions)) == ("g3bp1-2", {"Virus": "pAL40"}, ["B/1"])


def test_excluded_fields_of_view_are_left_out(imported):
    (one,), _ = imported({"exclude_fovs": ["A/1/0"]})
    assert one.conditions == {"A/1/1": "uninfected", "B/1": "ZIKV"}


def test_fields_that_cannot_be_excluded_without_the_plate_are_reported(imported, tmp_path):
    _, lines = imported({"exclude_fovs": ["A/1/0"], "data_path": "/nowhere.zarr"})
    assert "Warning: g3bp1: cannot exclude A/1/0, because the plate cannot be read; list the other fields" in lines
    assert "# To be excluded: A/1/0." in (tmp_path / "out" / "experiments.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"perturbation_wells": {"ZIKV": ["B/1", "C/9"]}}, "g3bp1: plate .* has no well 'C/9'; it has A/1, B/1"),
        ({"channels": [{"name": "GFP", "marker": "GFP"}]}, "g3bp1: position A/1/0 .* has no channel 'GFP'"),
        ({"data_path": "/nowhere.zarr"}, "g3bp1: plate not found: /nowhere.zarr"),
        ({"interval_minutes": None}, "g3bp1: interval_minutes is missing; 30 assumed"),
        ({"perturbation_wells": {"a": ["A/1"], "b": ["A/1"]}}, "g3bp1: well A/1 is a and b; a is kept"),
    ],
)
def test_what_does_not_match_the_plate_is_reported(imported, changes, warning):
    _, lines = imported(changes)
    assert [line for line in lines if re.match(f"Warning: {warning}", line)]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        (
            {"interval_minutes": 0},
            "g3bp1: interval_minutes is 0; 30 assumed, which matters unless images have one frame",
        ),
        ({"start_hpi": None}, "g3bp1: start_hpi is missing; 0 assumed, so the first frame is the time of infection"),
        ({"moi": 0}, "g3bp1: moi is 0, which VisCy writes for an unknown value, and is left out"),
        (
            {"channels": [{"name": "Phase3D"}, {"name": "Virus", "marker": "G3BP1"}]},
            "g3bp1: channel Phase3D has no marker; its name is used",
        ),
        (
            {"channels": [{"name": "Phase3D", "marker": "P"}, {"name": "Virus", "marker": "G3BP1", "wells": ["B/1"]}]},
            "g3bp1: its channels are not valid in the same wells; those of B/1 are the experiment g3bp1-2",
        ),
    ],
)
def test_what_is_assumed_or_replaced_is_reported(imported, changes, warning):
    _, lines = imported(changes)
    assert [line for line in lines if line.startswith("Warning")] == [f"Warning: {warning}"]


def test_no_key_is_lost_silently(imported, tmp_path):
    provenance = {"airtable_query": "OR(a, b)", "created_by": "someone"}
    changes = {"marker": "LAMP1", "operators": ["x", "y"], "treatment": "DMSO"}
    (one,), lines = imported(changes, provenance=provenance, train_fovs=["A/1/0"])
    assert one.metadata["treatment"] == "DMSO"
    text = (tmp_path / "out" / "experiments.yaml").read_text()
    from_top = "provenance: {airtable_query: OR(a, b), created_by: someone}, train_fovs: ['A/1/0']"
    for part in ("marker: LAMP1", "operators: ['x', 'y']", from_top):
        assert part in text
        assert any(part in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "top", "warning"),
    [
        (
            {"intervall_minutes": 3},
            {},
            "g3bp1: the key 'intervall_minutes' becomes metadata; write 'interval_minutes' if it is meant",
        ),
        (
            {"exclude_fov": ["A/1/0"]},
            {},
            "g3bp1: the key 'exclude_fov' is not used; write 'exclude_fovs' if it is meant",
        ),
        (
            {"Pixel_size_xy": 0.5},
            {},
            "g3bp1: the key 'Pixel_size_xy' becomes metadata; write 'pixel_size_xy_um' if it is meant",
        ),
        (
            {"channels": [{"name": "Phase3D", "marker": "P"}, {"name": "Virus", "marker": "G3BP1", "well": ["B/1"]}]},
            {},
            "g3bp1: the key 'well' of channel Virus is not used; write 'wells' if it is meant",
        ),
        ({}, {"fov_record": []}, "the key 'fov_record' is not used; write 'fov_records' if it is meant"),
        ({"temperature": 37, "medium": "DMEM"}, {"editor": "x"}, None),
    ],
)
def test_a_key_that_is_probably_misspelled_is_reported(imported, changes, top, warning):
    _, lines = imported(changes, **top)
    expected = [] if warning is None else [f"Warning: {warning}"]
    assert [line for line in lines if line.startswith("Warning")] == expected


def test_records_of_fields_of_view_become_metadata_of_wells(imported):
    records = [
        {"dataset": "monday", "well_id": "A/1", "cell_line": ["A549", "TOMM20-GFP"], "moi": 5.0, "t_shape": 9},
        {"dataset": "monday", "well_id": "B/1", "fov": "0", "treatment": "DMSO"},
        {"dataset": "friday", "well_id": "B/1", "treatment": "none"},
    ]
    (one,), _ = imported({}, fov_records=records)
    assert one.wells == {"A/1": {"cell_line": "A549 + TOMM20-GFP"}, "B/1/0": {"treatment": "DMSO"}}


def test_names_that_yaml_takes_for_something_else_stay_names(imported):
    wells = {"yes": ["A/1"], "0.5": ["B/1"]}
    (one,), _ = imported({"name": "2024_10_09", "perturbation_wells": wells, "microscope": "off"})
    assert (one.name, set(one.conditions.values()), one.metadata["microscope"]) == ("2024_10_09", {"yes", "0.5"}, "off")


COLLECTION = """
datasets_root: {root}
defaults: &shared
  microscope: 0x10
  passage: 1_000
experiments:
  - <<: *shared
    name: 2024_10_09
    data_path: plates/monday.zarr
    tracks_path: ${{datasets_root}}/tracks/monday
    channels: [{{name: Phase3D, marker: 0123}}, {{name: Virus, marker: 1.50}}]
    perturbation_wells: {{off: [A/1], 0.10: [B/1]}}
    interval_minutes: 30
    start_hpi: 1e0
    date: 2024_10_09
    batch: 0123
    time: 12:30
    shaken: on
    dose: 0.5
    fixed: true
    quoted: "7"
fov_records: [{{dataset: monday, well_id: A/1, plated: 2024_10_08, cells: 012}}]
"""


def test_values_that_are_not_quoted_are_read_as_they_are_written(tmp_path, data_folder):
    path = tmp_path / "collection.yml"
    text = COLLECTION.format(root=data_folder).replace("plates/", f"{data_folder}/plates/")
    path.write_text(text)
    lines = import_collection(path, tmp_path / "out")
    (one,) = load_experiments(tmp_path / "out" / "experiments.yaml", "one")
    assert (one.name, one.markers) == ("2024_10_09", {"Phase3D": "0123", "Virus": "1.50"})
    assert one.conditions == {"A/1": "off", "B/1": "0.10"}
    assert one.hour_of_infection == -1
    assert one.metadata == {
        "microscope": "0x10",
        "passage": "1_000",
        "date": "2024_10_09",
        "batch": "0123",
        "time": "12:30",
        "shaken": "on",
        "dose": 0.5,
        "fixed": True,
        "quoted": "7",
    }
    assert one.wells == {"A/1": {"plated": "2024_10_08", "cells": "012"}}
    assert not [line for line in lines if line.startswith("Warning")]


@pytest.mark.parametrize("written", ["1_0", "0:30", "0x1E"])
def test_numbers_that_are_not_written_in_decimals_are_refused(tmp_path, data_folder, written):
    text = COLLECTION.format(root=data_folder).replace("interval_minutes: 30", f"interval_minutes: {written}")
    (tmp_path / "collection.yml").write_text(text)
    with pytest.raises(
        UserError, match=f"interval_minutes of experiment '2024_10_09' must be .*number, got '{written}'"
    ):
        import_collection(tmp_path / "collection.yml", tmp_path / "out")


def test_excluded_fields_of_view_that_match_nothing_are_reported(imported):
    (one,), lines = imported({"exclude_fovs": ["A/1/0", "A/1/7", "C/9/0", "A/1", "nonsense"]})
    assert one.conditions == {"A/1/1": "uninfected", "B/1": "ZIKV"}
    warning = (
        "Warning: g3bp1: exclude_fovs has A/1, A/1/7, C/9/0, nonsense, which no field of view of its wells is named"
    )
    assert [line for line in lines if line.startswith("Warning")] == [warning]


def test_excluded_fields_of_view_must_be_a_list(imported):
    with pytest.raises(UserError, match="exclude_fovs of experiment 'g3bp1' must be a list, got 'A/1/0'"):
        imported({"exclude_fovs": "A/1/0"})


def test_records_that_match_nothing_are_reported(imported):
    records = [{"dataset": "monday", "well_id": "Z/9", "treatment": "DMSO"}, "A/1"]
    _, lines = imported({}, fov_records=records)
    warning = "Warning: 2 of 2 fov_records are not about a well of the experiments, and are left out"
    assert [line for line in lines if line.startswith("Warning")] == [warning]


def test_crops_fit_into_the_images(imported, tmp_path, data_folder):
    """30 micrometers would be 3000 pixels."""
    height, width = open_plate(data_folder / "plates" / "monday.zarr").image("A/1/0").shape[3:]
    imported({"pixel_size_xy_um": 0.01})
    crop = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["data"]["crop"]
    assert 0 < crop <= min(height, width)


def test_another_scale_than_that_of_the_plate_is_reported(imported, monkeypatch):
    monkeypatch.setattr("viscy_train.plates.ngff_scale.PhysicalScale.side", lambda self, where: 0.4)
    _, lines = imported({})
    warning = "Warning: g3bp1: pixel_size_xy_um is 0.1494, but the images have 0.4 in their metadata; 0.1494 is used"
    assert [line for line in lines if line.startswith("Warning")] == [warning]


def test_another_interval_than_that_of_the_plate_is_reported(imported, monkeypatch):
    monkeypatch.setattr("viscy_train.plates.position_image.PositionImage.minutes_per_frame", 10.0)
    _, lines = imported({})
    said = "the metadata of the images state 10 minutes per frame, but minutes_per_frame is 30; correct the one that is"
    assert [line for line in lines if line.startswith("Warning")] == [f"Warning: g3bp1: {said} wrong"]


def test_channels_may_be_given_by_name_only(imported):
    (one,), _ = imported({"channels": None, "channel_names": ["Phase3D", "Virus"], "marker": None})
    assert one.markers == {"Phase3D": "Phase3D", "Virus": "Virus"}


def test_missing_tracks_are_an_open_place(imported):
    with pytest.raises(UserError, match=r"has an empty value; fill in line \d+: tracks"):
        imported({"tracks_path": None})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("experiments: 3", "must be a collection of VisCy"),
        ("[1]", "must be a collection of VisCy"),
        ("experiments: []", "experiments must not be empty"),
        ("experiments: [{data_path: a}]", "name of experiments.0 must be non-empty text"),
        ("experiments: [{name: a}]", "data_path of experiment 'a' must be a path"),
        ("experiments: [{name: a, data_path: x, channels: [GFP]}]", "channels of experiment 'a' must have a name each"),
        ("experiments: [{name: a, data_path: x, channel_names: [GFP]}]", "perturbation_wells .* non-empty mapping"),
        (
            "experiments: [{name: a, data_path: '${datasets_root}/x', channel_names: [GFP]}]",
            "needs the key `datasets_root`",
        ),
        (
            "experiments: [{name: a, data_path: x, channel_names: [GFP], perturbation_wells: {a: [A/1]}, "
            "pixel_size_xy_um: -1}]",
            "pixel_size_xy_um of experiment 'a' must be above 0",
        ),
        (
            "experiments: [{name: a, data_path: x, channel_names: [GFP], perturbation_wells: {a: [A/1]}, "
            "interval_minutes: -10}]",
            "interval_minutes of experiment 'a' must be at least 0, got -10",
        ),
    ],
)
def test_what_is_not_a_collection_is_refused_in_one_line(tmp_path, capsys, content, message):
    (tmp_path / "collection.yml").write_text(content)
    with pytest.raises(UserError, match=message):
        import_collection(tmp_path / "collection.yml", tmp_path / "out")
    assert main(["import", str(tmp_path / "collection.yml"), "--out", str(tmp_path / "out")]) == EXIT_USER_ERROR
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_command_writes_both_files_and_never_replaces_them(tmp_path, data_folder, capsys):
    content = {"name": "c", "datasets_root": str(data_folder), "experiments": [ENTRY]}
    (tmp_path / "collection.yml").write_text(yaml.safe_dump(content))
    command = ["import", str(tmp_path / "collection.yml"), "--out", str(tmp_path)]
    assert main(command) == 0
    assert "Next: edit both" in capsys.readouterr().out
    before = (tmp_path / "experiments.yaml").read_bytes()
    assert main(command) == EXIT_USER_ERROR
    assert "experiments.yaml exists and is not replaced" in capsys.readouterr().err
    assert (tmp_path / "experiments.yaml").read_bytes() == before
