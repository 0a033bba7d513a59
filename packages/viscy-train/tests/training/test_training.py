"""Whole runs, on two processes and on one, and what can be done with them afterwards."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from viscy_train.anchors.table import AnchorTable
from viscy_train.cli.entry_point import main
from viscy_train.config.schema import SamplerConfig, SplitConfig
from viscy_train.loading.sampler import make_sampler
from viscy_train.loading.split import split_anchors
from viscy_train.run.directory import RunDirectory
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = [
    pytest.mark.slow,
    # anndata 0.13 sets an option of pandas that pandas 3 deprecates
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]
SAMPLER = SamplerConfig(batch_size=17, leaky=0.125, temporal_enrichment=True)
COMMAND = [sys.executable, "-m", "viscy_train"]


@pytest.fixture(scope="module")
def run(make_project, tmp_path_factory):
    """Return the configuration file of a project that was trained on two processes, and what was printed."""
    changes = {"trainer.devices": 2, "trainer.strategy": "ddp", "data.sampler.batch_size": 17}
    config = make_project(tmp_path_factory.mktemp("project"), **changes)
    command = [*COMMAND, "fit", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return config, done


@pytest.fixture
def folder(run):
    return RunDirectory(run[0].parent / "run")


def test_both_ranks_together_train_on_the_global_sequence(run, folder):
    table = AnchorTable.read(run[0].parent / "anchors.parquet")
    rows, _ = split_anchors(table, SplitConfig(fraction=0.5), seed=5)
    sampler = make_sampler(table.observations.iloc[rows].reset_index(drop=True), SAMPLER, 5, 0, 1)
    batches = folder.read_batches()
    steps = -(-len(sampler) // 2)
    assert len(sampler) % 2 == 1, "an even number would not show that the last step is filled"
    for epoch in (0, 1):
        of_epoch = batches[batches["epoch"] == epoch]
        assert sorted(of_epoch["batch"].unique()) == list(range(2 * steps))
        for number, batch in of_epoch.groupby("batch"):
            assert batch["row"].tolist() == rows[sampler.batch(number, epoch)].tolist()
            assert set(batch["rank"]) == {number % 2}


def test_every_step_is_in_the_log_with_its_loss_and_what_it_held(folder):
    log = pd.read_csv(folder.metrics)
    n_steps = folder.read_batches()["step"].max() + 1
    for name in (
        "loss",
        "learning rate",
        "batch/experiment/monday",
        "batch/condition/infected",
        "time/waiting for data",
    ):
        assert log.dropna(subset=name)["step"].tolist() == list(range(n_steps)), name
    assert log["val/loss"].notna().sum() == 2
    assert any(path.name.startswith("events.out.tfevents") for path in folder.log.iterdir())


def test_the_story_told_is_plain_and_ends_with_where_to_look(run, folder):
    _, done = run
    assert done.stdout.splitlines()[-1] == f"Done. Open {folder.report}"
    assert "\x1b" not in done.stdout
    assert done.stdout.count("epoch 2 of 2") == 1
    assert done.stderr == ""


class Links(HTMLParser):
    """Everything that a page would fetch, and its text."""

    def __init__(self):
        super().__init__()
        self.sources, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_file_that_says_what_was_asked_and_what_was_drawn(folder):
    page = folder.report.read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert len(links.sources) >= 5
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in links.sources)
    assert not re.search(r"https?:|url\(|@import|<script", page)
    text = " ".join(links.text)
    for words in ("asked for", "the batch's own experiment", "condition infected", "focal window", "88.2%"):
        assert words in text


def test_cells_are_embedded_alike_on_one_process_and_on_two(run, tmp_path, capsys):
    config, _ = run
    one = tmp_path / "one.h5ad"
    options = [
        "--config",
        str(config),
        "--trainer.devices",
        "1",
        "--trainer.strategy",
        "auto",
        "--embeddings",
        str(one),
    ]
    assert main(["predict", *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Done. Wrote {one}"
    command = [*COMMAND, "predict", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found, again = anndata.read_h5ad(one), anndata.read_h5ad(config.parent / "run" / "embeddings.h5ad")
    table = AnchorTable.read(config.parent / "anchors.parquet")
    assert found.shape == (len(table.observations), 8)
    assert found.obsm["projections"].shape == (len(table.observations), 4)
    np.testing.assert_array_equal(found.obs["track_id"], table.observations["track_id"])
    np.testing.assert_allclose(np.asarray(found.X), np.asarray(again.X), rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.asarray(found.X).round(4), axis=0)) > len(table.observations) / 2


def test_a_checkpoint_is_measured_on_what_was_kept(run, capsys):
    config, _ = run
    options = ["--config", str(config), "--trainer.devices", "1", "--trainer.strategy", "auto"]
    assert main(["validate", *options]) == 0
    lines = dict(line.split("  ") for line in capsys.readouterr().out.splitlines())
    assert float(lines["val/loss"]) > 0
    assert 0 < float(lines["val/recall_at_1"]) <= 1


def test_the_crops_of_a_step_are_drawn_again(run, folder, capsys):
    config, _ = run
    assert main(["replay", "--config", str(config), "--step", "3", "--rank", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Done. Open {folder.path / 'step-3.png'}"
    assert (folder.path / "step-3.png").read_bytes().startswith(b"\x89PNG")
    assert main(["replay", "--config", str(config), "--step", "1000"]) == 2


def test_batches_are_inspected_without_training(run, tmp_path, capsys):
    config, _ = run
    assert main(["inspect", "--config", str(config), "--page", str(tmp_path / "inspect.html")]) == 0
    assert "infected" in capsys.readouterr().out
    assert "asked for" in (tmp_path / "inspect.html").read_text(encoding="utf-8")


def test_a_second_run_into_the_folder_is_refused(run, folder, capsys):
    config, _ = run
    before = sorted(path.name for path in folder.path.iterdir())
    options = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
    assert main(["fit", "--config", str(config), *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(path.name for path in folder.path.iterdir()) == before


def test_training_changes_the_encoder_it_began_with(run, folder):
    rate = pd.read_csv(folder.metrics)["learning rate"].dropna()
    state = torch.load(folder.last_checkpoint, weights_only=True)
    assert state["global_step"] == len(rate)
    options = ["--config", str(run[0]), "--trainer.devices", "1", "--trainer.strategy", "auto"]
    _, untrained, _ = TrainingCLI("fit", options, "").make_all(training=False)
    for name, before in untrained.state_dict().items():
        after = state["state_dict"][name]
        assert torch.isfinite(after).all()
        assert not torch.equal(after, before), name
