import pytest
import yaml

from viscy_train.anchors.experiments import load_experiments
from viscy_train.config.yaml_source import refuse_repeated_keys, with_line
from viscy_train.errors import UserError

ONE = {
    "name": "monday",
    "plate": "plates/monday.zarr",
    "tracks": "tracks/monday",
    "channels": ["Phase3D", "Virus"],
    "conditions": {"A/1": "mock", "B/1": "infected"},
    "minutes_per_frame": 30,
}
TWO = ONE | {"name": "friday", "plate": "plates/friday.zarr", "tracks": "tracks/friday"}


def lines(*experiments):
    """Return the text of a file, each experiment in full: safe_dump refers to lists that were there before."""
    return "experiments:\n" + "".join(yaml.safe_dump([experiment], sort_keys=False) for experiment in experiments)


TEXT = lines(ONE, TWO)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "experiments.yaml"


def test_experiments_are_read_with_paths_from_the_folder_of_the_file(path, monkeypatch, tmp_path_factory):
    path.write_text(TEXT)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    one, two = load_experiments(path)
    assert (one.name, two.name) == ("monday", "friday")
    assert one.plate == path.parent / "plates/monday.zarr"
    assert one.tracks == path.parent / "tracks/monday"
    assert one.conditions == {"A/1": "mock", "B/1": "infected"}
    assert one.hour_of_infection == 0


def test_hours_count_from_the_infection(path):
    path.write_text(yaml.safe_dump({"experiments": [ONE | {"hour_of_infection": -3}]}))
    assert load_experiments(path)[0].hours_post_infection(4) == 5.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"there is no file .*experiments\.yaml"),
        ("", r"experiments\.yaml is empty"),
        ("# only a comment\n", r"experiments\.yaml is empty"),
        (b"experiments: \xff\xfe", "must be a YAML file in UTF-8"),
        ("experiments: [", r"experiments\.yaml, line 1: expected the node content"),
        ("experiments:\n\t- a", r"experiments\.yaml, line 2: found character '\\t'"),
        ("experiments:", "experiments must be a list that is not empty, got null"),
        ("experiments: []", "experiments must be a list that is not empty"),
        ("experiments: 3", "line 1: experiments must be a list that is not empty"),
        (
            lines(ONE, TWO | {"tracks": ONE["tracks"]}),
            r"'monday' and 'friday' have different plates and the same tracks",
        ),
        (
            lines(ONE, TWO | {"conditions": {"A/1": "Mock"}}),
            r"must differ in more than upper and lower case, got .'mock'",
        ),
        (
            lines(ONE | {"conditions": {"A/1": "mock "}}),
            "condition of well 'A/1' .* must not begin or end with a blank",
        ),
        (lines(ONE).replace("minutes_per_frame: 30", "minutes_per_frame: 0:30"), "must be a number, got 0:30"),
        (lines(ONE) + "  hour_of_infection: 3:30\n", r"line \d+: hour_of_infection must be a number, got 3:30"),
        (lines(ONE).replace("A/1: mock", "A/1:"), r"line \d+: .*conditions"),
        ("- 3", "must be a mapping with the key `experiments`"),
        ("3", "must be a mapping with the key `experiments`"),
        ("experiments: [3, 4]", "line 1: experiments.0 must be a mapping, got"),
        ("experiments: [null]", "line 1: experiments.0 must be a mapping, got"),
        (
            TEXT.replace("experiments:", "experimnts:"),
            "must be a mapping with the key `experiments`, got .*'experimnts'",
        ),
        (TEXT + "colour: red\n", "line 22: `experiments` must be the only key, got 'colour'"),
        (
            lines(ONE, {"plat" if key == "plate" else key: value for key, value in TWO.items()}),
            "line 13: .*'plat' is not accepted; an experiment has name, plate, tracks",
        ),
        (lines(ONE, {key: value for key, value in TWO.items() if key != "tracks"}), "line 12: .* required: tracks"),
        (lines(ONE, TWO | {"name": None}), "line 12: .*name"),
        (lines(ONE, TWO | {"minutes_per_frame": "fast"}), "line 21: .*fast"),
        (lines(ONE, TWO | {"channels": "Phase3D"}), "line 15: .*list.*Phase3D"),
        (lines(ONE, TWO | {"conditions": ["A/1"]}), "line 18: .*dict"),
        (lines(ONE, TWO | {"conditions": {"A/1": 3}}), "line 19: .*conditions.*3"),
        (lines(ONE | {"minutes_per_frame": -1}), "minutes_per_frame of experiment 'monday' must be above 0, got -1"),
        (lines(ONE | {"minutes_per_frame": float("nan")}), "minutes_per_frame of experiment 'monday' must be finite"),
        (lines(ONE | {"channels": []}), "channels of experiment 'monday' must name at least one"),
        (lines(ONE | {"channels": ["a", "a"]}), "channels of experiment 'monday' must differ"),
        (lines(ONE | {"conditions": {}}), "conditions of experiment 'monday' must name a well"),
        (lines(ONE | {"conditions": {"A/1": " "}}), "condition of well 'A/1' of experiment 'monday' must be a text"),
        (TEXT + "  name: sunday\n", "line 22: experiments.1.name is there already in line 12"),
        (TEXT + "experiments: []\n", "line 22: experiments is there already in line 1"),
        (lines(ONE, TWO | {"name": "monday"}), "must have different names"),
        (
            lines(ONE, TWO | {"channels": ["Phase3D"]}),
            "must have equally many channels, got {'monday': 2, 'friday': 1}",
        ),
        (
            lines(ONE, TWO | {"plate": "plates/../plates/monday.zarr"}),
            "'monday' and 'friday' both use well A/1 of plate .* there twice",
        ),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(path, content, message):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        load_experiments(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_wells_of_one_plate_may_be_shared_out_to_experiments(path):
    path.write_text(
        lines(ONE | {"conditions": {"A/1": "mock"}}, TWO | {"plate": ONE["plate"], "conditions": {"B/1": "mock"}})
    )
    assert len(load_experiments(path)) == 2


def test_a_folder_in_place_of_the_file_is_refused(path):
    path.mkdir()
    with pytest.raises(UserError, match=r"cannot read .*Is a directory"):
        load_experiments(path)


CONFIG = """\
trainer:
  max_epochs: 2
  callbacks:
  - class_path: EarlyStopping
    init_args:
      monitor: val/loss
data:
  experiments: experiments.yaml
  sampler:
    batch_size: 8
    bach_size: 8
  crop: large
"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Group 'data' does not accept option 'sampler.bach_size'", 11),
        ("Option 'trainer.max_epochs' is not accepted", 2),
        ("Parser key \"data.crop\": Expected a <class 'int'>. Got value: large", 12),
        ("data.sampler.batch_size must be at least 1, got 0", 10),
        ("batch_size must be at least 1, got 8", 10),
        ("trainer.callbacks.0.init_args.monitor is odd", 6),
        ("something else altogether", None),
        ("data.sampler.leaky must be in [0, 1), got 2", None),
    ],
)
def test_a_message_is_led_by_the_line_of_its_key(path, message, line):
    path.write_text(CONFIG)
    assert with_line(path, message) == (f"{path}, line {line}: {message}" if line else message)


def test_a_file_that_is_not_there_has_no_lines(path):
    assert with_line(path, "data.crop must be at least 8") == "data.crop must be at least 8"


def test_an_alias_is_no_repetition(path):
    path.write_text("one: &a {x: 1}\ntwo: *a\nthree:\n  <<: *a\n  x: 2\nfour: &b [*b]\n")
    refuse_repeated_keys(path)
