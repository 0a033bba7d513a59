"""Slots in few runs pass; scattered rows, other counts and other focal times, and rows that are avoided, fail."""

import numpy as np
import pytest

from viscy_sampling_testkit import (
    assert_run_inclusion,
    assert_run_places,
    assert_runs,
    assert_same_counts,
    make_window,
)

# Two groups of 24 rows: four times, two places at each, three rows of each place; the table is in another order.
N = 48
ORDER = np.random.default_rng(0).permutation(N)
GROUPS = np.array(["a"] * 24 + ["b"] * 24)[ORDER]
TIMES = (np.arange(N) % 24 // 6 * 0.5)[ORDER]
PLACES = np.array(["left", "left", "left", "right", "right", "right"] * 8)[ORDER]
# The rows of both groups in the order of group, time and place.
SORTED = np.lexsort((PLACES, TIMES, GROUPS))
ROWS = {"times": TIMES, "places": PLACES, "groups": GROUPS}


def batch(*numbers):
    return SORTED[list(numbers)].tolist()


def in_runs(seed, n_batches=600, length=3, stop=24, n_slots=6):
    """Draw batches of runs that start at a random row and go around the end; with `stop`, not beyond that row."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(n_batches):
        first = rng.integers(24)
        runs = [(first + length * i + np.arange(length)) % 24 for i in rng.permutation(24 // length)]
        rows = np.concatenate([run for run in runs if stop == 24 or run[0] <= run[-1] < stop])[:n_slots]
        batches.append(batch(*rows))
    return batches


def test_runs_pass_in_any_order_and_around_the_end():
    assert_runs([batch(4, 20, 5, 21, 3, 22), batch(22, 23, 0, 9, 10, 11)], **ROWS, locality=3)
    assert_runs(in_runs(0), **ROWS, locality=3)
    assert_runs([list(range(0, 12)), [0, 1, 2, 11, 10, 9]], np.arange(20.0), locality=3)


def test_scattered_rows_fail(assertion_fails):
    with assertion_fails(
        "slots must be filled by runs in the order of time and place",
        "observed: 6 runs in 6 slots from the home group, positions",
        "expected: at most 4 runs",
        "locality: 3",
        "n: 2 batches, 1 of them offending",
        "first offending batch: 1",
    ):
        assert_runs([batch(0, 1, 2, 3, 4, 5), batch(0, 2, 4, 6, 8, 10)], **ROWS, locality=3)


def test_rows_of_each_condition_are_in_runs_of_their_own():
    conditions = np.array(["x", "y"] * 24)[np.argsort(SORTED)]
    assert_runs([batch(0, 2, 4, 6, 8, 10)], **ROWS, conditions=conditions, locality=3)


def test_window_slots_and_global_slots_have_runs_of_their_own(assertion_fails):
    scattered = batch(0, 2, 4, 6, 8, 10)
    assert_runs([scattered], **ROWS, locality=3, windowed=True)
    with assertion_fails("observed: 9 runs in 9 slots", "expected: at most 7 runs"):
        assert_runs([batch(0, 2, 4, 6, 8, 10, 12, 14, 16)], **ROWS, locality=3, windowed=True)


def test_leak_is_in_runs(assertion_fails):
    home = batch(*range(7))
    assert_runs([home + batch(24, 25, 26, 40, 41, 42)], **ROWS, locality=3)
    with assertion_fails("5 runs in 5 slots from other groups", "at most 4 runs"):
        assert_runs([home + batch(24, 26, 28, 30, 32)], **ROWS, locality=3)


def test_places_that_cannot_be_sorted_are_in_the_order_of_the_table():
    places = np.array([1, "x", 0, ("a", "b")] * 5, object)[:20]
    places[3] = None
    assert_runs([[0, 4, 8]], np.zeros(20), places, locality=3)


def test_runs_touch_few_places(assertion_fails):
    assert_run_places(in_runs(0), **ROWS, locality=3)
    places = np.arange(80) // 4
    assert_run_places([[0, 1, 2, 3, 40, 41, 42, 43]], np.zeros(80), places, locality=4)
    with assertion_fails("runs must touch at most two places", "16 places in 16 slots", "at most 12 places"):
        assert_run_places([list(range(0, 64, 4))], np.zeros(80), places, locality=4)


def test_places_must_have_complete_runs():
    with pytest.raises(ValueError, match=r"at least 4 rows at each time and place, got 3; leave out places, or check"):
        assert_run_places([[0]], **ROWS, locality=4)


def test_same_counts_pass_and_others_fail(assertion_fails):
    first = [batch(0, 1, 2, 24), batch(25, 26, 3, 27)]
    assert_same_counts(first, [batch(9, 8, 30, 7), batch(12, 30, 31, 32)], GROUPS)
    with assertion_fails(
        "the counts of a batch must not depend on locality",
        r"observed: group '.', slots and leak slots of conditions \[None\]: \[3, 1\]",
        r"expected: group '.', slots and leak slots of conditions \[None\]: \[4, 0\]",
        "first offending batch: 0",
    ):
        assert_same_counts(first, [batch(0, 1, 2, 3), batch(12, 30, 31, 32)], GROUPS)
    with assertion_fails("both samplers must have equally many batches", "expected: 1 batches"):
        assert_same_counts(first, first[:1])
    assert_same_counts([[0, 1]], [[3, 2]], conditions=["x", "y", "x", "y"])
    with assertion_fails(r"conditions \['x', 'y'\]: \[1, 0, 1, 0\]", r"\[2, 0, 0, 0\]"):
        assert_same_counts([[0, 1]], [[0, 2]], conditions=["x", "y", "x", "y"])


def test_another_focal_time_fails(assertion_fails):
    window = make_window(TIMES, 0.1, 0.0, GROUPS)
    assert_same_counts([batch(0, 1, 2)], [batch(3, 4, 5)], GROUPS, window=window)
    with assertion_fails(
        "the focal time of a batch must not depend on locality",
        r"observed: slots around one of the hours \[0.0\]",
        r"expected: slots around one of the hours \[0.5\]",
    ):
        assert_same_counts([batch(0, 1, 2)], [batch(6, 7, 8)], GROUPS, window=window)


def test_rows_that_are_drawn_equally_often_in_runs_pass():
    # At the default false-alarm rate of 1e-6, this fails by chance in one of eighty thousand runs.
    for seed in range(6):
        assert_run_inclusion(in_runs(seed), **ROWS, locality=3, seed=seed)
        assert_run_inclusion(in_runs(seed, length=1), **ROWS, locality=1, seed=seed)


def test_runs_that_avoid_the_ends_fail(assertion_fails):
    with assertion_fails(
        "rows must be drawn equally often, wherever they are in time and place",
        "observed: rows of block 0 58 times",
        "chi-square",
        "every row . of 3",
        "seed: 7",
    ):
        assert_run_inclusion(in_runs(0, stop=23), **ROWS, locality=3, seed=7)


def test_times_may_be_drawn_unequally_often_in_windows(assertion_fails):
    early = in_runs(0, stop=12, n_slots=3)
    with assertion_fails("rows of block"):
        assert_run_inclusion(early, **ROWS, locality=3)
    late = [batch(*rows) for rows in np.random.default_rng(0).integers(12, 24, (100, 3))]
    both = [batch(*rows) for rows in np.random.default_rng(0).integers(0, 12, (900, 3))] + late
    assert_run_inclusion(both, **ROWS, locality=1, windowed=True)
