"""Checks before training, and the settings with which a run resumes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback

from viscy_train.errors import UserError
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import LEARNING_RATE, read_log
from viscy_train.sample_projects import simulation
from viscy_train.training.fit import _describe_size, fit
from viscy_train.training.initial_weights import load_initial_weights
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = pytest.mark.usefixtures("one_thread")
# Five batches an epoch.
CHANGES = {"data.sampler.batch_size": 50, "trainer.max_epochs": 1, "trainer.logger": False}
RESUME = ["--ckpt_path", "last"]


class InterruptionError(Exception):
    """The run was interrupted."""


class Interrupt(Callback):
    def on_train_batch_end(self, trainer, *_, **__):
        raise InterruptionError


def train(folder, *options, callbacks=()):
    """Train the project in a folder, without a report."""
    arguments = ["--config", str(folder / "config.yaml"), *options]
    cli = TrainingCLI("fit", arguments, "", {"ckpt_path": {"type": str, "default": None}})
    trainer, model, data = cli.make_all()
    trainer_callbacks: Any = getattr(trainer, "callbacks")  # noqa: B009
    trainer_callbacks.extend(callbacks)
    fit(cli, trainer, model, data)
    return trainer


@pytest.fixture
def run(make_project, tmp_path):
    """The directory of a run that has not started."""
    make_project(tmp_path, **CHANGES)
    return RunDirectory(tmp_path / "run")


@pytest.fixture(scope="module")
def trained(make_project, tmp_path_factory):
    """A folder with a run of one epoch, which tests must not change."""
    folder = tmp_path_factory.mktemp("trained")
    make_project(folder, **CHANGES)
    train(folder)
    return folder


def test_a_resumed_run_uses_and_names_the_settings_that_were_changed(run, tmp_path, capsys):
    train(tmp_path, "--model.optimizer.schedule", "constant", "--trainer.max_epochs", "3", "--trainer.max_steps", "3")
    changes = ["--model.optimizer.learning_rate", "0.01", "--model.optimizer.weight_decay", "0.5"]
    capsys.readouterr()
    trainer = train(tmp_path, *RESUME, *changes, "--model.loss.temperature", "0.5", "--data.cache_mb", "128")
    (group,) = trainer.optimizers[0].param_groups
    assert group["weight_decay"] == 0.5
    # The schedule is now a cosine over five steps, of which the first is a warmup.
    rates = read_log(run.metrics)[LEARNING_RATE].dropna().tolist()
    assert rates == pytest.approx([0.002, 0.002, 0.002, 0.005, 0.01 * (2 - 2**0.5) / 4], rel=1e-6)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Changed: ")]
    assert "Changed: model.optimizer.learning_rate 0.01 (was 0.002)" in printed
    assert "Changed: model.loss.temperature 0.5 (was 0.2)" in printed
    assert {line.split()[1] for line in printed} == {
        "trainer.max_epochs",
        "trainer.max_steps",
        "model.optimizer.schedule",
        "model.optimizer.learning_rate",
        "model.optimizer.weight_decay",
        "model.loss.temperature",
        "data.cache_mb",
    }


def test_the_configurations_of_all_attempts_are_kept(run, tmp_path):
    train(tmp_path, "--trainer.max_steps", "2")
    train(tmp_path, *RESUME, "--model.optimizer.learning_rate", "0.01")
    paths = sorted(run.configs.iterdir())
    assert [path.name for path in paths] == ["attempt-1.yaml", "attempt-2.yaml"]
    rates = [yaml.safe_load(path.read_text())["model"]["optimizer"]["learning_rate"] for path in paths]
    assert rates == [0.002, 0.01]
    assert run.config.read_text() == paths[1].read_text()


def test_an_unchanged_configuration_is_not_mentioned(run, tmp_path, capsys):
    train(tmp_path, "--trainer.max_epochs", "2", callbacks=[])
    train(tmp_path, *RESUME, "--trainer.max_epochs", "3")
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("Changed")] == [
        "Changed: trainer.max_epochs 3 (was 2)"
    ]


def test_a_setting_that_belongs_to_the_weights_is_refused(trained):
    before = RunDirectory(trained / "run").config.read_bytes()
    options = [*RESUME, "--trainer.max_epochs", "2"]
    with pytest.raises(UserError, match="belongs to another model"):
        train(trained, *options, "--model.encoder.width", "8")
    assert RunDirectory(trained / "run").config.read_bytes() == before


def test_a_run_that_is_finished_says_how_to_extend_it(trained, capsys):
    before = RunDirectory(trained / "run").config.read_bytes()
    train(trained, *RESUME, "--model.optimizer.learning_rate", "0.5")
    assert "the checkpoint has reached trainer.max_epochs 1; raise it" in capsys.readouterr().out
    assert RunDirectory(trained / "run").config.read_bytes() == before


@pytest.mark.parametrize("option", [["--trainer.max_epochs", "1"], ["--trainer.max_steps", "2"]])
def test_a_run_that_is_past_its_limit_has_nothing_to_train(run, tmp_path, capsys, option):
    train(tmp_path, "--trainer.max_epochs", "2")
    capsys.readouterr()
    train(tmp_path, *RESUME, *option)
    assert "Nothing to train: the checkpoint has reached trainer." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.max_epochs", "0"], "max_epochs must be at least 1, .*, got 0"),
        (["--trainer.max_steps", "0"], "max_steps must be at least 1, .*, got 0"),
        (["--trainer.val_check_interval", "100"], "val_check_interval must be at most 5, .*, got 100"),
        (["--trainer.limit_train_batches", "0.1"], "limit_train_batches must leave at least one batch .* got 0.1"),
        (["--trainer.limit_train_batches", "0"], "limit_train_batches must leave at least one batch .* got 0"),
        (["--trainer.overfit_batches", "0.01"], "overfit_batches must leave at least one batch .* got 0.01"),
        (["--trainer.limit_val_batches", "0.01"], "limit_val_batches must leave at least one batch .* got 0.01"),
        (["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches must be at least 1, got 0"),
        (["--trainer.check_val_every_n_epoch", "0"], "check_val_every_n_epoch must be at least 1, got 0"),
        (["--trainer.val_check_interval", "0"], "val_check_interval must be at least 1, got 0"),
    ],
)
def test_an_option_that_lightning_would_refuse_is_refused_before_anything_is_written(run, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, *options)
    assert not run.path.exists()


def test_an_error_that_lightning_raises_later_is_one_of_the_user(run, tmp_path):
    stopping = {"class_path": "EarlyStopping", "init_args": {"monitor": "nothing"}}
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["trainer"]["callbacks"] = [stopping]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"^trainer: Early stopping conditioned on metric `nothing`"):
        train(tmp_path)


def test_a_run_that_ended_before_it_saved_anything_is_replaced(run, tmp_path, capsys):
    with pytest.raises(InterruptionError):
        train(tmp_path, callbacks=[Interrupt()])
    assert run.config.exists()
    assert not run.last_checkpoint.exists()
    train(tmp_path)
    assert f"Replacing the run in {run.path}" in capsys.readouterr().out
    assert read_log(run.metrics)[LEARNING_RATE].count() == 5


@pytest.mark.parametrize("options", [[], RESUME])
def test_a_configuration_that_a_killed_run_was_writing_does_not_stop_the_next_run(run, tmp_path, options):
    run.path.mkdir()
    (run.path / ".config.yaml.unfinished").write_text("trainer: ")
    train(tmp_path, *options)
    assert not (run.path / ".config.yaml.unfinished").exists()


def test_a_directory_with_other_files_is_never_emptied(run, tmp_path):
    with pytest.raises(InterruptionError):
        train(tmp_path, callbacks=[Interrupt()])
    (run.path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        train(tmp_path)
    assert run.config.exists()


def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    content = torch.load(RunDirectory(trained / "run").last_checkpoint, weights_only=True)
    next(iter(content["state_dict"].values())).fill_(float("nan"))
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match="has weights that are not finite: "):
        train(trained, "--ckpt_path", str(tmp_path / "nan.ckpt"), "--output", str(tmp_path / "run"))


def replace_part(content, path, value):
    """Replace a part of a checkpoint, given by the keys that lead to it."""
    *parents, last = path
    for key in parents:
        content = content[key]
    content[last] = value


BATCH_PROGRESS = ("loops", "fit_loop", "epoch_loop.batch_progress", "current", "processed")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("loops",), {}),
        (("loops",), None),
        (("loops", "fit_loop"), {}),
        (BATCH_PROGRESS, "three"),
        (("callbacks",), []),
        (("optimizer_states",), []),
        (("optimizer_states", 0, "param_groups"), []),
        (("optimizer_states", 0, "param_groups", 0, "params"), [0]),
        (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(2)),
        (("lr_schedulers",), [{}]),
        (("PairDataModule",), {}),
        (("PairDataModule", "position"), -1),
        (("PairDataModule", "epoch"), "0"),
        (("PairDataModule", "span"), {"end": 5}),
        (("pytorch-lightning_version",), "new"),
        (("state_dict",), {"encoder": 1}),
        (("PairDataModule", "version"), torch.zeros(3)),
        (("PairDataModule", "fingerprint", "seed"), torch.zeros(3)),
        (("global_step",), -4),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_malformed_checkpoint_is_refused(trained, tmp_path, path, value):
    content = torch.load(RunDirectory(trained / "run").last_checkpoint, weights_only=True)
    replace_part(content, path, value)
    torch.save(content, tmp_path / "malformed.ckpt")
    options = ["--ckpt_path", str(tmp_path / "malformed.ckpt"), "--output", str(tmp_path / "run")]
    with pytest.raises(UserError, match="damaged") as raised:
        train(trained, *options, "--trainer.max_epochs", "2")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("before", "world_size", "split_batches", "expected"),
    [
        (2, 1, False, "counts batches of each of 1 processes (was 2); an epoch in progress ends where"),
        (2, 4, True, "counts batches that all processes share (was of each of 2); an epoch in progress ends where"),
        (1, 4, True, None),
        (4, 4, False, None),
    ],
)
def test_a_limit_that_means_another_number_of_batches_is_named(before, world_size, split_batches, expected):
    checkpoint: Any = SimpleNamespace(data={"span": {"num_replicas": before}})
    trainer = SimpleNamespace(limit_train_batches=3, overfit_batches=0, world_size=world_size)
    sentences = _describe_size(checkpoint, trainer, split_batches=split_batches)
    assert len(sentences) == (expected is not None)
    assert expected is None or sentences[0].startswith(f"trainer.limit_train_batches 3 {expected}")


def weights_of(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_starts_from_the_weights_of_another_run(trained, make_project, tmp_path, capsys):
    source = trained / "run" / "checkpoints" / "last.ckpt"
    make_project(tmp_path, **CHANGES | {"model.init_from": "source/last.ckpt", "trainer.max_steps": 1})
    (tmp_path / "source").symlink_to(source.parent)
    still = ["--model.optimizer.learning_rate", "1e-30", "--model.optimizer.weight_decay", "0"]
    train(tmp_path, *still)
    path = tmp_path / "source" / "last.ckpt"
    printed = capsys.readouterr().out
    assert f"Starting from a checkpoint, {path}: loaded the network and the projection head" in printed
    assert "were trained on" not in printed
    started, expected = weights_of(tmp_path / "run" / "checkpoints" / "last.ckpt"), weights_of(source)
    assert all(torch.equal(started[name], value) for name, value in expected.items())
    recorded = yaml.safe_load(RunDirectory(tmp_path / "run").config.read_text())
    assert recorded["model"]["init_from"] == str(path)


def test_a_note_names_the_order_of_the_channels_that_weights_were_trained_on(trained, make_project, tmp_path):
    make_project(tmp_path, **CHANGES)
    path = tmp_path / "experiments.yaml"
    content = yaml.safe_load(path.read_text())
    for experiment in content["experiments"]:
        experiment["channels"].reverse()
    path.write_text(yaml.safe_dump(content))
    cli = TrainingCLI("fit", ["--config", str(tmp_path / "config.yaml")], "")
    _, model, data = cli.make_all(training=False)
    source = trained / "run" / "checkpoints" / "last.ckpt"
    first, second = simulation.CHANNELS
    _, note = load_initial_weights(source, model.encoder, data.encoder_input)
    assert f"were trained on the channels {first}, {second}, and this run has {second}, {first}; list" in note


def test_a_resumed_run_has_the_weights_of_its_checkpoint(trained, run, tmp_path, capsys):
    train(tmp_path, "--trainer.max_steps", "1")
    before = weights_of(run.last_checkpoint)
    options = ["--model.init_from", str(trained / "run" / "checkpoints" / "last.ckpt"), *RESUME]
    capsys.readouterr()
    still = ["--model.optimizer.learning_rate", "1e-30", "--model.optimizer.weight_decay", "0"]
    train(tmp_path, *options, *still, "--trainer.max_steps", "2")
    printed = capsys.readouterr().out
    assert "The weights are those of the checkpoint; model.init_from " in printed
    assert "Changed: model.init_from" in printed
    assert "Starting from" not in printed
    assert all(torch.equal(before[name], value) for name, value in weights_of(run.last_checkpoint).items())


def test_a_resumed_run_does_not_need_the_file_that_it_started_from(trained, run, tmp_path, capsys):
    source = tmp_path / "source.ckpt"
    source.write_bytes((trained / "run" / "checkpoints" / "last.ckpt").read_bytes())
    options = ["--model.init_from", str(source)]
    train(tmp_path, *options, "--trainer.max_steps", "1")
    source.unlink()
    train(tmp_path, *options, *RESUME, "--trainer.max_steps", "2")
    note = "Note: the report compares the trained encoder with random weights, because model.init_from must be a file"
    assert note in capsys.readouterr().out
    assert read_log(run.metrics)["step"].max() == 1


def test_weights_that_cannot_be_loaded_are_refused_before_a_directory_is_created(run, tmp_path):
    with pytest.raises(UserError, match=r"model\.init_from must be a file of weights, but .* does not exist"):
        train(tmp_path, "--model.init_from", str(tmp_path / "missing.ckpt"))
    assert not run.path.exists()


def test_two_sources_of_weights_are_refused(run, tmp_path):
    options = ["--model.init_from", "a.ckpt", "--model.encoder.name", "resnet10t", "--model.encoder.pretrained", "true"]
    with pytest.raises(UserError, match=r"model\.encoder\.pretrained must be false if model\.init_from"):
        train(tmp_path, *options)
