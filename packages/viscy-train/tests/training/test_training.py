"""A complete run on two processes, and the commands that use it afterwards."""

import re
from html.parser import HTMLParser

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import viscy_train
from viscy_train.anchors.table import AnchorTable
from viscy_train.cli import main
from viscy_train.config.schema import SamplerConfig, SplitConfig
from viscy_train.evaluation.embeddings import embed
from viscy_train.loading.sampler import make_sampler
from viscy_train.loading.split import split_anchors
from viscy_train.run.directory import RunDirectory
from viscy_train.run.metrics_csv import DATA_WAIT, LEARNING_RATE, LOSS
from viscy_train.training.initial_weights import load_initial_weights
from viscy_train.training.lightning_cli import TrainingCLI

pytestmark = [
    pytest.mark.slow,
    # anndata 0.13 sets an option of pandas that pandas 3 deprecates
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]
SAMPLER = SamplerConfig(batch_size=17, leaky=0.125, temporal_enrichment=True)
ONE_PROCESS = ["--trainer.devices", "1", "--trainer.strategy", "auto"]


@pytest.fixture(scope="module")
def run(make_project, run_viscy_train, tmp_path_factory):
    """Return the configuration file of a project that was trained on two processes, and the command."""
    changes = {"trainer.devices": 2, "trainer.strategy": "ddp", "data.sampler.batch_size": 17}
    config = make_project(tmp_path_factory.mktemp("project"), **changes)
    return config, run_viscy_train(["fit", "--config", str(config)], config.parent, processes=2)


@pytest.fixture
def config(run):
    return str(run[0])


@pytest.fixture
def run_directory(run):
    return RunDirectory(run[0].parent / "run")


def test_both_ranks_together_train_on_the_global_sequence(run, run_directory):
    table = AnchorTable.read(run[0].parent / "anchors.parquet")
    rows, _ = split_anchors(table, SplitConfig(fraction=0.5), seed=5)
    sampler = make_sampler(table.observations.iloc[rows].reset_index(drop=True), SAMPLER, 5, 0, 1)
    slots = run_directory.read_batches()
    steps = -(-len(sampler) // 2)
    assert len(sampler) % 2 == 1, "with an even number, no rank would be filled up in the last step"
    for epoch in (0, 1):
        in_epoch = slots[slots["epoch"] == epoch]
        assert sorted(in_epoch["batch"].unique()) == list(range(2 * steps))
        for number, batch in in_epoch.groupby("batch"):
            assert batch["row"].tolist() == rows[sampler.batch(number, epoch)].tolist()
            assert set(batch["rank"]) == {number % 2}


def test_every_step_is_logged_with_its_loss_and_its_composition(run_directory):
    log = pd.read_csv(run_directory.metrics)
    n_steps = run_directory.read_batches()["step"].max() + 1
    for name in (LOSS, LEARNING_RATE, DATA_WAIT, "batch/experiment/monday", "batch/condition/infected"):
        assert log.dropna(subset=name)["step"].tolist() == list(range(n_steps)), name
    for name in ("val/loss", "val/recall_at_1", "val/effective_rank", "val/temporal_smoothness"):
        assert log[name].notna().sum() == 2, name
    assert not any(" " in name for name in log.columns)
    (events,) = run_directory.log.glob("events.out.tfevents*")
    assert b"val/effective_rank" in events.read_bytes()


def test_the_output_is_plain_text_that_ends_with_the_report(run, run_directory):
    _, command = run
    assert command.stdout.splitlines()[-1] == f"Done. Open {run_directory.report}"
    assert "\x1b" not in command.stdout
    assert command.stdout.count("epoch 2 of 2") == 1
    assert command.stderr == ""


class Links(HTMLParser):
    """All links of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.sources, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_file_with_target_and_observed_composition(run_directory):
    page = run_directory.report.read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert len(links.sources) >= 5
    assert {source.partition(",")[0] for source in links.sources} == {
        "data:image/png;base64",
        "data:image/svg+xml;base64",
    }
    assert not re.search(r"https?:|url\(|@import|<script", page)
    text = " ".join(links.text)
    sections = "Validation embeddings", "Probes of columns"
    for words in (*sections, "target", "observed", "own experiment", "condition infected", "temporal window", "88.2%"):
        assert words in text


def test_embeddings_are_equal_on_one_process_and_on_two(run, config, run_viscy_train, tmp_path, capsys):
    path = tmp_path / "one.h5ad"
    assert main(["predict", "--config", config, *ONE_PROCESS, "--out", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Done. Wrote {path}"
    run_viscy_train(["predict", "--config", config], tmp_path, processes=2)
    one, two = anndata.read_h5ad(path), anndata.read_h5ad(run[0].parent / "run" / "embeddings.h5ad")
    observations = AnchorTable.read(run[0].parent / "anchors.parquet").observations
    assert one.shape == (len(observations), 8)
    assert one.obsm["projections"].shape == (len(observations), 4)
    np.testing.assert_array_equal(one.obs["track_id"], observations["track_id"])
    np.testing.assert_allclose(np.asarray(one.X), np.asarray(two.X), rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.asarray(one.X).round(4), axis=0)) > len(observations) / 2
    rows = split_anchors(AnchorTable.read(run[0].parent / "anchors.parquet"), SplitConfig(fraction=0.5), seed=5)
    for name, expected in zip(("training", "validation"), rows, strict=True):
        assert np.flatnonzero(one.obs["split"] == name).tolist() == expected.tolist()
    assert one.uns["command"].startswith("viscy-train predict --config ")
    assert (one.uns["epoch"], one.uns["versions"]["torch"]) == (2, torch.__version__.split("+")[0])


def test_an_exported_encoder_gives_the_embeddings_of_the_run(run, config, run_directory, tmp_path, capsys):
    assert main(["export", "--config", config, *ONE_PROCESS, "--out", str(tmp_path / "out")]) == 0
    encoder = tmp_path / "out" / "encoder.safetensors"
    checkpoint, done = capsys.readouterr().out.splitlines()
    assert checkpoint.startswith(f"Checkpoint: {run_directory.last_checkpoint} (2 epochs, step ")
    assert done == f"Done. Wrote {encoder}, {encoder.with_name('README.md')}"
    text = encoder.with_name("README.md").read_text()
    n_batches = run_directory.read_batches()["batch"].nunique() * 2
    assert f"As planned, and as observed in the {n_batches} batches of the run." in text
    assert "| val/effective\\_rank | " in text
    observed = [line.split(" | ")[-1] for line in text.splitlines() if line.startswith("| monday | infected |")]
    assert float(observed[0].rstrip(" %|")) > 0
    cli = TrainingCLI("fit", ["--config", config, *ONE_PROCESS, "--model.init_from", str(encoder)], "")
    _, model, data = cli.make_all(training=False)
    load_initial_weights(encoder, model.encoder)
    rows = np.arange(10)
    (found,) = embed([model.encoder], data.table, rows)
    (expected,) = embed([viscy_train.load_encoder(encoder)], data.table, rows)
    np.testing.assert_array_equal(found, expected)
    weights = torch.load(run_directory.last_checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[f"encoder.{name}"], one) for name, one in model.encoder.state_dict().items())


def test_a_column_to_probe_is_named_before_training(config, capsys):
    options = ["--output", "other", "--evaluation.probe", "[condition, cell_lin]"]
    assert main(["fit", "--config", config, *ONE_PROCESS, *options]) == 2
    assert "evaluation.probe must name columns of the anchor table (experiment, " in capsys.readouterr().err


def test_a_projection_that_needs_a_package_is_refused_before_training(config, capsys, monkeypatch):
    monkeypatch.setattr("viscy_train.evaluation.projection.find_spec", lambda _: None)
    options = ["--output", "other", "--evaluation.projection", "umap"]
    assert main(["fit", "--config", config, *ONE_PROCESS, *options]) == 2
    assert "needs the package umap-learn; install viscy-train[umap]" in capsys.readouterr().err


def test_a_checkpoint_is_validated(config, run_directory, capsys):
    assert main(["validate", "--config", config, *ONE_PROCESS]) == 0
    checkpoint, *lines = capsys.readouterr().out.splitlines()
    assert checkpoint.startswith(f"Checkpoint: {run_directory.last_checkpoint} (2 epochs, step ")
    metrics = dict(line.split("  ") for line in lines)
    assert float(metrics["val/loss"]) > 0
    assert 0 < float(metrics["val/recall_at_1"]) <= 1
    log = pd.read_csv(run_directory.metrics)
    for name in ("val/effective_rank", "val/temporal_smoothness"):
        logged = log[name].dropna().iloc[-1]  # on two processes, of which one had a batch that only filled the step
        assert float(metrics[name]) == pytest.approx(logged, rel=2e-3), name


def test_the_crops_of_a_step_are_shown(config, run_directory, capsys):
    assert main(["replay", "--config", config, "--step", "3", "--rank", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Done. Open {run_directory.path / 'step-3.png'}"
    assert (run_directory.path / "step-3.png").read_bytes().startswith(b"\x89PNG")
    assert main(["replay", "--config", config, "--step", "1000"]) == 2


def test_batches_are_inspected_without_training(config, run_directory, tmp_path, monkeypatch, capsys):
    """The page is next to the directory of the run, wherever the command is run."""
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "--config", config]) == 0
    assert "infected" in capsys.readouterr().out
    assert "target" in (run_directory.path.parent / "inspect.html").read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_in_the_same_directory_is_refused(config, run_directory, capsys):
    before = sorted(path.name for path in run_directory.path.iterdir())
    assert main(["fit", "--config", config, *ONE_PROCESS]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(path.name for path in run_directory.path.iterdir()) == before


def test_training_changes_all_weights(config, run_directory):
    state = torch.load(run_directory.last_checkpoint, weights_only=True)
    assert state["global_step"] == pd.read_csv(run_directory.metrics)[LEARNING_RATE].count()
    _, untrained, _ = TrainingCLI("fit", ["--config", config, *ONE_PROCESS], "").make_all(training=False)
    for name, before in untrained.state_dict().items():
        after = state["state_dict"][name]
        assert torch.isfinite(after).all()
        assert not torch.equal(after, before), name
