"""The rules that hold for every table, all options, any number of ranks and any cursor.

The allowed content of a batch is derived here from the table by plain counting, independently of the sampler.
"""

import itertools
import logging
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import (
    assert_conditions_chosen,
    assert_distinct_values,
    assert_drawn_in_rounds,
    assert_runs,
    assert_same_counts,
    assert_slices_join,
    interleave,
)
from viscy_sampling_testkit.strategies import anchor_tables, sampler_options

pytestmark = pytest.mark.slow

CASES = anchor_tables().flatmap(lambda table: st.tuples(st.just(table), sampler_options(table)))


ALL_OPTIONS = anchor_tables().flatmap(lambda table: st.tuples(st.just(table), sampler_options(table, all_options=True)))


class Oracle:
    """The batches that a table and options allow, by plain counting."""

    def __init__(self, table, options):
        self.options = options
        n = len(table)
        self.group = list(table["experiment"]) if options["experiment_aware"] else [None] * n
        self.condition = list(table["condition"]) if options["condition_balanced"] else [None] * n
        weights = group_weights(
            Counter(self.group), options["experiment_weights"] if options["experiment_aware"] else None
        )
        self.included = {group for group, weight in weights.items() if weight > 0}
        ratio = options["condition_ratio"] if options["condition_balanced"] else None
        self.ratio = {c: Fraction(1 if ratio is None else ratio[c]) for c in set(self.condition)}
        self.time = table["hours_post_infection"].to_numpy()
        self.rows = {stratum: [] for stratum in itertools.product(set(self.group), set(self.condition))}
        for row in range(n):
            self.rows[self.group[row], self.condition[row]].append(row)
        self.enriched = options["temporal_enrichment"] and options["temporal_global_fraction"] < 1

    def leaks(self):
        return self.options["leaky"] > 0 and len(self.included) > 1

    def check(self, batch, n_slots):
        assert len(batch) == n_slots
        assert all(type(row) is int and 0 <= row < len(self.group) for row in batch)
        assert all(self.group[row] in self.included for row in batch)  # nothing leaks from a group of weight 0
        assert any(self.is_batch_of(group, batch) for group in self.included)

    def is_batch_of(self, group, batch):
        """Whether the batch follows every rule as a batch of this group."""
        own = [row for row in batch if self.group[row] == group]
        away = [row for row in batch if self.group[row] != group]
        leaky = Fraction(self.options["leaky"]) if self.leaks() else Fraction(0)
        pool = {c: self.rows[group, c] for c in set(self.condition)}
        others = {c: [row for g in self.included - {group} for row in self.rows[g, c]] for c in pool}
        return (
            self.is_split(own, pool, len(batch) * (1 - leaky))
            and self.is_split(away, others, len(batch) * leaky)
            and self.is_even(away, others)
            and (self.is_enriched(group, own, pool) if self.enriched else self.is_even(own, pool))
        )

    def is_split(self, rows, pools, quota):
        """Whether the number of rows is the floor or the ceiling of the quota, in total and for each condition."""
        share = {c: self.ratio[c] for c, pool in pools.items() if pool}
        counts = Counter(self.condition[row] for row in rows)
        return is_rounded(len(rows), quota) and all(
            is_rounded(counts[c], quota * share[c] / sum(share.values())) for c in share
        )

    def is_even(self, rows, pools):
        """Whether the counts of a condition's rows differ by at most one: each 0 or 1 if the pool is large enough."""
        counts = Counter(rows)
        for pool in pools.values():
            slots = sum(counts[row] for row in pool)
            if pool and not all(slots // len(pool) <= counts[row] <= -(-slots // len(pool)) for row in pool):
                return False
        return True

    def is_enriched(self, group, rows, pools):
        return any(self.has_focal_time(t, rows, pools) for t in {self.time[r] for pool in pools.values() for r in pool})

    def has_focal_time(self, focal, rows, pools):
        """Whether enough rows of each condition are in the window around a focal time, and none repeats needlessly."""
        counts = Counter(rows)
        for pool in pools.values():
            window = self.options["temporal_window_hours"] + 1e-9
            in_window = {row for row in pool if abs(self.time[row] - focal) <= window}
            slots = sum(counts[row] for row in pool)
            wanted = max(0, math.floor(slots * (1 - self.options["temporal_global_fraction"])) - 1) if in_window else 0
            if self.options["temporal_global_fraction"] == 0 and in_window:
                wanted = slots
            if sum(counts[row] for row in in_window) < wanted:
                return False
            if slots <= len(in_window) and any(counts[row] > 1 for row in pool):
                return False
        return True


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    """Silence the warnings about small pools of thousands of small tables; `test_errors.py` tests the warnings."""
    logging.getLogger("viscy_data").setLevel(logging.ERROR)
    yield
    logging.getLogger("viscy_data").setLevel(logging.NOTSET)


def is_rounded(count, quota):
    return math.floor(quota + Fraction(1, 10**6)) <= count <= math.ceil(quota - Fraction(1, 10**6))


def group_weights(n_rows, given):
    if isinstance(given, dict):
        return given
    power = {None: 1, "proportional": 1, "sqrt": 0.5, "uniform": 0}[given]
    return {group: n**power for group, n in n_rows.items()}


EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@EXAMPLES
@given(case=CASES, k=st.integers(0, 2**40), epoch=st.integers(0, 2**40))
def test_any_batch_of_any_epoch_follows_every_rule_of_a_batch(case, k, epoch):
    table, options = case
    sampler = FlexibleBatchSampler(table, **options)
    oracle = Oracle(table, options)
    full, rest = divmod(len(table), options["batch_size"])
    for number in (*range(full + 2), k + full + 1):
        is_short = not options["drop_last"] and rest and number == full
        oracle.check(sampler.batch(number, epoch), rest if is_short else options["batch_size"])


@EXAMPLES
@given(case=CASES, num_replicas=st.integers(1, 9))
def test_ranks_share_the_global_sequence(case, num_replicas):
    table, options = case
    single = FlexibleBatchSampler(table, **options)
    ranks = [FlexibleBatchSampler(table, num_replicas=num_replicas, rank=r, **options) for r in range(num_replicas)]
    drawn = [list(rank) for rank in ranks]
    n_steps = -(-len(single) // num_replicas)
    assert [len(batches) for batches in drawn] == [len(rank) for rank in ranks] == [n_steps] * num_replicas
    sequence = [batch for step in zip(*drawn, strict=True) for batch in step]
    assert sequence == [single.batch(k, 0) for k in range(n_steps * num_replicas)]
    assert sequence[: len(single)] == list(single)


@EXAMPLES
@given(case=CASES, stop=st.integers(0, 30), ranks=st.tuples(*[st.integers(1, 5)] * 2))
def test_a_run_resumed_on_another_number_of_ranks_continues_in_order(case, stop, ranks):
    table, options = case
    before = [FlexibleBatchSampler(table, num_replicas=ranks[0], rank=r, **options) for r in range(ranks[0])]
    drawn = [list(itertools.islice(iter(sampler), stop)) for sampler in before]
    state = before[-1].state_dict()
    after = [FlexibleBatchSampler(table, num_replicas=ranks[1], rank=r, **options) for r in range(ranks[1])]
    for sampler in after:
        sampler.load_state_dict(state)
    rest = [list(sampler) for sampler in after]
    single = FlexibleBatchSampler(table, **options)
    if len(drawn[0]) * ranks[0] >= len(single):
        start, expected = 0, 1
    else:
        start, expected = len(drawn[0]) * ranks[0], 0
    sequence = [batch for step in zip(*rest, strict=True) for batch in step]
    assert sequence == [single.batch(start + i, expected) for i in range(len(sequence))]
    assert len(single) <= start + len(sequence) < len(single) + ranks[1]


@EXAMPLES
@given(case=CASES, epoch=st.integers(0, 1000))
def test_groups_get_their_share_and_strata_are_drawn_without_replacement(case, epoch):
    table, options = case
    options.update(leaky=0.0, temporal_enrichment=False)
    sampler = FlexibleBatchSampler(table, **options)
    oracle = Oracle(table, options)
    batches = [sampler.batch(k, epoch) for k in range(len(sampler))]
    n_rows = Counter(oracle.group)
    weight = group_weights(n_rows, options["experiment_weights"] if options["experiment_aware"] else None)
    n_batches = Counter(oracle.group[batch[0]] for batch in batches)
    for group in n_rows:
        assert abs(n_batches[group] - len(batches) * weight[group] / sum(weight.values())) < 1 + 1e-6
    times_drawn = Counter()
    for batch in batches:
        times_drawn.update(batch)
        for rows in oracle.rows.values():
            times = [times_drawn[row] for row in rows]
            assert not rows or max(times) - min(times) <= 1


@EXAMPLES
@given(case=CASES, index=st.sampled_from(["shifted", "same", "text"]))
def test_the_index_and_other_columns_do_not_matter(case, index):
    table, options = case
    n = len(table)
    labels = {"shifted": np.arange(n) + 5, "same": np.zeros(n), "text": [f"row{i % 7}" for i in range(n)]}[index]
    other = table.set_index(pd.Index(labels)).assign(track_id=3)[["track_id", *table.columns[::-1]]]
    a, b = FlexibleBatchSampler(table, **options), FlexibleBatchSampler(other, **options)
    assert list(a) == list(b)
    assert a.state_dict() == b.state_dict()


FEWER = settings(EXAMPLES, max_examples=60)


def epoch_of(sampler, epoch):
    return [sampler.batch(k, epoch) for k in range(len(sampler))]


@FEWER
@given(case=ALL_OPTIONS, epoch=st.integers(0, 2**40))
def test_conditions_are_chosen_and_values_distinct_with_all_options(case, epoch):
    table, options = case
    options |= {"leaky": 0.0, "temporal_enrichment": False}
    batches = epoch_of(FlexibleBatchSampler(table, **options), epoch)
    groups = list(table["experiment"]) if options["experiment_aware"] else None
    conditions = list(table["condition"]) if options["condition_balanced"] else None
    if options["anchors_per_condition"] and conditions is not None:
        ratio = options["condition_ratio"]
        assert_conditions_chosen(batches, conditions, options["anchors_per_condition"], groups=groups, shares=ratio)
    if options["distinct_by"] is not None:
        by = options["distinct_by"]
        values = list(table[by]) if isinstance(by, str) else list(zip(*(table[name] for name in by), strict=True))
        assert_distinct_values(batches, values, groups, conditions)


@FEWER
@given(case=ALL_OPTIONS, first=st.integers(0, 2**20))
def test_strata_are_drawn_in_rounds_over_short_epochs(case, first):
    table, options = case
    options |= {"leaky": 0.0, "temporal_enrichment": False, "distinct_by": None}
    sampler = FlexibleBatchSampler(table, **options)
    full, rest = divmod(len(table), options["batch_size"])
    n_epochs = -(-(full + (rest > 0 and not options["drop_last"])) // len(sampler))
    batches = [batch for i in range(n_epochs) for batch in epoch_of(sampler, first * n_epochs + i)]
    oracle = Oracle(table, options)
    assert_drawn_in_rounds(batches, list(zip(oracle.group, oracle.condition, strict=True)))


@FEWER
@given(case=ALL_OPTIONS, data=st.data())
def test_ranks_share_steps_or_batches_and_resume_with_all_options(case, data):
    table, options = case
    single = FlexibleBatchSampler(table, **options)
    rest = 0 if options["drop_last"] or options["epoch_batches"] else len(table) % options["batch_size"]
    fits = [n for n in range(1, 9) if not options["split_batches"] or math.gcd(options["batch_size"], rest) % n == 0]
    before, after = data.draw(st.sampled_from(fits)), data.draw(st.sampled_from(fits))
    samplers = [FlexibleBatchSampler(table, num_replicas=before, rank=r, **options) for r in range(before)]
    ranks = [list(sampler) for sampler in samplers]
    if options["split_batches"]:
        assert_slices_join(ranks, list(single))
    else:
        assert interleave(ranks)[: len(single)] == list(single)
    stop = data.draw(st.integers(0, len(ranks[0]) - 1))
    stopped = FlexibleBatchSampler(table, num_replicas=before, rank=before - 1, **options)
    for _ in itertools.islice(iter(stopped), stop):
        pass
    resumed = [FlexibleBatchSampler(table, num_replicas=after, rank=r, **options) for r in range(after)]
    for sampler in resumed:
        sampler.load_state_dict(stopped.state_dict())
    drawn = [list(sampler) for sampler in resumed]
    start = stop * (1 if options["split_batches"] else before)
    left = epoch_of(FlexibleBatchSampler(table, **options), 0)[start:]
    if options["split_batches"]:
        assert_slices_join(drawn, left)
    else:
        assert interleave(drawn)[: len(left)] == left


@FEWER
@given(case=ALL_OPTIONS, epoch=st.integers(0, 2**40))
def test_slots_are_filled_by_runs_and_counts_stay_with_all_options(case, epoch):
    table, options = case
    options["distinct_by"] = None
    local, plain = (FlexibleBatchSampler(table, **options | more) for more in ({}, {"locality": 1, "place_by": None}))
    groups = list(table["experiment"]) if options["experiment_aware"] else None
    conditions = list(table["condition"]) if options["condition_balanced"] else None
    by = options["place_by"]
    places = None if by is None else list(table[by]) if isinstance(by, str) else list(table[by].itertuples(index=False))
    batches = epoch_of(local, epoch)
    if not options["leaky"]:  # with a large leak, the group of a batch is not known
        assert_same_counts(batches, epoch_of(plain, epoch), groups, conditions)
        times, windowed = table["hours_post_infection"].to_numpy(), options["temporal_enrichment"]
        assert_runs(batches, times, places, groups, conditions, locality=options["locality"], windowed=windowed)
