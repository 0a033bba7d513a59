"""What the training callbacks log, also when a run is resumed."""

import io
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler
from torch.utils.data import DataLoader, Dataset, default_collate

from viscy_train.console import make_console
from viscy_train.run.attempts import AttemptRecorder, read_attempts
from viscy_train.run.batch_record import BatchRecorder
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import DATA_WAIT, LEARNING_RATE, LOSS, MetricsCsv
from viscy_train.training.callbacks import CompositionLogger, EvaluationProgress, LossLogger, LossProgress
from viscy_train.training.data_wait import DataWait, FetchTimer
from viscy_train.training.lightning_warnings import quiet_lightning


def make_observations(n=4000):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "experiment": pd.Categorical.from_codes(np.sort(rng.integers(0, 4, n)), ["$a$", "b/c", "b_c", "[red]d"]),
            "condition": pd.Categorical.from_codes(rng.integers(0, 2, n), ["mock", "virus 1"]),
            "hours_post_infection": rng.integers(0, 20, n) / 2,
            "lineage_id": rng.integers(0, 300, n),
        }
    )


def test_the_composition_of_a_batch_is_logged_under_names_of_one_level():
    observations = make_observations()
    rows = np.random.default_rng(1).integers(0, len(observations), 256)
    metrics = CompositionLogger(observations).composition(rows)
    names = [name for name in metrics if name.startswith("batch/experiment/")]
    assert names == [f"batch/experiment/{name}" for name in ("_a_", "b_c", "b_c_2", "_red_d")]
    batch = observations.iloc[rows]
    shares = batch["experiment"].value_counts(normalize=True, sort=False).tolist()
    assert [metrics[name] for name in names] == pytest.approx(shares)
    assert metrics["batch/condition/virus_1"] == pytest.approx((batch["condition"] == "virus 1").mean())
    assert metrics["batch/own_experiment"] == max(shares)
    assert metrics["batch/hours_mean"] == pytest.approx(batch["hours_post_infection"].mean())
    assert metrics["batch/hours_std"] == pytest.approx(batch["hours_post_infection"].std(ddof=0))
    assert metrics["batch/distinct_lineages"] == batch["lineage_id"].nunique()


def test_the_number_of_labels_is_logged_if_there_are_too_many_to_log_each():
    observations = make_observations()
    number = np.arange(len(observations))
    genes = pd.Categorical([f"gene{one % 101}" for one in number])
    assert len(genes.categories) == 101
    metrics = CompositionLogger(observations.assign(condition=genes)).composition(number[:7])
    assert metrics["batch/distinct_conditions"] == 7
    assert not any(name.startswith("batch/condition/") for name in metrics)
    assert any(name.startswith("batch/experiment/") for name in metrics)


def test_describing_a_batch_takes_little_time():
    observations = make_observations(100_000)
    logger, rows = CompositionLogger(observations), np.random.default_rng(1).integers(0, len(observations), 256)
    times = []
    for _ in range(100):
        start = time.thread_time()
        logger.composition(rows)
        times.append(time.thread_time() - start)
    assert min(times) < 200e-6


def test_a_fetch_is_data_wait_and_the_time_after_it_is_work():
    seconds = iter([0.0, 10.0, 13.0, 20.0])
    timer = FetchTimer(PassThroughProfiler(), clock=lambda: next(seconds))
    timer.start("[_TrainingEpochLoop].train_dataloader_next")
    timer.start("[_EvaluationLoop].val_next")
    timer.stop("[_EvaluationLoop].val_next")
    timer.stop("[_TrainingEpochLoop].train_dataloader_next")
    assert timer.take() == (3.0, 7.0)


def test_a_fetch_is_timed_by_the_context_that_lightning_uses():
    seconds = iter([0.0, 10.0, 13.0, 20.0])
    timer = FetchTimer(PassThroughProfiler(), clock=lambda: next(seconds))
    with timer.profile("[_TrainingEpochLoop].train_dataloader_next"), timer.profile("[Strategy].batch_to_device"):
        pass
    assert timer.take() == (3.0, 7.0)


def test_the_trainers_own_profiler_sees_all_actions():
    inner = SimpleProfiler()
    timer = FetchTimer(inner)
    actions = ["[_TrainingEpochLoop].train_dataloader_next", "[Callback]A.on_train_batch_end"]
    for action in actions:
        with timer.profile(action):
            pass
    assert list(inner.recorded_durations) == actions


class Clock:
    """A clock that stands still until it is moved."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


class SlowRows(Dataset):
    """Rows that take 10 seconds each to read."""

    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 32

    def __getitem__(self, index):
        self.clock.seconds += 10
        return {"row": index, "x": torch.ones(1)}


def collate(rows):
    """Return rows as a batch with its epoch and number."""
    return default_collate(rows) | {"epoch": 0, "batch": rows[0]["row"] // 4}


class Line(LightningModule):
    """The smallest module that can be trained, on batches of four rows, in steps of 10 seconds."""

    def __init__(self, clock):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.clock = clock

    def training_step(self, batch):
        self.clock.seconds += 10
        return self.layer(batch["x"]).square().mean()

    def validation_step(self, batch):
        self.log("val/loss", self.layer(batch["x"]).square().mean(), batch_size=4)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(SlowRows(self.clock), batch_size=4, num_workers=0, collate_fn=collate)

    val_dataloader = train_dataloader


def fit(run, *, steps, checkpoint=None):
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=2,
        logger=[MetricsCsv(run.metrics), TensorBoardLogger(run.path, name="log", version="")],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[
            AttemptRecorder(run),
            DataWait(clock),
            BatchRecorder(run.batches),
            CompositionLogger(make_observations()),
            LossLogger(),
            LossProgress(make_console()),
            ModelCheckpoint(run.checkpoints, every_n_train_steps=4, save_top_k=-1, filename="{step}"),
        ],
    )
    with quiet_lightning():
        trainer.fit(Line(clock), ckpt_path=checkpoint)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_a_resumed_run_has_one_log_and_one_record(run, capsys, monkeypatch):
    for name in ("_LOG_INTERVAL", "_LOG_SHARE"):
        monkeypatch.setattr(f"viscy_train.console.{name}", 0.0)
    fit(run, steps=7)
    capsys.readouterr()
    fit(run, steps=-1, checkpoint=run.checkpoints / "step=4.ckpt")
    log = pd.read_csv(run.metrics)
    for name in (LOSS, LEARNING_RATE, DATA_WAIT, "batch/own_experiment", "batch/hours_mean"):
        assert log.dropna(subset=name)["step"].tolist() == list(range(16)), name
    # The validation of an epoch is logged with the epoch's last step, after which a checkpoint was saved.
    assert log.dropna(subset="val/loss")["step"].tolist() == [7, 15]
    assert log[DATA_WAIT].dropna().tolist() == pytest.approx([0.8] * 16)
    assert sorted(run.read_batches()["step"].unique()) == list(range(16))
    attempts = read_attempts(run)
    assert attempts["step"].tolist() == [0, 4]
    assert attempts["reached"].tolist()[1] == 7
    output = capsys.readouterr().out
    assert "epoch 2 of 2  mean loss" in output
    assert "validation loss" in output
    assert "data wait 80%" in output
    assert "\x1b" not in output
    lines = [line for line in output.splitlines() if " left, " in line]
    assert [line.split("(")[0] for line in lines] == [
        f"  epoch {epoch} of 2: {n} of 8 " for epoch, first in ((1, 5), (2, 1)) for n in range(first, 8)
    ]
    assert not [line for line in lines if " -" in line]  # nothing took less than no time


def test_an_exception_before_the_first_epoch_is_not_followed_by_another(tmp_path):
    """There is no progress bar to remove, and no file to close."""
    progress, recorder = LossProgress(make_console()), BatchRecorder(tmp_path)
    for callback in (progress, recorder):
        callback.on_exception(SimpleNamespace(), None, KeyboardInterrupt())


@pytest.mark.parametrize("is_terminal", [False, True])
def test_an_evaluation_shows_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, is_terminal):
    for name in ("_LOG_INTERVAL", "_LOG_SHARE"):
        monkeypatch.setattr(f"viscy_train.console.{name}", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    text = io.StringIO()
    progress = EvaluationProgress(make_console(file=text, force_terminal=is_terminal))
    trainer: Any = SimpleNamespace(is_global_zero=True, training=False, num_predict_batches=[2, 1], num_val_batches=[3])
    module: Any = None
    for stage in ("predict", "validation"):
        getattr(progress, f"on_{stage}_start")(trainer, module)
        for _ in range(3):
            getattr(progress, f"on_{stage}_batch_end")(trainer, module, None, None, 0)
        getattr(progress, f"on_{stage}_end")(trainer, module)
    shown = text.getvalue()
    if is_terminal:
        assert "3/3" in shown
        assert "\x1b" in shown
    else:
        starts = [line.split(",")[0] for line in shown.splitlines()]
        assert starts == [f"  {what}: {n} of 3 ({n / 3:.0%})" for what in ("embedding", "validating") for n in (1, 2)]


def test_only_the_first_process_shows_how_far_an_evaluation_is():
    text = io.StringIO()
    progress = EvaluationProgress(make_console(file=text, force_terminal=True))
    trainer: Any = SimpleNamespace(is_global_zero=False, training=False, num_predict_batches=[1])
    progress.on_predict_start(trainer, None)
    progress.on_predict_batch_end(trainer, None, None, None, 0)
    progress.on_predict_end(trainer, None)
    assert text.getvalue() == ""
