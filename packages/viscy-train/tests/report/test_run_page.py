from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from viscy_train.composition.step import StepSettings
from viscy_train.config.schema import PositiveConfig, SamplerConfig
from viscy_train.evaluation.chance import Chance
from viscy_train.evaluation.embeddings import EncoderEvaluation, Probe
from viscy_train.evaluation.neighbors import NeighborShare
from viscy_train.evaluation.probes import Accuracy, ColumnProbe
from viscy_train.evaluation.retrieval import Recall
from viscy_train.evaluation.smoothness import measure_smoothness
from viscy_train.loading.axes import add_labels, label_plan, time_name
from viscy_train.loading.sampler import make_sampler
from viscy_train.report.example_tracks import choose_example_tracks
from viscy_train.report.neighbor_gallery import choose_gallery
from viscy_train.report.run_page import write_run_page
from viscy_train.report.run_results import RunResults
from viscy_train.run.batch_record import batch_fields, record_of_rank
from viscy_train.run.directory import RunDirectory
from viscy_train.run.provenance import read_provenance, record_attempt
from viscy_train.run.step_csv import format_line

NAMES = [f"{name} {number}" for number, name in enumerate(["$a$", "[red]", "<i>x</i>", '_y & "z"'] * 4)]
CONDITIONS = ["mock", "<b>$v$</b>"]


def write_metrics_and_attempts(run_directory, n_steps):
    """Write a loss that hardly decreases, a validation loss that rises, and two attempts."""
    run_directory.metrics.parent.mkdir()
    log = pd.DataFrame({"step": range(n_steps), "epoch": 0, "train/loss": 2.0, "time/data_wait": 0.5})
    validation = pd.DataFrame({"step": [3, 9], "epoch": 0, "val/loss": [1.0, 2.0], "val/effective_rank": [5.26, 1.04]})
    validation = validation.assign(**{"val/recall_at_1": [0.25, 0.5], "val/temporal_smoothness": [0.2, np.nan]})
    pd.concat([log, validation]).to_csv(run_directory.metrics, index=False)
    run_directory.attempts.write_text(
        "step,epoch,processes,started,reached,seconds\n"
        "0,0,2,2030-01-01T00:00:00+00:00,,9.5\n5,0,2,2030-01-02T00:00:00+00:00,7,9.5\n"
    )


def write_page_of(run_directory, observations, train_rows, sampler, *, recall=(), probes=(), neighbors=(), **more):
    """Write the page of a run whose batches and metrics are in its directory, with random crops and embeddings."""
    column_probes = more.pop("column_probes", ())
    rng = np.random.default_rng(0)
    examples = choose_example_tracks(observations, train_rows)
    assert len(examples.labels) <= 12
    embeddings = rng.random((len(observations), 4), dtype=np.float32)
    is_query = ~np.isin(np.arange(len(observations)), train_rows)
    is_query = is_query if is_query.any() else ~is_query
    gallery = choose_gallery(embeddings, np.arange(len(observations)), observations, is_query, seed=0)
    assert gallery is not None
    results = {
        "observations": observations,
        "labeled": observations,
        "train_rows": train_rows,
        "planned": sampler.planned(),
        "step": StepSettings(world_size=1, split_batches=False, negatives="batch", positives="lineage"),
        "n_processes": 1,
        "seed": 0,
        "seconds": 5.0,
        "channels": ["Phase"],
        "examples": examples,
        "crops": rng.random((*examples.rows.shape, 1, 4, 4), dtype=np.float32),
        "gallery": gallery,
        "gallery_crops": rng.random((*gallery.rows.shape, 1, 4, 4), dtype=np.float32),
        "evaluation": EncoderEvaluation(
            rows=np.arange(len(observations)),
            embeddings=embeddings,
            recall=list(recall),
            probes=list(probes),
            column_probes=list(column_probes),
            neighbors=list(neighbors),
            smoothness=measure_smoothness(embeddings, embeddings, observations, is_query),
        ),
    }
    write_run_page(run_directory, RunResults(**results | more))


@pytest.fixture(scope="module")
def page(tmp_path_factory, anchors_of, record_batches, read_page):
    """The page of a run on 16 experiments with awkward names, with every section and every kind of problem."""
    observations = anchors_of({(name, condition): 40 for name in NAMES for condition in CONDITIONS})
    rng = np.random.default_rng(0)
    train_rows = np.flatnonzero(rng.random(len(observations)) < 0.8)
    run_directory = RunDirectory(tmp_path_factory.mktemp("run"))
    options = SamplerConfig(batch_size=8, condition_balanced=False)
    sampler = make_sampler(observations.iloc[train_rows].reset_index(drop=True), options, seed=3)
    batches = [train_rows[batch] for batch in sampler]
    record_batches(run_directory, batches, world_size=2)
    write_metrics_and_attempts(run_directory, n_steps=len(batches) // 2)
    recall = Recall(frames=1, hours=0.5, chance=0.1, untrained=0.5, trained=0.4)
    accuracies = Accuracy(mean=0.5, error=0.021, n_units=64), Accuracy(mean=0.7, error=0.034, n_units=64)
    permuted = Chance(low=0.42, high=0.58, p=0.005, n_arrangements=1e9)
    probe = Probe(
        from_hours=3.0,
        to_hours=6.5,
        held_out="position",
        n_units=64,
        n_fewest=3,
        chance=0.5,
        untrained=accuracies[0],
        trained=accuracies[1],
        n_anchors=1280,
        permuted=permuted,
    )
    column_probe = ColumnProbe(
        column="cell_line",
        n_values=3,
        held_out="experiment",
        n_units=4,
        chance=1 / 3,
        untrained=accuracies[0],
        trained=accuracies[1],
        n_anchors=500,
        permuted=replace(permuted, p=0.2),
    )
    share = NeighborShare(
        label="condition",
        among="experiment",
        n_queries=1000,
        unit="position",
        n_units=8,
        untrained=0.5,
        trained=0.6,
        untrained_interval=(0.4, 0.6),
        trained_interval=(0.55, 0.65),
        permuted=permuted,
    )
    write_page_of(
        run_directory,
        observations,
        train_rows,
        sampler,
        recall=[recall],
        probes=[probe],
        column_probes=[column_probe],
        neighbors=[share],
        step=StepSettings(world_size=2, split_batches=False, negatives="step", positives="pair"),
        n_processes=2,
        channels=["Phase $x$ <b>"],
    )
    return read_page(run_directory.report)


@pytest.fixture
def page_of_epochs(tmp_path, anchors_of, read_page, figures):
    """Write the page of a run on 400 mock and 16 virus anchors, with given numbers of batches in its epochs."""

    def write(*n_batches, options=None, **more):
        observations = anchors_of({("a", "mock"): 400, ("a", "virus"): 16})
        observations = observations.assign(
            marker="H2B", guide=observations["condition"].map({"mock": "g0", "virus": "g1"})
        )
        options = options or SamplerConfig(batch_size=16)
        run_directory = RunDirectory(tmp_path)
        sampler = make_sampler(observations, options, seed=3, as_arrays=True)
        more = {"labeled": add_labels(observations, options), "planned": label_plan(sampler.planned())} | more
        lines = []
        for epoch, n in enumerate(n_batches):
            sampler.set_epoch(epoch)
            drawn = zip(range(n), sampler, strict=False)
            fields = [batch_fields(len(lines) + k, epoch, k, 0, rows) for k, rows in drawn]
            lines += [format_line(batch.values()) for batch in fields]
        record_of_rank(run_directory.batches, 0).rewrite(lines)
        write_metrics_and_attempts(run_directory, n_steps=len(lines))
        write_page_of(run_directory, observations, np.arange(len(observations)), sampler, **more)
        return read_page(run_directory.report)

    return write


def test_a_run_page_is_one_self_contained_file(page, assert_self_contained):
    assert len(page.sources) == 8
    assert_self_contained(page)


def test_a_run_page_has_a_title_and_headings(page):
    assert page.elements["title"] == ["viscy-train: report of a run"]
    assert page.elements["h1"] == ["Contrastive training: batch composition and learned embeddings"]
    assert page.elements["h2"] == [
        "Example cells",
        "Composition of each batch",
        "The step",
        "Composition of the run",
        "Loss",
        "Embeddings",
        "Nearest neighbors",
        "Tracks",
        "Validation embeddings",
        "Recall@1",
        "Linear probe",
        "Probes of columns",
        "Provenance",
        "Files of this run",
    ]
    assert page.elements["h3"] == ["Summary", "Diagnostics"]


def test_names_with_markup_are_escaped_on_a_run_page(page):
    assert {*NAMES, *CONDITIONS} <= set(page.elements["td"])
    assert "16 experiments with conditions mock, <b>$v$</b>" in page.text
    assert {"b", "i"}.isdisjoint(page.elements), "names have become elements"
    assert "&amp;" not in page.text, "a name was escaped twice"


@pytest.mark.parametrize(
    "sentence",
    [
        "Every batch matched its target.",
        "The encoder was trained to recognize a tracked cell at another timepoint among the other cells of its step.",
        "nearest positive of a batch is the anchor's own, or that of an anchor of the same lineage.",
        "The loss compares an anchor with the 16 anchors of the step. An anchor's negatives: 5",
        "negatives from other experiments 5",
        "the same with each anchor's own batch only 0.0% 0.0%",
        "epoch anchors drawn 1 9",
        "The training loss hardly decreased.",
        "Training spent 50% of its time waiting for data",
        "The validation loss was lowest (1.00) at step 3 and rose to 2.00",
        "The run was resumed once, at step 5; 2 steps of training had to be repeated.",
        "Recall@1 is lower than before training.",
        "For 40% of the cells that the encoder was not trained on, the nearest embedding 0.5 hours later",
        "A linear probe predicts the condition with 70% (63% to 77%) balanced accuracy at 3.0 to 6.5 hours post",
        "that predicts the condition from the embedding, tested on positions or lineages",
        "3.0 to 6.5 64 positions 1,280 50% 50% (46% to 54%) 70% (63% to 77%) 42% to 58% above chance (p = 0.005)",
        "the conditions were permuted 199 times among them",
        "repeated steps",
        "temporal smoothness 4 5.3 25% 0.20 10 1.0 50%",
        "The embeddings have collapsed: the effective rank of the last validation, at step 10, is 1.04.",
        "cell_line (3 values) 4 experiments 500 33% 50% (46% to 54%) 70% (63% to 77%) 42% to 58% indistinguishable",
        "2030-01-02 00:00:00 UTC 5 1 2 2 0.2",
        "report written",
        "versions of the report python: 3.",
        "One cell of 11 of the 32 combinations of experiment and condition",
        "condition experiments 1,000 of 8 positions 50% (40% to 60%) 60% (55% to 65%) 42% to 58% above chance (p =",
        "An anchor of 6 of 32 combinations of experiment and condition, drawn at random with seed 0, and its 5 nearest",
        "nearest neighbors of other experiments, each of another lineage.",
        "anchors that the encoder was not trained on, in 16 positions.",
        "Of more than twelve values, the 11 most frequent have a color.",
        "The longest tracks of each condition, at most 5, in the first two principal components: 10 tracks with",
        "times as far as two anchors of its experiment are apart on average (95% interval",
    ],
)
def test_a_run_page_says_in_words(page, sentence):
    assert sentence in page.text


def draws_of(page, condition):
    """Return the heading and the number of draws of a condition, in the last column of the composition of the run."""
    row = page.elements["tr"][[row.split()[:2] for row in page.elements["tr"]].index(["a", condition])]
    headings = [heading for heading in page.elements["th"] if heading.startswith("draws")]
    return headings, float(row.split()[-1])


def test_a_run_that_stops_within_its_first_epoch_has_no_draws_per_epoch(page_of_epochs):
    page = page_of_epochs(4)
    assert "4 batches of 16; an epoch has 26" in page.text
    assert draws_of(page, "virus") == (["draws per anchor"], 2.0)
    assert "per epoch" not in page.text
    assert [cell for cell in page.elements["td"] if "(4 of 26 batches)" in cell] == ["1 (4 of 26 batches)"]


def test_many_draws_in_an_incomplete_epoch_are_reported_as_such(page_of_epochs):
    page = page_of_epochs(14)
    assert "Each anchor of condition 'virus' of 'a' was drawn about 7 times in an incomplete epoch." in page.text


@pytest.mark.parametrize(
    ("n_batches", "fact", "draws"),
    [
        ((26, 13), "39 batches of 16 in 1.5 epochs", 13.0),
        ((4, 4, 4), "12 batches of 16 in 3 epochs, shortened to 4 of 26 batches", 2.0),
        ((4, 4, 2), "10 batches of 16 in 2.5 epochs, shortened to 4 of 26 batches", 2.0),
    ],
)
def test_draws_are_those_of_an_epoch_of_the_run(page_of_epochs, n_batches, fact, draws):
    page = page_of_epochs(*n_batches)
    assert fact in page.text
    assert ("shortened" in page.text) == ("shortened" in fact)
    assert draws_of(page, "virus") == (["draws per anchor and epoch"], draws)
    assert ("was drawn about 13 times per epoch" in page.text) == (draws == 13.0)
    assert f"{len(n_batches)} ({n_batches[-1]} of 26 batches)" in page.elements["td"]


def page_of_task(page_of_epochs, positives="lineage", **positive):
    recall = Recall(frames=1, hours=0.5, chance=0.1, untrained=0.5, trained=0.4)
    step = StepSettings(world_size=1, split_batches=False, negatives="batch", positives=positives)
    return page_of_epochs(2, recall=[recall], step=step, positive=PositiveConfig(**positive))


LOWER = "Recall@1 is lower than before training."
TASK = "This is what the encoder is trained for."


def test_recall_is_the_task_of_an_encoder_that_recognizes_tracks(page_of_epochs):
    page = page_of_task(page_of_epochs, min_frames=0)
    assert TASK in page.text
    assert LOWER in page.text
    assert "trained to recognize a tracked cell at the same or another timepoint among" in page.text


@pytest.mark.parametrize(
    ("options", "recognized"),
    [
        ({"match": "condition", "differ": "well"}, "a cell with the same condition and another well"),
        ({"min_frames": 0, "channel": "other"}, "a tracked cell at the same or another timepoint in another channel"),
        ({"min_frames": 0, "max_frames": 0}, "a cell in spite of random changes"),
        ({"positives": "condition"}, "a tracked cell at another timepoint or another cell with the same condition"),
        ({"positives": "condition", "match": "condition"}, "a cell with the same condition"),
    ],
)
def test_a_lower_recall_does_not_matter_to_an_encoder_that_recognizes_something_else(
    page_of_epochs, options, recognized
):
    page = page_of_task(page_of_epochs, **options)
    assert f"The encoder was trained to recognize {recognized} among the other cells of its batch." in page.text
    assert f"The encoder was trained for something else, to recognize {recognized}, so that" in page.text
    assert TASK not in page.text
    assert LOWER not in page.text


def test_other_columns_of_the_axes_are_named_where_they_take_the_place_of_experiments_and_conditions(
    page_of_epochs,
):
    options = SamplerConfig(batch_size=16, experiment_by="marker", condition_by="guide", time_by="t")
    accuracy = Accuracy(mean=0.5, error=0.1)
    probe = {"held_out": "position", "n_units": 6, "n_fewest": 3, "chance": 0.5}
    probe = Probe(from_hours=0, to_hours=3, untrained=accuracy, trained=accuracy, **probe)
    page = page_of_epochs(26, options=options, probes=[probe], time=time_name(options.time_by))
    assert {"by guide", "by t", "by marker"} <= set(page.texts_of_drawings)
    assert "Times: t" in page.texts_of_drawings
    assert "0 to 9 t" in page.text
    assert "1 group with guide: g0, g1" in page.text
    assert "A group consists of the anchors with the same marker. For the batches, the condition of an" in page.text
    assert "One cell of each experiment and condition over time" in page.text
    assert "Each anchor of guide 'g1' of 'H2B' was drawn about 13 times per epoch." in page.text
    assert "A linear probe predicts the column condition with" in page.text
    assert "(the column condition of the anchor table, not guide), tested on positions" in page.text


def test_rare_conditions_are_drawn_often_by_design_and_no_problem(page_of_epochs):
    page = page_of_epochs(26)
    often = "Each anchor of condition 'virus' of 'a' was drawn about 13 times per epoch."
    assert f"{often} Batches are composed so; it matters only if the validation loss rises." in page.text
    assert not any("was drawn" in item for item in page.elements["li"])


def test_hours_are_called_what_the_user_calls_them(page_of_epochs):
    accuracy = Accuracy(mean=0.5, error=0.1)
    probe = {"held_out": "position", "n_units": 6, "n_fewest": 3, "chance": 0.5}
    probe = Probe(from_hours=0, to_hours=3, untrained=accuracy, trained=accuracy, **probe)
    page = page_of_epochs(4, probes=[probe], time="hours after the drug", hours="hours after the drug")
    assert "Hours after the drug" in page.texts_of_drawings
    assert "hours after the drug" in page.elements["th"]
    assert "at 0.0 to 3.0 hours after the drug" in page.text
    assert "infection" not in page.text


def test_no_heading_of_a_table_is_empty(page, page_of_epochs):
    assert all(page.elements["th"])
    assert all(page_of_epochs(4).elements["th"])


def test_the_provenance_of_a_run_is_shown(page_of_epochs, tmp_path):
    run_directory = RunDirectory(tmp_path)
    record_attempt(run_directory, 1)
    record_attempt(run_directory, 2)
    record_attempt(run_directory, 2)
    records = read_provenance(run_directory)
    assert [one["attempt"] for one in records] == [1, 2]
    model = {"encoder": {"name": "tiny", "width": 16}, "loss": {"name": "supcon"}, "optimizer": {"learning_rate": 0.1}}
    data = {"crop": 32, "z_slices": 1, "crop_um": None, "depth_um": None, "channels": "all"}
    data = data | {name: {"by": name} for name in ("positive", "augmentation", "normalization", "split")}
    run_directory.config.write_text(yaml.safe_dump({"model": model, "data": data, "seed_everything": 7}))
    page = page_of_epochs(4, provenance=records)
    for text in (records[1]["command"], records[1]["host"], "viscy-train", "name: tiny, width: 16", "crop: 32", "7"):
        assert any(text in cell for cell in page.elements["td"]), text
    assert records[1]["command"].split()[0] == "viscy-train"


def test_provenance_that_cannot_be_read_does_not_stop_a_report(tmp_path):
    for content in ("{", "3", '[{"a": 1}]'):
        RunDirectory(tmp_path).provenance.write_text(content)
        assert read_provenance(RunDirectory(tmp_path)) == []


def test_a_linear_probe_of_few_positions_is_shown_with_a_caveat(page_of_epochs):
    accuracy = Accuracy(mean=0.22, error=0.2)
    probe = {"held_out": "position", "n_units": 4, "n_fewest": 2, "chance": 0.5}
    page = page_of_epochs(4, probes=[Probe(from_hours=0, to_hours=3, untrained=accuracy, trained=accuracy, **probe)])
    assert "0.0 to 3.0 4 positions 0 50% 22% (0% to 100%) 22% (0% to 100%) not compared with chance" in page.text
    assert "With fewer than three positions of a condition, the accuracy says little" in page.text
    assert "predicts the condition with" not in page.text
