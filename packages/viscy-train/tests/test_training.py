"""One real run on two processes, looked at from all sides."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from viscy_train.anchors import build_anchors, read_anchors
from viscy_train.cli import main
from viscy_train.composition import make_sampler
from viscy_train.config import load_config
from viscy_train.embeddings import embed, load_encoder, new_encoder
from viscy_train.folder import RunFolder

COMMAND = "import sys; from viscy_train.cli import main; sys.exit(main())"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(data_folder, tmp_path_factory):
    """The folder of a run made by the command line from a configuration file."""
    from textwrap import dedent

    folder = tmp_path_factory.mktemp("runs")
    text = dedent(f"""\
        experiments:
        - {{name: monday, plate: {data_folder}/plates/monday.zarr, tracks: {data_folder}/tracks/monday,
           hours_at_start: 3.0, hours_per_frame: 0.5, conditions: {{A/1: uninfected, B/1: infected}}}}
        - {{name: tuesday, plate: {data_folder}/plates/tuesday.zarr, tracks: {data_folder}/tracks/tuesday,
           hours_at_start: 3.0, hours_per_frame: 0.5, conditions: {{A/1: uninfected, B/1: infected}}}}
        channels: [Phase3D, Virus]
        crop: 16
        seed: 5
        output: first
        sampler: {{batch_size: 17, leaky: 0.125, temporal_enrichment: true}}
        encoder: {{width: 4, features: 8, projection: 4}}
        training: {{epochs: 2, processes: 2}}
        """)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "fit", "--config", str(folder / "config.yaml")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return RunFolder(folder / "first"), done


def test_both_ranks_together_train_on_the_global_sequence(run):
    folder, _ = run
    config, anchors = load_config(folder.config), read_anchors(folder.anchors)
    sampler = make_sampler(anchors, config)
    batches = folder.read_batches()
    steps = -(-len(sampler) // 2)
    assert len(sampler) % 2 == 1, "an even number would not show that the last step is filled"
    for epoch in (0, 1):
        of_epoch = batches[batches["epoch"] == epoch]
        assert sorted(of_epoch["batch"].unique()) == list(range(2 * steps))
        for number, batch in of_epoch.groupby("batch"):
            assert batch["row"].tolist() == sampler.batch(number, epoch)
            assert set(batch["rank"]) == {number % 2}


def test_a_run_leaves_checkpoints_log_and_embeddings(run):
    folder, _ = run
    config, anchors = load_config(folder.config), read_anchors(folder.anchors)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["epoch-0.ckpt", "epoch-1.ckpt"]
    log = pd.read_csv(folder.metrics)
    assert log["loss"].notna().sum() == len(
        folder.read_batches().query("rank == 0").drop_duplicates(["epoch", "batch"])
    )
    found = np.load(folder.embeddings)["embeddings"]
    assert found.shape == (len(anchors), 8)
    encoder = load_encoder(folder.checkpoint_of(1), config)
    np.testing.assert_allclose(embed([encoder], anchors, config, Console(quiet=True))[0], found, rtol=1e-4, atol=1e-5)


def test_training_changes_the_encoder_it_began_with(run):
    folder, _ = run
    config = load_config(folder.config)
    before, after = new_encoder(config), load_encoder(folder.checkpoint_of(1), config)
    moved = [
        float((old - new).detach().abs().max())
        for old, new in zip(before.parameters(), after.parameters(), strict=True)
    ]
    # Each step of AdamW moves a weight by about the learning rate: it began there, and went on.
    assert 0 < max(moved) < 2 * len(pd.read_csv(folder.metrics)) * config.training.learning_rate
    assert torch.isfinite(torch.tensor(moved)).all()


def test_the_anchor_table_of_a_run_is_that_of_its_configuration(run):
    folder, _ = run
    pd.testing.assert_frame_equal(read_anchors(folder.anchors), build_anchors(load_config(folder.config)))


def test_the_story_told_is_plain_and_ends_with_where_to_look(run):
    folder, done = run
    assert done.stdout.splitlines()[-1] == f"Done. Open {folder.report}"
    assert "\x1b" not in done.stdout
    assert "epoch 2 of 2" in done.stdout
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


def test_the_report_is_one_file_with_its_pictures_inside(run):
    folder, _ = run
    page = folder.report.read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert len(links.sources) == 5
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in links.sources)
    assert not re.search(r"https?:|url\(|@import|<script", page)


def test_the_report_says_what_was_asked_and_what_was_drawn(run):
    folder, _ = run
    links = Links()
    links.feed(folder.report.read_text(encoding="utf-8"))
    text = " ".join(links.text)
    for words in ("asked for", "the batch's own experiment", "condition infected", "focal window"):
        assert words in text
    assert "87.5%" in text
    assert "no" not in [part.strip() for part in links.text]


def test_a_second_run_into_the_folder_is_refused_and_another_output_is_not(run, tmp_path, capsys):
    folder, _ = run
    before = sorted(path.name for path in folder.path.iterdir())
    assert main(["fit", "--config", str(folder.config)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert sorted(path.name for path in folder.path.iterdir()) == before
    # On one process this time, and with the run's own record as the configuration.
    options = ["--output", str(tmp_path / "again"), "--training.processes", "1", "--training.epochs", "1"]
    assert main(["fit", "--config", str(folder.config), *options]) == 0
    again = RunFolder(tmp_path / "again")
    rows = folder.read_batches().query("epoch == 0")
    n_batches = len(make_sampler(read_anchors(folder.anchors), load_config(folder.config)))
    expected = rows[rows["batch"] < n_batches]["row"].tolist()
    assert again.read_batches()["row"].tolist() == expected
