"""What a run writes down while it trains, also where it was killed and goes on."""

import os
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import PassThroughProfiler
from rich.console import Console
from torch.utils.data import DataLoader, Dataset, default_collate

from viscy_train.errors import UserError
from viscy_train.run.attempts import AttemptRecorder, read_attempts
from viscy_train.run.batch_record import (
    HEADER,
    BatchRecorder,
    count_batches,
    file_of_rank,
    files_of_ranks,
    line_of_batch,
)
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import METRIC, MetricsCsv
from viscy_train.run.step_csv import last_step
from viscy_train.training.callbacks import CompositionLogger, LossProgress
from viscy_train.training.data_wait import DataWait, FetchTimer


def trainer_at(step, *, rank=0, world_size=1, loggers=(), every=1):
    return SimpleNamespace(
        global_step=step,
        current_epoch=0,
        global_rank=rank,
        world_size=world_size,
        is_global_zero=rank == 0,
        loggers=list(loggers),
        log_every_n_steps=every,
    )


def record(folder, steps, *, rank=0, world_size=1):
    """Train for some steps on batches of two rows, which tell step and rank."""
    recorder = BatchRecorder(folder)
    recorder.on_train_start(trainer_at(steps[0], rank=rank, world_size=world_size), None)
    for step in steps:
        batch = {
            "row": torch.tensor([step, rank]),
            "batch": torch.tensor(step * world_size + rank),
            "epoch": torch.tensor(3),
        }
        recorder.on_train_batch_start(trainer_at(step, rank=rank, world_size=world_size), None, batch, 0)
    recorder.teardown(None, None, "fit")


@pytest.fixture
def folder(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_a_record_comes_back_as_slots_in_the_order_of_the_sequence(folder):
    record(folder.batches, range(2), rank=1, world_size=2)
    record(folder.batches, range(2), rank=0, world_size=2)
    slots = folder.read_batches()
    assert slots.columns.tolist() == ["step", "epoch", "batch", "rank", "row"]
    assert slots["batch"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert slots["row"].tolist() == [0, 0, 0, 1, 1, 0, 1, 1]
    assert set(slots["epoch"]) == {3}


def test_steps_that_were_lost_are_forgotten_whatever_the_number_of_ranks(folder):
    for rank in range(3):
        record(folder.batches, range(10), rank=rank, world_size=3)
    record(folder.batches, range(6, 8), rank=0, world_size=1)
    slots = folder.read_batches()
    assert slots.groupby("rank")["step"].max().to_dict() == {0: 7, 1: 5, 2: 5}
    assert sorted(slots.query("rank == 0")["step"].unique()) == list(range(8))


def test_a_run_that_begins_anew_forgets_everything(folder):
    record(folder.batches, range(4), rank=1, world_size=2)
    record(folder.batches, range(1))
    assert folder.read_batches()["step"].tolist() == [0, 0]


@pytest.mark.parametrize("torn", ["4,0,4,0,1 2", "4,0", "4", "\0\0\0\n"])
def test_a_half_written_line_is_no_record(folder, torn):
    record(folder.batches, range(4))
    path = files_of_ranks(folder.batches)[0]
    with path.open("a") as file:
        file.write(torn)
    assert folder.read_batches()["step"].max() == last_step(path) == 3
    record(folder.batches, range(4, 6))
    assert folder.read_batches()["step"].drop_duplicates().tolist() == list(range(6))


def test_a_file_without_a_whole_header_is_begun_anew(folder):
    folder.batches.mkdir(parents=True)
    (folder.batches / "rank0.csv").write_text("step,ep")
    record(folder.batches, range(2))
    assert len(folder.read_batches()) == 4


def test_a_cut_that_fails_leaves_the_file_as_it_was(folder, monkeypatch):
    record(folder.batches, range(9))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(UserError, match=r"rank0\.csv: no"):
        record(folder.batches, range(2, 4))
    assert folder.read_batches()["step"].max() == 8
    assert len(files_of_ranks(folder.batches)) == 1


def test_of_a_long_record_batches_spread_over_all_steps_and_ranks_are_read(folder):
    for rank in range(2):
        record(folder.batches, range(500), rank=rank, world_size=2)
    slots = folder.read_batches(most_batches=100)
    read = slots.drop_duplicates("batch")
    assert count_batches(folder.batches) == 1000
    assert 90 <= len(read) <= 100
    assert read["step"].diff().max() <= 20
    assert set(read["rank"]) == {0, 1}


def test_the_last_step_is_found_however_long_its_line_is(folder):
    folder.batches.mkdir(parents=True)
    path = file_of_rank(folder.batches, 0)
    path.write_text(
        HEADER + "".join(line_of_batch(step, 0, step, 0, range(10**7, 10**7 + 40_000)) for step in range(3))
    )
    assert last_step(path) == 2
    assert last_step(folder.batches / "nothing.csv") is None


def test_an_empty_record_is_an_empty_table(folder):
    assert folder.read_batches().empty
    assert read_attempts(folder).empty


def test_the_log_takes_new_names_and_goes_on_at_the_step(tmp_path):
    log = MetricsCsv(tmp_path / "log" / "metrics.csv")
    for step in range(5):
        log.log_metrics({"loss": torch.tensor(step / 2), "epoch": 0}, step)
    log.log_metrics({"val/loss": 1.5, "batch/condition/a, b": 0.25}, 4)
    before = pd.read_csv(tmp_path / "log" / "metrics.csv")
    assert before.columns.tolist() == ["step", "loss", "epoch", "val/loss", "batch/condition/a, b"]
    assert before["loss"].dropna().tolist() == [0, 0.5, 1, 1.5, 2]
    with (tmp_path / "log" / "metrics.csv").open("a") as file:
        file.write("5,0.1")
    again = MetricsCsv(tmp_path / "log" / "metrics.csv")
    again.cut(3)
    again.log_metrics({"loss": 9, "new": 7}, 3)
    after = pd.read_csv(tmp_path / "log" / "metrics.csv")
    assert after["step"].tolist() == [0, 1, 2, 3]
    assert after["loss"].tolist() == [0, 0.5, 1, 9]
    assert after["new"].tolist()[-1] == 7


def test_each_start_is_noted_with_how_far_the_last_one_came(folder):
    for start, processes in ((0, 1), (4, 2)):
        life = AttemptRecorder(folder)
        life.setup(None, None, "fit")
        life.on_train_start(trainer_at(start, world_size=processes), None)
        record(folder.batches, range(start, start + 7))
    lives = read_attempts(folder)
    assert lives["step"].tolist() == [0, 4]
    assert lives["processes"].tolist() == [1, 2]
    assert np.isnan(lives["reached"][0])
    assert lives["reached"][1] == 7


def made_cells(n=4000):
    rng = np.random.default_rng(0)
    names = ["$a$", "b/c", "b_c", "[red]d"]
    return pd.DataFrame(
        {
            "experiment": pd.Categorical.from_codes(np.sort(rng.integers(0, 4, n)), names),
            "condition": pd.Categorical.from_codes(rng.integers(0, 2, n), ["mock", "virus 1"]),
            "hours_post_infection": rng.integers(0, 20, n) / 2,
            "lineage_id": rng.integers(0, 300, n),
        }
    )


def test_what_a_batch_holds_is_counted_under_names_of_one_level():
    cells = made_cells()
    rows = np.random.default_rng(1).integers(0, len(cells), 256)
    shares = CompositionLogger(cells).shares(rows)
    part = [name for name in shares if name.startswith("batch/experiment/")]
    assert part == [f"batch/experiment/{name}" for name in ("_a_", "b_c", "b_c (2)", "_red_d")]
    held = cells.iloc[rows]
    assert [shares[name] for name in part] == pytest.approx(
        held["experiment"].value_counts(normalize=True, sort=False).tolist()
    )
    assert shares["batch/condition/virus 1"] == pytest.approx((held["condition"] == "virus 1").mean())
    assert shares["batch/own experiment"] == max(shares[name] for name in part)
    assert shares["batch/hours mean"] == pytest.approx(held["hours_post_infection"].mean())
    assert shares["batch/hours spread"] == pytest.approx(held["hours_post_infection"].std(ddof=0))
    assert shares["batch/distinct lineages"] == held["lineage_id"].nunique()


def test_counting_a_batch_takes_no_time_to_speak_of():
    cells = made_cells(100_000)
    logger, rows = CompositionLogger(cells), np.random.default_rng(1).integers(0, len(cells), 256)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        logger.shares(rows)
        times.append(time.perf_counter() - began)
    assert min(times) < 200e-6


def test_a_fetch_is_waiting_and_what_follows_it_is_work():
    seconds = iter([0.0, 10.0, 13.0, 20.0])
    timer = FetchTimer(PassThroughProfiler(), clock=lambda: next(seconds))
    timer.start("[_TrainingEpochLoop].train_dataloader_next")
    timer.start("[_EvaluationLoop].val_next")
    timer.stop("[_EvaluationLoop].val_next")
    timer.stop("[_TrainingEpochLoop].train_dataloader_next")
    assert timer.take() == (3.0, 7.0)


class SlowRows(Dataset):
    """Batches that take their time to come."""

    def __len__(self):
        return 32

    def __getitem__(self, index):
        time.sleep(0.01)
        return {"row": index, "x": torch.ones(1)}


def numbered(rows):
    """Return rows as a batch that knows its number."""
    return default_collate(rows) | {"epoch": 0, "batch": rows[0]["row"] // 4}


class Line(LightningModule):
    """The smallest thing that can be trained."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch):
        loss = self.layer(batch["x"]).square().mean()
        self.log("loss", loss, batch_size=4)
        return loss

    def validation_step(self, batch):
        self.log("val/loss", self.layer(batch["x"]).square().mean(), batch_size=4)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(SlowRows(), batch_size=4, num_workers=0, collate_fn=numbered)

    val_dataloader = train_dataloader


def fit(folder, console, *, steps, checkpoint=None):
    loggers = [MetricsCsv(folder.metrics), TensorBoardLogger(folder.path, name="log", version="")]
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=2,
        logger=loggers,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[
            AttemptRecorder(folder),
            DataWait(),
            BatchRecorder(folder.batches),
            CompositionLogger(made_cells()),
            LossProgress(console),
            ModelCheckpoint(folder.checkpoints, every_n_train_steps=4, save_top_k=-1, filename="{step}"),
        ],
    )
    trainer.fit(Line(), ckpt_path=checkpoint)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
# Lightning's own use of torch.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")
# Of the small loader here, which does go on where it stopped: all its batches are alike.
@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")
# Lightning's checkpoint callback, of a folder that a run goes on in.
@pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty")
def test_a_run_that_goes_on_has_one_log_and_one_record(folder, capsys):
    fit(folder, Console(), steps=7)
    fit(folder, Console(), steps=-1, checkpoint=folder.checkpoints / "step=4.ckpt")
    log = pd.read_csv(folder.metrics)
    for name in ("loss", METRIC, "batch/own experiment", "batch/hours mean"):
        assert log.dropna(subset=name)["step"].tolist() == list(range(16)), name
    # Validation of an epoch is logged with the epoch's last step, which a checkpoint of its end keeps.
    assert log.dropna(subset="val/loss")["step"].tolist() == [7, 15]
    assert log[METRIC].dropna().between(0.5, 1).mean() > 0.8, "four rows take 40 ms, the step next to none"
    assert sorted(folder.read_batches()["step"].unique()) == list(range(16))
    lives = read_attempts(folder)
    assert lives["step"].tolist() == [0, 4]
    assert lives["reached"].tolist()[1] == 7
    shown = capsys.readouterr().out
    assert "epoch 2 of 2  mean loss" in shown
    assert "validation loss" in shown
    assert "waiting " in shown
    assert "\x1b" not in shown
