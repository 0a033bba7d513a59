"""Runs with unusual settings, and commands with a configuration or a checkpoint that does not match the run."""

import shutil
import zipfile
from dataclasses import replace

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
    # anndata 0.13 sets a pandas option that pandas 3 deprecates.
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]
SHORT = {"trainer.max_epochs": 1, "data.sampler.batch_size": 16, "model.optimizer.schedule": "constant"}
FEW_STEPS = SHORT | {"trainer.limit_train_batches": 4, "trainer.limit_val_batches": 1}


def fit(config, *options):
    return main(["fit", "--config", str(config), *options])


def read_metrics(folder):
    return pd.read_csv(RunDirectory(folder / "run").metrics)


@pytest.fixture
def without_report(monkeypatch):
    """Write no report, which takes longer than training."""
    monkeypatch.setattr("viscy_train.report.write.evaluate_and_write_page", lambda *_: None)


@pytest.fixture(scope="module")
def trained(make_project, tmp_path_factory):
    """The configuration of a short run. Tests must not change its directory."""
    config = make_project(tmp_path_factory.mktemp("trained"), **SHORT)
    assert fit(config) == 0
    return config


def copy_config(trained, folder, **changes):
    """Write a changed copy of the configuration of a run, for the same run directory, and return its path."""
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


def test_a_run_with_fewer_steps_than_the_log_interval_has_a_report(make_project, tmp_path):
    config = make_project(tmp_path, **FEW_STEPS | {"trainer.log_every_n_steps": 1000})
    assert fit(config) == 0
    assert len(steps_of(read_metrics(tmp_path))) == 1
    assert "Loss by training step" in RunDirectory(tmp_path / "run").report.read_text(encoding="utf-8")


def test_a_fast_dev_run_has_a_report(make_project, tmp_path):
    assert fit(make_project(tmp_path, **SHORT), "--trainer.fast_dev_run", "true") == 0
    assert "No loss was logged" in RunDirectory(tmp_path / "run").report.read_text(encoding="utf-8")


@pytest.mark.usefixtures("without_report")
def test_the_loss_of_a_step_is_the_mean_of_its_accumulated_batches(make_project, tmp_path):
    """With a negligible learning rate, steps of one batch have the losses of the batches in steps of two."""
    losses = []
    for n_batches in (1, 2):
        folder = tmp_path / str(n_batches)
        frozen = {"model.optimizer.learning_rate": 1e-12, "trainer.accumulate_grad_batches": n_batches}
        assert fit(make_project(folder, **FEW_STEPS | {"trainer.limit_train_batches": 9} | frozen)) == 0
        log = read_metrics(folder)
        steps = steps_of(log)
        assert steps["step"].is_unique
        for name in ("batch/own_experiment", "time/data_wait"):
            assert log.dropna(subset=name)["step"].tolist() == steps["step"].tolist()
        losses.append(steps["train/loss"].to_numpy())
    pairs = losses[0][: len(losses[0]) // 2 * 2].reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(losses[1][: len(pairs)], pairs, rtol=1e-4)


@pytest.mark.usefixtures("without_report")
def test_replay_shows_the_crops_that_the_encoder_saw(make_project, tmp_path, monkeypatch):
    seen = {}
    step = ContrastiveModule.training_step

    def record(self, batch):
        seen[self.global_step] = {name: batch[name].clone() for name in ("anchor", "positive")}
        return step(self, batch)

    monkeypatch.setattr(ContrastiveModule, "training_step", record)
    config = make_project(tmp_path, **FEW_STEPS)
    assert fit(config) == 0
    data = TrainingCLI("replay", ["--config", str(config)], "").make_data()
    data.setup("fit")
    recorded = batch_of_step(RunDirectory(tmp_path / "run"), 3, 0)
    pairs = data.load_pairs(Batch(rows=recorded.rows, epoch=recorded.epoch, index=recorded.number))
    replayed = data.augment(pairs)
    for name, pixels in seen[3].items():
        assert torch.equal(replayed[name], pixels)
        assert not torch.equal(pairs[name], pixels)


def test_a_run_with_nothing_left_to_train_reports_that(trained, tmp_path, capsys):
    last = RunDirectory(trained.parent / "run").last_checkpoint
    assert fit(trained, "--ckpt_path", str(last), "--output", str(tmp_path / "other")) == 0
    assert "Nothing to train" in capsys.readouterr().out
    assert not RunDirectory(tmp_path / "other").report.exists()


@pytest.mark.usefixtures("without_report")
def test_a_warning_of_the_sampler_is_printed_once(make_project, tmp_path, capsys):
    """A leak needs a second experiment, and there is only one."""
    split = {"data.split": {"by": "experiment", "experiments": ["tuesday"]}}
    assert fit(make_project(tmp_path, **FEW_STEPS | split)) == 0
    printed = capsys.readouterr()
    assert sum("leak" in line for line in (printed.out + printed.err).splitlines()) == 1
    assert "Note: " in printed.out


@pytest.mark.usefixtures("without_report")
def test_a_split_that_keeps_nothing_is_reported(make_project, tmp_path, capsys):
    assert fit(make_project(tmp_path, **FEW_STEPS | {"data.split": {"by": "position", "fraction": 0.2}})) == 0
    assert "Note: no anchors are kept for validation" in capsys.readouterr().out


@pytest.mark.usefixtures("without_report")
def test_a_condition_without_a_share_is_not_validated(make_project, tmp_path):
    ratio = {"data.sampler.condition_ratio": {"infected": 1.0, "uninfected": 0.0}}
    assert fit(make_project(tmp_path, **FEW_STEPS | ratio)) == 0
    assert read_metrics(tmp_path)["val/loss"].notna().any()


def with_weights(weights):
    """Return a run that is trained on one experiment and validated on the other, with weights of experiments."""
    split = {"data.split": {"by": "experiment", "experiments": ["monday"]}, "data.sampler.leaky": 0.0}
    return FEW_STEPS | split | {"data.sampler.experiment_weights": weights}


@pytest.mark.usefixtures("without_report")
def test_a_run_with_weights_of_experiments_that_are_not_trained_on_is_validated(make_project, tmp_path):
    config = make_project(tmp_path, **with_weights({"monday": 1.0, "tuesday": 3.0}))
    assert fit(config) == 0
    assert read_metrics(tmp_path)["val/loss"].notna().any()
    assert main(["inspect", "--config", str(config), "--out", str(tmp_path / "page.html")]) == 0


@pytest.mark.parametrize("weights", [{"tuesday": 1.0}, {"...": 2.0}, {"monday": 0.0, "...": 2.0}])
def test_weights_may_name_experiments_that_are_not_trained_on(make_project, tmp_path, weights):
    config = make_project(tmp_path, **with_weights(weights))
    data = TrainingCLI("inspect", ["--config", str(config)], "").make_data()
    data.setup("fit")
    trained_on = data.train_anchors()["experiment"].iloc[next(iter(data.sampler))]
    assert set(trained_on) == {"tuesday"}
    assert (data.count_validation_batches(1) > 0) == (weights.get("monday") != 0)


@pytest.mark.usefixtures("without_report")
def test_a_single_callback_need_not_be_a_list(make_project, tmp_path):
    callback = {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}
    assert fit(make_project(tmp_path, **FEW_STEPS | {"trainer.callbacks": callback})) == 0


def test_a_cosine_schedule_needs_a_finite_run(make_project, tmp_path, error_line):
    endless = {"trainer.max_epochs": -1, "trainer.max_time": "00:00:01:00", "model.optimizer.schedule": "cosine"}
    assert fit(make_project(tmp_path, **SHORT | endless)) == EXIT_USER_ERROR
    assert "needs a finite run" in error_line()


def test_embeddings_are_float32_at_every_precision(trained, tmp_path):
    import anndata

    path = tmp_path / "embeddings.h5ad"
    options = ["--trainer.precision", "bf16-mixed", "--out", str(path)]
    assert main(["predict", "--config", str(trained), *options]) == 0
    assert np.asarray(anndata.read_h5ad(path).X).dtype == np.float32


@pytest.mark.parametrize("choice", ["best", "last"])
def test_predict_says_which_checkpoint_it_uses(trained, tmp_path, capsys, choice):
    import anndata

    run, path = RunDirectory(trained.parent / "run"), tmp_path / "embeddings.h5ad"
    (best,) = run.checkpoints.glob("best-*.ckpt")
    loss = pd.read_csv(run.metrics)["val/loss"].min()
    assert main(["predict", "--config", str(trained), "--checkpoint", choice, "--out", str(path)]) == 0
    said, origin = capsys.readouterr().out, anndata.read_h5ad(path).uns
    checkpoint, score = (best, f", val/loss {loss:.4f}") if choice == "best" else (run.last_checkpoint, "")
    assert f"Checkpoint: {checkpoint} (1 epoch, step {origin['step']}{score})" in said
    assert origin["checkpoint"] == str(checkpoint)
    assert ("score" in origin) == (choice == "best")


def test_a_part_of_the_anchors_can_be_embedded(trained, tmp_path):
    import anndata

    path = tmp_path / "embeddings.h5ad"
    options = ["--trainer.limit_predict_batches", "1", "--out", str(path)]
    assert main(["predict", "--config", str(trained), *options]) == 0
    some = anndata.read_h5ad(path)
    assert some.shape == (256, 8)
    assert some.obs.index.tolist() == [str(row) for row in range(256)]


@pytest.mark.usefixtures("without_report")
def test_fewer_batches_than_processes_can_be_embedded(make_project, run_viscy_train, tmp_path):
    """One of the two processes has no batch."""
    import anndata

    config = make_project(tmp_path, **FEW_STEPS)
    experiments = yaml.safe_load((tmp_path / "experiments.yaml").read_text())["experiments"]
    experiments[0]["conditions"] = {"A/1": "uninfected"}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": experiments[:1]}))
    assert main(["index", "--config", str(config)]) == 0
    assert fit(config, "--data.sampler.leaky", "0") == 0
    predict = ["predict", "--config", str(config), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    run_viscy_train(predict, tmp_path, processes=2)
    assert 0 < len(anndata.read_h5ad(RunDirectory(tmp_path / "run").embeddings)) <= 256


def test_ctrl_c_during_prediction_is_not_an_error(trained, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ContrastiveModule, "predict_step", interrupt)
    assert main(["predict", "--config", str(trained)]) == EXIT_INTERRUPTED


def test_a_checkpoint_can_be_evaluated_with_another_batch_size(trained, capsys):
    assert main(["validate", "--config", str(trained), "--data.sampler.batch_size", "8"]) == 0
    assert "val/loss" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["report"], ["replay", "--step", "1"]])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed_everything": 6}, "seed_everything must be that of the run"),
        ({"data__split": {"by": "none"}}, "data.split must be that of the run"),
        ({"data__sampler__batch_size": 8}, "got {'batch_size': 8}; use --config"),
    ],
)
def test_a_run_is_reported_with_its_own_configuration_only(trained, tmp_path, error_line, command, changes, message):
    config = copy_config(trained, tmp_path, **changes)
    before = RunDirectory(trained.parent / "run").report.read_bytes()
    assert main([command[0], "--config", str(config), *command[1:]]) == EXIT_USER_ERROR
    assert message in error_line()
    assert RunDirectory(trained.parent / "run").report.read_bytes() == before


@pytest.mark.parametrize("command", ["predict", "validate"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__split": {"by": "none"}}, "data.split must be that of the run"),
        ({"data__split": {"by": "experiment", "experiments": ["monday"]}}, "data.split must be that of the run"),
        ({"seed_everything": 6}, "seed_everything must be that of the run"),
        ({"data__sampler__condition_by": "well"}, "data.sampler.condition_by must be that of the run"),
    ],
)
def test_what_was_trained_on_is_not_stated_by_another_split(trained, tmp_path, error_line, command, changes, message):
    if command == "validate" and changes == {"data__split": {"by": "none"}}:
        message = "data.split must keep anchors for validation, got none; set data.split.by to position"
    config = copy_config(trained, tmp_path, **changes)
    options = ["--out", str(tmp_path / "cells.h5ad")] if command == "predict" else []
    assert main([command, "--config", str(config), *options]) == EXIT_USER_ERROR
    assert message in error_line()
    assert not (tmp_path / "cells.h5ad").exists()


def test_the_remedy_for_a_split_that_keeps_nothing_is_a_larger_fraction(trained, tmp_path, error_line):
    config = copy_config(trained, tmp_path, data__split={"by": "position", "fraction": 0.01})
    assert main(["validate", "--config", str(config)]) == EXIT_USER_ERROR
    assert "data.split must keep anchors for validation, got none; raise data.split.fraction" in error_line()


def test_a_checkpoint_away_from_its_run_is_predicted_from_with_a_note(trained, tmp_path, capsys):
    import anndata

    path, cells = tmp_path / "copied.ckpt", tmp_path / "cells.h5ad"
    path.write_bytes(RunDirectory(trained.parent / "run").last_checkpoint.read_bytes())
    config = copy_config(trained, tmp_path, data__split={"by": "none"})
    assert main(["predict", "--config", str(config), "--ckpt_path", str(path), "--out", str(cells)]) == 0
    note = f"obs.split is by data.split of this configuration, because no run is around {path}"
    assert note in capsys.readouterr().out
    assert set(anndata.read_h5ad(cells).obs["split"]) == {"training"}


def write_other_table(table, path):
    """Write the table with coordinates of other rows, which a sampler does not look at."""
    observations = table.observations.copy()
    observations["y"] = observations["y"].array[::-1]
    replace(table, observations=observations).write(path)
    return ["--data.anchors", str(path)]


@pytest.mark.parametrize("command", [["report"], ["replay", "--step", "1"], ["fit", "--ckpt_path", "last"]])
def test_a_run_accepts_its_own_anchor_table_only(trained, table, tmp_path, error_line, command):
    folder = RunDirectory(trained.parent / "run")
    before = {path: path.read_bytes() for path in folder.path.glob("**/*") if path.is_file()}
    config, options = copy_config(trained, tmp_path), write_other_table(table, tmp_path / "other.parquet")
    assert main([command[0], "--config", str(config), *command[1:], *options]) == EXIT_USER_ERROR
    assert "belongs to another anchor table (different column 'y'); restore the anchor table, or " in error_line()
    assert {path: path.read_bytes() for path in folder.path.glob("**/*") if path.is_file()} == before


def test_a_run_without_a_checkpoint_knows_its_anchor_table(trained, table, tmp_path, error_line):
    run = tmp_path / "run"
    shutil.copytree(trained.parent / "run", run, ignore=shutil.ignore_patterns("*.ckpt"))
    config, options = copy_config(trained, tmp_path), write_other_table(table, tmp_path / "other.parquet")
    replay = ["replay", "--config", str(config), "--step", "1", "--output", str(run)]
    assert main([*replay, *options]) == EXIT_USER_ERROR
    assert "belongs to another anchor table (different column 'y')" in error_line()
    assert main(replay) == 0
    RunDirectory(run).table_fingerprint.write_text("{")
    assert main(replay) == EXIT_USER_ERROR
    assert "anchors.json is damaged; restore it, or delete it" in error_line()


@pytest.mark.parametrize("command", ["predict", "validate"])
def test_a_checkpoint_can_be_applied_to_another_anchor_table(trained, table, tmp_path, capsys, command):
    config, options = copy_config(trained, tmp_path), write_other_table(table, tmp_path / "other.parquet")
    if command == "predict":
        options += ["--out", str(tmp_path / "other.h5ad")]
    assert main([command, "--config", str(config), *options]) == 0
    note = "Note: the anchor table is not the one that the checkpoint was trained on (different column 'y')"
    assert note in capsys.readouterr().out
    assert main([command, "--config", str(config), *options[2:]]) == 0
    assert "Note" not in capsys.readouterr().out


@pytest.mark.parametrize("command", [["fit"], ["inspect"], ["validate"], ["predict"], ["replay", "--step", "1"]])
@pytest.mark.parametrize(("column", "value"), [("y", 1e6), ("position", "A/1/7")])
def test_observations_outside_the_plates_are_refused(trained, table, tmp_path, capsys, command, column, value):
    observations = table.observations.copy()
    if column == "position":
        observations[column] = observations[column].cat.rename_categories({"A/1/1": value})
    else:
        observations[column] = value
    replace(table, observations=observations).write(tmp_path / "other.parquet")
    options = ["--data.anchors", str(tmp_path / "other.parquet"), "--output", str(tmp_path / "run")]
    shutil.copytree(trained.parent / "run" / "batches", tmp_path / "run" / "batches")
    if command == ["fit"]:
        shutil.rmtree(tmp_path / "run")
    if command[0] in ("validate", "predict"):
        options += ["--ckpt_path", str(RunDirectory(trained.parent / "run").last_checkpoint)]
    assert main([command[0], "--config", str(trained), *command[1:], *options]) == EXIT_USER_ERROR
    problems = capsys.readouterr().err
    assert "observations outside; rebuild it" in problems or "cannot read position A/1/7" in problems


@pytest.mark.usefixtures("without_report")
def test_a_checkpoint_without_a_fingerprint_of_its_table_can_be_resumed(trained, tmp_path, capsys):
    """Earlier versions did not store it."""
    state = torch.load(RunDirectory(trained.parent / "run").last_checkpoint, weights_only=True)
    del state["PairDataModule"]["anchors"]
    torch.save(state, tmp_path / "earlier.ckpt")
    options = ["--ckpt_path", str(tmp_path / "earlier.ckpt"), "--output", str(tmp_path / "new")]
    assert fit(trained, *options, "--trainer.max_epochs", "2") == 0
    assert "Resuming from" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["fit", "validate", "predict", "report"])
def test_a_checkpoint_of_another_encoder_is_refused(trained, tmp_path, error_line, command):
    config = copy_config(trained, tmp_path, model__encoder__width=8)
    options = ["--ckpt_path", "last"] if command == "fit" else []
    assert main([command, "--config", str(config), *options]) == EXIT_USER_ERROR
    assert "belongs to another model: encoder.body.0.weight has shape (4, " in error_line()


def test_a_file_that_is_not_a_checkpoint_of_viscy_train_is_refused(trained, tmp_path, error_line):
    empty, other = tmp_path / "empty.ckpt", tmp_path / "other.ckpt"
    zipfile.ZipFile(empty, "w").close()
    torch.save({"state_dict": {}}, other)
    assert main(["validate", "--config", str(trained), "--ckpt_path", str(empty)]) == EXIT_USER_ERROR
    assert "is not a checkpoint, or is damaged" in error_line()
    assert main(["validate", "--config", str(trained), "--ckpt_path", str(other)]) == EXIT_USER_ERROR
    assert "is not a checkpoint of viscy-train" in error_line()


@pytest.mark.parametrize(
    "options", [["--seed_everything", "7"], ["--data.sampler.batch_size", "8"], ["--data.split.fraction", "0"]]
)
def test_a_run_that_cannot_be_resumed_is_not_changed(trained, error_line, options):
    folder = RunDirectory(trained.parent / "run")
    before = {path: path.read_bytes() for path in folder.path.glob("**/*") if path.is_file()}
    assert fit(trained, "--ckpt_path", "last", *options) == EXIT_USER_ERROR
    line = error_line()
    assert "the checkpoint belongs to other data or batches: " in line
    assert "set_epoch" not in line
    assert {path: path.read_bytes() for path in folder.path.glob("**/*") if path.is_file()} == before


@pytest.mark.parametrize(
    "command", [["inspect"], ["fit"], ["validate"], ["predict"], ["replay", "--step", "1"], ["report"]]
)
def test_every_command_accepts_the_configuration_of_a_run(trained, tmp_path, monkeypatch, request, command):
    monkeypatch.chdir(tmp_path)
    options = []
    if command == ["fit"]:
        request.getfixturevalue("without_report")
        options = ["--output", str(tmp_path / "second"), "--trainer.limit_train_batches", "4"]
    config = RunDirectory(trained.parent / "run").config
    assert main([command[0], "--config", str(config), *command[1:], *options]) == 0


def test_a_run_whose_weights_become_nan_keeps_the_previous_checkpoint(make_project, tmp_path, error_line, monkeypatch):
    config = make_project(tmp_path, **SHORT | {"checkpoint.every_n_steps": 1})
    step = ContrastiveModule.training_step

    def lose_the_loss(self, batch):
        return step(self, batch) * (float("nan") if self.global_step == 4 else 1)

    monkeypatch.setattr(ContrastiveModule, "training_step", lose_the_loss)
    assert fit(config) == EXIT_USER_ERROR
    assert "the weights are not finite after step 5; " in error_line()
    state = torch.load(RunDirectory(tmp_path / "run").last_checkpoint, weights_only=True)
    assert state["global_step"] == 4
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())
    assert main(["report", "--config", str(config)]) == 0
    assert "The loss was not finite" in RunDirectory(tmp_path / "run").report.read_text(encoding="utf-8")


def test_a_checkpoint_with_overwritten_bytes_is_refused(trained, tmp_path, error_line):
    content = bytearray(RunDirectory(trained.parent / "run").last_checkpoint.read_bytes())
    content[5000:7000] = bytes(2000)
    (tmp_path / "lost.ckpt").write_bytes(content)
    assert main(["predict", "--config", str(trained), "--ckpt_path", str(tmp_path / "lost.ckpt")]) == EXIT_USER_ERROR
    assert "damaged" in error_line()
