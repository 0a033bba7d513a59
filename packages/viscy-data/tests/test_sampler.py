"""The specification of `FlexibleBatchSampler`: requirements SAMP-01 to SAMP-05 one by one, then all of them together.

Read it with ``pytest packages/viscy-data/tests/test_sampler.py -v``. Each class states one requirement, each test one
sentence of it. `test_batch.py`, `test_epoch.py`, `test_ranks.py`, `test_resume.py` and `test_errors.py` go into the
details of one rule each; `test_properties.py` checks them on random tables and options.

Statistical tests raise a false alarm with a probability of at most 1e-6 per assertion. Sequences are reproducible, so
a test that passes once always passes.
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Sampler

import viscy_data
import viscy_data.sampler
from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import (
    assert_complete_ranks,
    assert_deterministic,
    assert_disjoint_ranks,
    assert_distinct,
    assert_equal_steps,
    assert_in_window,
    assert_leak,
    assert_mean_counts,
    assert_one_group,
    assert_positions,
    assert_ranks_interleave,
    assert_rounded,
    assert_same_batches,
    assert_shares,
    assert_uniform,
    assert_unrelated,
    make_anchors,
    make_missing_conditions,
    make_skewed,
    simulate_ranks,
)

DAYS = {"monday": 70, "tuesday": 20, "friday": 10}
TABLE = make_anchors(6000, experiments=DAYS, conditions={"mock": 9, "infected": 1}, seed=1)


# 10 times 12 h apart, each with 400 rows of each of 2 conditions. A window of 2 h holds one of the times, so the most
# frequent time of a batch is its focal time.
SPACED = make_anchors(8000, n_experiments=1, seed=2)
SPACED["hours_post_infection"] = SPACED.groupby("condition").cumcount() % 10 * 12.0


def count_in_window(batches):
    """Return how many slots of each batch from SPACED lie within the window around its focal time."""
    hours = SPACED["hours_post_infection"]
    return [int(hours.iloc[batch].value_counts().iloc[0]) for batch in batches]


class TestExperimentAware:
    """SAMP-01: A batch comes from one experiment, and each experiment gets its share of the batches."""

    def test_every_batch_comes_from_one_experiment(self, draw_batches):
        assert_one_group(draw_batches(TABLE), TABLE["experiment"])

    def test_every_experiment_gets_batches(self, draw_batches):
        first_rows = [batch[0] for batch in draw_batches(TABLE)]
        assert set(TABLE["experiment"].iloc[first_rows]) == set(DAYS)

    def test_batches_mix_experiments_in_proportion_when_it_is_off(self, draw_batches):
        is_monday = (TABLE["experiment"] == "monday").to_numpy()
        n_from_monday = [is_monday[batch].sum() for batch in draw_batches(TABLE, 40, 1000, experiment_aware=False)]
        assert 0 < min(n_from_monday) < max(n_from_monday) < 40
        assert_mean_counts(n_from_monday, 40 * 0.7, spread=40)

    @pytest.mark.parametrize(
        ("weights", "shares"),
        [
            (None, {"monday": 0.7, "tuesday": 0.2, "friday": 0.1}),
            ("proportional", {"monday": 0.7, "tuesday": 0.2, "friday": 0.1}),
            ("sqrt", {day: math.sqrt(n) / sum(map(math.sqrt, DAYS.values())) for day, n in DAYS.items()}),
            ("uniform", dict.fromkeys(DAYS, 1 / 3)),
            ({"monday": 1, "tuesday": 3, "friday": 4}, {"monday": 1 / 8, "tuesday": 3 / 8, "friday": 4 / 8}),
            ({"monday": 1, "tuesday": 1, "friday": 0}, {"monday": 1 / 2, "tuesday": 1 / 2, "friday": 0}),
        ],
        ids=["default", "proportional", "sqrt", "uniform", "mapping", "mapping with a zero"],
    )
    def test_weights_set_the_share_of_the_batches_to_within_one_batch(self, draw_batches, weights, shares):
        assert_shares(draw_batches(TABLE, experiment_weights=weights), TABLE["experiment"], shares, within=1)

    def test_any_columns_can_define_the_experiment(self, draw_batches):
        table = TABLE.assign(plate=np.arange(len(TABLE)) % 2).rename(columns={"experiment": "day"})
        assert_one_group(draw_batches(table, experiment_by=["day", "plate"]), table[["day", "plate"]])


class TestConditionBalance:
    """SAMP-02: Every batch holds the conditions in equal shares, or in the given ratio, however rare they are."""

    @pytest.mark.parametrize("ratio", [1, 9, 99])
    @pytest.mark.parametrize("batch_size", [2, 32, 100])
    def test_every_batch_holds_as_many_of_the_rare_condition_as_of_the_common_one(
        self, draw_batches, ratio, batch_size
    ):
        table = make_skewed(8000, ratio=ratio, seed=1)
        batches = draw_batches(table, batch_size, n_batches=200)
        assert_rounded(batches, table["condition"], {"condition0": 0.5, "condition1": 0.5})

    def test_a_batch_that_does_not_divide_evenly_is_balanced_on_average(self, draw_batches):
        table = make_anchors(6000, conditions=["mock", "infected", "treated"], seed=1)
        batches = draw_batches(table, 32, n_batches=600)
        assert_rounded(batches, table["condition"], dict.fromkeys(["mock", "infected", "treated"], 1 / 3))
        for condition in ("mock", "infected", "treated"):
            is_condition = (table["condition"] == condition).to_numpy()
            assert_mean_counts([is_condition[batch].sum() for batch in batches], 32 / 3)

    def test_no_condition_is_preferred_when_there_are_more_of_them_than_slots(self, draw_batches):
        """With 20 conditions and 8 slots, each condition is in 40 % of the batches, within one percentage point."""
        table = make_anchors(40_000, n_experiments=1, conditions=[f"drug{i:02d}" for i in range(20)], seed=0)
        codes = table["condition"].str[4:].astype(int).to_numpy()
        batches = [codes[batch] for batch in draw_batches(table, 8)]
        assert all(len(set(batch)) == 8 for batch in batches)
        share = np.bincount(np.concatenate(batches), minlength=20) / len(batches)
        assert share == pytest.approx(0.4, abs=0.01)

    @pytest.mark.parametrize("scale", [1, 0.001, 250])
    def test_a_ratio_sets_the_shares_at_any_scale(self, draw_batches, scale):
        batches = draw_batches(TABLE, condition_ratio={"mock": 3 * scale, "infected": 1 * scale})
        assert_rounded(batches, TABLE["condition"], {"mock": 0.75, "infected": 0.25})

    def test_a_condition_with_a_ratio_of_zero_is_excluded(self, draw_batches):
        batches = draw_batches(TABLE, condition_ratio={"mock": 1, "infected": 0})
        assert_rounded(batches, TABLE["condition"], {"mock": 1.0, "infected": 0.0})

    def test_the_conditions_that_an_experiment_has_share_the_slots_of_those_it_lacks(self, draw_batches):
        table = make_missing_conditions(3000, seed=1)  # 3, 2 and 1 conditions
        n_conditions = table.groupby("experiment")["condition"].nunique()
        for batch in draw_batches(table, 30):
            rows = table.iloc[batch]
            n_present = n_conditions[rows["experiment"].iloc[0]]
            assert rows["condition"].value_counts().tolist() == [30 // n_present] * n_present

    def test_conditions_keep_their_share_of_the_table_when_it_is_off(self, draw_batches):
        is_infected = (TABLE["condition"] == "infected").to_numpy()
        n_infected = [is_infected[batch].sum() for batch in draw_batches(TABLE, 40, 1000, condition_balanced=False)]
        assert len(set(n_infected)) > 3
        assert_mean_counts(n_infected, 40 * 0.1, spread=40)


class TestTemporalEnrichment:
    """SAMP-03: Most of a batch comes from a window around a focal time, the rest from all times."""

    @pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
    def test_the_global_fraction_of_a_batch_comes_from_all_times_and_the_rest_from_the_window(
        self, draw_batches, fraction
    ):
        """The default of 0.3 puts 70 of 100 slots in the window and draws 30 from all times.

        Some of the global slots are in the window by chance. Each condition has 400 rows at the focal time, of which
        the focal slots take f, and 4000 rows in total, so a global slot is in the window with probability
        (400 - f) / (4000 - f). Hoeffding's bound on the mean over 2000 batches finds a fraction that is off by 0.02.
        """
        n_global = round(100 * fraction)
        options = {} if fraction == 0.3 else {"temporal_global_fraction": fraction}
        in_window = count_in_window(draw_batches(SPACED, 100, 2000, temporal_enrichment=True, **options))
        n_focal_per_condition = (100 - n_global) / 2
        chance = (400 - n_focal_per_condition) / (4000 - n_focal_per_condition)
        assert min(in_window) >= 100 - n_global
        assert_mean_counts(in_window, 100 - n_global + n_global * chance, spread=n_global)

    def test_a_global_fraction_of_zero_keeps_the_complete_batch_within_the_window(self, draw_batches):
        for window in (0.0, 0.5, 2.0):
            batches = draw_batches(
                TABLE, temporal_enrichment=True, temporal_window_hours=window, temporal_global_fraction=0.0
            )
            hours = TABLE["hours_post_infection"]
            assert_in_window(batches, hours, window, at_least=1.0, focal_times=hours.unique())

    def test_a_global_fraction_of_one_gives_the_batches_without_enrichment(self, draw_batches):
        enriched = draw_batches(TABLE, temporal_enrichment=True, temporal_global_fraction=1.0)
        assert_same_batches(enriched, draw_batches(TABLE))

    def test_times_are_not_filtered_when_it_is_off(self, draw_batches):
        """With 10 equally frequent times, a batch has 35 of 100 slots at one time with a probability below 1e-9."""
        batches = draw_batches(SPACED, 100, 500)
        assert max(count_in_window(batches)) < 35
        times = SPACED["hours_post_infection"].iloc[list(itertools.chain(*batches))]
        assert_uniform(times.value_counts().to_numpy())

    def test_the_window_and_the_fraction_change_nothing_when_it_is_off(self, draw_batches):
        batches = draw_batches(TABLE, temporal_window_hours=0.0, temporal_global_fraction=0.0)
        assert_same_batches(batches, draw_batches(TABLE))

    def test_a_time_exactly_at_the_edge_of_the_window_is_within_it(self, draw_batches):
        """Times 2 h apart: a window of 2 h holds the focal time and both of its neighbors."""
        table = make_anchors(4000, hours=96, n_experiments=1, seed=1)
        batches = draw_batches(table, 40, temporal_enrichment=True, temporal_global_fraction=0.0)
        n_times = {table["hours_post_infection"].iloc[batch].nunique() for batch in batches}
        assert n_times == {2, 3}  # 2 where the focal time is the first or the last

    def test_every_time_becomes_the_focal_time(self, draw_batches):
        batches = draw_batches(SPACED, 100, 10, temporal_enrichment=True, temporal_global_fraction=0.0)
        assert SPACED["hours_post_infection"].iloc[[batch[0] for batch in batches]].nunique() == 10

    def test_enrichment_stays_within_the_experiment(self, draw_batches):
        assert_one_group(draw_batches(TABLE, temporal_enrichment=True), TABLE["experiment"])

    def test_enrichment_keeps_a_rare_condition_at_half_of_every_batch(self, draw_batches):
        batches = draw_batches(TABLE, 64, temporal_enrichment=True)
        assert_rounded(batches, TABLE["condition"], {"mock": 0.5, "infected": 0.5})

    def test_all_conditions_of_a_batch_share_one_focal_time(self, draw_batches):
        for batch in draw_batches(SPACED, 40, temporal_enrichment=True):
            modes = SPACED.iloc[batch].groupby("condition")["hours_post_infection"].agg(lambda hours: hours.mode()[0])
            assert modes.nunique() == 1

    def test_a_condition_without_rows_in_the_window_keeps_its_share(self, draw_batches):
        """The conditions have no time in common, so one of them always lies outside the window."""
        table = make_anchors(2000, n_experiments=1, conditions=["early", "late"], seed=1)
        table["hours_post_infection"] += np.where(table["condition"] == "late", 100.0, 0.0)
        batches = draw_batches(table, temporal_enrichment=True, temporal_global_fraction=0.0)
        assert_rounded(batches, table["condition"], {"early": 0.5, "late": 0.5})


class TestRanks:
    """SAMP-04: On R ranks, rank r yields batches r, r + R, r + 2R, ... of one reproducible sequence (DDP)."""

    @staticmethod
    def make_sampler(rank=None, num_replicas=None, **options):
        options = {"batch_size": 100, "leaky": 0.1, "temporal_enrichment": True, **options}
        return FlexibleBatchSampler(TABLE, rank=rank, num_replicas=num_replicas, **options)

    def test_at_seed_42_rank_0_of_2_yields_the_even_batches_and_rank_1_the_odd_ones(self):
        batches = list(self.make_sampler(seed=42))
        even, odd = simulate_ranks(lambda rank, n: self.make_sampler(rank, n, seed=42), 2)
        assert_same_batches(even, batches[0::2])
        assert_same_batches(odd, batches[1::2])

    def test_the_batches_of_two_ranks_are_disjoint_and_complete(self):
        batches = {tuple(batch) for batch in self.make_sampler(seed=42)}
        even, odd = (
            {tuple(batch) for batch in rank}
            for rank in simulate_ranks(lambda rank, n: self.make_sampler(rank, n, seed=42), 2)
        )
        assert not even & odd
        assert even | odd == batches

    @pytest.mark.parametrize("num_replicas", [2, 3, 4])
    def test_the_anchors_of_a_plain_epoch_are_split_among_the_ranks(self, num_replicas):
        def make_plain_sampler(rank, n):
            return FlexibleBatchSampler(
                TABLE, 100, experiment_aware=False, condition_balanced=False, num_replicas=n, rank=rank, seed=42
            )

        ranks = simulate_ranks(make_plain_sampler, num_replicas)
        assert_disjoint_ranks(ranks)
        assert_complete_ranks(ranks, len(TABLE))

    @pytest.mark.parametrize("num_replicas", [1, 2, 3, 7, 64])
    def test_ranks_interleave_to_the_same_sequence_on_any_number_of_ranks(self, num_replicas):
        ranks = simulate_ranks(self.make_sampler, num_replicas)
        assert_equal_steps(ranks)
        assert_ranks_interleave(ranks, list(self.make_sampler()))

    @pytest.mark.parametrize(("drop_last", "n_batches"), [(True, 60), (False, 60)])
    @pytest.mark.parametrize("num_replicas", [1, 2, 7, 64])
    def test_the_length_is_the_number_of_batches_over_the_number_of_ranks_rounded_up(
        self, num_replicas, drop_last, n_batches
    ):
        self.check_lengths(num_replicas, math.ceil(n_batches / num_replicas), drop_last=drop_last)

    @pytest.mark.parametrize(("drop_last", "n_batches"), [(True, 15), (False, 16)])
    @pytest.mark.parametrize("num_replicas", [1, 2, 4, 5])
    def test_the_length_counts_the_short_last_batch_unless_it_is_dropped(self, num_replicas, drop_last, n_batches):
        expected = math.ceil(n_batches / num_replicas)
        self.check_lengths(num_replicas, expected, drop_last=drop_last, batch_size=390)  # 15 * 390 + 150 rows

    def check_lengths(self, num_replicas, expected, **options):
        """Check that every rank has the expected length, and yields as many batches."""
        for rank in range(num_replicas):
            sampler = self.make_sampler(rank, num_replicas, **options)
            assert len(sampler) == len(list(sampler)) == expected

    def test_a_process_alone_is_rank_0_of_1(self):
        assert_same_batches(list(self.make_sampler()), list(self.make_sampler(0, 1)))

    def test_setting_epoch_0_twice_gives_the_same_batches_twice(self):
        sampler = self.make_sampler()
        sampler.set_epoch(0)
        first = list(sampler)
        sampler.set_epoch(0)
        assert_same_batches(list(sampler), first)

    def test_epochs_0_and_1_are_unrelated(self):
        sampler = self.make_sampler(temporal_enrichment=False)
        sampler.set_epoch(0)
        first = list(sampler)
        sampler.set_epoch(1)
        assert_unrelated(list(sampler), first, 600)

    def test_the_same_seed_gives_two_samplers_the_same_batches_whatever_the_global_rng_state(self):
        assert_deterministic(lambda: self.make_sampler(seed=7))

    def test_different_seeds_give_unrelated_batches(self):
        first, second = (list(self.make_sampler(seed=seed, temporal_enrichment=False)) for seed in (7, 8))
        assert_unrelated(first, second, 600)

    def test_a_rank_composes_its_own_batches_only(self, monkeypatch):
        sampler = self.make_sampler(3, 10)
        composed = []
        compose = sampler._composer.compose
        monkeypatch.setattr(
            sampler._composer, "compose", lambda plan, k: composed.extend(k.tolist()) or compose(plan, k)
        )
        list(sampler)
        assert composed == list(range(3, 60, 10))


class TestLeakyMixing:
    """SAMP-05: A fraction `leaky` of every batch comes from the other experiments."""

    @pytest.mark.parametrize("leaky", [0.01, 0.1, 0.25, 1 / 3])
    def test_the_leak_of_every_batch_is_its_fraction_rounded_down_or_up(self, draw_batches, leaky):
        assert_leak(draw_batches(TABLE, 30, leaky=leaky), TABLE["experiment"], leaky)

    @pytest.mark.parametrize(("leaky", "n_leaked"), [(0.05, 0.5), (0.125, 1.25), (0.2, 2.0)])
    def test_the_leak_has_its_exact_fraction_on_average(self, draw_batches, leaky, n_leaked):
        experiments = TABLE["experiment"].to_numpy()
        own = [pd.Series(experiments[batch]).value_counts().iloc[0] for batch in draw_batches(TABLE, 10, leaky=leaky)]
        assert_mean_counts([10 - n for n in own], n_leaked)

    def test_a_leak_of_half_a_slot_fills_one_slot_in_every_other_batch(self, draw_batches):
        table = make_anchors(40_000, n_experiments=2, seed=0)
        is_first = (table["experiment"] == table["experiment"].iloc[0]).to_numpy()
        n_first = [is_first[batch].sum() for batch in draw_batches(table, 10, leaky=0.05)]
        leaks = [min(n, 10 - n) for n in n_first]
        assert set(leaks) == {0, 1}
        assert np.mean(leaks) == pytest.approx(0.5, abs=0.01)

    def test_nothing_leaks_by_default(self, draw_batches):
        assert_leak(draw_batches(TABLE), TABLE["experiment"], 0.0)
        assert_same_batches(draw_batches(TABLE), draw_batches(TABLE, leaky=0.0))

    def test_the_leak_draws_all_rows_of_the_other_experiments_equally_often(self, draw_batches):
        table = make_anchors(1000, experiments={"home": 8, "large": 1.5, "small": 0.5}, conditions=["mock"], seed=1)
        weights = {"home": 1, "large": 1e-9, "small": 1e-9}
        batches = draw_batches(table, 20, 1000, leaky=0.5, experiment_weights=weights)
        counts = np.bincount(list(itertools.chain(*batches)), minlength=1000)
        assert_uniform(counts[table["experiment"] != "home"])

    def test_conditions_are_balanced_over_the_complete_batch_including_the_leak(self, draw_batches):
        batches = draw_batches(TABLE, 40, leaky=0.15)
        assert_rounded(batches, TABLE["condition"], {"mock": 0.5, "infected": 0.5})

    def test_an_excluded_experiment_does_not_leak(self, draw_batches):
        batches = draw_batches(TABLE, leaky=0.3, experiment_weights={"monday": 1, "tuesday": 1, "friday": 0})
        assert set(TABLE["experiment"].iloc[list(itertools.chain(*batches))]) == {"monday", "tuesday"}

    def test_a_leak_with_one_experiment_logs_one_warning_and_keeps_batches_full(self, draw_batches, collect_warnings):
        table = make_anchors(500, n_experiments=1)
        (message,) = collect_warnings(table, 32, leaky=0.2)
        assert "leaky=0.2 has no effect" in message
        assert {len(batch) for batch in draw_batches(table, leaky=0.2)} == {32}


class TestAllRequirementsTogether:
    """SAMP-01 to SAMP-05: each step keeps what the steps before it established."""

    def test_experiment_then_leak_then_condition_then_time(self):
        table = make_anchors(20_000, n_experiments=4, conditions={"mock": 9, "infected": 1}, seed=3)
        sampler = FlexibleBatchSampler(
            table, 100, leaky=0.1, temporal_enrichment=True, temporal_window_hours=1.0, temporal_global_fraction=0.25
        )
        for batch in sampler:
            rows = table.iloc[batch]
            experiments = rows["experiment"].value_counts()
            assert experiments.iloc[0] == 90  # primary slots from one experiment, the leak from the others
            assert rows["condition"].value_counts().to_dict() == {"mock": 50, "infected": 50}
            own = rows[rows["experiment"] == experiments.index[0]]
            for _, stratum in own.groupby("condition"):
                # 45 primary slots per condition, of which 33.75 lie within one hour of the focal time
                hours = stratum["hours_post_infection"].to_numpy()
                assert max((np.abs(hours - focal) <= 1.0).sum() for focal in hours) >= 33


AXES = [
    ("experiment", "experiment_aware"),
    ("condition", "condition_balanced"),
    ("hours_post_infection", "temporal_enrichment"),
]


class TestRequiredColumns:
    """A column is required only while the option that uses it is on."""

    @pytest.mark.parametrize(("column", "option"), AXES)
    def test_a_missing_column_raises_an_error_that_names_it_while_its_option_is_on(self, column, option):
        with pytest.raises(ValueError, match=rf"{option}=True .*'{column}'"):
            FlexibleBatchSampler(TABLE.drop(columns=column), 32, **{option: True})

    @pytest.mark.parametrize(("column", "option"), AXES)
    def test_the_error_lists_the_columns_of_the_table(self, column, option):
        table = TABLE.drop(columns=column)
        with pytest.raises(ValueError, match="columns are .*" + ".*".join(map(repr, table.columns))):
            FlexibleBatchSampler(table, 32, **{option: True})

    @pytest.mark.parametrize(("column", "option"), AXES)
    def test_a_missing_column_does_not_matter_while_its_option_is_off(self, draw_batches, column, option):
        batches = draw_batches(TABLE.drop(columns=column), **{option: False})
        assert_same_batches(batches, draw_batches(TABLE, **{option: False}))

    def test_a_table_needs_no_column_at_all_when_every_option_is_off(self):
        sampler = FlexibleBatchSampler(TABLE[["x"]], 100, experiment_aware=False, condition_balanced=False)
        assert sorted(itertools.chain(*sampler)) == list(range(len(TABLE)))


class TestInterface:
    """The sampler is a torch batch sampler that yields lists of row numbers."""

    def test_it_is_imported_from_the_package_or_from_its_module(self):
        assert viscy_data.FlexibleBatchSampler is viscy_data.sampler.FlexibleBatchSampler
        assert "FlexibleBatchSampler" in viscy_data.__all__

    def test_it_is_a_torch_sampler(self):
        assert issubclass(FlexibleBatchSampler, Sampler)

    def test_batches_are_lists_of_python_ints(self, draw_batches):
        batches = draw_batches(TABLE)
        assert {type(batch) for batch in batches} == {list}
        assert_positions(batches, len(TABLE))

    def test_batches_have_the_batch_size_except_for_a_last_one_that_is_kept(self, draw_batches):
        table = make_anchors(1000)
        assert [len(batch) for batch in draw_batches(table, 300)] == [300, 300, 300]
        assert [len(batch) for batch in draw_batches(table, 300, drop_last=False)] == [300, 300, 300, 100]

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_data_loader_takes_it_as_batch_sampler(self, draw_batches, num_workers):
        dataset = torch.utils.data.TensorDataset(torch.arange(len(TABLE)))
        sampler = FlexibleBatchSampler(TABLE, 500)
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=num_workers)
        assert len(loader) == len(sampler)
        assert [rows.tolist() for (rows,) in loader] == draw_batches(TABLE, 500)


class TestKnownMistakes:
    """Mistakes that other batch samplers make."""

    def test_a_loop_that_never_calls_set_epoch_does_not_repeat_an_epoch(self):
        sampler = FlexibleBatchSampler(make_anchors(500), 32)
        first, second, third = list(sampler), list(sampler), list(sampler)
        assert first != second != third != first

    def test_ranks_yield_equally_many_batches_where_they_do_not_divide(self):
        table = make_anchors(1000)
        ranks = simulate_ranks(lambda rank, n: FlexibleBatchSampler(table, 100, num_replicas=n, rank=rank), 4)
        assert [len(batches) for batches in ranks] == [3, 3, 3, 3]

    def test_a_small_pool_does_not_shorten_the_batch(self, draw_batches):
        tiny = make_anchors(5, n_experiments=1, seed=2).assign(experiment="tiny")
        table = pd.concat([make_anchors(1000, seed=1), tiny])
        assert {len(batch) for batch in draw_batches(table, 50, experiment_weights="uniform")} == {50}

    def test_no_anchor_appears_twice_in_a_batch(self, draw_batches):
        table = make_anchors(5000, seed=2)
        assert_distinct(draw_batches(table, 128, leaky=0.2, temporal_enrichment=True))

    def test_a_misspelled_weight_drops_no_experiment(self):
        with pytest.raises(ValueError, match="did you mean 'tuesday'"):
            FlexibleBatchSampler(TABLE, 32, experiment_weights={"monday": 1, "tusday": 1, "friday": 1})

    def test_rows_with_missing_values_raise_an_error_instead_of_being_skipped(self):
        table = make_anchors(500)
        table.loc[table.index[7], "condition"] = None
        with pytest.raises(ValueError, match=r"no missing values.*got 1 of 500, first at position 7"):
            FlexibleBatchSampler(table, 32)

    def test_row_numbers_are_yielded_whatever_the_index_of_the_frame(self, draw_batches):
        table = make_anchors(500, seed=4)
        expected = draw_batches(table)
        for index in (np.arange(500) + 10_000, [0] * 500, [f"row{i}" for i in range(500)]):
            batches = draw_batches(table.set_index(pd.Index(index)))
            assert_positions(batches, 500)
            assert_same_batches(batches, expected)

    def test_the_number_1_and_the_text_1_are_two_experiments(self, draw_batches):
        table = make_anchors(600, n_experiments=1)
        table["experiment"] = pd.Series([1, "1"] * 300, dtype=object, index=table.index)
        types = table["experiment"].map(type).map(str).to_numpy()
        assert_one_group(draw_batches(table), types)

    def test_the_next_epoch_is_not_the_next_seed(self):
        next_seed = FlexibleBatchSampler(TABLE, 32, seed=1).batch(0)
        assert FlexibleBatchSampler(TABLE, 32, seed=0).batch(0, epoch=1) != next_seed

    def test_resuming_continues_the_epoch_instead_of_repeating_it(self):
        expected = list(FlexibleBatchSampler(TABLE, 100))
        stopped = FlexibleBatchSampler(TABLE, 100)
        before = list(itertools.islice(iter(stopped), 5))
        resumed = FlexibleBatchSampler(TABLE, 100)
        resumed.load_state_dict(stopped.state_dict())
        assert_same_batches(before + list(resumed), expected)

    def test_a_state_saved_at_the_end_of_an_epoch_resumes_with_the_next_epoch(self):
        sampler, resumed = FlexibleBatchSampler(TABLE, 100), FlexibleBatchSampler(TABLE, 100)
        list(sampler)
        resumed.load_state_dict(sampler.state_dict())
        assert_same_batches(list(resumed), list(sampler))
