"""One epoch: the number of batches, the group of each, the focal times, and the anchors that are drawn."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import (
    assert_drawn_evenly,
    assert_positions,
    assert_shares,
    assert_uniform,
    assert_unrelated,
    make_anchors,
)

WEIGHTS = {"monday": 70, "tuesday": 20, "friday": 10}
TABLE = make_anchors(5000, experiments=WEIGHTS, seed=6)


def home_experiments(batches, table=TABLE):
    """Return the experiment that most slots of each batch come from."""
    experiment = table["experiment"].to_numpy()
    return [Counter(experiment[batch]).most_common(1)[0][0] for batch in batches]


# number of batches


@pytest.mark.parametrize(
    ("n", "drop_last", "lengths"),
    [(100, True, [25] * 4), (110, True, [25] * 4), (110, False, [25] * 4 + [10]), (100, False, [25] * 4)],
)
def test_an_epoch_has_as_many_batches_as_fit(n, drop_last, lengths):
    sampler = FlexibleBatchSampler(make_anchors(n), 25, drop_last=drop_last)
    batches = list(sampler)
    assert [len(batch) for batch in batches] == lengths
    assert len(sampler) == len(lengths)
    assert_positions(batches, n)


def test_a_batch_larger_than_the_table_is_short_or_raises_an_error():
    table = make_anchors(20)
    (batch,) = FlexibleBatchSampler(table, 32, drop_last=False)
    assert len(batch) == 20
    with pytest.raises(ValueError, match="batch_size must be at most the number of anchors"):
        FlexibleBatchSampler(table, 32)


def test_a_short_last_batch_is_composed_like_any_other():
    table = make_anchors(1018, n_experiments=2, seed=1)
    last = list(FlexibleBatchSampler(table, 100, leaky=0.5, drop_last=False))[-1]
    assert sorted(Counter(table["experiment"].iloc[last]).values()) == [9, 9]
    assert Counter(table["condition"].iloc[last]) == {"uninfected": 9, "infected": 9}


# groups


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        (None, {"monday": 0.7, "tuesday": 0.2, "friday": 0.1}),
        ("proportional", {"monday": 0.7, "tuesday": 0.2, "friday": 0.1}),
        ("uniform", dict.fromkeys(WEIGHTS, 1 / 3)),
        ("sqrt", {day: weight**0.5 / sum(w**0.5 for w in WEIGHTS.values()) for day, weight in WEIGHTS.items()}),
        ({"monday": 1, "tuesday": 0, "friday": 3}, {"monday": 0.25, "tuesday": 0.0, "friday": 0.75}),
        ({"monday": 1e308, "tuesday": 1e308, "friday": 1e308}, dict.fromkeys(WEIGHTS, 1 / 3)),
    ],
)
def test_groups_get_their_share_of_the_batches_to_within_one(weights, shares):
    sampler = FlexibleBatchSampler(TABLE, 30, experiment_weights=weights)
    for _ in range(3):
        assert_shares(list(sampler), TABLE["experiment"], shares, within=1)


def test_the_share_that_is_rounded_up_differs_between_epochs():
    """With three groups and four batches, the group that gets two batches is drawn again for each epoch."""
    table = make_anchors(120, n_experiments=3)
    sampler = FlexibleBatchSampler(table, 30)
    twice = {Counter(home_experiments(list(sampler), table)).most_common(1)[0][0] for _ in range(40)}
    assert len(twice) == 3


def test_groups_follow_each_other_in_random_order():
    """A group follows itself as often as in shuffled sequences, over 40 epochs; false alarm rate below 1e-6."""
    sampler = FlexibleBatchSampler(TABLE, 30, experiment_weights="uniform")
    n, same, variance = 166, 0, 0.0
    for _ in range(40):
        order = home_experiments(list(sampler))
        same += sum(a == b for a, b in itertools.pairwise(order))
        counts = np.array(list(Counter(order).values()))
        chance = (counts * (counts - 1)).sum() / (n * (n - 1))
        same -= (n - 1) * chance
        variance += (n - 1) * chance * (1 - chance)
    assert abs(same) < 5 * variance**0.5


def test_the_batches_of_a_rare_group_are_spread_over_the_epoch():
    """A group with one batch in 80 occurs in every stretch of 240; in a random order it would sometimes be missing."""
    table = make_anchors(80_000, experiments={"common": 79, "rare": 1})
    rare = [home == "rare" for home in home_experiments(list(FlexibleBatchSampler(table, 10)), table)]
    assert sum(rare) in (99, 100, 101)
    assert all(any(rare[start : start + 240]) for start in range(0, len(rare) - 240, 10))


# focal times


def test_the_times_of_a_group_are_focal_equally_often():
    table = make_anchors(4800, experiments={"monday": 3, "tuesday": 1}, n_timepoints=12, seed=1)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.0}
    for n_batches in (150, 100, 37):
        focal = {"monday": Counter(), "tuesday": Counter()}
        sampler = FlexibleBatchSampler(table, 32, **options)
        for k in range(n_batches):
            first = table.iloc[sampler.batch(k)[0]]
            focal[first["experiment"]][first["hours_post_infection"]] += 1
        for times in focal.values():
            counts = [times[hour * 0.5] for hour in range(12)]
            assert max(counts) - min(counts) <= 1


def test_focal_times_are_shuffled_again_in_every_round():
    table = make_anchors(4800, n_experiments=1, n_timepoints=6, seed=1)
    options = {"temporal_enrichment": True, "temporal_window_hours": 0.0, "temporal_global_fraction": 0.0}
    sampler = FlexibleBatchSampler(table, 32, **options)
    focal = [table["hours_post_infection"].iloc[sampler.batch(k)[0]] for k in range(150)]
    rounds = [tuple(focal[start : start + 6]) for start in range(0, 150, 6)]
    assert all(sorted(round) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5] for round in rounds)
    assert len(set(rounds)) > 20


# coverage


@pytest.mark.parametrize("experiment_aware", [True, False])
@pytest.mark.parametrize("condition_balanced", [True, False])
def test_the_anchors_of_a_stratum_are_drawn_without_replacement_round_after_round(experiment_aware, condition_balanced):
    """At every point of the epoch. The rare condition completes nine rounds while the common one completes one."""
    table = make_anchors(2000, n_experiments=2, conditions={"mock": 90, "infected": 10}, seed=2)
    strata = list(
        zip(
            table["experiment"] if experiment_aware else [0] * 2000,
            table["condition"] if condition_balanced else [0] * 2000,
            strict=True,
        )
    )
    options = {"experiment_aware": experiment_aware, "condition_balanced": condition_balanced}
    batches = list(FlexibleBatchSampler(table, 30, **options))
    for stop in range(6, len(batches) + 1, 6):
        assert_drawn_evenly(batches[:stop], strata)


def test_a_plain_epoch_draws_every_anchor_once():
    table = make_anchors(3000, n_experiments=3)
    batches = list(FlexibleBatchSampler(table, 50, experiment_aware=False, condition_balanced=False))
    assert sorted(itertools.chain(*batches)) == list(range(3000))


def test_a_short_last_batch_completes_the_round():
    table = make_anchors(3011, n_experiments=1)
    batches = list(FlexibleBatchSampler(table, 50, condition_balanced=False, drop_last=False))
    assert sorted(itertools.chain(*batches)) == list(range(3011))


def test_strata_are_shuffled_again_in_every_epoch():
    table = make_anchors(640, n_experiments=1)
    sampler = FlexibleBatchSampler(table, 64, condition_balanced=False)
    assert_unrelated(list(sampler), list(sampler), 640)


@pytest.mark.slow
def test_with_enrichment_draws_are_independent_between_batches():
    """With 200 rows and 20 slots the overlap of two batches is hypergeometric, mean 2; bound: 5 standard errors."""
    table = make_anchors(200, n_experiments=1, conditions=["x"])
    options = {"temporal_enrichment": True, "temporal_window_hours": 1e3}
    sampler = FlexibleBatchSampler(table, 20, **options)
    batches = [set(batch) for _ in range(400) for batch in sampler]
    overlaps = [len(a & b) for a, b in zip(batches[::2], batches[1::2], strict=True)]
    variance = 20 * 0.1 * 0.9 * 180 / 199
    assert abs(np.mean(overlaps) - 2.0) < 5 * (variance / 2000) ** 0.5
    assert_uniform(np.bincount(list(itertools.chain(*batches)), minlength=200))


def test_leak_slots_are_independent_between_batches():
    table = make_anchors(400, experiments={"a": 1, "b": 1}, conditions=["x"])
    row_is_a = (table["experiment"] == "a").to_numpy()
    sampler = FlexibleBatchSampler(table, 20, leaky=0.5, experiment_weights={"a": 1, "b": 1e-9})
    leaks = [{row for row in batch if not row_is_a[row]} for _ in range(200) for batch in sampler]
    overlaps = [len(a & b) for a, b in zip(leaks[::2], leaks[1::2], strict=True)]
    variance = 10 * 0.05 * 0.95 * 190 / 199
    assert abs(np.mean(overlaps) - 0.5) < 5 * (variance / len(overlaps)) ** 0.5


# epochs and seeds


def epoch_of(seed, epoch):
    sampler = FlexibleBatchSampler(TABLE, 50, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_epochs_and_seeds_give_unrelated_sequences():
    sequences = {(seed, epoch): epoch_of(seed, epoch) for seed in (0, 1, 10, 2**64) for epoch in (0, 1, 2, 2**40)}
    for one, other in itertools.combinations(sequences.values(), 2):
        assert_unrelated(one, other, 5000)


def test_without_set_epoch_each_iter_draws_the_next_epoch():
    sampler = FlexibleBatchSampler(TABLE, 100)
    for epoch in range(3):
        assert list(sampler) == [sampler.batch(k, epoch) for k in range(50)]
        assert sampler.epoch == epoch


def test_set_epoch_affects_only_the_next_iter():
    sampler = FlexibleBatchSampler(TABLE, 100)
    sampler.set_epoch(5)
    assert sampler.epoch == 5
    assert list(sampler) == [sampler.batch(k, 5) for k in range(50)]
    assert list(sampler) == [sampler.batch(k, 6) for k in range(50)]


def test_setting_the_same_epoch_twice_gives_the_same_batches_twice():
    sampler = FlexibleBatchSampler(TABLE, 100)
    sampler.set_epoch(0)
    first = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_an_epoch_left_early_is_not_continued():
    sampler = FlexibleBatchSampler(TABLE, 100)
    list(itertools.islice(iter(sampler), 7))
    assert next(iter(sampler)) == sampler.batch(0, 1)


def test_an_unused_iterator_does_not_count_as_an_epoch():
    sampler = FlexibleBatchSampler(TABLE, 100)
    iter(sampler)
    iter(sampler)
    assert next(iter(sampler)) == sampler.batch(0, 0)


def test_an_epoch_chosen_during_another_is_the_next():
    """This also holds in the body of the last iteration, after which the loop still asks its iterator for the end."""
    sampler = FlexibleBatchSampler(TABLE, 100)
    for k, _ in enumerate(sampler):
        if k == len(sampler) - 1:
            sampler.set_epoch(5)
    assert sampler.epoch == 5
    assert list(sampler) == [sampler.batch(k, 5) for k in range(50)]


def test_an_older_iterator_does_not_move_the_sampler_from_a_chosen_epoch():
    sampler = FlexibleBatchSampler(TABLE, 100)
    older = iter(sampler)
    next(older)
    sampler.set_epoch(5)
    assert next(older) == sampler.batch(1, 0)
    assert (sampler.state_dict()["epoch"], sampler.state_dict()["position"]) == (5, 0)
    assert next(iter(sampler)) == sampler.batch(0, 5)


def test_the_epoch_is_the_one_that_is_set_when_the_first_batch_is_drawn():
    """Lightning calls ``iter()`` first, then ``set_epoch``."""
    sampler = FlexibleBatchSampler(TABLE, 100)
    iterator = iter(sampler)
    sampler.set_epoch(3)
    assert list(iterator) == [sampler.batch(k, 3) for k in range(50)]
    assert sampler.epoch == 3


def test_a_state_loaded_before_the_first_batch_is_drawn_counts():
    sampler = FlexibleBatchSampler(TABLE, 100)
    iterator = iter(sampler)
    sampler.load_state_dict({**sampler.state_dict(), "epoch": 2, "position": 30})
    assert next(iterator) == sampler.batch(30, 2)


def test_of_two_iterators_the_second_to_draw_is_of_the_next_epoch():
    sampler = FlexibleBatchSampler(TABLE, 100)
    one, other = iter(sampler), iter(sampler)
    assert [next(other), next(one), next(other)] == [sampler.batch(0, 0), sampler.batch(0, 1), sampler.batch(1, 0)]


def test_the_state_of_an_iterator_before_its_first_batch_is_where_it_would_start():
    sampler = FlexibleBatchSampler(TABLE, 100)
    iterator: Any = iter(sampler)
    assert iterator.state_dict() == {"epoch": 0, "position": 0}
    sampler.set_epoch(4)
    assert iterator.state_dict() == {"epoch": 4, "position": 0}


def test_an_older_iterator_does_not_move_the_sampler_from_a_loaded_state():
    sampler = FlexibleBatchSampler(TABLE, 100)
    older = iter(sampler)
    next(older)
    sampler.load_state_dict({**sampler.state_dict(), "position": 30})
    next(older)
    assert next(iter(sampler)) == sampler.batch(30, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_data_loader_draws_a_new_epoch_each_time(num_workers, persistent):
    sampler = FlexibleBatchSampler(TABLE, 1000)
    options = {"num_workers": num_workers, "persistent_workers": persistent and num_workers > 0}
    loader = DataLoader(range(5000), batch_sampler=sampler, collate_fn=list, **options)
    for epoch in range(3):
        assert list(loader) == [sampler.batch(k, epoch) for k in range(5)]


@pytest.mark.parametrize(("epoch", "error"), [(-1, ValueError), (1.0, TypeError), (None, TypeError), (True, TypeError)])
def test_an_epoch_must_be_a_non_negative_integer(epoch, error):
    with pytest.raises(error, match="epoch must be"):
        FlexibleBatchSampler(TABLE, 100).set_epoch(epoch)


@pytest.mark.parametrize(("k", "error"), [(-1, ValueError), (0.0, TypeError)])
def test_the_number_of_a_batch_must_be_a_non_negative_integer(k, error):
    with pytest.raises(error, match="k must be"):
        FlexibleBatchSampler(TABLE, 100).batch(k)


def test_numpy_integers_are_accepted():
    sampler = FlexibleBatchSampler(TABLE, np.int32(100), seed=np.uint8(3))
    assert sampler.batch(np.int64(4), epoch=np.int64(2)) == FlexibleBatchSampler(TABLE, 100, seed=3).batch(4, epoch=2)
