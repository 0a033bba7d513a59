"""Batches and losses are compared with undisturbed runs, also if the number of ranks changes."""

from dataclasses import replace

import pytest

from viscy_sampling_testkit import TrainedBatch
from viscy_sampling_testkit.faults._comparison import compare_batches, compare_losses, count_missing, kept_batches


def make_run(num_replicas, n_batches=5, *, first=0, attempt=0, step=0):
    """Return a run of one epoch from a batch on; ranks have equally many batches."""
    steps = range(-(-(n_batches - first) // num_replicas))
    return [
        TrainedBatch(
            step=step + k,
            epoch=0,
            batch=(batch := first + k * num_replicas + rank),
            rank=rank,
            rows=(batch, 100 + batch),
            loss=1.0 / (1 + batch) + num_replicas,
            attempt=attempt,
        )
        for k in steps
        for rank in range(num_replicas)
    ]


ONE, TWO = make_run(1), make_run(2)


def test_a_run_equals_itself():
    assert compare_batches(ONE, {1: ONE}) == []
    assert compare_losses(ONE, {1: ONE}, 0.0, 0.0) == []


def test_a_later_attempt_replaces_the_steps_that_it_repeats():
    repeated = [*ONE[:4], *make_run(1, first=2, step=2, attempt=1)]
    assert len(repeated) == 7
    kept = kept_batches(repeated)
    assert [one.attempt for one in kept] == [0, 0, 1, 1, 1]
    assert compare_batches(kept, {1: ONE}) == []


def test_a_step_that_is_recorded_twice_by_one_attempt_is_not_forgiven():
    assert compare_batches(kept_batches([*ONE, ONE[-1]]), {1: ONE}) == [
        "1 batch trained on more than once: epoch 0 batch 4"
    ]


@pytest.mark.parametrize("first", range(5))
def test_the_last_step_of_an_epoch_may_be_filled_after_a_change_of_ranks(first):
    """Batches 0 to 4: two ranks train on batch 5, too, or three on batches 5 and 6."""
    for num_replicas in (2, 3):
        run = [*ONE[:first], *make_run(num_replicas, first=first, step=first)]
        assert compare_batches(run, {1: ONE, num_replicas: make_run(num_replicas)}) == []


def test_no_more_batches_than_fill_a_step_may_follow():
    run = [*TWO, replace(TWO[-1], step=3, batch=6)]
    assert compare_batches(run, {1: ONE, 2: TWO}) == ["1 batch not in the undisturbed run: epoch 0 batch 6"]


def test_a_batch_that_is_missing_repeated_changed_or_moved_is_named():
    undisturbed = {1: ONE}
    assert compare_batches(ONE[:2] + ONE[3:], undisturbed) == ["1 batch missing: epoch 0 batch 2"]
    assert count_missing(ONE[:2], undisturbed) == 3
    changed = [replace(ONE[0], rows=(7,)), *ONE[1:]]
    assert compare_batches(changed, undisturbed) == ["1 batch with other rows: epoch 0 batch 0"]
    assert compare_batches([*ONE[:2], ONE[3], ONE[2], ONE[4]], undisturbed) == ["1 batch not in order: epoch 0 batch 2"]
    assert compare_batches([], undisturbed)[0].startswith("5 batches missing: epoch 0 batch 0, epoch 0 batch 1, epoch")


def test_losses_are_compared_with_the_run_on_as_many_ranks():
    run = [*ONE[:2], *make_run(2, first=2, step=2)]
    assert compare_losses(run, {1: ONE, 2: TWO}, 0.0, 0.0) == []
    wrong = [*run[:2], *(replace(one, loss=one.loss * 1.1) for one in run[2:])]
    assert compare_losses(wrong, {1: ONE, 2: TWO}, 0.0, None) == []
    assert compare_losses(wrong, {1: ONE, 2: TWO}, 0.0, 0.2) == []
    assert "4 batches with another loss (tolerance 0.05)" in compare_losses(wrong, {1: ONE, 2: TWO}, 0.0, 0.05)[0]
    wrong[1] = replace(wrong[1], loss=1.6)
    assert compare_losses(wrong, {1: ONE, 2: TWO}, 0.0, None) == [
        "1 batch with another loss (tolerance 0): epoch 0 batch 1: 1.6 instead of 1.5"
    ]


@pytest.mark.parametrize(("loss", "n_problems"), [(float("nan"), 1), (None, 1), (1.5, 0)])
def test_a_loss_that_is_not_a_number_or_not_recorded_is_a_difference(loss, n_problems):
    run = [ONE[0], replace(ONE[1], loss=loss), *ONE[2:]]
    assert len(compare_losses(run, {1: ONE}, 0.0, None)) == n_problems


def test_losses_that_are_not_numbers_in_both_runs_are_equal():
    run = [replace(one, loss=float("nan")) for one in ONE]
    assert compare_losses(run, {1: run}, 0.0, None) == []
