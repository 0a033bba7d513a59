"""What a step holds: the expected composition equals the one that is counted in drawn batches."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viscy_train.composition.diagnostics import diagnose
from viscy_train.composition.step import (
    StepSettings,
    describe_step,
    warn_of_missing_negatives,
    warn_of_missing_positives,
)
from viscy_train.composition.step_count import count_content, count_step, number_compared
from viscy_train.composition.step_plan import plan_step
from viscy_train.config.schema import LossConfig, SamplerConfig
from viscy_train.loading.sampler import make_sampler

TEN = {(f"{experiment}", condition): 200 for experiment in range(10) for condition in ("mock", "virus")}
UNEQUAL = {("a", "mock"): 900, ("a", "virus"): 60, ("b", "mock"): 300, ("c", "mock"): 150, ("c", "virus"): 300}
MANY = {(experiment, f"{condition}"): 60 for experiment in "abc" for condition in range(30)}
FEW_EPOCHS = 6


def settings_of(world_size, negatives="step", positives="pair", *, split_batches=False):
    return StepSettings(world_size=world_size, negatives=negatives, positives=positives, split_batches=split_batches)


def make_sampler_of(anchors, **options):
    return make_sampler(anchors, SamplerConfig(**{"batch_size": 20} | options), 4, 0, 1, as_arrays=True)


def plan(anchors, settings, **options):
    return plan_step(anchors, make_sampler_of(anchors, **options).planned(), settings)


def count(anchors, settings, **options):
    """Count complete steps of some epochs."""
    sampler, batches = make_sampler_of(anchors, **options), []
    for epoch in range(FEW_EPOCHS):
        sampler.set_epoch(epoch)
        batches += list(sampler)[: len(sampler) // settings.n_batches * settings.n_batches]
    key = np.repeat(np.arange(len(batches)), 20)
    slots = pd.DataFrame({"batch_key": key, "row": np.concatenate(batches)})
    return count_step(slots, anchors, key // settings.n_compared, settings, 20)


def shares(step):
    return step.from_others, step.from_others_in_batch, step.without_positive


@pytest.mark.parametrize(("world_size", "expected"), [(1, 0.0), (4, 0.69), (8, 0.8), (32, 0.89)])
def test_the_negatives_of_a_step_mix_ten_experiments_that_a_batch_keeps_apart(anchors_of, world_size, expected):
    anchors = anchors_of(TEN)
    step = plan(anchors, settings_of(world_size))
    assert step.from_others == pytest.approx(expected, abs=0.015)
    for settings in (settings_of(world_size, "batch"), settings_of(world_size, split_batches=True)):
        assert plan(anchors, settings).from_others == 0


@pytest.mark.parametrize("positives", ["pair", "condition"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"leaky": 0.3},
        {"leaky": 0.13, "condition_ratio": {"mock": 5.0, "virus": 1.0}},
        {"condition_balanced": False},
        {"condition_balanced": False, "leaky": 0.3},
        {"experiment_aware": False},
        {"experiment_aware": False, "condition_balanced": False},
        {"experiment_weights": "uniform"},
    ],
    ids=lambda options: ",".join(options) or "default",
)
def test_the_planned_step_is_the_counted_one(anchors_of, options, positives):
    anchors, settings = anchors_of(UNEQUAL, n_times=1), settings_of(4, positives=positives)
    planned, counted = plan(anchors, settings, **options), count(anchors, settings, **options)
    assert shares(planned) == pytest.approx(shares(counted), abs=0.03)
    # The composition of one batch follows from its quotas alone.
    assert planned.from_others_in_batch == pytest.approx(counted.from_others_in_batch, abs=0.008)


@pytest.mark.parametrize("negatives", ["batch", "step"])
@pytest.mark.parametrize(
    "options",
    [{}, {"leaky": 0.25}, {"condition_balanced": False}, *({"anchors_per_condition": least} for least in (2, 3, 12))],
    ids=str,
)
def test_anchors_without_a_positive_are_planned_as_they_are_counted(anchors_of, negatives, options):
    anchors, settings = anchors_of(MANY, n_times=1), settings_of(3, negatives, "condition")
    planned, counted = plan(anchors, settings, **options), count(anchors, settings, **options)
    assert shares(planned) == pytest.approx(shares(counted), abs=0.02)
    assert (planned.without_positive > 0.01) == ("anchors_per_condition" not in options)


def test_too_few_anchors_of_a_condition_are_a_warning_with_the_remedy(anchors_of):
    anchors, settings = anchors_of(MANY), settings_of(1, "batch", "condition")
    for options, pattern in (
        ({}, r"100.0% of the anchors have no other anchor of their condition to attract .*: set data.sampler.anchors"),
        ({"condition_balanced": False}, r"set data.sampler.condition_balanced to true, data.sampler.anchors_per"),
        ({"anchors_per_condition": 2}, None),
    ):
        planned = make_sampler_of(anchors, **options).planned()
        sentences = warn_of_missing_positives(plan_step(anchors, planned, settings), planned)
        assert len(sentences) == (pattern is not None)
        assert pattern is None or re.search(pattern, sentences[0])


@pytest.mark.parametrize(("negatives", "world_size"), [("batch", 1), ("step", 1), ("step", 4)])
@pytest.mark.parametrize("least", [10, 12])
def test_batches_of_one_condition_are_a_warning_with_the_remedy(anchors_of, negatives, world_size, least):
    anchors, settings = anchors_of(MANY), settings_of(world_size, negatives, "condition")
    planned = make_sampler_of(anchors, anchors_per_condition=least).planned()
    step, counted = plan_step(anchors, planned, settings), count(anchors, settings, anchors_per_condition=least)
    has_one_condition = least > 10 and world_size == 1
    assert (step.without_negative, round(counted.without_negative)) == (has_one_condition, has_one_condition)
    sentences = warn_of_missing_negatives(step, planned)
    assert len(sentences) == has_one_condition
    assert not sentences or "anchors_per_condition to at most half of the batch size" in sentences[0]


def test_an_experiment_with_one_condition_has_no_negatives(anchors_of):
    anchors, settings = anchors_of(UNEQUAL), settings_of(1, "batch", "condition")
    planned = make_sampler_of(anchors).planned()
    step = plan_step(anchors, planned, settings)
    assert step.without_negative == pytest.approx(planned.group_shares["b"])
    assert step.without_negative == pytest.approx(count(anchors, settings).without_negative, abs=0.02)
    (sentence,) = warn_of_missing_negatives(step, planned)
    assert "set model.loss.positives to lineage, or to pair if there is data.positive.match" in sentence


@pytest.mark.parametrize(
    ("positives", "size", "remedy"),
    [
        ("lineage", 1, "set data.sampler.batch_size to 2 or more"),
        ("pair", 1, "set data.sampler.batch_size to 2 or more"),
        ("condition", 1, "set data.sampler.batch_size to 4 or more"),
        ("lineage", 8, "set data.sampler.distinct_by to lineage_id"),
    ],
)
def test_the_remedy_for_missing_negatives_is_not_what_is_set_already(anchors_of, positives, size, remedy):
    anchors = anchors_of({("a", "mock"): 60})
    planned = make_sampler(anchors, SamplerConfig(batch_size=size), 0).planned()
    step = replace(plan_step(anchors, planned, settings_of(1, "batch", positives)), without_negative=1.0)
    (sentence,) = warn_of_missing_negatives(step, planned)
    assert sentence.endswith(f"(model.loss.positives={positives}); {remedy}")


@pytest.mark.parametrize("positives", ["lineage", "pair"])
def test_positives_that_every_anchor_has_need_no_warning(anchors_of, positives):
    anchors = anchors_of(MANY)
    assert plan(anchors, settings_of(1, "batch", positives)).without_positive == 0


def test_another_anchor_of_the_same_cell_is_not_another_cell():
    anchors = pd.DataFrame({"experiment": "a", "condition": list("xxyy"), "lineage_id": [0, 0, 1, 2]})
    slots = pd.DataFrame({"batch_key": 0, "row": range(4)})
    step = count_step(slots, anchors, np.zeros(4, dtype=np.int64), settings_of(1, "batch", "condition"), 4)
    assert step.without_positive == 0.5
    content = count_content(slots, anchors)
    assert (content.conditions, content.conditions_with_several) == (2, 2)
    assert (content.shared_lineage, content.most_of_a_lineage) == (0.5, 2)


def test_anchors_that_attract_each_other_are_not_negatives():
    anchors = pd.DataFrame({"experiment": list("aaab"), "condition": list("xxyy"), "lineage_id": [0, 0, 1, 2]})
    slots = pd.DataFrame({"batch_key": 0, "row": range(4)})
    expected = {"pair": 6 / 12, "lineage": 6 / 10, "condition": 4 / 8}
    for positives, share in expected.items():
        step = count_step(slots, anchors, np.zeros(4, dtype=np.int64), settings_of(1, "batch", positives), 4)
        assert step.from_others == pytest.approx(share), positives


def record(lines):
    """Return recorded slots, one for each line of step, epoch, batch and rank."""
    return pd.DataFrame(lines, columns=["step", "epoch", "batch", "rank"]).sort_values(
        ["epoch", "batch"], kind="stable"
    )


def test_a_recorded_step_is_compared_as_a_whole_or_batch_by_batch():
    accumulated = record([(0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 2, 0), (0, 0, 3, 1), (1, 0, 4, 0), (1, 0, 5, 1)])
    assert number_compared(accumulated, settings_of(2))[1].tolist() == [0, 0, 1, 1, 2, 2]
    assert number_compared(accumulated, settings_of(2, "batch"))[1].tolist() == [0, 1, 2, 3, 4, 5]
    # a run on two processes that one process resumed
    assert number_compared(accumulated, settings_of(1))[1].tolist() == [0, 0, 1, 1, 2, 2]
    shared = record([(0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 1, 0), (1, 0, 1, 1)])
    for settings in (settings_of(2, split_batches=True), settings_of(2, "batch", split_batches=True)):
        assert [numbers.tolist() for numbers in number_compared(shared, settings)] == [[0, 0, 1, 1]] * 2


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        (settings_of(1), ["The loss compares an anchor with the 20 anchors of its batch"]),
        (
            settings_of(8, "batch"),
            ["The loss compares an anchor with the 20 anchors of its own batch, one of 8 batches in a step"],
        ),
        (
            settings_of(4, split_batches=True),
            ["The loss compares an anchor with the 20 anchors of a batch that 4 processes share"],
        ),
        (
            settings_of(32),
            [
                "The loss compares an anchor with the 640 anchors of the step",
                "An anchor's negatives: 89% from other experiments (negatives=step, 32 processes); 0% with "
                "data.sampler.split_batches",
            ],
        ),
    ],
)
def test_the_plan_says_what_the_loss_compares(anchors_of, settings, sentences):
    assert describe_step(plan(anchors_of(TEN), settings)) == sentences


def test_a_dry_run_examines_complete_steps(anchors_of, dry_run_of):
    options = {"loss": LossConfig(negatives="step"), "world_size": 8, "epochs": 2}
    dry_run = dry_run_of(anchors_of(TEN), max_batches=80, **options)
    batches = dry_run.batches.drop_duplicates(["epoch", "batch"])
    assert batches.groupby(["epoch", batches["batch"] // 8]).size().tolist() == [8] * 10
    assert set(batches["epoch"]) == {0, 1}
    assert dry_run.step.from_others == pytest.approx(dry_run.planned_step.from_others, abs=0.06)
    assert any("80% of an anchor's negatives" in one or "81% of an" in one for one in diagnose(dry_run))


def test_processes_that_share_batches_have_a_step_for_each(anchors_of, dry_run_of):
    dry_run = dry_run_of(anchors_of(TEN), world_size=4, split_batches=True, loss=LossConfig(negatives="step"))
    assert dry_run.steps_per_epoch == dry_run.batches_per_epoch == 200
    assert dry_run.step.from_others == dry_run.planned_step.from_others == 0
    assert not any("negatives" in one or "evenly" in one for one in diagnose(dry_run))


def test_coverage_grows_over_short_epochs_until_a_round_is_complete(anchors_of, dry_run_of):
    anchors = anchors_of({("a", "mock"): 2000})
    dry_run = dry_run_of(anchors, epochs=4, epoch_batches=25)
    assert dry_run.coverage == [0.25, 0.5, 0.75, 1.0]
    few = dry_run_of(anchors, epochs=2, epoch_batches=25)
    assert (few.coverage, few.epochs_per_round) == ([0.25, 0.5], 4)
    assert not any("not drawn" in one for one in diagnose(few))


def test_a_batch_with_some_of_the_conditions_is_checked_for_the_least_number_of_anchors(anchors_of, dry_run_of):
    dry_run = dry_run_of(anchors_of(MANY), anchors_per_condition=4, leaky=0.2)
    assert [check.name for check in dry_run.checks] == [
        "the batch's own experiment",
        "rarest condition in the batch (at least 4 anchors)",
    ]
    assert all(check.matched for check in dry_run.checks)
    assert dry_run.content.conditions == dry_run.content.conditions_with_several == 5
    all_present = dry_run_of(anchors_of(TEN), anchors_per_condition=4)
    assert [check.name for check in all_present.checks][1:] == ["condition mock", "condition virus"]
