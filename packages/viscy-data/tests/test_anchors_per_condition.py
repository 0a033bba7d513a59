"""Batches with several anchors of each of their conditions."""

import itertools
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_data import FlexibleBatchSampler
from viscy_data._compose.epoch import Epoch


def make_anchors(n=4000, n_conditions=40, n_groups=3, seed=0, by_group=False):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, n)
    condition = rng.integers(0, n_conditions, n)
    if by_group:  # every condition occurs in one or two groups
        group = (condition + rng.integers(0, 2, n)) % n_groups
        group[condition % 2 == 0] = condition[condition % 2 == 0] % n_groups
    return pd.DataFrame(
        {
            "experiment": [f"e{g}" for g in group],
            "condition": [f"c{c:03d}" for c in condition],
            "hours_post_infection": rng.integers(0, 20, n) * 0.5,
        }
    )


def draw(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


OPTIONS = [
    {},
    {"experiment_aware": False},
    {"leaky": 0.25},
    {"leaky": 0.1},
    {"temporal_enrichment": True},
    {"temporal_enrichment": True, "leaky": 0.2},
    {"condition_ratio": {"c000": 3.0, "c001": 0.5, "c002": 0.0, "...": 1.0}},
    {"condition_ratio": {"c000": 12.0, "c001": 8.0, "...": 1.0}, "leaky": 0.15},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("batch_size", "at_least"), [(32, 4), (50, 3), (33, 8), (20, 20)])
@pytest.mark.parametrize("by_group", [False, True])
def test_a_batch_has_as_many_conditions_as_can_have_enough_anchors(options, batch_size, at_least, by_group):
    anchors = make_anchors(8000, by_group=by_group)
    sampler = FlexibleBatchSampler(anchors, batch_size, anchors_per_condition=at_least, **options)
    condition, group = anchors["condition"].to_numpy(), anchors["experiment"].to_numpy()
    excluded = {label for label, weight in options.get("condition_ratio", {}).items() if weight == 0}
    for batch in draw(sampler):
        assert len(batch) == batch_size
        assert len(set(batch)) == batch_size or "temporal_enrichment" in options  # a window may have few rows
        labels, counts = np.unique(condition[batch], return_counts=True)
        own = pd.Series(group[batch]).mode()[0] if options.get("experiment_aware", True) else None
        present = set(condition if own is None else condition[group == own]) - excluded
        assert len(labels) == min(batch_size // at_least, len(present))
        assert counts.min() >= at_least
        assert set(labels) <= present
        if "condition_ratio" not in options:
            assert set(counts) <= {batch_size // len(labels), -(-batch_size // len(labels))}
        n_leak = 0 if own is None else (group[batch] != own).sum()
        quota = batch_size * options.get("leaky", 0)
        assert n_leak <= np.ceil(quota)
        if not by_group:
            assert n_leak >= np.floor(quota)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("batch_size", "at_least"), [(32, 4), (50, 3), (40, 2), (20, 20)])
@pytest.mark.parametrize("epoch_batches", [None, 11])
def test_conditions_are_chosen_in_proportion_to_their_shares(options, batch_size, at_least, epoch_batches):
    anchors = make_anchors()
    sampler = FlexibleBatchSampler(
        anchors, batch_size, anchors_per_condition=at_least, epoch_batches=epoch_batches, **options
    )
    n_epochs = 1 if epoch_batches is None else -(-(len(anchors) // batch_size) // epoch_batches)
    batches = list(itertools.chain.from_iterable(draw(sampler, epoch) for epoch in range(n_epochs)))
    choice = sampler._quotas.choice
    assert choice is not None
    groups, labels = sampler._index.groups, sampler._index.conditions
    group = anchors["experiment"].to_numpy() if groups != (None,) else np.full(len(anchors), None)
    of_group = {label: [] for label in groups}
    for batch in batches:
        most_frequent = pd.Series(group[batch]).value_counts(dropna=False).index[0]
        of_group[None if groups == (None,) else most_frequent].append(batch)
    for code, label in enumerate(groups):
        found = np.zeros(len(labels))
        for batch in of_group[label]:
            found[np.unique(np.searchsorted(labels, anchors["condition"].to_numpy()[batch]))] += 1
        assert (np.abs(found - len(of_group[label]) * choice.probability[code]) < 1).all()


@pytest.mark.parametrize("options", [{}, {"leaky": 0.25}, {"leaky": 0.1}, *OPTIONS[6:]], ids=str)
@pytest.mark.parametrize(("batch_size", "at_least"), [(32, 4), (50, 3), (33, 8)])
def test_slots_before_a_batch_are_the_sum_over_the_earlier_batches(options, batch_size, at_least):
    anchors = make_anchors(6000)
    sampler = FlexibleBatchSampler(anchors, batch_size, anchors_per_condition=at_least, **options)
    epoch = Epoch(sampler._index, sampler._quotas, sampler._options, 3)
    scheduled = epoch.look_up(np.arange(500))  # into the third cycle
    primary, _ = epoch.slots(scheduled, batch_size)
    before = epoch.drawn_before(scheduled, primary)
    for group in range(3):
        own = scheduled.group == group
        expected = np.cumsum(primary[own], axis=0) - primary[own]
        has_slots = primary[own] > 0
        assert (before[own][has_slots] == expected[has_slots]).all()


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("leaky", [0.0, 0.2])
def test_a_stratum_is_drawn_without_replacement(drop_last, leaky):
    anchors = make_anchors(6007)
    sampler = FlexibleBatchSampler(anchors, 48, anchors_per_condition=5, leaky=leaky, drop_last=drop_last)
    group = anchors["experiment"].to_numpy()
    drawn = np.zeros(len(anchors), int)
    for batch in draw(sampler):
        own = pd.Series(group[batch]).mode()[0]
        drawn[[row for row in batch if group[row] == own]] += 1
    for _, counts in pd.Series(drawn).groupby([anchors["experiment"], anchors["condition"]]):
        assert np.ptp(counts) <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.sampled_from([0.0, 0.3]))
def test_any_number_of_conditions_and_slots(n_conditions, batch_size, at_least, drop_last, leaky):
    at_least = min(at_least, batch_size)
    anchors = make_anchors(700, n_conditions, n_groups=2)
    sampler = FlexibleBatchSampler(
        anchors, batch_size, anchors_per_condition=at_least, leaky=leaky, drop_last=drop_last
    )
    condition = anchors["condition"].to_numpy()
    for batch in draw(sampler):
        labels, counts = np.unique(condition[batch], return_counts=True)
        assert len(labels) == min(n_conditions, max(1, len(batch) // at_least))
        assert counts.min() >= min(at_least, len(batch))


@pytest.mark.parametrize(
    "options", [{}, {"leaky": 0.1}, {"temporal_enrichment": True, "drop_last": False}, {"drop_last": False}], ids=str
)
def test_a_group_with_few_conditions_has_all_of_them_in_every_batch(options):
    anchors = make_anchors(6010, n_conditions=20, n_groups=2)
    few = anchors["experiment"] == "e0"
    anchors.loc[few, "condition"] = np.where(anchors.loc[few, "condition"] < "c010", "c003", "c004")
    sampler = FlexibleBatchSampler(anchors, 24, anchors_per_condition=4, **options)
    condition, group = anchors["condition"].to_numpy(), anchors["experiment"].to_numpy()
    n_conditions = {"e0": set(), "e1": set()}
    for batch in draw(sampler):
        labels, counts = np.unique(condition[batch], return_counts=True)
        n_conditions[pd.Series(group[batch]).mode()[0]].add((len(batch), len(labels)))
        assert counts.min() >= 4
    assert {n for size, n in n_conditions["e0"] if size == 24} == {2}
    assert {n for size, n in n_conditions["e1"] if size == 24} == {6}


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 11),
    st.integers(1, 30),
    st.integers(1, 6),
    st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_conditions_that_cannot_leak_have_enough_anchors_too(n_conditions, batch_size, at_least, leaky, equal, seed):
    at_least = min(at_least, batch_size)
    rng = np.random.default_rng(seed)
    shared = rng.random(n_conditions) < 0.5
    in_both = [("a", c) for c in range(n_conditions)] + [("b", c) for c in np.flatnonzero(shared)] + [("b", 0)]
    anchors = pd.DataFrame(in_both * 20, columns=["experiment", "condition"])
    ratio = None if equal else {c: rng.choice([0.5, 1.0, 2.0]) for c in range(n_conditions)}
    sampler = FlexibleBatchSampler(
        anchors,
        batch_size,
        anchors_per_condition=at_least,
        leaky=leaky,
        experiment_weights="uniform",
        condition_ratio=ratio,
        drop_last=len(anchors) >= batch_size,
    )
    choice = sampler._quotas.choice
    assert choice is not None
    for batch in draw(sampler)[:30]:
        if len(batch) < batch_size:
            continue
        rows = anchors.iloc[batch]
        counts = rows["condition"].value_counts()
        group = int((rows["experiment"] == "b").sum() > batch_size / 2) if leaky < 0.5 else None
        assert counts.min() >= at_least
        if group is not None:
            due = choice.slots[group, counts.index]
            assert (np.abs(counts - due) < 1 + 1e-9).all()


def test_pairs_of_conditions_differ_from_batch_to_batch():
    anchors = make_anchors(20000, n_conditions=40, n_groups=1)
    sampler = FlexibleBatchSampler(anchors, 32, anchors_per_condition=4)
    codes = np.searchsorted(sampler._index.conditions, anchors["condition"].to_numpy())
    together = np.zeros((40, 40), int)
    batches = draw(sampler)
    for batch in batches:
        chosen = np.unique(codes[batch])
        together[np.ix_(chosen, chosen)] += 1
    pairs = together[np.triu_indices(40, k=1)]
    expected = len(batches) * 8 * 7 / (40 * 39)
    # a pair is together in about 22 of 625 batches; counts of independent batches would have this standard deviation
    assert pairs.std() < 1.5 * np.sqrt(expected)
    assert pairs.min() > 0


def test_slots_and_conditions_are_in_random_order():
    anchors = make_anchors(20000, n_conditions=10, n_groups=1)
    sampler = FlexibleBatchSampler(anchors, 20, anchors_per_condition=5)
    codes = np.searchsorted(sampler._index.conditions, anchors["condition"].to_numpy())
    by_slot = np.array([codes[batch] for batch in draw(sampler)])
    counts = np.array([np.bincount(column, minlength=10) for column in by_slot.T])
    expected = len(by_slot) / 10
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 19 * 9 + 6 * np.sqrt(2 * 19 * 9)  # six standard deviations


def test_the_planned_composition_is_what_batches_hold():
    anchors = make_anchors(6000, by_group=True)
    options = {"anchors_per_condition": 4, "leaky": 0.2, "condition_ratio": {"c000": 3.0, "c003": 0.0, "...": 1.0}}
    sampler = FlexibleBatchSampler(anchors, 32, **options)
    planned = sampler.planned()
    rows = np.concatenate([batch for epoch in range(6) for batch in draw(sampler, epoch)])
    held = anchors.iloc[rows].groupby(["experiment", "condition"]).size() / len(rows)
    expected = planned.strata["epoch_share"]
    assert expected.sum() == pytest.approx(1)
    difference = (expected - held.reindex(expected.index, fill_value=0)).abs()
    assert difference.max() < 0.002
    assert planned.options["anchors_per_condition"] == 4


def test_conditions_that_cannot_leak_have_their_share_of_slots():
    in_both = [("a", c) for c in range(6)] + [("b", c) for c in range(3)] + [("b", 6 + c) for c in range(3)]
    anchors = pd.DataFrame(in_both * 60, columns=["experiment", "condition"])
    sampler = FlexibleBatchSampler(anchors, 14, anchors_per_condition=4, leaky=0.3)
    condition = anchors["condition"].to_numpy()
    n_epochs, slots, batches = 150, np.zeros(9), np.zeros(9)
    for epoch in range(n_epochs):
        for batch in draw(sampler, epoch):
            counts = np.bincount(condition[batch], minlength=9)
            slots += counts
            batches += counts > 0
    # 14 slots are split over 3 conditions; which ones get 5 is drawn once in each epoch and group
    assert slots / batches == pytest.approx(np.full(9, 14 / 3), abs=6 * 0.5 / np.sqrt(n_epochs))


def test_ranks_and_resume_follow_the_global_sequence():
    anchors = make_anchors()
    options = {"batch_size": 32, "anchors_per_condition": 4, "leaky": 0.1}
    whole = FlexibleBatchSampler(anchors, **options)
    ranks = [list(FlexibleBatchSampler(anchors, **options, num_replicas=4, rank=rank)) for rank in range(4)]
    assert [batch for step in zip(*ranks, strict=True) for batch in step] == [whole.batch(k) for k in range(128)]
    batches = iter(whole)
    drawn = [next(batches) for _ in range(50)]
    resumed = FlexibleBatchSampler(anchors, **options)
    resumed.load_state_dict(whole.state_dict())
    assert drawn + list(resumed) == [whole.batch(k, epoch=0) for k in range(125)]
    other = FlexibleBatchSampler(anchors, batch_size=32, anchors_per_condition=2, leaky=0.1)
    with pytest.raises(ValueError, match="anchors_per_condition differs"):
        other.load_state_dict(whole.state_dict())


def test_few_conditions_are_all_in_every_batch():
    anchors = make_anchors(n_conditions=2)
    plain = FlexibleBatchSampler(anchors, 32)
    assert list(FlexibleBatchSampler(anchors, 32, anchors_per_condition=8)) == list(plain)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "anchors_per_condition must be at least 1, got 0"),
        (33, ValueError, "anchors_per_condition must be at most batch_size, 32, got 33"),
        (2.0, TypeError, "anchors_per_condition must be an integer, got 2.0"),
        ("4", TypeError, "anchors_per_condition must be an integer, got '4'"),
    ],
)
def test_the_number_must_be_an_integer_from_one_to_the_batch_size(value, error, message):
    with pytest.raises(error, match=message):
        FlexibleBatchSampler(make_anchors(), 32, anchors_per_condition=value)


def test_a_warning_says_that_the_number_has_no_effect_without_balance(caplog):
    with caplog.at_level(logging.WARNING):
        FlexibleBatchSampler(make_anchors(), 32, anchors_per_condition=4, condition_balanced=False)
    assert "anchors_per_condition has no effect: condition_balanced=False" in caplog.text


def test_a_warning_says_that_a_share_cannot_be_had(caplog):
    ratio = {"c000": 20.0, "...": 1.0}
    with caplog.at_level(logging.WARNING):
        FlexibleBatchSampler(make_anchors(), 32, anchors_per_condition=4, condition_ratio=ratio)
    assert "condition_ratio" in caplog.text
    assert "'c000'" in caplog.text
