"""The embeddings of each validation, as they are logged."""

import numpy as np
import pytest
import torch

from viscy_train.evaluation.representation import effective_rank, temporal_smoothness
from viscy_train.loading.datasets import finish_batch
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import EFFECTIVE_RANK, RECALL, SMOOTHNESS, read_log
from viscy_train.training.fit import fit
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = pytest.mark.usefixtures("one_thread")
CHANGES = {"data.sampler.batch_size": 40, "trainer.max_epochs": 2, "trainer.logger": False}


def train(folder, *options):
    cli = TrainingCLI("fit", ["--config", str(folder / "config.yaml"), *options], "", {"ckpt_path": {"type": str}})
    trainer, model, data = cli.make_all()
    fit(cli, trainer, model, data)
    return trainer, model, data


def describe(model, data):
    """Return effective rank and smoothness of the embeddings of all pairs of a validation."""
    pairs = [finish_batch(batch) for batch in data.val_dataloader()]
    rows = torch.cat([torch.cat([batch["row"], batch["positive_row"]]) for batch in pairs]).numpy()
    crops = torch.cat([torch.cat([batch["anchor"], batch["positive"]]) for batch in pairs])
    rows, places = np.unique(rows, return_index=True)
    with torch.inference_mode():
        embeddings = model.encoder.eval()(crops[places]).numpy()
    return effective_rank(embeddings), temporal_smoothness(embeddings, data.table.observations.iloc[rows])


def test_each_validation_logs_what_the_embeddings_of_its_pairs_say(make_project, tmp_path, capsys):
    make_project(tmp_path, **CHANGES)
    _, model, data = train(tmp_path)
    log = read_log(RunDirectory(tmp_path / "run").metrics).dropna(subset=EFFECTIVE_RANK)
    assert len(log) == 2
    assert log[[RECALL, SMOOTHNESS]].notna().all(axis=None)
    assert (log[EFFECTIVE_RANK].iloc[-1], log[SMOOTHNESS].iloc[-1]) == pytest.approx(describe(model, data), rel=1e-4)
    printed = capsys.readouterr().out
    assert printed.count("effective rank ") == 2
    assert "Warning" not in printed


def test_a_collapse_is_one_line(make_project, tmp_path, capsys):
    make_project(tmp_path, **CHANGES)
    train(tmp_path, "--model.optimizer.learning_rate", "3", "--model.optimizer.schedule", "constant")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning: ")]
    (line,) = lines
    assert line.startswith("Warning: the embeddings have collapsed: their effective rank is 1.0")
