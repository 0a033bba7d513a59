"""Options of `data.sampler` that decide what the loss of a step sees, on the command line."""

import pytest
import yaml

from viscy_train.cli.entry_point import main
from viscy_train.config.schema import LossConfig
from viscy_train.errors import UserError
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.training.fit import show_targets
from viscy_train.training.lightning_cli import TrainingCLI

ALL = {
    "data.sampler.split_batches": True,
    "data.sampler.anchors_per_condition": 2,
    "data.sampler.epoch_batches": 4,
    "data.sampler.distinct_by": "lineage_id",
}


def make_cli(config, *options):
    return TrainingCLI("inspect", ["--config", str(config), *options], "")


def test_the_options_have_the_names_of_the_sampler_in_a_file_and_on_the_command_line(project, make_project, tmp_path):
    words = [word for key, value in ALL.items() for word in (f"--{key}", str(value).lower())]
    for cli in (make_cli(project, *words), make_cli(make_project(tmp_path / "file", **ALL))):
        data = cli.make_data()
        data.setup("fit")
        sampler = data.sampler
        assert (sampler.split_batches, sampler.anchors_per_condition, sampler.epoch_batches) == (True, 2, 4)
        assert sampler.distinct_by in ("lineage_id", ("lineage_id",))
        assert len(sampler) == data.n_batches == 4


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("lineage_id", ["lineage_id"]),
        (["lineage_id"], ["lineage_id"]),
        (["condition", "t"], ["condition", "t"]),
        ("track_id", ["experiment", "position", "track_id"]),
    ],
)
def test_distinct_by_is_a_column_or_several(make_project, tmp_path, column, expected):
    data = make_cli(make_project(tmp_path, **{"data.sampler.distinct_by": column})).make_data()
    data.setup("fit")
    columns = data.sampler.distinct_by
    assert ([columns] if isinstance(columns, str) else [*columns]) == expected


@pytest.mark.parametrize("is_split", [False, True])
def test_the_model_knows_whether_the_processes_share_each_batch(project, is_split):
    _, model, data = make_cli(project, "--data.sampler.split_batches", str(is_split).lower()).make_all(training=False)
    assert model._shares_batches == data.options.split_batches == is_split


def test_whether_batches_are_shared_is_stated_once(project):
    assert "split_batches" in (configuration := make_cli(project).dump())
    assert "split_batches" not in yaml.safe_load(configuration)["model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--data.sampler.split_batches", "true", "--processes", "3"],
            "data.sampler: with split_batches=True, num_replicas must divide batch_size, got 3 ranks for 16 slots; ",
        ),
        (["--data.sampler.distinct_by", "lineage"], "got 'lineage'; did you mean 'lineage_id'?"),
        (
            ["--data.sampler.distinct_by", "[lineage_id, cell]"],
            "data.sampler.distinct_by must name columns of the anchor table (experiment, condition,",
        ),
        (["--data.sampler.anchors_per_condition", "0"], "data.sampler: anchors_per_condition must be"),
        (["--data.sampler.anchors_per_condition", "17"], "data.sampler: anchors_per_condition must be"),
        (["--data.sampler.epoch_batches", "-2"], "data.sampler: epoch_batches must be"),
        (["--data.sampler.epoch_batches", "many"], "data.sampler.epoch_batches"),
        (["--data.sampler.split_batches", "2"], "data.sampler.split_batches"),
        (["--model.loss.negatives", "rank"], "model.loss.negatives"),
    ],
)
def test_an_invalid_option_is_one_line(project, capsys, options, message):
    assert main(["inspect", "--config", str(project), *options]) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert "Traceback" not in line


def test_the_columns_of_the_table_are_named_if_distinct_by_names_none(project, capsys):
    main(["inspect", "--config", str(project), "--data.sampler.distinct_by", "lineage"])
    assert "'lineage_id'" in capsys.readouterr().err


def plan_of(config, world_size, *options):
    cli = make_cli(config, *options)
    data = cli.make_data()
    data.setup("fit")
    show_targets(data, data.sampler.planned(), world_size, cli.make_loss_config(), [])


def test_the_plan_states_what_the_loss_compares_and_the_remedies(project, capsys):
    loss = ["--model.loss.negatives", "step", "--model.loss.positives", "condition"]
    plan_of(project, 8, *loss, "--data.sampler.leaky", "0", "--data.sampler.batch_size", "2")
    lines = capsys.readouterr().out.splitlines()
    assert "The loss compares an anchor with the 16 anchors of the step" in lines
    assert any(
        line.startswith("An anchor's negatives: 4")
        and line.endswith("(negatives=step, 8 processes); 0% with data.sampler.split_batches")
        for line in lines
    ), [line for line in lines if "negatives" in line]
    plan_of(project, 1, *loss, "--data.sampler.batch_size", "2")
    assert "Note: 100.0% of the anchors have no other anchor of their condition" in capsys.readouterr().out
    plan_of(project, 8, "--data.sampler.split_batches", "true")
    lines = capsys.readouterr().out.splitlines()
    assert "The loss compares an anchor with the 16 anchors of a batch that 8 processes share" in lines
    assert not any("negatives" in line for line in lines)


def test_the_plan_says_that_processes_cannot_share_the_validation_anchors(project, capsys, monkeypatch):
    data = make_cli(project, "--data.sampler.split_batches", "true").make_data()
    vars(data)["_validated_rows"] = data.validation_rows[:5]
    assert data.split_warnings(4) == []
    (sentence,) = data.split_warnings(8)
    assert sentence.startswith("there is no validation, because 8 processes cannot share 5 anchors")


def test_the_loss_of_the_configuration_is_checked_without_a_model(project):
    assert make_cli(project).make_loss_config() == LossConfig(temperature=0.2)
    with pytest.raises(UserError, match="must be pair for nt_xent"):
        make_cli(project, "--model.loss.name", "nt_xent").make_loss_config()


def test_a_run_recorded_before_an_option_existed_is_that_of_the_default(project, tmp_path):
    cli = make_cli(project)
    recorded = yaml.safe_load(cli.dump())
    for name in ("split_batches", "anchors_per_condition", "epoch_batches", "distinct_by"):
        del recorded["data"]["sampler"][name]
    cli.run_directory.config.parent.mkdir(exist_ok=True)
    cli.run_directory.config.write_text(yaml.safe_dump(recorded))
    cli.require_config_of_run()
    with pytest.raises(UserError, match=r"data.sampler must be that of the run"):
        make_cli(project, "--data.sampler.split_batches", "true").require_config_of_run()
