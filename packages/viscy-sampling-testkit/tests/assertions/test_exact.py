"""Each exact assertion accepts a correct sequence of batches and rejects one with the corresponding mistake."""

import numpy as np
import pandas as pd
import pytest

from viscy_sampling_testkit import (
    assert_batch_sizes,
    assert_distinct,
    assert_drawn_evenly,
    assert_in_window,
    assert_leak,
    assert_one_group,
    assert_positions,
    assert_rounded,
    assert_shares,
    make_anchors,
)

SEEDS = range(20)
LABELS = ["a"] * 60 + ["b"] * 40
GROUPS = pd.Series(LABELS, index=[f"cell {i}" for i in range(100)])


def shuffled(seed, n_anchors=100, batch_size=8):
    """Return the batches of a shuffled epoch; the last one may be short."""
    order = np.random.default_rng(seed).permutation(n_anchors)
    return [order[start : start + batch_size].tolist() for start in range(0, n_anchors, batch_size)]


def drawn(seed, sizes, n_batches=50):
    """Return batches with the given number of slots for each label, in random order."""
    rng = np.random.default_rng(seed)
    pools = {label: np.flatnonzero(np.array(LABELS) == label) for label in sizes}
    parts = [[rng.choice(pools[label], n, replace=False) for label, n in sizes.items()] for _ in range(n_batches)]
    return [rng.permutation(np.concatenate(part)).tolist() for part in parts]


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffled_epoch_has_distinct_positions(seed):
    assert_positions(shuffled(seed), 100)
    assert_distinct(shuffled(seed))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, np.int64(2)], r"observed: \['int', 'int64'\]\n  expected: int\n"),
        ([True, 2], r"observed: \['bool', 'int'\]"),
        ([1, 100], r"\[0, 100\)\n  observed: \[100\]\n  expected: positions from 0 to 99\n"),
        ([-1, 3, -2], r"observed: \[-1, -2\]"),
        ([], "observed: an empty batch\n  expected: at least 1 slot"),
    ],
)
def test_invalid_position_fails(batch, message, assertion_fails):
    batches = shuffled(0)
    batches[5] = batch
    with assertion_fails(message, "n: 13 batches, 1 of them offending\n  first offending batch: 5"):
        assert_positions(batches, 100)


def test_full_batches_and_a_short_last_batch_pass():
    assert_batch_sizes(shuffled(0, 96), 8)
    assert_batch_sizes(shuffled(0, 100), 8, last=4)


@pytest.mark.parametrize(
    ("n_anchors", "options", "lines"),
    [
        (100, {}, ["must have 8 slots\n  observed: 4 slots\n  expected: 8 slots", "first offending batch: 12"]),
        (96, {"last": 4}, ["8 slots, the last one 4\n  observed: 8 slots\n  expected: 4 slots", "batch: 11"]),
    ],
)
def test_batch_of_another_size_fails(n_anchors, options, lines, assertion_fails):
    with assertion_fails(*lines):
        assert_batch_sizes(shuffled(0, n_anchors), 8, **options)


@pytest.mark.parametrize(
    ("batch_size", "last", "message"),
    [(0, None, "batch_size must be at least 1, got 0"), (8, 9, r"last must be in \[1, 8\], the slots of a full batch")],
)
def test_sizes_out_of_range_raise(batch_size, last, message):
    with pytest.raises(ValueError, match=message):
        assert_batch_sizes(shuffled(0), batch_size, last)


def test_no_batches_fail(assertion_fails):
    with assertion_fails("there must be batches to check", "observed: 0 batches", "expected: at least 1 batch"):
        assert_positions([], 100)


def test_repeated_anchor_fails(assertion_fails):
    batches = shuffled(0)
    batches[3][0] = batches[3][5]
    batches[7][1] = batches[7][2]
    with assertion_fails(rf"positions \[{batches[3][5]}\] repeated", "8 distinct", "13 batches, 2 of them", "batch: 3"):
        assert_distinct(batches)


def test_anchor_in_two_batches_is_not_a_repetition():
    assert_distinct([[1, 2], [2, 1]])


@pytest.mark.parametrize("seed", SEEDS)
def test_batches_of_one_group_pass(seed):
    assert_one_group([*drawn(seed, {"a": 8}), *drawn(seed, {"b": 8})], GROUPS)


def test_batch_of_two_groups_fails(assertion_fails):
    batches = [*drawn(0, {"a": 8}), *drawn(0, {"a": 7, "b": 1})]
    with assertion_fails("hold one group", "observed: {'a': 7, 'b': 1}", "n: 100 batches, 50 of them", "batch: 50"):
        assert_one_group(batches, GROUPS)


@pytest.mark.parametrize("groups", [[1, "1"], [("a|b", "c"), ("a", "b|c")], [1, 1.5], [None, "None"]])
def test_labels_with_similar_text_are_distinguished(groups, assertion_fails):
    with assertion_fails("one group"):
        assert_one_group([[0, 1]], groups)


@pytest.mark.parametrize("make", [list, np.array, pd.Series, pd.Index, pd.Categorical, pd.Series.to_frame])
def test_labels_can_be_in_any_container(make, assertion_fails):
    groups = make(pd.Series(LABELS) if make is pd.Series.to_frame else LABELS)
    assert_one_group([[0, 1], [60, 61]], groups)
    with assertion_fails("one group"):
        assert_one_group([[59, 60]], groups)


def test_the_combinations_of_several_columns_are_labels(assertion_fails):
    table = pd.DataFrame({"day": ["a", "a", "b"], "well": ["x", "y", "x"]})
    with assertion_fails(r"observed: {\('a', 'x'\): 1, \('a', 'y'\): 1}"):
        assert_one_group([[0, 1]], table)


def test_position_outside_the_labels_fails(assertion_fails):
    with assertion_fails(r"positions must be in \[0, 100\)"):
        assert_one_group([[-1, 2]], GROUPS)


@pytest.mark.parametrize("seed", SEEDS)
def test_leak_of_floor_or_ceiling_passes(seed):
    assert_leak([*drawn(seed, {"a": 9, "b": 1}), *drawn(seed, {"b": 8, "a": 2})], GROUPS, 0.15)
    assert_leak(drawn(seed, {"a": 9, "b": 1}), GROUPS, 0.1)
    assert_leak(drawn(seed, {"a": 10}), GROUPS, 0.0)
    # More slots leak than not.
    assert_leak(drawn(seed, {"a": 3, "b": 7}), GROUPS, 0.7)


@pytest.mark.parametrize(("sizes", "leaky"), [({"a": 10}, 0.1), ({"a": 8, "b": 2}, 0.1), ({"a": 5, "b": 5}, 0.15)])
def test_leak_that_is_missing_or_too_large_fails(sizes, leaky, assertion_fails):
    observed = f"observed: {10 - max(sizes.values())} slots outside"
    with assertion_fails(
        observed, f"expected: {leaky * 10:g} slots", f"bound: floor or ceiling of {leaky}", "batch: 0"
    ):
        assert_leak(drawn(0, sizes), GROUPS, leaky)


@pytest.mark.parametrize("leaky", [-0.1, 1, float("nan")])
def test_leak_out_of_range_raises(leaky):
    with pytest.raises(ValueError, match=r"leaky must be in \[0, 1\), got"):
        assert_leak(drawn(0, {"a": 8}), GROUPS, leaky)


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_of_floor_or_ceiling_pass(seed):
    assert_rounded(drawn(seed, {"a": 2, "b": 6}), GROUPS, {"a": 0.3, "b": 0.7})
    assert_rounded(drawn(seed, {"a": 3, "b": 5}), GROUPS, {"a": 0.3, "b": 0.7})
    # The quota of "a" is 0.1 * 3 * 10 = 3.0000000000000004.
    assert_rounded(drawn(seed, {"a": 3, "b": 7}), GROUPS, {"a": 0.1 * 3, "b": 0.7})
    assert_rounded(drawn(seed, {"a": 8}), GROUPS, {"a": 1, "b": 0, "not in the table": 0})


def test_remainder_that_goes_to_the_last_label_fails(assertion_fails):
    labels = [f"drug{i % 20}" for i in range(400)]
    quotas = {f"drug{i}": 0.05 for i in range(20)}
    right = [list(range(8 * k, 8 * k + 8)) for k in range(50)]
    assert_rounded(right, labels, quotas)
    with assertion_fails("observed: {'drug19': 8}", "'drug0': 0.4", "bound: floor or ceiling", "batch: 0"):
        assert_rounded([[19 + 20 * i for i in range(8)]], labels, quotas)


def test_slack_allows_deviating_counts_but_no_other_label(assertion_fails):
    batches = drawn(0, {"a": 4, "b": 4})
    with assertion_fails("observed: {'a': 4, 'b': 4}", "expected: {'a': 2.0, 'b': 6.0}", "slack 1"):
        assert_rounded(batches, GROUPS, {"a": 0.25, "b": 0.75}, slack=1)
    assert_rounded(batches, GROUPS, {"a": 0.25, "b": 0.75}, slack=2)
    with assertion_fails("floor or the ceiling"):
        assert_rounded(drawn(0, {"a": 7, "b": 1}), GROUPS, {"a": 1}, slack=3)


def test_label_missing_from_the_table_fails(assertion_fails):
    with assertion_fails("expected: {'a': 4.0, 'c': 4.0}"):
        assert_rounded(drawn(0, {"a": 8}), GROUPS, {"a": 0.5, "c": 0.5})


@pytest.mark.parametrize("quotas", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}, {"a": 9, "b": 1}])
def test_quotas_that_do_not_add_up_raise(quotas):
    with pytest.raises(ValueError, match=r"quotas must be non-negative and add up to 1, got .*name every label"):
        assert_rounded(drawn(0, {"a": 8}), GROUPS, quotas)


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_within_one_batch_pass(seed):
    batches = [*drawn(seed, {"a": 7, "b": 1}, 6), *drawn(seed, {"b": 8}, 4)]
    for share in (0.5, 0.6, 0.7):
        assert_shares(batches, GROUPS, {"a": share, "b": 1 - share})


def test_group_with_too_many_or_too_few_batches_fails(assertion_fails):
    batches = [*drawn(0, {"b": 8}, 4), *drawn(0, {"a": 8}, 6)]
    with assertion_fails("6 batches of 'a'", "expected: 4.9", "bound: within 1", "n: 10 batches", "offending batch: 9"):
        assert_shares(batches, GROUPS, {"a": 0.49, "b": 0.51})
    with assertion_fails("6 batches of 'a'", "expected: 8 batches"):
        assert_shares(batches, GROUPS, {"a": 0.8, "b": 0.2})


def test_excluded_group_with_a_single_batch_fails(assertion_fails):
    batches = [*drawn(0, {"a": 8}, 9), *drawn(0, {"b": 8}, 1)]
    with assertion_fails("1 batches of 'b'", "expected: 0 batches", "bound: within 0", "first offending batch: 9"):
        assert_shares(batches, GROUPS, {"a": 1})


@pytest.mark.parametrize("seed", SEEDS)
def test_slots_around_a_focal_time_pass(seed):
    rng = np.random.default_rng(seed)
    times = make_anchors(400, seed=seed)["hours_post_infection"].to_numpy()
    focal = rng.choice(times, 30)
    inside = [np.flatnonzero(np.abs(times - time) <= 2) for time in focal]
    batches = [[*rng.choice(pool, 6), *rng.integers(400, size=2)] for pool in inside]
    batches = [[int(position) for position in rng.permutation(batch)] for batch in batches]
    assert_in_window(batches, times, 4.0, 0.75)
    assert_in_window(batches, times, 2.0, 0.75, focal_times=np.unique(times))


def test_slots_from_all_times_fail(assertion_fails):
    times = np.arange(100) * 0.5
    with assertion_fails(
        "within 2 h", r"at most \d of 8 slots", "at least 6 slots", "bound: 0.75", "first offending batch: "
    ):
        assert_in_window(shuffled(0), times, 2.0, 0.75)


def test_window_includes_its_ends(assertion_fails):
    times = np.array([0.1, 0.3, 0.5])
    assert_in_window([[0, 1, 2]], times, 0.2)
    with assertion_fails("at most 1 of 3"):
        assert_in_window([[0, 1, 2]], times, 0.1999)


def test_time_that_is_not_focal_is_not_a_center(assertion_fails):
    with assertion_fails("at most 2 of 3 slots"):
        assert_in_window([[0, 1, 2]], [0, 1, 2], 1.0, focal_times=[0, 2])


@pytest.mark.parametrize(
    ("window", "at_least", "message"),
    [(-1, 1, "window must be at least 0 hours, got -1"), (1, 1.5, r"at_least must be in \[0, 1\], got 1.5")],
)
def test_window_out_of_range_raises(window, at_least, message):
    with pytest.raises(ValueError, match=message):
        assert_in_window([[0]], [1.0], window, at_least)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_and_a_half_epochs_of_a_permutation_are_even(seed):
    assert_drawn_evenly([*shuffled(seed), *shuffled(seed + 1)[:6]], ["one stratum"] * 100)
    # The strata have reached different elements of their permutations.
    assert_drawn_evenly([list(range(60)), list(range(60)), list(range(60, 80))], GROUPS)


def test_independent_draws_are_uneven(assertion_fails):
    batches = np.random.default_rng(0).integers(100, size=(13, 8)).tolist()
    with assertion_fails(
        "to within one", r"observed: position \d+ \d times, another 0 times", "in stratum 'a'", "at most 1", "batch: "
    ):
        assert_drawn_evenly(batches, GROUPS)


def test_batch_that_makes_a_stratum_uneven_is_named(assertion_fails):
    with assertion_fails("position 60 2 times, another 0 times", "1 of them uneven", "first offending batch: 2"):
        assert_drawn_evenly([[60, 1], [2, 3], [60, 4]], GROUPS)


def test_ten_thousand_batches_can_be_checked():
    anchors = make_anchors(320_000, n_experiments=10)
    batches = shuffled(0, 320_000, 32)
    assert len(batches) == 10_000
    assert_positions(batches, len(anchors))
    assert_distinct(batches)
    assert_drawn_evenly(batches, anchors[["experiment", "condition"]])
    assert_in_window(batches, anchors["hours_post_infection"], 24.0)
