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
        ("experiments: [", r"experiments\.yaml, line 1: invalid YAML: expected the node content"),
        ("experiments:\n\t- a", r"experiments\.yaml, line 2: invalid YAML: found character '\\t'"),
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
            to_yaml(ONE | {"conditions": {"A/1": "mock "}}),
            "condition of well 'A/1' .* must not begin or end with a space",
        ),
        (to_yaml(ONE).replace("minutes_per_frame: 30", "minutes_per_frame: 0:30"), "must be a number, got 0:30"),
        (to_yaml(ONE) + "  hour_of_infection: 3:30\n", r"line \d+: hour_of_infection must be a number, got 3:30"),
        (to_yaml(ONE).replace("A/1: mock", "A/1:"), r"has an empty value; fill in line 9: A/1 of conditions"),
        ("- 3", "must be a mapping with the key `experiments`"),
        ("3", "must be a mapping with the key `experiments`"),
        ("experiments: [3, 4]", "line 1: experiments.0 must be a mapping, got"),
        ("experiments: [null]", "line 1: experiments.0 must be a mapping, got"),
        (
            TEXT.replace("experiments:", "experimnts:"),
            "must be a mapping with the key `experiments`, got .*'experimnts'",
        ),
        (TEXT + "color: red\n", "line 22: `experiments` must be the only key, got 'color'"),
        (
            to_yaml(ONE, {"plat" if key == "plate" else key: value for key, value in TWO.items()}),
            "line 13: .*'plat' is not accepted; an experiment has name, plate, tracks",
        ),
        (to_yaml(ONE, {key: value for key, value in TWO.items() if key != "tracks"}), "line 12: .* required: tracks"),
        (to_yaml(ONE, TWO | {"name": None}), "line 12: .*name"),
        (to_yaml(ONE, TWO | {"minutes_per_frame": "fast"}), "line 21: .*fast"),
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
