"""One batch: its group, leak, conditions, times, rounding, distinct anchors and order, each rule by itself."""

import itertools
import logging
import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import (
    assert_distinct,
    assert_exchangeable_slots,
    assert_leak,
    assert_mean_counts,
    assert_one_group,
    assert_rounded,
    assert_uniform,
    make_anchors,
)


def make_strata(*strata, hours=(0.0,)):
    """Make a table of strata (experiment, condition, number of rows); rows take the given hours by rotation."""
    rows = [(experiment, condition) for experiment, condition, n in strata for _ in range(n)]
    table = pd.DataFrame(rows, columns=["experiment", "condition"])
    return table.assign(hours_post_infection=np.resize(np.asarray(hours, float), len(table)))


def count_labels(table, batch, column):
    return table[column].iloc[batch].value_counts().to_dict()


# group


def test_a_batch_comes_from_one_experiment(draw_batches):
    table = make_anchors(2000, n_experiments=5, seed=1)
    assert_one_group(draw_batches(table), table["experiment"])


@pytest.mark.parametrize("by", ["plate", ["plate"], ["plate", "day"]])
def test_any_column_or_columns_can_define_the_groups(draw_batches, by):
    table = (
        make_anchors(2000, seed=1).assign(plate=np.arange(2000) % 3, day=np.arange(2000) % 2).drop(columns="experiment")
    )
    names = [by] if isinstance(by, str) else by
    assert_one_group(draw_batches(table, experiment_by=by), list(zip(*(table[name] for name in names), strict=True)))


def test_batches_mix_experiments_when_the_axis_is_off(draw_batches):
    table = make_anchors(2000, n_experiments=2, seed=1)
    mixed = draw_batches(table, experiment_aware=False)
    n_of_first = [int((table["experiment"].iloc[batch] == table["experiment"].iloc[0]).sum()) for batch in mixed]
    assert min(n_of_first) > 0
    assert max(n_of_first) < 32


def test_the_frame_is_not_modified(draw_batches):
    table = make_anchors(500, seed=3)
    before = table.copy(deep=True)
    draw_batches(table, leaky=0.1, temporal_enrichment=True)
    pd.testing.assert_frame_equal(table, before)


# leak


@pytest.mark.parametrize("leaky", [0.0, 0.01, 0.1, 0.25, 1 / 3, 0.499])
def test_the_leak_is_the_floor_or_the_ceiling_of_its_quota(draw_batches, leaky):
    table = make_anchors(4000, n_experiments=3, seed=2)
    assert_leak(draw_batches(table, 30, leaky=leaky), table["experiment"], leaky)


def test_on_average_the_leak_is_exactly_its_quota(draw_batches):
    table = make_anchors(8000, n_experiments=3, seed=2)
    home = [table["experiment"].iloc[batch].value_counts().iloc[0] for batch in draw_batches(table, 10, leaky=0.05)]
    assert_mean_counts([10 - n for n in home], 0.5)


def test_nearly_all_of_a_batch_can_leak(draw_batches):
    table = make_strata(("a", "x", 200), ("b", "x", 200))
    for batch in draw_batches(table, 20, leaky=0.95):
        assert sorted(count_labels(table, batch, "experiment").values()) == [1, 19]


@pytest.mark.slow
def test_leak_slots_are_drawn_uniformly_from_the_rows_of_the_other_groups():
    """Every row of the other groups is equally likely, whatever the size of its group (chi-square over rows)."""
    table = make_strata(("home", "x", 300), ("near", "x", 20), ("far", "x", 60))
    sampler = FlexibleBatchSampler(table, 20, leaky=0.5, experiment_weights="proportional")
    drawn = np.zeros(380, int)
    for k in range(2000):
        batch = np.array(sampler.batch(k))
        if (batch < 300).sum() == 10 and (batch >= 320).sum() < 10 > ((batch >= 300) & (batch < 320)).sum():
            drawn[batch[batch >= 300]] += 1
    assert drawn[300:].sum() > 10_000
    assert_uniform(drawn[300:])


@pytest.mark.slow
def test_leak_slots_are_uniform_within_each_condition_when_balanced():
    table = make_strata(("home", "x", 300), ("home", "y", 300), ("near", "x", 10), ("far", "x", 30), ("far", "y", 20))
    sampler = FlexibleBatchSampler(
        table, 20, leaky=0.4, experiment_weights={"home": 1, "near": 1e-9, "far": 1e-9}, drop_last=False
    )
    drawn = np.zeros(len(table), int)
    for k in range(1500):
        leaked = np.array([row for row in sampler.batch(k) if row >= 600])
        assert (table["condition"].iloc[leaked] == "x").sum() == 4
        drawn[leaked] += 1
    assert_uniform(drawn[600:640])
    assert_uniform(drawn[640:])


def test_nothing_leaks_from_an_excluded_group(draw_batches):
    table = make_strata(("a", "x", 100), ("b", "x", 100), ("out", "x", 100))
    for batch in draw_batches(table, 10, leaky=0.3, experiment_weights={"a": 1, "b": 1, "out": 0}):
        assert "out" not in count_labels(table, batch, "experiment")


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"experiment_aware": False}, "leaky=0.2 has no effect: experiment_aware=False"),
        ({}, "leaky=0.2 has no effect for 1 of 1 groups"),
    ],
)
def test_a_leak_without_other_groups_logs_one_warning_and_keeps_batches_full(draw_batches, caplog, options, warning):
    table = make_anchors(500, n_experiments=1)
    with caplog.at_level(logging.WARNING, logger="viscy_data"):
        batches = draw_batches(table, leaky=0.2, **options)
    assert [warning in message for message in caplog.messages] == [True]
    assert {len(batch) for batch in batches} == {32}


# condition


def test_the_complete_batch_including_the_leak_is_split_equally(draw_batches):
    table = make_anchors(6000, n_experiments=3, conditions={"mock": 90, "infected": 10}, seed=1)
    assert_rounded(draw_batches(table, 40, leaky=0.15), table["condition"], {"mock": 0.5, "infected": 0.5})


@pytest.mark.parametrize("scale", [1, 1e-3, 250, 1e300])
def test_a_ratio_can_have_any_scale(draw_batches, scale):
    table = make_anchors(3000, n_experiments=1, conditions=["a", "b", "c"], seed=1)
    ratio = {"a": 1 * scale, "b": 2 * scale, "c": 5 * scale}
    assert_rounded(
        draw_batches(table, 20, condition_ratio=ratio), table["condition"], {"a": 1 / 8, "b": 2 / 8, "c": 5 / 8}
    )


def test_a_condition_with_a_ratio_of_zero_is_excluded(draw_batches):
    table = make_anchors(1000, conditions=["a", "b"])
    for batch in draw_batches(table, condition_ratio={"a": 1, "b": 0}):
        assert count_labels(table, batch, "condition") == {"a": 32}


def test_an_absent_condition_gives_its_share_to_the_present_ones_in_proportion(draw_batches):
    table = make_strata(("a", "x", 200), ("a", "y", 200), ("b", "x", 200), ("b", "y", 200), ("b", "z", 200))
    ratio = {"x": 1, "y": 3, "z": 4}
    for batch in draw_batches(table, 32, condition_ratio=ratio):
        if "a" in count_labels(table, batch, "experiment"):
            assert count_labels(table, batch, "condition") == {"x": 8, "y": 24}
        else:
            assert count_labels(table, batch, "condition") == {"x": 4, "y": 12, "z": 16}


def test_leak_slots_are_split_over_the_conditions_of_the_other_groups(draw_batches):
    table = make_strata(("a", "x", 400), ("b", "y", 300), ("b", "z", 300))
    for batch in draw_batches(table, 40, leaky=0.2):
        if count_labels(table, batch, "experiment")["a"] == 32:
            assert count_labels(table, batch, "condition") == {"x": 32, "y": 4, "z": 4}
        else:
            assert count_labels(table, batch, "condition") == {"x": 8, "y": 16, "z": 16}


def test_without_balance_conditions_keep_their_share_of_the_table(draw_batches):
    table = make_anchors(20_000, n_experiments=1, conditions={"mock": 90, "infected": 10}, seed=1)
    infected = (table["condition"] == "infected").to_numpy()
    batches = draw_batches(table, 50, condition_balanced=False)
    assert len({int(infected[batch].sum()) for batch in batches}) > 3
    assert sum(infected[batch].sum() for batch in batches) == infected.sum()


def test_any_columns_can_define_the_conditions(draw_batches):
    table = make_anchors(2000, seed=1).assign(drug=np.arange(2000) % 2)
    pairs = list(zip(table["condition"], table["drug"], strict=True))
    quotas = {(condition, drug): 0.25 for condition in ("uninfected", "infected") for drug in (0, 1)}
    assert_rounded(draw_batches(table, 32, condition_by=["condition", "drug"]), pairs, quotas)


# time

HOURS = np.arange(48) * 0.5


def primary_hours_by_condition(table, batch):
    rows = table.iloc[batch]
    home = rows["experiment"].mode()[0]
    return dict(iter(rows[rows["experiment"] == home].groupby("condition")["hours_post_infection"]))


def count_in_fullest_window(hours, window):
    return max(int((np.abs(hours - focal) <= window + 1e-9).sum()) for focal in HOURS)


@pytest.mark.parametrize("window", [0.0, 0.5, 2.0, 7.3])
def test_with_a_global_fraction_of_zero_every_primary_slot_is_in_the_window(draw_batches, window):
    table = make_anchors(8000, n_experiments=2, seed=4)
    options = {"temporal_enrichment": True, "temporal_window_hours": window, "temporal_global_fraction": 0.0}
    for batch in draw_batches(table, 24, leaky=0.125, **options):
        hours = np.concatenate(list(primary_hours_by_condition(table, batch).values()))
        assert len(hours) == 21
        assert count_in_fullest_window(hours, window) == 21


def test_the_window_is_inclusive_at_both_ends(draw_batches):
    table = make_strata(("a", "x", 900), hours=np.arange(9) * 0.1)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.2, "temporal_global_fraction": 0.0}
    spreads = {
        round(np.ptp(table["hours_post_infection"].iloc[batch]), 9) for batch in draw_batches(table, 90, **options)
    }
    assert max(spreads) == pytest.approx(0.4)


def test_the_focal_time_is_one_of_the_times_of_the_group(draw_batches):
    """With a window of 0 h a batch has one time, which is never a time that only another group has."""
    table = pd.concat([make_strata(("a", "x", 300), hours=[0, 2, 4]), make_strata(("b", "x", 300), hours=[1, 3])])
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.0}
    seen = set()
    for batch in draw_batches(table, 10, **options):
        rows = table.iloc[batch]
        assert rows["hours_post_infection"].nunique() == 1
        seen.add((rows["experiment"].iloc[0], rows["hours_post_infection"].iloc[0]))
    assert seen == {("a", 0), ("a", 2), ("a", 4), ("b", 1), ("b", 3)}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_the_rest_comes_from_all_times_including_the_window(draw_batches, fraction):
    """Of 40 primary slots 40 (1 - f) are focal; some of the others are in the window by chance."""
    table = make_strata(("a", "x", 9600), hours=HOURS)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": fraction}
    focal_quota = 40 * (1 - fraction)
    inside = []
    for batch in draw_batches(table, 40, **options):
        hours = table["hours_post_infection"].iloc[batch].to_numpy()
        inside.append(count_in_fullest_window(hours, 0.0))
        assert inside[-1] >= math.floor(focal_quota + 1e-9)
    # rows of the window that fill no focal slot, over rows of the table that fill none
    chance = (200 - focal_quota) / (9600 - focal_quota)
    expected = focal_quota + (40 - focal_quota) * chance
    if fraction < 0.9:  # beyond that, the most frequent time of a batch is sometimes not the focal time
        assert np.mean(inside) == pytest.approx(expected, abs=5 * math.sqrt(40 * fraction * chance / len(inside)))


def test_a_global_fraction_of_one_gives_the_batches_without_enrichment(draw_batches, caplog):
    table = make_anchors(1000, seed=4)
    plain = draw_batches(table, leaky=0.1)
    assert draw_batches(table, leaky=0.1, temporal_enrichment=True, temporal_global_fraction=1.0) == plain
    assert "temporal_enrichment has no effect" in caplog.text


def test_enrichment_never_changes_how_many_slots_a_condition_has(draw_batches):
    table = make_anchors(5000, n_experiments=2, conditions={"a": 90, "b": 9, "c": 1}, seed=4)
    quotas = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    for window in (0.0, 3.0, 100.0):
        batches = draw_batches(table, 32, temporal_enrichment=True, temporal_window_hours=window)
        assert_rounded(batches, table["condition"], quotas)


def test_a_condition_with_no_row_in_the_window_keeps_its_share_from_all_its_times(draw_batches):
    early, late = make_strata(("a", "x", 400), hours=[0, 1]), make_strata(("a", "y", 400), hours=[20, 30, 40])
    table = pd.concat([early, late])
    options = {"temporal_enrichment": True, "temporal_window_hours": 2.0, "temporal_global_fraction": 0.0}
    times_of_y = set()
    for batch in draw_batches(table, 20, **options):
        primary = primary_hours_by_condition(table, batch)
        assert {name: len(hours) for name, hours in primary.items()} == {"x": 10, "y": 10}
        if primary["y"].nunique() > 1:
            times_of_y |= set(primary["y"])
    assert times_of_y == {20, 30, 40}


def test_the_leak_is_not_concentrated_in_time(draw_batches):
    table = make_anchors(9600, n_experiments=2, n_timepoints=48, seed=4)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.0}
    leaked = np.zeros(48, int)
    for batch in draw_batches(table, 40, leaky=0.25, **options):
        rows = table.iloc[batch]
        away = rows[rows["experiment"] != rows["experiment"].mode()[0]]
        leaked += np.bincount((away["hours_post_infection"] * 2).astype(int), minlength=48)
    at_each_time = np.bincount((table["hours_post_infection"] * 2).astype(int), minlength=48)
    assert_uniform(leaked, at_each_time / len(table) * leaked.sum())


# rounding


def test_counts_are_the_floor_or_the_ceiling_and_on_average_the_quota(draw_batches):
    """With 20 conditions and 8 slots, each condition is in 40 % of the batches, wherever it is in the order."""
    names = [f"drug{i:02d}" for i in range(20)]
    table = make_anchors(24_000, n_experiments=2, conditions=names, seed=0)
    batches = draw_batches(table, 8)
    assert_rounded(batches, table["condition"], dict.fromkeys(names, 1 / 20))
    codes = table["condition"].str[4:].astype(int).to_numpy()
    counts = np.array([np.bincount(codes[batch], minlength=20) for batch in batches])
    for condition in range(20):
        assert_mean_counts(counts[:, condition], 0.4)


def test_every_pair_of_conditions_shares_a_batch_in_some_epoch():
    """Neighbors in the order of systematic rounding rarely share a batch, so the order is shuffled in each epoch."""
    table = make_anchors(4000, n_experiments=1, conditions=[f"c{i}" for i in range(6)], seed=0)
    codes = table["condition"].str[1:].astype(int).to_numpy()
    sampler = FlexibleBatchSampler(table, 2)
    together = np.zeros((6, 6), int)
    for epoch in range(40):
        for k in range(30):
            a, b = codes[sampler.batch(k, epoch)]
            together[a, b] += 1
    assert (together + together.T + 1200 * np.eye(6, dtype=int)).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("leaky", [0.1, 0.3])
def test_primary_and_leak_slots_of_each_condition_are_rounded(draw_batches, leaky):
    table = make_anchors(8000, n_experiments=2, conditions=["a", "b", "c"], seed=0)
    counts = {"primary": [], "leak": []}
    for batch in draw_batches(table, 16, leaky=leaky):
        rows = table.iloc[batch]
        home = rows["experiment"] == rows["experiment"].mode()[0]
        for name, part, share in (("primary", rows[home], 1 - leaky), ("leak", rows[~home], leaky)):
            count = part["condition"].value_counts().reindex(["a", "b", "c"], fill_value=0)
            assert count.between(math.floor(16 * share / 3), math.ceil(16 * share / 3)).all()
            counts[name].append(count["b"])
    assert_mean_counts(counts["primary"], 16 * (1 - leaky) / 3)
    assert_mean_counts(counts["leak"], 16 * leaky / 3)


@pytest.mark.parametrize("n_conditions", [2, 3, 5, 20])
@pytest.mark.parametrize(("batch_size", "leaky"), [(32, 0.1), (64, 0.25), (7, 0.5)])
def test_with_a_leak_the_total_of_each_condition_is_rounded(draw_batches, n_conditions, batch_size, leaky):
    names = [f"drug{i:02d}" for i in range(n_conditions)]
    table = make_anchors(9000, n_experiments=3, conditions=names, seed=0)
    batches = draw_batches(table, batch_size, n_batches=300, leaky=leaky)
    assert_rounded(batches, table["condition"], dict.fromkeys(names, 1 / n_conditions))
    assert_leak(batches, table["experiment"], leaky)


def test_with_a_leak_and_an_excluded_condition_totals_are_rounded(draw_batches):
    table = make_anchors(9000, n_experiments=3, conditions=list("abcd"), seed=0)
    batches = draw_batches(table, 32, leaky=0.1, condition_ratio={"a": 1, "b": 0, "c": 1, "d": 1})
    assert_rounded(batches, table["condition"], dict.fromkeys("acd", 1 / 3))


def test_with_a_leak_and_two_conditions_of_any_ratio_totals_are_rounded(draw_batches):
    table = make_anchors(9000, n_experiments=3, conditions=list("ab"), seed=0)
    batches = draw_batches(table, 30, leaky=0.15, condition_ratio={"a": 1, "b": 2.3})
    assert_rounded(batches, table["condition"], {"a": 1 / 3.3, "b": 2.3 / 3.3})


def test_focal_slots_are_the_floor_or_the_ceiling_of_their_quota_and_exact_on_average(draw_batches):
    """A focal time with one row repeats that row in every focal slot, so the focal slots can be counted."""
    table = make_strata(("a", "x", 2000), ("a", "y", 2000), hours=np.arange(2000) * 10.0)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.3}
    focal = []
    for batch in draw_batches(table, 9, n_batches=600, **options):
        repeated = pd.Series(batch).value_counts()
        focal.append(int(repeated[repeated > 1].sum()))
        x = count_labels(table, batch, "condition")["x"]
        assert x in (4, 5)
    # a quota of 4.5 is 4 or 5 slots a condition, of which 3.15 are focal: 3 or 4
    assert set(focal) <= {6, 7, 8}
    assert_mean_counts(focal, 2 * 4.5 * 0.7)


# distinct


def test_no_anchor_appears_twice_while_its_pool_has_others(draw_batches):
    table = make_anchors(700, n_experiments=2, seed=4)
    options = {"leaky": 0.2, "temporal_enrichment": True, "temporal_window_hours": 0.5}
    assert_distinct(draw_batches(table, 100, n_batches=100, **{**options, "temporal_window_hours": 12.0}))
    assert_distinct(draw_batches(table, 100, n_batches=100, leaky=0.2))


@pytest.mark.parametrize(("n_rows", "n_slots"), [(1, 8), (3, 8), (7, 8), (8, 8), (5, 23)])
def test_each_row_of_a_small_pool_fills_the_floor_or_the_ceiling_of_slots_over_rows(draw_batches, n_rows, n_slots):
    table = make_strata(("a", "x", n_rows), ("b", "x", 500))
    for batch in draw_batches(table, n_slots, experiment_weights="uniform"):
        times = pd.Series(batch).value_counts()
        if count_labels(table, batch, "experiment").get("a"):
            assert len(times) == min(n_rows, n_slots)
            assert times.between(n_slots // n_rows, -(-n_slots // n_rows)).all()
        else:
            assert times.max() == 1


def test_the_rows_of_a_small_leak_pool_repeat_evenly():
    table = make_strata(("a", "x", 300), ("b", "x", 3))
    sampler = FlexibleBatchSampler(table, 20, leaky=0.5, experiment_weights={"a": 1, "b": 1e-9})
    for k in range(15):
        leaked = pd.Series([row for row in sampler.batch(k) if row >= 300]).value_counts()
        assert sorted(leaked) == [3, 3, 4]


def test_global_slots_leave_out_the_anchors_in_focal_slots(draw_batches):
    """A stratum of 12 rows, 4 of them in the window, fills 12 slots with every row once."""
    table = make_strata(("a", "x", 12), hours=[0, 10, 20])
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 2 / 3}
    for batch in draw_batches(table, 12, n_batches=50, **options):
        assert sorted(batch) == list(range(12))


# order


@pytest.mark.parametrize("column", ["experiment", "condition", "hours_post_infection"])
def test_the_slot_of_an_anchor_says_nothing_about_it(draw_batches, column):
    table = make_anchors(8000, n_experiments=2, n_timepoints=4, conditions={"mock": 9, "infected": 1}, seed=4)
    options = {"leaky": 0.25, "temporal_enrichment": True, "temporal_window_hours": 0.0}
    assert_exchangeable_slots(draw_batches(table, 16, n_batches=2000, **options), table[column])


def test_the_slots_of_a_repeated_anchor_are_random(draw_batches):
    table = make_strata(("a", "x", 5), ("a", "y", 100))
    assert_exchangeable_slots(draw_batches(table, 16, n_batches=2000, leaky=0.0), np.minimum(np.arange(105), 5))


def test_many_conditions_need_no_more_memory_than_many_slots():
    """With 5000 conditions and batches of 4, the parts of a block limit its size, not its slots."""
    table = make_strata(*[("a", f"c{i:04d}", 2) for i in range(5000)])
    sampler = FlexibleBatchSampler(table, 4)
    tracemalloc.start()
    list(itertools.islice(iter(sampler), 300))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * 2**20
