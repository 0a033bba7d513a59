"""Runs whose processes share each batch, compared with a run on one process."""

import numpy as np
import pandas as pd
import pytest
import torch

from viscy_train.config.schema import EncoderConfig
from viscy_train.model.encoder import Encoder
from viscy_train.model.encoder_input import EncoderInput
from viscy_train.model.exported import write_encoder
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import EFFECTIVE_RANK, LOSS, SMOOTHNESS, read_log

pytestmark = pytest.mark.slow
CHANGES = {
    "data.sampler.split_batches": True,
    "data.sampler.epoch_batches": 4,
    "data.sampler.anchors_per_condition": 2,
    "trainer.max_epochs": 2,
    "checkpoint.every_n_steps": 1,
    "model.optimizer.schedule": "constant",
    "model.loss.positives": "condition",
    "model.init_from": "start.safetensors",
}
FIT = ["fit", "--config", "config.yaml", "--ckpt_path", "last"]
ON_TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
NO_REPORT = """
import viscy_train.report.write
viscy_train.report.write.evaluate_and_write_page = lambda *_: None
"""
# Float32: the order of sums depends on the number of processes, and each step builds on the one before.
TOLERANCE = 1e-4


def write_start(path):
    """Write the weights that the runs start from, on all processes."""
    torch.manual_seed(7)
    config = EncoderConfig(width=4, features=8, projection=4)
    write_encoder(path, Encoder(2, 1, 16, config), config, EncoderInput(channels=["a", "b"], z_slices=1, crop=16), "1")


def test_a_run_resumed_on_another_number_of_processes_has_the_batches_and_losses_of_one_process(
    make_project, run_viscy_train, tmp_path
):
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        make_project(directory, **CHANGES)
        write_start(directory / "start.safetensors")
    run_viscy_train(FIT, one, before=NO_REPORT)
    two_processes = run_viscy_train([*FIT, *ON_TWO, "--trainer.max_steps", "3"], two, processes=2, before=NO_REPORT)
    assert two_processes.stdout.count("Starting from an exported encoder") == 1
    started = RunDirectory(two / "run").read_batches()
    assert started.groupby(["step", "rank"]).size().tolist() == [8] * 6
    resumed = run_viscy_train(FIT, two, before=NO_REPORT)
    assert "devices 1 (was 2)" in resumed.stdout
    assert "The weights are those of the checkpoint; model.init_from " in resumed.stdout
    runs = [RunDirectory(directory / "run") for directory in (one, two)]
    batches, expected = (run.read_batches().drop(columns="rank") for run in runs[::-1])
    pd.testing.assert_frame_equal(batches, expected)
    assert batches.groupby(["epoch", "batch"]).size().tolist() == [16] * 8
    logs = [read_log(run.metrics) for run in runs]
    of_validation = [("val/loss", 2), (EFFECTIVE_RANK, 2), (SMOOTHNESS, 2)]
    for name, n in (*of_validation, (LOSS, 8), ("batch/condition/infected", 8), ("batch/own_experiment", 8)):
        values = [log.dropna(subset=name).sort_values("step")[name].to_numpy() for log in logs]
        assert len(values[0]) == n
        np.testing.assert_allclose(*values, rtol=TOLERANCE, err_msg=name)
    assert logs[0]["batch/own_experiment"].dropna().tolist() == [0.875] * 8
