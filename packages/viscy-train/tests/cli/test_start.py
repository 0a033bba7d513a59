"""Commands without a model start without torch and Lightning, and read the same configuration as those with one."""

import inspect
import json
import sys
from dataclasses import fields

import pytest
import yaml
from lightning.pytorch import Trainer

from viscy_train.cli.entry_point import main
from viscy_train.cli.parsing import parse_for_data
from viscy_train.config.schema import ModelConfig, PlainTrainerOptions
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.model.module import ContrastiveModule
from viscy_train.training.data_cli import TRAINER_DEFAULTS, DataCLI, make_data_parser
from viscy_train.training.lightning_cli import TrainingCLI

# Each takes a second or more to import.
SLOW = ["torch", "lightning", "timm", "kornia", "sklearn", "anndata", "iohub", "dask"]
# Only some formats of tracks need these.
SLOW += ["h5py", "tifffile"]
# Only unusual plates, and those at URLs, need these.
SLOW += ["zarr", "numcodecs"]
# They take 0.3 s each, which matters to those who try options.
SLOW += ["matplotlib", "scipy"]
RUN = f"""
import json, sys
from viscy_train.cli.entry_point import main
codes = [main(command) for command in json.loads(sys.argv[1])]
print(json.dumps([codes, [name for name in {SLOW} if name in sys.modules]]), file=sys.stderr)
"""


def test_help_index_inspect_and_mistakes_import_neither_torch_nor_lightning(run_command, project):
    config = ["--config", str(project)]
    valid = [["--help"], ["--version"], ["fit", "--help"], ["index", *config], ["inspect", *config, "--processes", "2"]]
    mistakes = [["idnex"], ["index", *config, "--data.crpo", "3"], ["inspect", *config, "--data.crop", "4"]]
    done = run_command([sys.executable, "-c", RUN, json.dumps(valid + mistakes)])
    codes, imported = json.loads(done.stderr.splitlines()[-1])
    assert codes == [0] * len(valid) + [EXIT_USER_ERROR] * len(mistakes)
    assert imported == []
    assert (project.parent / "inspect.html").is_file()


def test_the_plain_options_of_the_trainer_are_those_of_lightning():
    parameters = inspect.signature(Trainer).parameters
    options = {field.name: field.default for field in fields(PlainTrainerOptions)}
    assert options == {name: TRAINER_DEFAULTS.get(name, parameters[name].default) for name in options}


def test_the_options_of_the_model_are_those_of_the_module_that_data_do_not_decide():
    parameters = inspect.signature(ContrastiveModule).parameters
    linked = {"n_channels", "z_slices", "crop", "split_batches"}
    assert {field.name for field in fields(ModelConfig)} == set(parameters) - linked


@pytest.fixture
def every_option(make_project, tmp_path):
    return make_project(
        tmp_path,
        **{
            "data.sampler.condition_ratio": {"infected": 2, "...": 1},
            "data.positive": {"match": "condition", "differ": ["well"]},
            "data.augmentation.noise": 0.3,
            "model.init_from": "weights.ckpt",
            "evaluation.probe": ["condition"],
            "trainer.precision": "bf16-mixed",
            "trainer.limit_val_batches": 1,
        },
    )


def test_both_parsers_read_the_same_configuration(every_option):
    arguments = ["index", ["--config", str(every_option), "--data.crop", "24", "--checkpoint.keep_best", "3"], ""]
    plain, complete = (kind(*arguments).config.clone(with_meta=False).as_dict() for kind in (DataCLI, TrainingCLI))
    for config in (plain, complete):
        del config["config"]
        config.update(config.pop("trainer"))
    del complete["model"]["split_batches"]
    assert plain.pop("strategy") == complete.pop("strategy")
    assert {name: complete[name] for name in plain} == plain
    assert plain["data"]["crop"] == 24


def test_relative_paths_start_at_the_configuration_file(every_option, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    data = DataCLI("index", ["--config", str(every_option)], "").make_data()
    assert data.path == every_option.parent / "anchors.parquet"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], DataCLI),
        (["--trainer.max_epochs", "3"], DataCLI),
        (["--trainer.profiler", "simple"], TrainingCLI),
        (["--trainer.devices", "[0, 1]"], DataCLI),
    ],
)
def test_lightning_reads_a_configuration_whose_trainer_has_other_options(project, options, kind):
    cli = parse_for_data("index", ["--config", str(project), *options], "")
    assert type(cli) is kind
    assert len(cli.make_data().experiments) == 2
    assert cli.run_directory.path == project.parent / "run"


@pytest.mark.parametrize("key", ["trainer.acelerator", "trainer.max_epoch"])
def test_a_misspelled_option_of_the_trainer_is_reported_before_training(error_line, make_project, tmp_path, key):
    path = make_project(tmp_path, **{key: 3})
    assert main(["inspect", "--config", str(path)]) == EXIT_USER_ERROR
    assert f"{path}, line " in (line := error_line())
    assert key.rpartition(".")[2] in line


def test_the_configuration_that_index_prints_is_complete(project, capsys):
    with pytest.raises(SystemExit):
        main(["index", "--config", str(project), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["use_distributed_sampler"] is False
    assert printed["data"]["sampler"]["batch_size"] == 16


def test_a_seed_out_of_range_is_refused(error_line, project):
    assert main(["index", "--config", str(project), "--seed_everything", "-1"]) == EXIT_USER_ERROR
    assert "seed_everything must be in [0, 2**32), got -1" in error_line()


def test_the_help_of_a_command_lists_its_options():
    text = make_data_parser("viscy-train index", "", {"pixels": {"type": str, "help": "which pixels"}}).format_help()
    for option in ("--pixels", "--data.sampler.batch_size", "--model.encoder.name", "--trainer.max_epochs"):
        assert option in text
