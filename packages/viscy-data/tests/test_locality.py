"""Locality: slots are filled by runs of rows that follow each other in time and place, and all counts stay."""

import itertools
import logging
import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viscy_data import AnchorIndex, FlexibleBatchSampler, from_viscy
from viscy_data._compose import block
from viscy_data._compose.parts import Kind
from viscy_sampling_testkit import assert_distinct_values, assert_drawn_in_rounds, assert_slices_join, assert_uniform
from viscy_sampling_testkit.strategies import anchor_tables, sampler_options

HOURS = "hours_post_infection"


def without_locality(options):
    return {name: value for name, value in options.items() if name not in ("locality", "place_by")}


CASES = anchor_tables().flatmap(
    lambda table: st.tuples(st.just(table), sampler_options(table, all_options=True).map(without_locality))
)
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    """Silence the warnings about small pools; the tests of warnings set the level again."""
    logging.getLogger("viscy_data").setLevel(logging.ERROR)
    yield
    logging.getLogger("viscy_data").setLevel(logging.NOTSET)


def make_table(*, n_times=6, n_places=4, n_rows=9, seed=0):
    """Make a shuffled table of two experiments and two conditions with `n_rows` rows of each at a time and place."""
    rows = list(itertools.product("ab", "xy", range(n_times), range(n_places), range(n_rows)))
    order = np.random.default_rng(seed).permutation(len(rows))
    table = pd.DataFrame([rows[i][:4] for i in order], columns=["experiment", "condition", HOURS, "fov"])
    return table.assign(lineage=order // (n_times + 1))


def batches_of(sampler, epoch=0):
    return [sampler.batch(k, epoch) for k in range(len(sampler))]


# the law


def count_runs(numbers, size):
    """Count the runs of numbers that follow each other, around the end of 0..size-1."""
    present = np.zeros(size, bool)
    present[numbers] = True
    return 1 if present.all() else int((present & ~np.roll(present, 1)).sum())


def assert_law(segments, rows, length):
    """Check the slots of each segment against its pool by plain counting."""
    of_segment = np.split(rows, np.cumsum(segments.slots)[:-1])
    for i, own in enumerate(of_segment):
        size, slots = int(segments.size[i]), int(segments.slots[i])
        free = np.arange(size) + segments.start[i]
        if segments.kind[i] == Kind.GLOBAL and segments.sibling[i] >= 0:
            free = free[~np.isin(free, of_segment[segments.sibling[i]])]
        early, late = own[: len(free)], own[len(free) :]
        assert len(set(early.tolist())) == len(early)
        assert np.isin(early, free).all()
        assert np.isin(late, np.arange(size) + segments.start[i]).all()
        times = np.bincount(late - segments.start[i], minlength=size)
        assert times.max() - times.min() <= 1
        if slots <= len(free):
            starts_over = segments.kind[i] == Kind.STRATUM and segments.first[i] + slots > size
            n_runs = count_runs(np.searchsorted(free, own), len(free))
            assert n_runs <= -(-slots // length) + 1 + starts_over


@pytest.fixture
def checked(monkeypatch):
    """Check the law whenever slots are filled; return the numbers of slots that were checked."""
    sizes = []
    fill = block.fill_with_runs

    def fill_with_runs(segments, length):
        rows = fill(segments, length)
        assert_law(segments, rows, length)
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(block, "fill_with_runs", fill_with_runs)
    return sizes


def parts_of(sampler, epoch):
    """Return the numbers of slots, and the pools, of all parts of an epoch's batches."""
    plan = sampler._plan_of(epoch)
    parts = [
        sampler._composer._parts(plan, plan.look_up(k), plan.streams(k), plan.slots_of(int(k[0])))
        for k in (np.array([number]) for number in range(sampler.planned().n_batches))
    ]
    return np.array([np.stack([p.slots, p.start, p.size, p.own]) for p in parts])


def strata_of(table, options):
    columns = ["experiment"] * options["experiment_aware"] + ["condition"] * options["condition_balanced"]
    return list(zip(*(table[name] for name in columns), strict=True)) if columns else [()] * len(table)


@EXAMPLES
@given(
    case=CASES, locality=st.sampled_from([2, 3, 8, 100]), by=st.sampled_from([None, "place", ["place", "condition"]])
)
def test_slots_are_filled_by_runs_and_all_counts_stay(checked, case, locality, by):
    table, options = case
    table = table.assign(place=np.arange(len(table)) * 7 % 3)
    local = FlexibleBatchSampler(table, locality=locality, place_by=by, **options)
    plain = FlexibleBatchSampler(table, **options)
    strata = strata_of(table, options)
    checked.clear()
    for epoch in (0, 1):
        np.testing.assert_array_equal(parts_of(local, epoch), parts_of(plain, epoch))
        for k in range(local.planned().n_batches + 1):
            a, b = local.batch(k, epoch), plain.batch(k, epoch)
            home = [Counter(strata[row] for row in batch) for batch in (a, b)]
            if not options["leaky"]:
                assert home[0] == home[1]
            assert Counter(table["condition"].iloc[a]) == Counter(table["condition"].iloc[b]) or (
                not options["condition_balanced"]
            )
            assert len(a) == len(b)
    assert sum(checked) > 0


@EXAMPLES
@given(case=CASES, locality=st.sampled_from([2, 5, 100]))
def test_a_stratum_is_drawn_without_replacement(case, locality):
    table, options = case
    options |= {"leaky": 0.0, "temporal_enrichment": False, "distinct_by": None, "split_batches": False}
    sampler = FlexibleBatchSampler(table, locality=locality, **options)
    full, rest = divmod(len(table), options["batch_size"])
    n_epochs = -(-(full + (rest > 0 and not options["drop_last"])) // len(sampler))
    batches = [batch for epoch in range(n_epochs) for batch in batches_of(sampler, epoch)]
    assert_drawn_in_rounds(batches, strata_of(table, options))


@pytest.mark.parametrize("options", [{}, {"temporal_enrichment": True}, {"leaky": 0.25}, {"anchors_per_condition": 8}])
def test_a_batch_has_rows_of_few_places(options):
    """There are 9 rows of each stratum at a time and place, so that a run of 8 touches at most two of them."""
    table = make_table()
    place = list(zip(*(table[name] for name in ("experiment", "condition", HOURS, "fov")), strict=True))
    local = FlexibleBatchSampler(table, 32, locality=8, place_by="fov", **options)
    n_places = [len({place[row] for row in batch}) for batch in batches_of(local)]
    n_plain = [len({place[row] for row in batch}) for batch in batches_of(FlexibleBatchSampler(table, 32, **options))]
    n_parts = 2 * (1 + ("temporal_enrichment" in options) + ("leaky" in options))
    assert max(n_places) <= 2 * (32 // 8 + 2 * n_parts)
    assert np.mean(n_places) < 0.5 * np.mean(n_plain)


# chances


@pytest.mark.parametrize("locality", [2, 4, 50])
def test_every_row_of_a_stratum_is_equally_likely_at_every_slot(locality):
    """Chi-square with a false alarm rate of 1e-6 a slot; one batch of each epoch."""
    table = make_table(n_times=3, n_places=2, n_rows=3).query("experiment == 'a' and condition == 'x'")
    sampler = FlexibleBatchSampler(table, 5, locality=locality, place_by="fov")
    rows = np.array([sampler.batch(2, epoch) for epoch in range(1000)])
    for slot in (0, 1, 4):
        assert_uniform(np.bincount(rows[:, slot], minlength=len(table)))


def test_every_row_of_the_window_and_every_other_row_is_equally_likely():
    """Two times of which the window holds one; rows of the other one have global slots only."""
    hours = np.repeat([0.0, 9.0], [14, 17])
    table = pd.DataFrame({"experiment": "a", "condition": "x", HOURS: hours, "fov": np.arange(31) // 5})
    options = {"temporal_enrichment": True, "temporal_window_hours": 1.0, "temporal_global_fraction": 0.4}
    sampler = FlexibleBatchSampler(table, 10, locality=4, place_by="fov", epoch_batches=3000, **options)
    rows = np.array(list(sampler))
    assert all(len(set(batch)) == 10 for batch in rows.tolist())
    early = (rows < 14).sum(axis=1) >= 6
    for of_window, slot in itertools.product((early, ~early), (0, 7)):
        first = rows[of_window, slot]
        assert_uniform(np.bincount(first[first < 14], minlength=14))
        assert_uniform(np.bincount(first[first >= 14] - 14, minlength=17))


def test_all_rows_of_a_small_stratum_are_used_equally_once_each_was():
    """Of 20 slots, 10 have the 2 rows of the window; the others have the 4 other rows, then all 6 rows."""
    hours = np.repeat([0.0, 1.0, 2.0], 22)
    rare = np.tile(np.arange(22) < 2, 3)
    table = pd.DataFrame({"condition": np.where(rare, "x", "y"), HOURS: hours, "fov": np.arange(66) % 2})
    sampler = FlexibleBatchSampler(
        table,
        40,
        experiment_aware=False,
        temporal_enrichment=True,
        temporal_window_hours=0.0,
        temporal_global_fraction=0.5,
        locality=3,
        place_by="fov",
    )
    for batch in batches_of(sampler):
        counts = np.bincount(batch, minlength=66)[rare]
        assert sorted(counts) == [2, 2, 2, 2, 6, 6]


def test_every_row_that_may_leak_is_equally_likely():
    sizes = [40, 13, 21]
    table = pd.DataFrame({"experiment": np.repeat(list("abc"), sizes), "condition": "x", HOURS: np.arange(74) % 5})
    options = {"leaky": 0.4, "experiment_weights": {"a": 1, "b": 1e-9, "c": 1e-9}}
    rows = np.array(list(FlexibleBatchSampler(table, 10, locality=3, epoch_batches=3000, **options)))
    leaked = rows[:, 3][rows[:, 3] >= 40] - 40
    assert len(leaked) > 800
    assert_uniform(np.bincount(leaked, minlength=34))


# order


def test_rows_are_sorted_by_time_place_and_position():
    table = make_table(n_rows=3)
    index = AnchorIndex.build(table, place_by=["fov", "lineage"])
    key = [table[name].to_numpy() for name in ("lineage", "fov", HOURS)]
    key += [pd.factorize(table[name], sort=True)[0] for name in ("condition", "experiment")]
    np.testing.assert_array_equal(index.order, np.lexsort(key))
    assert repr(index).endswith("6 times by 'hours_post_infection', sorted by ('fov', 'lineage'))")
    plain = AnchorIndex.build(table)
    np.testing.assert_array_equal(plain.order, np.lexsort(key[2:]))
    assert plain.digest != index.digest


def test_many_places_and_many_times_are_sorted():
    """Codes of several digits, of which neither alone sorts the rows."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({HOURS: rng.integers(0, 9, 70_000), "fov": rng.permutation(70_000)})
    index = AnchorIndex.build(table, experiment_by=None, condition_by=None, place_by="fov")
    np.testing.assert_array_equal(index.order, np.lexsort((table["fov"], table[HOURS])))


@pytest.mark.parametrize("to_type", [str, "category", "int8", float, lambda fov: fov.map(lambda i: ("row", i))])
def test_places_may_have_any_type(to_type):
    table = make_table()
    expected = batches_of(FlexibleBatchSampler(table, 16, locality=4, place_by="fov"))
    fov = to_type(table["fov"]) if callable(to_type) and to_type not in (str, float) else table["fov"].astype(to_type)
    assert batches_of(FlexibleBatchSampler(table.assign(fov=fov), 16, locality=4, place_by="fov")) == expected


def test_locality_1_is_the_sampler_without_it():
    table = make_table()
    plain = FlexibleBatchSampler(table, 16)
    local = FlexibleBatchSampler(table.drop(columns=HOURS), 16, locality=1)
    assert batches_of(local) == batches_of(plain)
    local.load_state_dict(plain.state_dict())


# everything else stays


OPTIONS = {"locality": 4, "place_by": "fov", "leaky": 0.2, "temporal_enrichment": True}


def test_ranks_and_resumed_runs_share_the_sequence():
    table = make_table()
    expected = batches_of(FlexibleBatchSampler(table, 12, **OPTIONS))
    ranks = [list(FlexibleBatchSampler(table, 12, num_replicas=2, rank=rank, **OPTIONS)) for rank in range(2)]
    assert [batch for step in zip(*ranks, strict=True) for batch in step][: len(expected)] == expected
    first = FlexibleBatchSampler(table, 12, **OPTIONS)
    iterator = iter(first)
    begun = [next(iterator) for _ in range(5)]
    resumed = FlexibleBatchSampler(table, 12, **OPTIONS)
    resumed.load_state_dict(first.state_dict())
    assert begun + list(resumed) == expected
    slices = [
        list(FlexibleBatchSampler(table, 12, split_batches=True, num_replicas=3, rank=rank, **OPTIONS))
        for rank in range(3)
    ]
    assert_slices_join(slices, expected)


def test_values_stay_distinct():
    table = make_table()
    for options in ({}, {"temporal_enrichment": True, "temporal_window_hours": 9.0}):
        sampler = FlexibleBatchSampler(table, 12, locality=4, distinct_by="lineage", **options)
        assert_distinct_values(batches_of(sampler), table["lineage"], table["experiment"], table["condition"])


@pytest.mark.parametrize("changed", [{"locality": 5}, {"place_by": None}, {"place_by": ["fov", "lineage"]}])
def test_a_state_of_other_options_is_refused(changed):
    table = make_table()
    state = FlexibleBatchSampler(table, 12, **OPTIONS).state_dict()
    differs = "locality" if "locality" in changed else "valid_anchors"
    with pytest.raises(ValueError, match=f"but {differs} differs"):
        FlexibleBatchSampler(table, 12, **(OPTIONS | changed)).load_state_dict(state)


def test_a_state_of_other_places_is_refused():
    table = make_table()
    state = FlexibleBatchSampler(table, 12, **OPTIONS).state_dict()
    with pytest.raises(ValueError, match="valid_anchors differs"):
        FlexibleBatchSampler(table.assign(fov=table["fov"].to_numpy()[::-1]), 12, **OPTIONS).load_state_dict(state)


def test_a_saved_index_gives_the_batches_of_its_table(tmp_path):
    table = make_table()
    index = AnchorIndex.build(table, place_by="fov")
    index.save(tmp_path / "index")
    opened = AnchorIndex.open(tmp_path / "index")
    assert opened.place_by == "fov"
    for one in (opened, index, pickle.loads(pickle.dumps(index))):
        assert batches_of(FlexibleBatchSampler(one, 12, **OPTIONS)) == batches_of(
            FlexibleBatchSampler(table, 12, **OPTIONS)
        )


def test_an_index_must_have_the_places():
    index = AnchorIndex.build(make_table())
    with pytest.raises(ValueError, match=r"the options need place_by='fov'; build .*place_by='fov'\)"):
        FlexibleBatchSampler(index, 12, **OPTIONS)
    assert len(FlexibleBatchSampler(index, 12, locality=4)) == 72
    with pytest.raises(ValueError, match="must come with a column of times, got place_by='fov' and time_by=None"):
        AnchorIndex.build(make_table(), time_by=None, place_by="fov")


def test_options_are_attributes_and_arguments_of_viscy():
    table = make_table().rename(columns={"condition": "perturbation", HOURS: "hours_post_perturbation"})
    sampler = from_viscy(table, 12, locality=4, place_by=["fov"])
    assert (sampler.locality, sampler.place_by) == (4, ("fov",))
    options = sampler.planned().options
    assert (options["locality"], options["place_by"], options["time_by"]) == (4, ("fov",), "hours_post_perturbation")


# errors and warnings


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"locality": 0}, ValueError, "locality must be at least 1, got 0"),
        ({"locality": 2**40}, ValueError, "locality must be at most"),
        ({"locality": 2.0}, TypeError, "locality must be an integer, got 2.0"),
        ({"locality": True}, TypeError, "locality must be an integer, got True"),
        ({"locality": 4, "place_by": 3}, TypeError, "place_by must be the name of a column"),
        ({"locality": 4, "place_by": []}, ValueError, "place_by must name at least one column"),
        (
            {"locality": 4, "place_by": "well"},
            ValueError,
            r"place_by needs exactly one column 'well', but the table lacks it; .* with place_by, or set place_by=None",
        ),
        (
            {"locality": 4, "time_by": "frame"},
            ValueError,
            r"locality needs exactly one column 'frame', .* name another column with time_by, or set locality=1",
        ),
        (
            {"locality": 4, "time_by": "frame", "temporal_enrichment": True},
            ValueError,
            r"temporal_enrichment=True needs exactly one column 'frame'",
        ),
        ({"locality": 4, "time_by": "experiment"}, TypeError, "the time column 'experiment' must hold numbers"),
    ],
)
def test_invalid_options_are_errors(options, error, message):
    with pytest.raises(error, match=message):
        FlexibleBatchSampler(make_table(), 12, **options)


def test_places_and_times_must_not_be_missing():
    table = make_table().astype({"fov": float, HOURS: float})
    table.loc[3, "fov"] = np.nan
    with pytest.raises(ValueError, match=r"'fov' must have no missing values \(place_by uses it\), got 1 of 864"):
        FlexibleBatchSampler(table, 12, locality=4, place_by="fov")
    table.loc[3, HOURS] = np.nan
    with pytest.raises(ValueError, match=r"must have no missing values \(locality uses it\), got 1 of 864"):
        FlexibleBatchSampler(table, 12, locality=4)


def test_places_without_locality_have_no_effect_and_log_a_warning(collect_warnings):
    logging.getLogger("viscy_data").setLevel(logging.NOTSET)
    assert collect_warnings(make_table(), 12, place_by="fov") == ["place_by has no effect: locality=1"]
    assert collect_warnings(make_table(), 12, place_by="fov", locality=2) == []
    logging.getLogger("viscy_data").setLevel(logging.ERROR)
