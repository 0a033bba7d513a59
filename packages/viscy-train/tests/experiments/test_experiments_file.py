import pytest
import yaml

from viscy_train.errors import UserError
from viscy_train.experiments.experiments_file import load_experiments

ONE = {
    "name": "monday",
    "plate": "plates/monday.zarr",
    "tracks": "tracks/monday",
    "channels": ["Phase3D", "Virus"],
    "conditions": {"A/1": "mock", "B/1": "infected"},
    "minutes_per_frame": 30,
}
TWO = ONE | {"name": "friday", "plate": "plates/friday.zarr", "tracks": "tracks/friday"}


def to_yaml(*experiments):
    """Return the text of a file; experiments are dumped one by one, because safe_dump would share lists by aliases."""
    return "experiments:\n" + "".join(yaml.safe_dump([experiment], sort_keys=False) for experiment in experiments)


TEXT = to_yaml(ONE, TWO)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "experiments.yaml"


def test_relative_paths_start_at_the_folder_of_the_file(path, monkeypatch, tmp_path_factory):
    path.write_text(TEXT)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    one, two = load_experiments(path)
    assert (one.name, two.name) == ("monday", "friday")
    assert one.plate == path.parent / "plates/monday.zarr"
    assert one.tracks == path.parent / "tracks/monday"
    assert one.conditions == {"A/1": "mock", "B/1": "infected"}
    assert one.hour_of_infection == 0


def test_hours_are_counted_from_the_infection(path):
    path.write_text(yaml.safe_dump({"experiments": [ONE | {"hour_of_infection": -3}]}))
    assert load_experiments(path)[0].hours_post_infection(4) == 5.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"file not found: .*experiments\.yaml"),
        ("", r"experiments\.yaml is empty"),
        ("# only a comment\n", r"experiments\.yaml is empty"),
        (b"experiments: \xff\xfe", "must be a YAML file in UTF-8"),
        (
            "experiments: [",
            r"experiments\.yaml, line 1: invalid YAML: a value is missing here, or a bracket",
        ),
        ("experiments:\n\t- a", r"experiments\.yaml, line 2: invalid YAML: .* must be spaces, got a tab"),
        ("experiments:", "experiments must be a non-empty list, got null"),
        ("experiments: []", "experiments must be a non-empty list"),
        ("experiments: 3", "line 1: experiments must be a non-empty list"),
        (
            to_yaml(ONE, TWO | {"tracks": ONE["tracks"]}),
            r"'monday' and 'friday' have different plates but the same tracks",
        ),
        (
            to_yaml(ONE, TWO | {"conditions": {"A/1": "Mock"}}),
            r"must not differ only in upper and lower case, got .'mock'",
        ),
        (
            to_yaml(ONE | {"metadata": {"dose": 1}, "wells": {"A/1": {"Dose": 2}}}),
            "keys of metadata and wells must not differ only in upper and lower case, got .'dose', 'Dose'",
        ),
        (
            to_yaml(ONE | {"metadata": {"dose": 1}}, TWO | {"metadata": {"DOSE": 1}}),
            "keys of metadata and wells must not differ only in upper and lower case",
        ),
        (
            to_yaml(ONE, TWO | {"conditions": {"A/1": "caf\u00e9", "B/1": "cafe\u0301"}}),
            r"names of conditions must not differ only in the Unicode characters .*caf\\\\xe9.*cafe\\\\u0301",
        ),
        (
            to_yaml(ONE | {"metadata": {"dose (\u00b5M)": 1}}, TWO | {"metadata": {"dose (\u03bcM)": 1}}),
            "keys of metadata and wells must not differ only in the Unicode characters",
        ),
        (
            to_yaml(ONE | {"conditions": {"A/1": "mock\n24 h"}}),
            r"condition of well 'A/1' .* must have no line breaks or other control characters, got 'mock\\n24 h'",
        ),
        (to_yaml(ONE | {"name": "\x1b[31mred"}), "name of an experiment must have no line breaks or other control"),
        (to_yaml(ONE | {"metadata": {"a\u2028b": 1}}), "a key in metadata .* must have no line breaks"),
        (
            to_yaml(ONE | {"conditions": {"A/1": "mock "}}),
            "condition of well 'A/1' .* must not begin or end with a space",
        ),
        (to_yaml(ONE).replace("minutes_per_frame: 30", "minutes_per_frame: 0:30"), "must be a number, got 0:30"),
        (to_yaml(ONE) + "  hour_of_infection: 3:30\n", r"line \d+: hour_of_infection must be a number, got 3:30"),
        (to_yaml(ONE).replace("A/1: mock", "A/1:"), r"has an empty value; fill in line 9: A/1 of conditions"),
        ("- 3", "must be a mapping with the key `experiments`, got a list; write `experiments:` above it"),
        ("plates: 3", "must be a mapping with the key `experiments`, got the keys 'plates'"),
        ("experiments: {monday: {}}", "whose items begin with `- name:`, got a mapping with the keys 'monday'"),
        ("3", "must be a mapping with the key `experiments`"),
        ("experiments: [3, 4]", "line 1: experiments.0 must be a mapping, got"),
        ("experiments: [null]", "line 1: experiments.0 must be a mapping, got"),
        (
            TEXT.replace("experiments:", "experimnts:"),
            "line 1: unknown key 'experimnts'; did you mean experiments?",
        ),
        (TEXT + "color: red\n", "line 22: `experiments` must be the only key, got 'color'"),
        (
            to_yaml(ONE, {"plat" if key == "plate" else key: value for key, value in TWO.items()}),
            "line 13: an experiment has no key 'plat'; did you mean plate?",
        ),
        (to_yaml(ONE | {"qqq": {}}), r"an experiment has no key 'qqq'; an experiment has name, plate, tracks"),
        (to_yaml(ONE | {"plate": [1]}), "line 3: plate must be a path, as text"),
        (to_yaml(ONE | {"tracks_format": "ultrak"}), "got 'ultrak'; did you mean ultrack?"),
        (to_yaml(ONE | {"missing_tracks": "skp"}), "got 'skp'; did you mean skip?"),
        (
            to_yaml(ONE, {key: value for key, value in TWO.items() if key != "tracks"}),
            "line 12: the key 'tracks' is missing",
        ),
        (to_yaml(ONE, TWO | {"name": None}), "line 12: .*name"),
        (to_yaml(ONE, TWO | {"minutes_per_frame": "fast"}), "line 21: minutes_per_frame must be a number, got fast"),
        (to_yaml(ONE, TWO | {"channels": "Phase3D"}), "line 15: .*list.*Phase3D"),
        (to_yaml(ONE, TWO | {"conditions": ["A/1"]}), "line 18: conditions .* must be a mapping"),
        (to_yaml(ONE, TWO | {"conditions": {"A/1": {3: 4}}}), "line 19: condition of well 'A/1' must be text, got "),
        (to_yaml(ONE | {"minutes_per_frame": -1}), "minutes_per_frame of experiment 'monday' must be above 0, got -1"),
        (to_yaml(ONE | {"minutes_per_frame": float("nan")}), "minutes_per_frame of experiment 'monday' must be finite"),
        (to_yaml(ONE | {"channels": []}), "channels of experiment 'monday' must name at least one"),
        (to_yaml(ONE | {"channels": ["a", "a"]}), "channels of experiment 'monday' must differ"),
        (to_yaml(ONE | {"conditions": {}}), "conditions of experiment 'monday' must name a well"),
        (
            to_yaml(ONE | {"conditions": {"A/1": " "}}),
            "condition of well 'A/1' of experiment 'monday' must be non-empty text",
        ),
        (TEXT + "  name: sunday\n", "line 22: key 'name' is already defined in line 12"),
        (TEXT + "experiments: []\n", "line 22: key 'experiments' is already defined in line 1"),
        (to_yaml(ONE, TWO | {"name": "monday"}), "must have different names"),
        (
            to_yaml(ONE, TWO | {"channels": ["Phase3D"]}),
            "must have the same number of channels, got {'monday': 2, 'friday': 1}",
        ),
        (
            to_yaml(ONE, TWO | {"plate": "plates/../plates/monday.zarr"}),
            "'monday' and 'friday' both use well A/1 of plate .* counted twice",
        ),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(path, content, message):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        load_experiments(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_experiments_may_use_different_wells_of_one_plate(path):
    path.write_text(
        to_yaml(ONE | {"conditions": {"A/1": "mock"}}, TWO | {"plate": ONE["plate"], "conditions": {"B/1": "mock"}})
    )
    assert len(load_experiments(path)) == 2


def test_a_folder_instead_of_the_file_is_refused(path):
    path.mkdir()
    with pytest.raises(UserError, match=r"must be a regular file, got a directory"):
        load_experiments(path)


@pytest.mark.parametrize(
    "name", ["2024_10_09", "2024-10-09", "20241009", "0123", "1e3", "1.50", "0x1F", "+5", "12:30", "on", "No", "true"]
)
def test_names_that_yaml_takes_for_other_values_are_spelled_as_in_the_file(path, name):
    path.write_text(
        f"experiments:\n- name: {name}\n  plate: {name}\n  tracks: {name}/tracks\n  channels: [{name}, a]\n"
        f"  conditions: {{{name}: mock, A/1: {name}}}\n  minutes_per_frame: 1_0\n"
    )
    (experiment,) = load_experiments(path)
    assert experiment.name == name
    assert experiment.plate == path.parent / name
    assert experiment.channels == [name, "a"]
    assert experiment.conditions == {name: "mock", "A/1": name}
    assert experiment.minutes_per_frame == 10


def test_names_in_a_merged_mapping_are_read(path):
    text = to_yaml(ONE).replace("- name", "- &one\n  name")
    path.write_text(f"{text}- <<: *one\n  name: 2024_10_09\n  plate: other.zarr\n  tracks: other\n")
    assert [one.name for one in load_experiments(path)] == ["monday", "2024_10_09"]
    assert load_experiments(path)[1].channels == ONE["channels"]


NAMES = """\
  name: 0123
  plate: 2024_10_09
  tracks: 12:30
  channels: [405, 488]
  conditions: {A/1: NO, 012: 012}
  metadata: {d: 012, n: NO, z: 2024_10_09, clock: 12:30, number: 1.5, flag: true}
  wells: {A/1: {batch: 012, condition2: off}}
  annotations: 20241009
  minutes_per_frame: 5
"""


@pytest.mark.parametrize("merge", ["<<: *one", "<<: [*one]", "<<: {<<: *one}"])
def test_values_of_a_merged_experiment_are_read_as_they_are_written(path, merge):
    path.write_text(f"experiments:\n- &one\n{NAMES}- {merge}\n  name: two\n  channels: [GFP, RFP]\n")
    one, two = load_experiments(path)
    assert (one.name, two.name) == ("0123", "two")
    assert one.channels == ["405", "488"]
    for experiment in (one, two):
        assert experiment.plate == path.parent / "2024_10_09"
        assert experiment.tracks == path.parent / "12:30"
        assert experiment.annotations == [path.parent / "20241009"]
        assert experiment.conditions == {"A/1": "NO", "012": "012"}
        expected = {"d": "012", "n": "NO", "z": "2024_10_09", "clock": "12:30", "number": 1.5, "flag": True}
        assert experiment.metadata == expected
        assert experiment.wells == {"A/1": {"batch": "012", "condition2": "off"}}


MERGED = """\
experiments:
- name: one
  plate: plates/one.zarr
  tracks: tracks/one
  channels: &channels {488: GFP, 561: 0042}
  conditions: &conditions {A/1: mock, B/1: 012}
  metadata: &metadata {day: 2024_10_09, dose: 1, cells: NO}
  wells:
    A/1: &well {condition2: 012, on: 1, dose: 2}
  minutes_per_frame: 30
- name: two
  plate: plates/two.zarr
  tracks: tracks/two
  channels: {<<: *channels, 561: RFP}
  conditions: {C/1: infected, <<: *conditions, B/1: NO}
  metadata: {cells: A549, <<: *metadata, dose: 0.5}
  wells:
    A/1: {yes: 3, dose: 012, <<: *well}
  minutes_per_frame: 30
"""


def test_a_merged_mapping_is_read_key_by_key(path):
    path.write_text(MERGED)
    two = load_experiments(path)[1]
    assert two.channels == {"488": "GFP", "561": "RFP"}
    assert two.conditions == {"A/1": "mock", "B/1": "NO", "C/1": "infected"}
    assert two.metadata == {"day": "2024_10_09", "dose": 0.5, "cells": "A549"}
    assert two.wells == {"A/1": {"condition2": "012", "on": 1, "dose": "012", "yes": 3}}


def test_keys_that_yaml_takes_for_one_number_stay_apart(path):
    keys = "  012: mock\n    10: other\n    on: a\n    yes: b\n    A/1: c"
    path.write_text(to_yaml(ONE).replace("  A/1: mock", keys))
    assert load_experiments(path)[0].conditions == {
        "012": "mock",
        "10": "other",
        "on": "a",
        "yes": "b",
        "A/1": "c",
        "B/1": "infected",
    }


def test_a_key_that_is_there_as_text_and_as_a_number_is_repeated(path):
    path.write_text(to_yaml(ONE).replace("  A/1: mock", "  10: mock\n    '10': other"))
    with pytest.raises(UserError, match=r"line 10: key '10' is already defined in line 9; remove one of them"):
        load_experiments(path)


def test_a_clock_time_of_a_merged_experiment_is_not_a_number(path):
    text = to_yaml(ONE).replace("- name", "- &one\n  name").replace("minutes_per_frame: 30", "minutes_per_frame: 0:30")
    path.write_text(f"{text}- <<: *one\n  name: two\n")
    with pytest.raises(UserError, match=r"line \d+: minutes_per_frame must be a number, got 0:30"):
        load_experiments(path)
