"""What is found out about batches before and after training, from tables alone."""

import logging
import re
import time
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from viscy_train.composition.dry_run import run_dry
from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError
from viscy_train.evaluation.retrieval import Retrieval
from viscy_train.report.dry_run_page import show, write_inspection
from viscy_train.report.replay_plot import replay_picture
from viscy_train.report.run_page import RunFacts, choose_strips, write_page
from viscy_train.report.style import png_of
from viscy_train.run.batch_record import batch_fields, record_of_rank
from viscy_train.run.directory import RunDirectory
from viscy_train.run.step_csv import format_line
from viscy_train.run.recorded_batch import batch_of_step

CELLS = {("a", "mock"): 400, ("a", "virus"): 14, ("b", "mock"): 200}


def make_anchors(cells=CELLS, n_times=10):
    """Return anchors of which each track is a lineage with a time each."""
    parts = [
        pd.DataFrame(
            {
                "experiment": experiment,
                "condition": condition,
                "hours_post_infection": np.arange(n) % n_times * 1.0,
                "t": np.arange(n) % n_times,
                "track_id": np.arange(n) // n_times,
                "position": "A/1/0",
            }
        )
        for (experiment, condition), n in cells.items()
    ]
    anchors = pd.concat(parts, ignore_index=True)
    track = anchors.groupby(["experiment", "condition", "track_id"]).ngroup()
    return anchors.assign(lineage_id=track).astype({"experiment": "category", "condition": "category"})


def inspect(anchors=None, world_size=1, epochs=1, most_batches=2000, **options):
    options = {"batch_size": 20} | options
    anchors = make_anchors() if anchors is None else anchors
    return run_dry(
        anchors, SamplerConfig(**options), seed=3, world_size=world_size, epochs=epochs, most_batches=most_batches
    )


def test_draws_are_counted_by_condition():
    found = inspect()
    assert found.batches_of_epoch == 30
    assert found.draws.counts.sum() == 600
    assert (found.strata["draws"] * found.strata["anchors"]).sum() == pytest.approx(600)
    assert found.strata["drawn"].sum() == pytest.approx(1)
    virus = found.strata.loc[("a", "virus")]
    assert virus["draws"] == pytest.approx(virus["drawn"] * 600 / 14)
    assert virus["most"] >= virus["draws"]
    assert virus["never"] == 0
    assert found.strata["never"].sum() == (found.draws.counts == 0).sum()
    assert all(promise.kept for promise in found.checks)


def test_several_epochs_are_counted_as_a_mean_epoch():
    one, three = inspect(), inspect(epochs=3)
    assert three.draws.counts.sum() == 1800
    np.testing.assert_allclose(three.strata["draws"], one.strata["draws"], rtol=0.2)
    assert three.strata["most"].max() < 2 * one.strata["most"].max()


def test_lineages_of_a_batch_are_counted():
    anchors = make_anchors({("a", "mock"): 100})
    found = inspect(anchors, batch_size=100, experiment_aware=False, condition_balanced=False)
    assert found.distinct_lineages == 10
    assert found.lineage_pairs == 10 * 45
    assert found.doubled == 0


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (r"condition 'virus' of 'a' has 14 anchors and is drawn \d+ times an epoch: each about \d+ times", {}),
        (r"experiment 'b' has condition 'mock' only: its batches have no 'virus'$", {}),
        (r"its batches have no 'virus' but for what leaks in", {"leaky": 0.2}),
        (r"\d+ anchors of 'a', \d+\.\d%, are not drawn in an epoch", {"experiment_weights": {"a": 1, "b": 9}}),
        (r"200 anchors of 'b' are never drawn, as its weight", {"experiment_weights": {"a": 1, "b": 0}}),
        (
            r"most batches, 90%, cannot hold condition 'virus' at the 50% asked for",
            {"experiment_weights": {"a": 1, "b": 9}},
        ),
        (
            r"the focal window of 9 h holds all times of 'b'",
            {"temporal_enrichment": True, "temporal_window_hours": 9.0},
        ),
        (r"holds on average \d\d% of the anchors", {"temporal_enrichment": True, "temporal_window_hours": 7.0}),
        (r"a batch of 20 has on average \d+ pairs of anchors of the same lineage", {}),
        (r"a batch of 60 has on average \d+\.\d slots with an anchor that it holds already", {"batch_size": 60}),
        (r"leaky=0.1 has no effect: experiment_aware=False", {"experiment_aware": False, "leaky": 0.1}),
        (r"30 batches on 4 processes: the last step of an epoch is filled up with 2 batches more", {"world_size": 4}),
        (r"an epoch has 8 steps only", {"world_size": 4}),
        (r"an epoch has 30 batches, of which the first 20 were drawn", {"most_batches": 1}),
    ],
)
def test_what_stands_out_is_said_in_words(words, options, caplog):
    found = inspect(**options)
    assert any(re.search(words, finding) for finding in found.findings), found.findings
    assert not caplog.records


def test_an_even_table_gives_nothing_to_look_at():
    cells = dict.fromkeys([(e, c) for e in "ab" for c in ("mock", "virus")], 4000)
    anchors = make_anchors(cells, n_times=2)
    assert [f for f in inspect(anchors).findings if "not drawn" not in f] == []


def test_the_sampler_warns_again_after_an_inspection(caplog):
    inspect(experiment_aware=False, leaky=0.1)
    with caplog.at_level(logging.WARNING):
        from viscy_train.loading.sampler import make_sampler

        make_sampler(make_anchors(), SamplerConfig(batch_size=20, experiment_aware=False, leaky=0.1), 0)
    assert len(caplog.records) == 1


def test_options_that_do_not_fit_are_the_users_to_change():
    with pytest.raises(UserError, match="sampler: batch_size"):
        inspect(batch_size=10_000)


def test_a_million_anchors_are_inspected_in_seconds():
    anchors = make_anchors({(e, c): 125_000 for e in "abcd" for c in ("mock", "virus")})
    began = time.process_time()
    found = inspect(anchors, batch_size=256, temporal_enrichment=True, leaky=0.1)
    assert time.process_time() - began < 10
    assert found.looked_at == 2000
    assert found.draws.is_whole


ODD = {("$a$ & <b>", "mo[red]ck"): 300, ("$a$ & <b>", "_virus"): 300, ("[/] b", "mo[red]ck"): 100}


def test_an_inspection_is_shown_as_plain_text_with_odd_names():
    console = Console(record=True, width=200, file=None, force_terminal=False, quiet=False)
    with console.capture() as capture:
        show(inspect(make_anchors(ODD)), console)
    text = capture.get()
    for name in ("$a$ & <b>", "mo[red]ck", "_virus", "[/] b"):
        assert name in text
    assert "To look at:" in text
    assert "\x1b" not in text


class Page(HTMLParser):
    """The text of a page, its tags and what it would fetch."""

    def __init__(self, path):
        super().__init__()
        self.sources, self.tags, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_an_inspection_is_a_page_of_one_file_with_odd_names(tmp_path):
    write_inspection(tmp_path / "new" / "inspect.html", inspect(make_anchors(ODD), temporal_enrichment=True))
    page = Page(tmp_path / "new" / "inspect.html")
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in page.sources)
    assert "condition 'mo[red]ck' only: its batches have no '_virus'" in page.text
    assert page.tags.count("b") == 4 + 1, "the facts and the heading of the list, none of a name"


def write_record(folder, batches, world_size):
    for rank in range(world_size):
        record_of_rank(folder.batches, rank).rewrite(
            format_line(batch_fields(number // world_size, 0, number, rank, rows).values())
            for number, rows in enumerate(batches)
            if number % world_size == rank
        )


def test_the_batch_of_a_step_is_found(tmp_path):
    folder = RunDirectory(tmp_path)
    write_record(folder, [[number, 7] for number in range(6)], world_size=2)
    batch = batch_of_step(folder, 2, rank=1)
    assert (batch.step, batch.epoch, batch.number, batch.rank, batch.rows.tolist()) == (2, 0, 5, 1, [5, 7])


def test_a_batch_that_is_not_there_is_told_in_a_line(tmp_path):
    folder = RunDirectory(tmp_path)
    with pytest.raises(UserError, match="has no record of its batches"):
        batch_of_step(folder, 0)
    write_record(folder, [[1]] * 4, world_size=2)
    with pytest.raises(UserError, match="--rank must be one of the run's, 0 to 1, got 2"):
        batch_of_step(folder, 0, rank=2)
    with pytest.raises(UserError, match="rank 0 has the steps 0 to 1, got 9"):
        batch_of_step(folder, 9)


@pytest.mark.parametrize("side", [8, 16, 20])
def test_pairs_are_drawn_as_loaded_and_as_augmented(side):
    anchors, rows = make_anchors(ODD), torch.arange(0, 700, 70)
    loaded = torch.rand(10, 2, 3, 16, 16)
    pairs = {"anchor": loaded, "positive": loaded, "row": rows, "positive_row": rows + 1}
    augmented = {name: torch.rand(10, 2, 1, side, side) for name in ("anchor", "positive")}
    figure = replay_picture(pairs, augmented, anchors, ["Phase $3$D", "_GFP"], "Step 3")
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert "+1 frames, row 140" in labels[2]
    assert png_of(figure, 40).startswith(b"\x89PNG")


def test_contrast_is_that_of_the_experiment():
    anchors = make_anchors({("a", "mock"): 10, ("b", "mock"): 10})
    crops = torch.rand(2, 1, 1, 8, 8) * torch.tensor([1.0, 100.0])[:, None, None, None, None]
    rows = torch.tensor([0, 10])
    pairs = {"anchor": crops, "positive": crops, "row": rows, "positive_row": rows}
    canvas = np.asarray(replay_picture(pairs, None, anchors, ["x"], "").axes[0].images[0].get_array())
    first, second = canvas[:8, :8], canvas[:8, canvas.shape[1] // 2 :][:, :8]
    assert abs(float(first.mean()) - float(second.mean())) < 0.2


def test_a_report_of_many_experiments_with_odd_names_is_one_page(tmp_path):
    names = [f"{name} {number}" for number, name in enumerate(["$a$", "[red]", "<i>x</i>", "_y"] * 4)]
    cells = make_anchors({(name, condition): 40 for name in names for condition in ("mock", "$v$")})
    rng = np.random.default_rng(0)
    trained_on = np.flatnonzero(rng.random(len(cells)) < 0.8)
    folder, options = RunDirectory(tmp_path), SamplerConfig(batch_size=8, condition_balanced=False)
    found = inspect(cells.iloc[trained_on].reset_index(drop=True), batch_size=8, condition_balanced=False)
    rows = [trained_on[batch["row"]] for _, batch in found.batches.groupby("batch")]
    write_record(folder, rows, world_size=2)
    n_steps = len(rows) // 2
    folder.metrics.parent.mkdir()
    log = pd.DataFrame({"step": range(n_steps), "epoch": 0, "train/loss": 2.0, "time/data_wait": 0.5})
    pd.concat([log, pd.DataFrame({"step": [3, 9], "epoch": 0, "val/loss": [1.0, 2.0]})]).to_csv(folder.metrics)
    folder.attempts.write_text(
        "step,epoch,processes,started,reached,seconds\n"
        "0,0,2,2030-01-01T00:00:00+00:00,,9.5\n5,0,2,2030-01-02T00:00:00+00:00,7,9.5\n"
    )
    strips = choose_strips(cells, trained_on)
    write_page(
        folder,
        RunFacts(
            observations=cells,
            trained_on=trained_on,
            options=options,
            processes=2,
            seed=0,
            seconds=5.0,
            channels=["Phase $x$"],
            strips=strips,
            crops=rng.random((*strips.rows.shape, 1, 4, 4), dtype=np.float32),
            embedded=np.arange(len(cells)),
            embeddings=rng.random((len(cells), 4), dtype=np.float32),
            found=[Retrieval(frames=1, hours=0.5, chance=0.1, untrained=0.5, trained=0.4)],
            probes=[],
        ),
    )
    page = Page(folder.report)
    assert len(page.sources) == 6
    assert len(strips.labels) <= 12
    assert "i" not in page.tags
    for words in (
        "Every batch held what was asked of it.",
        "The loss hardly fell.",
        "A step waited for its batch 50% of its time",
        "The validation loss was lowest, 1.00, at step 3 and rose to 2.00",
        "The run stopped and went on once, at step 5.",
        "found again less often than before training",
        "steps trained again",
        "<i>x</i> 2",
    ):
        assert words in page.text, words
