"""One batch: group, leak, condition, time, rounding, distinctness and order, each law by itself."""

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


def batches_of(table, batch_size=32, n_batches=None, **options):
    """Return the batches of the first epoch, or so many of as many epochs as it takes."""
    sampler = FlexibleBatchSampler(table, batch_size, **options)
    epochs = itertools.chain.from_iterable(sampler for _ in itertools.count())
    return list(itertools.islice(epochs, n_batches or len(sampler)))


def table_of(*cells, hours=(0.0,)):
    """Make a table of cells (experiment, condition, number of rows), at the given hours in turn."""
    rows = [(experiment, condition) for experiment, condition, n in cells for _ in range(n)]
    table = pd.DataFrame(rows, columns=["experiment", "condition"])
    return table.assign(hours_post_infection=np.resize(np.asarray(hours, float), len(table)))


def counts(table, batch, column):
    return table[column].iloc[batch].value_counts().to_dict()


# group


def test_a_batch_is_of_one_experiment():
    table = make_anchors(2000, n_experiments=5, seed=1)
    assert_one_group(batches_of(table), table["experiment"])


@pytest.mark.parametrize("by", ["plate", ["plate"], ["plate", "day"]])
def test_a_group_can_be_any_column_or_columns(by):
    table = (
        make_anchors(2000, seed=1).assign(plate=np.arange(2000) % 3, day=np.arange(2000) % 2).drop(columns="experiment")
    )
    names = [by] if isinstance(by, str) else by
    assert_one_group(batches_of(table, experiment_by=by), list(zip(*(table[name] for name in names), strict=True)))


def test_experiments_mix_when_the_axis_is_off():
    table = make_anchors(2000, n_experiments=2, seed=1)
    mixed = batches_of(table, experiment_aware=False)
    counts_of_first = [int((table["experiment"].iloc[batch] == table["experiment"].iloc[0]).sum()) for batch in mixed]
    assert min(counts_of_first) > 0
    assert max(counts_of_first) < 32


@pytest.mark.parametrize(
    ("options", "column"),
    [
        ({"experiment_aware": False}, "experiment"),
        ({"condition_balanced": False}, "condition"),
        ({"temporal_enrichment": False}, "hours_post_infection"),
    ],
)
def test_a_column_is_required_only_while_its_axis_is_on(options, column):
    table = make_anchors(500).drop(columns=column)
    assert batches_of(table, **options)


def test_the_frame_is_not_modified():
    table = make_anchors(500, seed=3)
    before = table.copy(deep=True)
    batches_of(table, leaky=0.1, temporal_enrichment=True)
    pd.testing.assert_frame_equal(table, before)


# leak


@pytest.mark.parametrize("leaky", [0.0, 0.01, 0.1, 0.25, 1 / 3, 0.499])
def test_the_leak_is_the_floor_or_the_ceiling_of_its_quota(leaky):
    table = make_anchors(4000, n_experiments=3, seed=2)
    assert_leak(batches_of(table, 30, leaky=leaky), table["experiment"], leaky)


def test_on_average_the_leak_is_exactly_its_quota():
    table = make_anchors(8000, n_experiments=3, seed=2)
    home = [table["experiment"].iloc[batch].value_counts().iloc[0] for batch in batches_of(table, 10, leaky=0.05)]
    assert_mean_counts([10 - n for n in home], 0.5)


def test_nearly_all_of_a_batch_may_leak():
    table = table_of(("a", "x", 200), ("b", "x", 200))
    shares = {n for batch in batches_of(table, 20, leaky=0.95) for n in counts(table, batch, "experiment").values()}
    assert shares == {1, 19}


def test_leak_slots_come_uniformly_from_the_rows_of_the_other_groups():
    """Every row of the other groups is equally likely, whatever its group's size; chi-square over rows."""
    table = table_of(("home", "x", 300), ("near", "x", 20), ("far", "x", 60))
    sampler = FlexibleBatchSampler(table, 20, leaky=0.5, experiment_weights="proportional")
    drawn = np.zeros(380, int)
    for k in range(2000):
        batch = np.array(sampler.batch(k))
        if (batch < 300).sum() == 10 and (batch >= 320).sum() < 10 > ((batch >= 300) & (batch < 320)).sum():
            drawn[batch[batch >= 300]] += 1
    assert drawn[300:].sum() > 10_000
    assert_uniform(drawn[300:])


def test_leak_slots_are_uniform_within_each_condition_when_balanced():
    table = table_of(("home", "x", 300), ("home", "y", 300), ("near", "x", 10), ("far", "x", 30), ("far", "y", 20))
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


def test_nothing_leaks_from_a_group_that_is_excluded():
    table = table_of(("a", "x", 100), ("b", "x", 100), ("out", "x", 100))
    for batch in batches_of(table, 10, leaky=0.3, experiment_weights={"a": 1, "b": 1, "out": 0}):
        assert "out" not in counts(table, batch, "experiment")


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"experiment_aware": False}, "leaky=0.2 has no effect: experiment_aware=False"),
        ({}, "leaky=0.2 has no effect for 1 of 1 groups"),
    ],
)
def test_a_leak_without_other_groups_is_one_warning_and_full_batches(caplog, options, warning):
    table = make_anchors(500, n_experiments=1)
    with caplog.at_level(logging.WARNING, logger="viscy_data"):
        batches = batches_of(table, leaky=0.2, **options)
    assert [warning in message for message in caplog.messages] == [True]
    assert {len(batch) for batch in batches} == {32}


# condition


def test_the_whole_batch_leak_included_is_split_equally():
    table = make_anchors(6000, n_experiments=3, conditions={"mock": 90, "infected": 10}, seed=1)
    assert_rounded(batches_of(table, 40, leaky=0.15), table["condition"], {"mock": 0.5, "infected": 0.5})


@pytest.mark.parametrize("scale", [1, 1e-3, 250, 1e300])
def test_a_ratio_may_have_any_scale(scale):
    table = make_anchors(3000, n_experiments=1, conditions=["a", "b", "c"], seed=1)
    ratio = {"a": 1 * scale, "b": 2 * scale, "c": 5 * scale}
    assert_rounded(
        batches_of(table, 20, condition_ratio=ratio), table["condition"], {"a": 1 / 8, "b": 2 / 8, "c": 5 / 8}
    )


def test_a_condition_of_ratio_zero_is_excluded():
    table = make_anchors(1000, conditions=["a", "b"])
    for batch in batches_of(table, condition_ratio={"a": 1, "b": 0}):
        assert counts(table, batch, "condition") == {"a": 32}


def test_an_absent_condition_gives_its_share_to_the_present_ones_in_proportion():
    table = table_of(("a", "x", 200), ("a", "y", 200), ("b", "x", 200), ("b", "y", 200), ("b", "z", 200))
    ratio = {"x": 1, "y": 3, "z": 4}
    for batch in batches_of(table, 32, condition_ratio=ratio):
        if "a" in counts(table, batch, "experiment"):
            assert counts(table, batch, "condition") == {"x": 8, "y": 24}
        else:
            assert counts(table, batch, "condition") == {"x": 4, "y": 12, "z": 16}


def test_leak_slots_are_split_over_the_conditions_of_the_other_groups():
    table = table_of(("a", "x", 400), ("b", "y", 300), ("b", "z", 300))
    for batch in batches_of(table, 40, leaky=0.2):
        if counts(table, batch, "experiment")["a"] == 32:
            assert counts(table, batch, "condition") == {"x": 32, "y": 4, "z": 4}
        else:
            assert counts(table, batch, "condition") == {"x": 8, "y": 16, "z": 16}


def test_without_balance_conditions_come_as_they_are():
    table = make_anchors(20_000, n_experiments=1, conditions={"mock": 90, "infected": 10}, seed=1)
    infected = (table["condition"] == "infected").to_numpy()
    batches = batches_of(table, 50, condition_balanced=False)
    assert len({int(infected[batch].sum()) for batch in batches}) > 3
    assert sum(infected[batch].sum() for batch in batches) == infected.sum()


def test_a_condition_can_be_any_columns():
    table = make_anchors(2000, seed=1).assign(drug=np.arange(2000) % 2)
    pairs = list(zip(table["condition"], table["drug"], strict=True))
    quotas = {(condition, drug): 0.25 for condition in ("uninfected", "infected") for drug in (0, 1)}
    assert_rounded(batches_of(table, 32, condition_by=["condition", "drug"]), pairs, quotas)


# time

HOURS = np.arange(48) * 0.5


def primary_by_condition(table, batch):
    rows = table.iloc[batch]
    home = rows["experiment"].mode()[0]
    return dict(iter(rows[rows["experiment"] == home].groupby("condition")["hours_post_infection"]))


def most_within(hours, window, distinct):
    return max(int((np.abs(hours - focal) <= window + 1e-9).sum()) for focal in distinct)


@pytest.mark.parametrize("window", [0.0, 0.5, 2.0, 7.3])
def test_with_a_global_fraction_of_zero_every_primary_slot_is_in_the_window(window):
    table = make_anchors(8000, n_experiments=2, seed=4)
    sampler = {"temporal_enrichment": True, "temporal_window_hours": window, "temporal_global_fraction": 0.0}
    for batch in batches_of(table, 24, leaky=0.125, **sampler):
        hours = np.concatenate([cell.to_numpy() for cell in primary_by_condition(table, batch).values()])
        assert len(hours) == 21
        assert most_within(hours, window, HOURS) == 21


def test_the_window_is_inclusive_at_both_ends():
    table = table_of(("a", "x", 900), hours=np.arange(9) * 0.1)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.2, "temporal_global_fraction": 0.0}
    spreads = {
        round(np.ptp(table["hours_post_infection"].iloc[batch]), 9) for batch in batches_of(table, 90, **options)
    }
    assert max(spreads) == pytest.approx(0.4)


def test_the_focal_time_is_one_of_the_times_of_the_group():
    """With a window of nothing a batch is of one time, and a time that only another group has is never it."""
    table = pd.concat([table_of(("a", "x", 300), hours=[0, 2, 4]), table_of(("b", "x", 300), hours=[1, 3])])
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.0}
    seen = set()
    for batch in batches_of(table, 10, **options):
        rows = table.iloc[batch]
        assert rows["hours_post_infection"].nunique() == 1
        seen.add((rows["experiment"].iloc[0], rows["hours_post_infection"].iloc[0]))
    assert seen == {("a", 0), ("a", 2), ("a", 4), ("b", 1), ("b", 3)}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_the_rest_comes_from_all_times_the_window_included(fraction):
    """Of 40 primary slots 40 (1 - f) are focal; of the others, a share of the window's rows falls in it too."""
    table = table_of(("a", "x", 9600), hours=HOURS)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": fraction}
    focal_quota = 40 * (1 - fraction)
    inside = []
    for batch in batches_of(table, 40, **options):
        hours = table["hours_post_infection"].iloc[batch].to_numpy()
        inside.append(most_within(hours, 0.0, HOURS))
        assert inside[-1] >= math.floor(focal_quota + 1e-9)
    # rows of the window that are not focal yet, over rows of the table that are not
    chance = (200 - focal_quota) / (9600 - focal_quota)
    expected = focal_quota + (40 - focal_quota) * chance
    if fraction < 0.9:  # beyond, the fullest time of a batch is now and then another one than the focal
        assert np.mean(inside) == pytest.approx(expected, abs=5 * math.sqrt(40 * fraction * chance / len(inside)))


def test_at_a_global_fraction_of_one_batches_are_as_without_enrichment(caplog):
    table = make_anchors(1000, seed=4)
    plain = batches_of(table, leaky=0.1)
    assert batches_of(table, leaky=0.1, temporal_enrichment=True, temporal_global_fraction=1.0) == plain
    assert "temporal_enrichment has no effect" in caplog.text


def test_enrichment_never_changes_how_many_slots_a_condition_has():
    table = make_anchors(5000, n_experiments=2, conditions={"a": 90, "b": 9, "c": 1}, seed=4)
    quotas = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    for window in (0.0, 3.0, 100.0):
        batches = batches_of(table, 32, temporal_enrichment=True, temporal_window_hours=window)
        assert_rounded(batches, table["condition"], quotas)


def test_a_condition_with_no_row_in_the_window_keeps_its_share_from_all_its_times():
    early, late = table_of(("a", "x", 400), hours=[0, 1]), table_of(("a", "y", 400), hours=[20, 30, 40])
    table = pd.concat([early, late])
    options = {"temporal_enrichment": True, "temporal_window_hours": 2.0, "temporal_global_fraction": 0.0}
    times_of_y = set()
    for batch in batches_of(table, 20, **options):
        primary = primary_by_condition(table, batch)
        assert {name: len(hours) for name, hours in primary.items()} == {"x": 10, "y": 10}
        if primary["y"].nunique() > 1:
            times_of_y |= set(primary["y"])
    assert times_of_y == {20, 30, 40}


def test_the_leak_is_not_concentrated_in_time():
    table = make_anchors(9600, n_experiments=2, n_timepoints=48, seed=4)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.0}
    leaked = np.zeros(48, int)
    for batch in batches_of(table, 40, leaky=0.25, **options):
        rows = table.iloc[batch]
        away = rows[rows["experiment"] != rows["experiment"].mode()[0]]
        leaked += np.bincount((away["hours_post_infection"] * 2).astype(int), minlength=48)
    at_each_time = np.bincount((table["hours_post_infection"] * 2).astype(int), minlength=48)
    assert_uniform(leaked, at_each_time / len(table) * leaked.sum())


# rounding


def test_counts_are_the_floor_or_the_ceiling_and_on_average_the_quota():
    """20 conditions and 8 slots: each condition is in 40 % of batches, none is favoured for being first or last."""
    names = [f"drug{i:02d}" for i in range(20)]
    table = make_anchors(24_000, n_experiments=2, conditions=names, seed=0)
    batches = batches_of(table, 8)
    assert_rounded(batches, table["condition"], dict.fromkeys(names, 1 / 20))
    codes = table["condition"].str[4:].astype(int).to_numpy()
    held = np.array([np.bincount(codes[batch], minlength=20) for batch in batches])
    for condition in range(20):
        assert_mean_counts(held[:, condition], 0.4)


def test_no_pair_of_conditions_is_kept_apart_for_ever():
    """Neighbours on the quota line are seldom in one batch; the line is laid anew in each epoch."""
    table = make_anchors(4000, n_experiments=1, conditions=[f"c{i}" for i in range(6)], seed=0)
    codes = table["condition"].str[1:].astype(int).to_numpy()
    sampler = FlexibleBatchSampler(table, 2)
    together = np.zeros((6, 6), int)
    for epoch in range(40):
        for k in range(30):
            a, b = codes[sampler.batch(k, epoch)]
            together[a, b] += 1
    assert (together + together.T + 1200 * np.eye(6, dtype=int)).min() > 0


@pytest.mark.parametrize("leaky", [0.1, 0.3])
def test_primary_and_leak_of_each_condition_are_rounded_too(leaky):
    table = make_anchors(8000, n_experiments=2, conditions=["a", "b", "c"], seed=0)
    held = {"primary": [], "leak": []}
    for batch in batches_of(table, 16, leaky=leaky):
        rows = table.iloc[batch]
        home = rows["experiment"] == rows["experiment"].mode()[0]
        for name, part, share in (("primary", rows[home], 1 - leaky), ("leak", rows[~home], leaky)):
            count = part["condition"].value_counts().reindex(["a", "b", "c"], fill_value=0)
            assert count.between(math.floor(16 * share / 3), math.ceil(16 * share / 3)).all()
            held[name].append(count["b"])
    assert_mean_counts(held["primary"], 16 * (1 - leaky) / 3)
    assert_mean_counts(held["leak"], 16 * leaky / 3)


@pytest.mark.parametrize("n_conditions", [2, 3, 5, 20])
@pytest.mark.parametrize(("batch_size", "leaky"), [(32, 0.1), (64, 0.25), (7, 0.5)])
def test_with_a_leak_each_conditions_total_is_rounded_as_well(n_conditions, batch_size, leaky):
    names = [f"drug{i:02d}" for i in range(n_conditions)]
    table = make_anchors(9000, n_experiments=3, conditions=names, seed=0)
    batches = batches_of(table, batch_size, n_batches=300, leaky=leaky)
    assert_rounded(batches, table["condition"], dict.fromkeys(names, 1 / n_conditions))
    assert_leak(batches, table["experiment"], leaky)


def test_with_a_leak_and_an_excluded_condition_too():
    table = make_anchors(9000, n_experiments=3, conditions=list("abcd"), seed=0)
    batches = batches_of(table, 32, leaky=0.1, condition_ratio={"a": 1, "b": 0, "c": 1, "d": 1})
    assert_rounded(batches, table["condition"], dict.fromkeys("acd", 1 / 3))


def test_with_two_conditions_of_any_ratio_totals_are_rounded_beside_a_leak():
    table = make_anchors(9000, n_experiments=3, conditions=list("ab"), seed=0)
    batches = batches_of(table, 30, leaky=0.15, condition_ratio={"a": 1, "b": 2.3})
    assert_rounded(batches, table["condition"], {"a": 1 / 3.3, "b": 2.3 / 3.3})


def test_focal_slots_are_the_floor_or_the_ceiling_of_their_quota_and_exact_on_average():
    """A focal time of one row repeats that row as often as there are focal slots, so they can be counted."""
    table = table_of(("a", "x", 2000), ("a", "y", 2000), hours=np.arange(2000) * 10.0)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.3}
    focal = []
    for batch in batches_of(table, 9, n_batches=600, **options):
        repeated = pd.Series(batch).value_counts()
        focal.append(int(repeated[repeated > 1].sum()))
        x = counts(table, batch, "condition")["x"]
        assert x in (4, 5)
    # a quota of 4.5 is 4 or 5 slots a condition, of which 3.15 are focal: 3 or 4
    assert set(focal) <= {6, 7, 8}
    assert_mean_counts(focal, 2 * 4.5 * 0.7)


# distinct


def test_no_anchor_comes_twice_while_there_are_others():
    table = make_anchors(700, n_experiments=2, seed=4)
    options = {"leaky": 0.2, "temporal_enrichment": True, "temporal_window_hours": 0.5}
    assert_distinct(batches_of(table, 100, n_batches=100, **{**options, "temporal_window_hours": 12.0}))
    assert_distinct(batches_of(table, 100, n_batches=100, leaky=0.2))


@pytest.mark.parametrize(("n_rows", "n_slots"), [(1, 8), (3, 8), (7, 8), (8, 8), (5, 23)])
def test_the_rows_of_a_small_pool_come_the_floor_or_the_ceiling_of_slots_over_rows(n_rows, n_slots):
    table = table_of(("a", "x", n_rows), ("b", "x", 500))
    for batch in batches_of(table, n_slots, experiment_weights="uniform"):
        times = pd.Series(batch).value_counts()
        if counts(table, batch, "experiment").get("a"):
            assert len(times) == min(n_rows, n_slots)
            assert times.between(n_slots // n_rows, -(-n_slots // n_rows)).all()
        else:
            assert times.max() == 1


def test_a_small_leak_pool_is_filled_the_same_way():
    table = table_of(("a", "x", 300), ("b", "x", 3))
    sampler = FlexibleBatchSampler(table, 20, leaky=0.5, experiment_weights={"a": 1, "b": 1e-9})
    for k in range(15):
        leaked = pd.Series([row for row in sampler.batch(k) if row >= 300]).value_counts()
        assert sorted(leaked) == [3, 3, 4]


def test_global_slots_leave_out_the_anchors_that_are_focal():
    """A cell of 12 rows, 4 of them in the window, and 12 slots: every row once, though half of the slots are focal."""
    table = table_of(("a", "x", 12), hours=[0, 10, 20])
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 2 / 3}
    for batch in batches_of(table, 12, n_batches=50, **options):
        assert sorted(batch) == list(range(12))


def test_one_warning_counts_the_groups_that_are_too_small(caplog):
    table = table_of(("a", "x", 100), ("tiny", "x", 3), ("small", "x", 9), ("enough", "x", 10))
    with caplog.at_level(logging.WARNING):
        FlexibleBatchSampler(table, 10)
    (message,) = caplog.messages
    assert "2 of 4 groups" in message
    assert "'small', 'tiny'" in message
    assert "with replacement" in message


# order


@pytest.mark.parametrize("column", ["experiment", "condition", "hours_post_infection"])
def test_a_position_in_the_batch_says_nothing_about_the_anchor(column):
    table = make_anchors(8000, n_experiments=2, n_timepoints=4, conditions={"mock": 9, "infected": 1}, seed=4)
    options = {"leaky": 0.25, "temporal_enrichment": True, "temporal_window_hours": 0.0}
    assert_exchangeable_slots(batches_of(table, 16, n_batches=2000, **options), table[column])


def test_a_position_in_the_batch_says_nothing_about_the_copy_of_a_repeated_anchor():
    table = table_of(("a", "x", 5), ("a", "y", 100))
    assert_exchangeable_slots(batches_of(table, 16, n_batches=2000, leaky=0.0), np.minimum(np.arange(105), 5))


def test_many_conditions_take_no_more_memory_than_many_slots():
    """5000 conditions and batches of 4: a block is as large as its parts allow, not as its slots do."""
    table = table_of(*[("a", f"c{i:04d}", 2) for i in range(5000)])
    sampler = FlexibleBatchSampler(table, 4)
    tracemalloc.start()
    list(itertools.islice(iter(sampler), 300))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * 2**20
