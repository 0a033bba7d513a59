"""Arms are changes of a configuration that differ from each other, and mistakes in them are errors of one line."""

import pytest
import yaml

from viscy_train.errors import UserError
from viscy_train.study.arms import ARMS, BASELINE, REFERENCES, SHIPPED, Arm, check_arms, read_arms
from viscy_train.training.data_cli import make_data_parser


@pytest.fixture(scope="module")
def parser():
    return make_data_parser("study", "", {})


@pytest.fixture(scope="module")
def config(parser):
    data = {"experiments": "experiments.yaml", "anchors": "anchors.parquet"}
    given = {"sampler": {"batch_size": 64, "condition_ratio": {"infected": 2.0, "...": 1.0}}}
    return parser.parse_object({"output": "run", "data": data | given, "trainer": {"max_steps": 5}})


def write(tmp_path, content):
    path = tmp_path / "arms.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def test_the_arms_of_every_study_are_sorted_by_simplicity_and_differ(config, parser):
    assert [arm.name for arm in ARMS] == [
        "plain",
        "experiment",
        "condition",
        "time",
        "experiment + leak",
        "experiment + condition",
        "all",
    ]
    assert BASELINE == "plain"
    n_options = [arm.n_options for arm in ARMS]
    assert n_options == sorted(n_options)
    assert n_options[0] == 0
    check_arms(ARMS, config, parser)


def test_an_arm_changes_its_options_only(config, parser):
    before = config.clone()
    sampler = ARMS[4].apply(config, parser).data.sampler
    assert (sampler.experiment_aware, sampler.leaky, sampler.condition_balanced) == (True, 0.2, False)
    assert sampler.batch_size == 64
    assert sampler.condition_ratio is None  # which would have no effect
    assert config == before


def test_arms_of_a_file_follow_those_of_every_study(tmp_path, config, parser):
    content = {
        "pairs": {"about": "attract pairs", "model": {"loss": {"positives": "pair"}}},
        "small": {"data": {"sampler": {"batch_size": 16}}, "trainer": {"accumulate_grad_batches": 4}},
    }
    arms = read_arms(write(tmp_path, content))
    assert arms[: len(ARMS)] == ARMS
    pairs, small = arms[len(ARMS) :]
    assert pairs == Arm(name="pairs", overrides={"model.loss.positives": "pair"}, about="attract pairs")
    changed = small.apply(config, parser)
    assert (changed.data.sampler.batch_size, changed.trainer.accumulate_grad_batches) == (16, 4)
    check_arms(arms, config, parser)


def test_the_arms_that_come_with_the_package_are_valid_and_differ(config, parser):
    arms = read_arms(SHIPPED)
    check_arms(arms, config, parser)
    further = {arm.name: arm.n_processes for arm in arms[len(ARMS) :]}
    one = dict.fromkeys(("P x K", "distinct lineages", "cross-well positives"), 1)
    assert further == one | {"rank negatives": 4, "step negatives": 4}
    assert all(arm.about for arm in arms)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- plain", "must be a mapping of names of arms to options, got"),
        ({"plain": {"data": {"sampler": {"leaky": 0.1}}}}, "the name of an arm must differ .* got 'plain'"),
        ({REFERENCES[0]: {"data": {"sampler": {"leaky": 0.1}}}}, "the name of an arm must differ"),
        ("one: {data: {sampler: {leaky: 0.1}}}\none: {data: {sampler: {leaky: 0.2}}}", "line 2: .*'one' is already"),
        ({"one": {}}, "arm 'one' must be a mapping of options"),
        ({"one": {"data": {"sampler": {"leeky": 0.1}}}}, "data.sampler.leeky; did you mean data.sampler.leaky?"),
        ({"one": {"data": {"crop": 32}}}, "arm 'one' must have options of data.sampler, .* got data.crop"),
        ({"one": {"data": {"sampler": 3}}}, "must have options of .* got data.sampler"),
        ({"one": {"about": 3}}, "about of arm 'one' must be text"),
        ({" one": {"about": "x"}}, "the name of an arm in .* must not begin or end with a space"),
    ],
)
def test_an_invalid_file_is_an_error_in_one_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        read_arms(write(tmp_path, content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.sampler.experiment_aware": 3}, "data.sampler.experiment_aware must be true or false, got 3"),
        ({"data.positive.min_frames": 9}, "data.positive.max_frames must be at least min_frames, got 4"),
        ({"data.positive.differ": "well"}, "data.positive.differ needs data.positive.match"),
        ({"model.loss.positives": "well"}, "model.loss.positives must be lineage, pair or condition, got well"),
        ({"model.loss.temperature": None}, "model.loss.temperature must not be null"),
        ({"trainer.accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches must be an integer of at least 1"),
        ({"trainer.devices": "auto"}, "trainer.devices must be an integer of at least 1, got 'auto'"),
        (ARMS[1].overrides, "arms must differ, but 'one' is the same as 'experiment'; remove one of them"),
    ],
)
def test_an_invalid_value_is_an_error_that_names_the_arm(config, parser, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        check_arms([*ARMS, Arm(name="one", overrides=overrides)], config, parser)
    assert "'one'" in str(error.value)
    assert "\n" not in str(error.value)
