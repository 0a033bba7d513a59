"""Draws from large pools: distinct rows, every set of them equally likely."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from viscy_data._compose.draw import draw_rows
from viscy_data._compose.leak import Leak
from viscy_data._compose.parts import Kind, Parts, Pools
from viscy_data._compose.quotas import Quotas
from viscy_data._options import SamplerOptions
from viscy_data._random.hash import derive, epoch_key
from viscy_data.index import AnchorIndex

OPTIONS = {
    "experiment_weights": None,
    "condition_ratio": None,
    "batch_size": 2,
    "experiment_aware": True,
    "leaky": 0.5,
    "condition_balanced": True,
    "temporal_enrichment": False,
    "temporal_window_hours": 2.0,
    "temporal_global_fraction": 0.3,
    "seed": 0,
    "drop_last": True,
    "experiment_by": "experiment",
    "condition_by": "condition",
    "time_by": "hours",
}


def make_leak(weights=None):
    """Make a leak of three groups (a, b, c) with 3, 5 and 7 rows of each of two conditions."""
    table = pd.DataFrame(
        [(group, condition) for group, n in zip("abc", (3, 5, 7), strict=True) for condition in "xy" for _ in range(n)],
        columns=["experiment", "condition"],
    )
    index = AnchorIndex.build(table, time_by=None)
    return Leak(index, Quotas.from_options(index, SamplerOptions(**{**OPTIONS, "experiment_weights": weights}))), index


LEAK, INDEX = make_leak()


def make_parts(n_batches, *pools):
    """Make parts of one condition, each given as kind, start, size and slots."""

    def column(value):
        return np.full((n_batches, 1), value)

    return Parts.from_pools([Pools(kind, *map(column, sizes)) for kind, *sizes in pools])


def draw_from(parts, seed=0):
    key = derive(epoch_key(seed, 0), np.arange(len(parts)))
    return draw_rows(parts, LEAK, key)


def test_rows_come_from_their_pool_and_are_distinct():
    rows = draw_from(make_parts(500, (Kind.WINDOW, 10, 40, 10), (Kind.GLOBAL, 0, 100, 15)))
    assert (np.diff(rows, axis=1) > 0).all()
    assert rows.min() >= 0
    assert rows.max() < 100
    assert (((rows >= 10) & (rows < 50)).sum(axis=1) >= 10).all()


def test_redrawing_ends_when_every_row_of_the_pool_is_needed():
    rows = draw_from(make_parts(50, (Kind.WINDOW, 3, 12, 12)))
    assert (rows == np.arange(3, 15)).all()


def test_every_set_of_rows_is_equally_likely():
    """In 20,000 batches of 3 out of 5 rows, each of 10 sets is within 5 standard errors; false alarm rate 1e-5."""
    n = 20_000
    sets = Counter(map(tuple, draw_from(make_parts(n, (Kind.WINDOW, 0, 5, 3))).tolist()))
    assert sorted(sets) == list(itertools.combinations(range(5), 3))
    assert np.abs(np.array(list(sets.values())) - n / 10).max() < 5 * (n * 0.1 * 0.9) ** 0.5


def test_global_rows_are_uniform_over_the_rows_that_are_not_in_focal_slots():
    """With a window of 4 in a stratum of 8 and two slots each, all 15 global pairs are equally likely."""
    n = 60_000
    parts = make_parts(n, (Kind.WINDOW, 0, 4, 2), (Kind.GLOBAL, 0, 8, 2))
    inside = Counter((draw_from(parts) < 4).sum(axis=1).tolist())
    # 2 of the 6 remaining rows are in the window: 0, 1 or 2 of the global pair are, in 6, 8 and 1 of 15 cases
    expected = {2: 6 / 15, 3: 8 / 15, 4: 1 / 15}
    for count, chance in expected.items():
        assert abs(inside[count] - n * chance) < 5 * (n * chance * (1 - chance)) ** 0.5


@pytest.mark.parametrize("n_slots", [1, 2, 255, 256, 257])
def test_a_batch_drawn_alone_is_the_one_drawn_among_others(n_slots):
    parts = make_parts(40, (Kind.WINDOW, 0, 4 * n_slots, n_slots))
    together = draw_from(parts)
    key = derive(epoch_key(0, 0), np.arange(40))
    for batch in (0, 17, 39):
        alone = draw_rows(parts.take(np.array([batch])), LEAK, key[batch : batch + 1])
        assert alone[0].tolist() == together[batch].tolist()


def test_the_elements_of_a_leak_pool_are_the_rows_of_the_other_groups():
    group = np.array([0, 1, 2])
    pools = LEAK.pools(group, np.ones((3, 2), int))
    assert pools.size.tolist() == [[12, 12], [10, 10], [8, 8]]
    for batch, condition in itertools.product(range(3), range(2)):
        element = pools.start[batch, condition] + np.arange(pools.size[batch, condition])
        rows = LEAK.rows(element, np.full(len(element), pools.own[batch, condition]))
        strata = [(g, condition) for g in range(3) if g != batch]
        expected = [INDEX.stratum_start[s] + i for s in strata for i in range(INDEX.stratum_size[s])]
        assert rows.tolist() == expected


def test_rows_that_do_not_leak_are_unchanged():
    assert LEAK.rows(np.array([4, 0, 2]), np.full(3, -1)).tolist() == [4, 0, 2]


def test_an_excluded_group_does_not_leak():
    leak, index = make_leak({"a": 1, "b": 0, "c": 1})
    pools = leak.pools(np.array([0]), np.ones((1, 2), int))
    assert pools.size.tolist() == [[7, 7]]
    rows = leak.rows(pools.start[0, 1] + np.arange(7), np.full(7, pools.own[0, 1]))
    assert rows.tolist() == [index.stratum_start[2, 1] + i for i in range(7)]


def test_a_pool_is_large_with_two_rows_per_slot_and_focal_slots_count_twice():
    def are_large(*pools):
        return make_parts(1, *pools).have_large_pools().all()

    assert are_large((Kind.WINDOW, 0, 20, 10), (Kind.GLOBAL, 0, 40, 10))
    assert not are_large((Kind.WINDOW, 0, 19, 10), (Kind.GLOBAL, 0, 40, 10))
    assert not are_large((Kind.WINDOW, 0, 20, 10), (Kind.GLOBAL, 0, 39, 10))
    assert are_large((Kind.WINDOW, 0, 0, 0), (Kind.GLOBAL, 0, 40, 20))
    assert not are_large((Kind.WINDOW, 0, 20, 10), (Kind.GLOBAL, 0, 40, 10), (Kind.LEAK, 0, 3, 2))
