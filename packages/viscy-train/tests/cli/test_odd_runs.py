"""Runs with unusual settings, and commands that are given what does not fit a run."""

import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_INTERRUPTED, EXIT_USER_ERROR
from viscy_train.loading.batches import Batch
from viscy_train.model.module import ContrastiveModule
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import steps_of
from viscy_train.run.recorded_batch import batch_of_step
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = [
    pytest.mark.slow,
    # anndata 0.13 sets an option of pandas that pandas 3 deprecates
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]
SHORT = {"trainer.max_epochs": 1, "data.sampler.batch_size": 16, "model.optimizer.schedule": "constant"}


def fit(config, *options):
    return main(["fit", "--config", str(config), *options])


def log_of(folder):
    return pd.read_csv(RunDirectory(folder / "run").metrics)


def one_line(capsys):
    """Return what is on standard error, which must be one line."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def trained(make_project, tmp_path_factory):
    """Return the configuration of a short run, whose folder is not to be changed."""
    config = make_project(tmp_path_factory.mktemp("trained"), **SHORT)
    assert fit(config) == 0
    return config


def again(trained, folder, *removed, **changes):
    """Return a configuration beside that of a run, with changes."""
    config = yaml.safe_load(trained.read_text())
    for key, value in changes.items():
        section, name = config, key.split("__")
        for part in name[:-1]:
            section = section.setdefault(part, {})
        section[name[-1]] = value
    for key in ("experiments", "anchors"):
        config["data"][key] = str(trained.parent / config["data"][key])
    config["output"] = str(trained.parent / "run")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_run_of_few_steps_is_reported(make_project, tmp_path):
    """Fewer than are between two lines of the log."""
    config = make_project(tmp_path, **SHORT | {"trainer.log_every_n_steps": 1000})
    assert fit(config) == 0
    assert len(steps_of(log_of(tmp_path))) == 1
    assert "The loss" in RunDirectory(tmp_path / "run").report.read_text(encoding="utf-8")


def test_a_trial_of_one_batch_is_reported(make_project, tmp_path):
    assert fit(make_project(tmp_path, **SHORT), "--trainer.fast_dev_run", "true") == 0
    assert "No loss was logged" in RunDirectory(tmp_path / "run").report.read_text(encoding="utf-8")


def test_the_loss_of_a_step_is_the_mean_over_its_batches(make_project, tmp_path):
    """Without a learning rate to speak of, the steps of two batches have the losses of the batches."""
    losses = []
    for n_batches in (1, 2):
        folder = tmp_path / str(n_batches)
        still = {"model.optimizer.learning_rate": 1e-12, "trainer.accumulate_grad_batches": n_batches}
        assert fit(make_project(folder, **SHORT | still)) == 0
        log = log_of(folder)
        steps = steps_of(log)
        assert steps["step"].is_unique
        for name in ("batch/own experiment", "time/waiting for data"):
            assert log.dropna(subset=name)["step"].tolist() == steps["step"].tolist()
        losses.append(steps["loss"].to_numpy())
    pairs = losses[0][: len(losses[0]) // 2 * 2].reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(losses[1][: len(pairs)], pairs, rtol=1e-4)


def test_the_crops_of_a_step_are_drawn_as_the_encoder_was_given_them(make_project, tmp_path, monkeypatch):
    seen = {}
    step = ContrastiveModule.training_step

    def watch(self, batch):
        seen[self.global_step] = {name: batch[name].clone() for name in ("anchor", "positive")}
        return step(self, batch)

    monkeypatch.setattr(ContrastiveModule, "training_step", watch)
    config = make_project(tmp_path, **SHORT)
    assert fit(config) == 0
    data = TrainingCLI("replay", ["--config", str(config)], "").make_data()
    data.setup("fit")
    recorded = batch_of_step(RunDirectory(tmp_path / "run"), 3, 0)
    pairs = data.load_pairs(Batch(rows=recorded.rows, epoch=recorded.epoch, index=recorded.number))
    again = data.augment(pairs)
    for name, pixels in seen[3].items():
        assert torch.equal(again[name], pixels)
        assert not torch.equal(pairs[name], pixels)


def test_a_run_with_nothing_left_to_train_says_so(trained, tmp_path, capsys):
    last = RunDirectory(trained.parent / "run").last_checkpoint
    assert fit(trained, "--ckpt_path", str(last), "--output", str(tmp_path / "other")) == 0
    assert "Nothing was trained" in capsys.readouterr().out
    assert not RunDirectory(tmp_path / "other").report.exists()


def test_what_the_sampler_has_to_say_is_told_once(make_project, tmp_path, capsys):
    """A leak needs a second experiment, and there is one only."""
    split = {"data.split": {"by": "experiment", "experiments": ["tuesday"]}}
    assert fit(make_project(tmp_path, **SHORT | split)) == 0
    told = capsys.readouterr()
    assert sum("leak" in line for line in (told.out + told.err).splitlines()) == 1
    assert "Note: " in told.out


def test_a_split_that_keeps_nothing_is_told(make_project, tmp_path, capsys):
    assert fit(make_project(tmp_path, **SHORT | {"data.split": {"by": "position", "fraction": 0.2}})) == 0
    assert "Note: no anchors are kept for validation" in capsys.readouterr().out


def test_what_is_not_asked_for_is_not_validated(make_project, tmp_path):
    ratio = {"data.sampler.condition_ratio": {"infected": 1.0, "uninfected": 0.0}}
    assert fit(make_project(tmp_path, **SHORT | ratio)) == 0
    assert log_of(tmp_path)["val/loss"].notna().any()


def test_one_callback_need_not_be_a_list(make_project, tmp_path):
    callback = {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}
    assert fit(make_project(tmp_path, **SHORT | {"trainer.callbacks": callback})) == 0


def test_a_cosine_without_an_end_is_told(make_project, tmp_path, capsys):
    endless = {"trainer.max_epochs": -1, "trainer.max_time": "00:00:01:00", "model.optimizer.schedule": "cosine"}
    assert fit(make_project(tmp_path, **SHORT | endless)) == EXIT_USER_ERROR
    assert "needs a finite run" in one_line(capsys)


def test_embeddings_are_float32_whatever_they_were_computed_in(trained, tmp_path):
    import anndata

    path = tmp_path / "embeddings.h5ad"
    options = ["--trainer.precision", "bf16-mixed", "--embeddings", str(path)]
    assert main(["predict", "--config", str(trained), *options]) == 0
    assert np.asarray(anndata.read_h5ad(path).X).dtype == np.float32


def test_some_cells_can_be_embedded(trained, tmp_path):
    import anndata

    path = tmp_path / "embeddings.h5ad"
    options = ["--trainer.limit_predict_batches", "1", "--embeddings", str(path)]
    assert main(["predict", "--config", str(trained), *options]) == 0
    some = anndata.read_h5ad(path)
    assert some.shape == (256, 8)
    assert some.obs.index.tolist() == [str(row) for row in range(256)]


def test_few_cells_are_embedded_on_many_processes(make_project, tmp_path):
    """One of two processes has none."""
    import anndata

    config = make_project(tmp_path, **SHORT)
    experiments = yaml.safe_load((tmp_path / "experiments.yaml").read_text())["experiments"]
    experiments[0]["conditions"] = {"A/1": "uninfected"}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": experiments[:1]}))
    assert main(["index", "--config", str(config)]) == 0
    assert fit(config, "--data.sampler.leaky", "0") == 0
    predict = ["predict", "--config", str(config), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run([sys.executable, "-m", "viscy_train", *predict], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert 0 < len(anndata.read_h5ad(RunDirectory(tmp_path / "run").embeddings)) <= 256


def test_ctrl_c_while_cells_are_embedded_is_no_failure(trained, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ContrastiveModule, "predict_step", interrupt)
    assert main(["predict", "--config", str(trained)]) == EXIT_INTERRUPTED


def test_a_checkpoint_is_measured_in_other_batches(trained, capsys):
    assert main(["validate", "--config", str(trained), "--data.sampler.batch_size", "8"]) == 0
    assert "val/loss" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["report"], ["replay", "--step", "1"]])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed_everything": 6}, "seed_everything is not that of the run"),
        ({"data__split": {"by": "none"}}, "data.split is not that of the run"),
        ({"data__sampler__batch_size": 8}, "data.sampler is not that of the run"),
    ],
)
def test_what_is_told_of_a_run_is_of_its_own_configuration(trained, tmp_path, capsys, command, changes, message):
    config = again(trained, tmp_path, **changes)
    before = RunDirectory(trained.parent / "run").report.read_bytes()
    assert main([command[0], "--config", str(config), *command[1:]]) == EXIT_USER_ERROR
    assert message in one_line(capsys)
    assert RunDirectory(trained.parent / "run").report.read_bytes() == before


@pytest.mark.parametrize("command", [["report"], ["replay", "--step", "1"]])
def test_what_is_told_of_a_run_is_of_its_own_table(trained, table, tmp_path, capsys, command):
    cells = table.observations.copy()
    cells["hours_post_infection"] += 1
    other = type(table)(**{**vars(table), "cells": cells})
    other.write(tmp_path / "other.parquet")
    config = again(trained, tmp_path)
    options = ["--data.anchors", str(tmp_path / "other.parquet")]
    assert main([command[0], "--config", str(config), *command[1:], *options]) == EXIT_USER_ERROR
    assert "is of other data" in one_line(capsys)


@pytest.mark.parametrize("command", ["fit", "validate", "predict", "report"])
def test_a_checkpoint_of_another_encoder_is_told(trained, tmp_path, capsys, command):
    config = again(trained, tmp_path, model__encoder__width=8)
    options = ["--ckpt_path", "last"] if command == "fit" else []
    assert main([command, "--config", str(config), *options]) == EXIT_USER_ERROR
    assert "is of another model: encoder.body.0.weight has the shape (4, " in one_line(capsys)


def test_a_file_that_is_no_checkpoint_of_ours_is_told(trained, tmp_path, capsys):
    empty, other = tmp_path / "empty.ckpt", tmp_path / "other.ckpt"
    zipfile.ZipFile(empty, "w").close()
    torch.save({"state_dict": {}}, other)
    assert main(["validate", "--config", str(trained), "--ckpt_path", str(empty)]) == EXIT_USER_ERROR
    assert "is no checkpoint, or a damaged one" in one_line(capsys)
    assert main(["validate", "--config", str(trained), "--ckpt_path", str(other)]) == EXIT_USER_ERROR
    assert "is no checkpoint of viscy-train" in one_line(capsys)


@pytest.mark.parametrize(
    "options", [["--seed_everything", "7"], ["--data.sampler.batch_size", "8"], ["--data.split.fraction", "0"]]
)
def test_a_run_that_cannot_go_on_is_left_as_it_is(trained, capsys, options):
    folder = RunDirectory(trained.parent / "run")
    before = {path: path.read_bytes() for path in folder.path.glob("**/*") if path.is_file()}
    assert fit(trained, "--ckpt_path", "last", *options) == EXIT_USER_ERROR
    line = one_line(capsys)
    assert "the checkpoint belongs to other data or batches: " in line
    assert "set_epoch" not in line
    assert {path: path.read_bytes() for path in folder.path.glob("**/*") if path.is_file()} == before


@pytest.mark.parametrize(
    "command", [["inspect"], ["fit"], ["validate"], ["predict"], ["replay", "--step", "1"], ["report"]]
)
def test_the_configuration_of_a_run_is_one_for_every_command(trained, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    options = ["--output", str(tmp_path / "again")] if command == ["fit"] else []
    config = RunDirectory(trained.parent / "run").config
    assert main([command[0], "--config", str(config), *command[1:], *options]) == 0


def test_a_run_whose_weights_are_lost_ends_with_the_state_before(make_project, tmp_path, capsys, monkeypatch):
    config = make_project(tmp_path, **SHORT | {"checkpoint.every_n_steps": 1})
    step = ContrastiveModule.training_step

    def lost(self, batch):
        return step(self, batch) * (float("nan") if self.global_step == 4 else 1)

    monkeypatch.setattr(ContrastiveModule, "training_step", lost)
    assert fit(config) == EXIT_USER_ERROR
    assert "the weights are no numbers any more after step 5: " in one_line(capsys)
    state = torch.load(RunDirectory(tmp_path / "run").last_checkpoint, weights_only=True)
    assert state["global_step"] == 4
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())
    assert main(["report", "--config", str(config)]) == 0
    assert "The loss was no number" in RunDirectory(tmp_path / "run").report.read_text(encoding="utf-8")


def test_a_checkpoint_with_lost_bytes_is_told(trained, tmp_path, capsys):
    content = bytearray(RunDirectory(trained.parent / "run").last_checkpoint.read_bytes())
    content[5000:7000] = bytes(2000)
    (tmp_path / "lost.ckpt").write_bytes(content)
    assert main(["predict", "--config", str(trained), "--ckpt_path", str(tmp_path / "lost.ckpt")]) == EXIT_USER_ERROR
    assert "damaged" in one_line(capsys)
