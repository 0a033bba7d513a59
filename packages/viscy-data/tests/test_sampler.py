"""The cascade in words, and the ways in which batch samplers of this field are known to be wrong.

`test_batch.py`, `test_epoch.py`, `test_ranks.py`, `test_resume.py` and `test_errors.py` state each law by itself;
`test_properties.py` states those that always hold over tables x options x ranks x position.
"""

import logging

import numpy as np
import pandas as pd
import pytest

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import assert_distinct, assert_one_group, assert_positions, make_anchors


def test_the_cascade_experiment_then_leak_then_condition_then_time():
    """Every law at once, read off one table: each step keeps what the steps before it gave."""
    table = make_anchors(20_000, n_experiments=4, conditions={"mock": 9, "infected": 1}, seed=3)
    sampler = FlexibleBatchSampler(
        table, 100, leaky=0.1, temporal_enrichment=True, temporal_window_hours=1.0, temporal_global_fraction=0.25
    )
    for batch in sampler:
        rows = table.iloc[batch]
        experiments = rows["experiment"].value_counts()
        assert experiments.iloc[0] == 90  # primary slots of one experiment, the leak from the others
        assert rows["condition"].value_counts().to_dict() == {"mock": 50, "infected": 50}
        own = rows[rows["experiment"] == experiments.index[0]]
        for _, cell in own.groupby("condition"):
            # 45 primary slots a condition, of which 33.75 are within an hour of some time
            hours = cell["hours_post_infection"].to_numpy()
            assert max((np.abs(hours - focal) <= 1.0).sum() for focal in hours) >= 33


def test_temporal_enrichment_keeps_a_rare_condition_at_half_of_every_batch():
    table = make_anchors(10_000, conditions={"mock": 90, "infected": 10}, seed=1)
    sampler = FlexibleBatchSampler(table, 64, condition_balanced=True, temporal_enrichment=True)
    infected = (table["condition"] == "infected").to_numpy()
    assert {int(infected[batch].sum()) for batch in sampler} == {32}


def test_epochs_differ_though_nobody_calls_set_epoch():
    sampler = FlexibleBatchSampler(make_anchors(500), 32)
    first, second, third = list(sampler), list(sampler), list(sampler)
    assert first != second != third != first


def test_ranks_yield_equally_many_batches():
    table = make_anchors(1000)
    ranks = [list(FlexibleBatchSampler(table, 100, num_replicas=4, rank=rank)) for rank in range(4)]
    assert [len(batches) for batches in ranks] == [3, 3, 3, 3]


def test_a_rank_builds_its_own_batches_only(monkeypatch):
    table = make_anchors(6400)
    sampler = FlexibleBatchSampler(table, 64, num_replicas=10, rank=3)
    built = []
    compose = sampler._composer.compose
    monkeypatch.setattr(sampler._composer, "compose", lambda plan, k: built.extend(k.tolist()) or compose(plan, k))
    list(sampler)
    assert built == list(range(3, 100, 10))


def test_the_remainder_of_rounding_goes_to_no_condition_in_particular():
    """20 conditions, batches of 8: each is in 40 % of batches, to within a rounding step."""
    table = make_anchors(40_000, n_experiments=1, conditions=[f"drug{i:02d}" for i in range(20)], seed=0)
    codes = table["condition"].str[4:].astype(int).to_numpy()
    batches = [codes[batch] for batch in FlexibleBatchSampler(table, 8)]
    assert all(len(set(batch)) == 8 for batch in batches)
    share = np.bincount(np.concatenate(batches), minlength=20) / len(batches)
    assert share == pytest.approx(0.4, abs=0.005)


def test_a_small_leak_leaks():
    """A leak of 5 % of ten slots is half a slot: one in every other batch, not none."""
    table = make_anchors(40_000, n_experiments=2, seed=0)
    experiment = (table["experiment"] == table["experiment"].iloc[0]).to_numpy()
    leaks = []
    for batch in FlexibleBatchSampler(table, 10, leaky=0.05):
        own = experiment[batch].sum()
        leaks.append(min(own, 10 - own))
    assert set(leaks) == {0, 1}
    assert np.mean(leaks) == pytest.approx(0.5, abs=0.01)


def test_a_leak_with_one_experiment_is_a_warning_and_full_batches(caplog):
    table = make_anchors(500, n_experiments=1)
    with caplog.at_level(logging.WARNING, logger="viscy_data.sampler"):
        sampler = FlexibleBatchSampler(table, 32, leaky=0.2)
    assert len(caplog.records) == 1
    assert {len(batch) for batch in sampler} == {32}


def test_a_small_pool_does_not_shorten_the_batch():
    table = pd.concat([make_anchors(1000, seed=1), make_anchors(5, n_experiments=1, seed=2).assign(experiment="tiny")])
    sampler = FlexibleBatchSampler(table, 50, experiment_weights="uniform")
    assert {len(batch) for batch in sampler} == {50}


def test_a_misspelt_weight_drops_no_experiment():
    table = make_anchors(500, experiments={"monday": 1, "tuesday": 1})
    with pytest.raises(ValueError, match="did you mean 'tuesday'"):
        FlexibleBatchSampler(table, 32, experiment_weights={"monday": 1, "tusday": 1})


def test_rows_with_missing_values_are_refused_not_passed_over():
    table = make_anchors(500)
    table.loc[table.index[7], "condition"] = None
    with pytest.raises(ValueError, match=r"no missing values.*got 1 of 500, first at position 7"):
        FlexibleBatchSampler(table, 32)


def test_positions_are_yielded_whatever_the_index_is():
    table = make_anchors(500, seed=4)
    expected = list(FlexibleBatchSampler(table, 32))
    for index in (np.arange(500) + 10_000, [0] * 500, [f"cell{i}" for i in range(500)]):
        batches = list(FlexibleBatchSampler(table.set_index(pd.Index(index)), 32))
        assert_positions(batches, 500)
        assert batches == expected


def test_number_one_and_text_one_are_two_experiments():
    table = make_anchors(600, n_experiments=1)
    table["experiment"] = pd.Series([1, "1"] * 300, dtype=object, index=table.index)
    kinds = table["experiment"].map(type).map(str).to_numpy()
    assert_one_group(list(FlexibleBatchSampler(table, 32)), kinds)


def test_drop_last_is_read():
    table = make_anchors(1000)
    assert [len(batch) for batch in FlexibleBatchSampler(table, 300)] == [300, 300, 300]
    assert [len(batch) for batch in FlexibleBatchSampler(table, 300, drop_last=False)] == [300, 300, 300, 100]


def test_the_next_epoch_is_not_the_next_seed():
    table = make_anchors(500)
    assert FlexibleBatchSampler(table, 32, seed=0).batch(0, epoch=1) != FlexibleBatchSampler(table, 32, seed=1).batch(0)


def test_resuming_goes_on_instead_of_repeating_the_epoch():
    table = make_anchors(500)
    whole = list(FlexibleBatchSampler(table, 32))
    stopped = FlexibleBatchSampler(table, 32)
    before = [batch for batch, _ in zip(stopped, range(6), strict=False)][:5]
    state = FlexibleBatchSampler(table, 32).state_dict() | {"position": 5}
    resumed = FlexibleBatchSampler(table, 32)
    resumed.load_state_dict(state)
    assert before + list(resumed) == whole


def test_state_saved_at_the_end_of_an_epoch_trains_the_next():
    table = make_anchors(500)
    sampler = FlexibleBatchSampler(table, 32)
    list(sampler)
    resumed = FlexibleBatchSampler(table, 32)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == list(sampler)


def test_no_anchor_comes_twice_in_a_batch():
    table = make_anchors(5000, seed=2)
    assert_distinct(list(FlexibleBatchSampler(table, 128, leaky=0.2, temporal_enrichment=True)))
