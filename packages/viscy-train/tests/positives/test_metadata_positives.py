"""Positives by metadata are uniform over the rows that a search of all pairs of rows finds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from viscy_train.config.schema import PositiveConfig
from viscy_train.positives.metadata_positives import MetadataPositives

QUALIFIED = {"well": ["experiment"], "position": ["experiment"], "track_id": ["experiment", "position"]}


def make_table(rows):
    """Make observations from tuples of experiment, condition, well, position, track, frame, dose and microscope."""
    columns = ["experiment", "condition", "well", "position", "track_id", "t", "dose", "microscope"]
    table = pd.DataFrame(rows, columns=columns)
    table["hours_post_infection"] = table["t"] * table["experiment"].map({"m": 0.5, "t": 1 / 3})
    table["dose"] = table["dose"].astype(float)
    categories = ["experiment", "condition", "well", "position", "microscope"]
    return table.astype(dict.fromkeys(categories, "category"))


@st.composite
def tables(draw):
    rows = []
    for _ in range(draw(st.integers(1, 25))):
        well = draw(st.sampled_from(["A/1", "A/2", "B/1"]))
        names = [draw(st.sampled_from(values)) for values in ("mt", "xy")]
        position, track, frame = f"{well}/{draw(st.integers(0, 1))}", draw(st.integers(0, 2)), draw(st.integers(0, 5))
        extra = [draw(st.sampled_from(values)) for values in ([0.1, 1.0, None], ["u", "v", None])]
        rows.append((*names, well, position, track, frame, *extra))
    return make_table(rows)


@st.composite
def rules(draw):
    columns = ["condition", "experiment", "well", "position", "track_id", "dose", "microscope", "t"]
    chosen = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=5, unique=True))
    n_match = draw(st.integers(1, len(chosen)))
    hours = draw(st.sampled_from([{}, {"max_hours": 1.0}, {"min_hours": 0.5}, {"min_hours": 0.5, "max_hours": 1.5}]))
    return PositiveConfig(match=chosen[:n_match], differ=chosen[n_match:], **hours)


def values_of(table, column):
    """Return a value for each row, qualified by the columns without which it means nothing; None if it is missing."""
    rows = table[[*QUALIFIED.get(column, []), column]].astype(object)
    return [None if row.isna().any() else tuple(row) for _, row in rows.iterrows()]


def find_candidates(table, positive):
    """Return the possible positives of each row, by a search of all pairs."""
    match, differ = ([values_of(table, name) for name in names] for names in (positive.match, positive.differ))
    hours = table["hours_post_infection"].to_numpy()
    smallest = positive.min_hours or 0.0
    largest = np.inf if positive.max_hours is None else positive.max_hours

    def is_positive(one, other):
        pairs = [(values[one], values[other]) for values in (*match, *differ)]
        known = all(None not in pair for pair in pairs)
        equal = [first == second for first, second in pairs]
        apart = abs(hours[one] - hours[other])
        near = smallest - 1e-9 <= apart <= largest + 1e-9
        return known and one != other and near and all(equal[: len(match)]) and not any(equal[len(match) :])

    rows = range(len(table))
    return [[other for other in rows if is_positive(one, other)] for one in rows]


@given(tables(), rules())
@settings(max_examples=60)
def test_the_possible_positives_are_those_of_a_search_of_all_pairs(table, positive):
    candidates = find_candidates(table, positive)
    rule = MetadataPositives.of(table, positive)
    assert rule.has_positive().tolist() == [bool(found) for found in candidates]
    for row, expected in enumerate(candidates):
        if expected:
            # A draw in the middle of each of n equal parts gives each of n equally likely candidates once.
            draws = (np.arange(len(expected)) + 0.5) / len(expected)
            chosen = rule.choose(np.full(len(expected), row), draws)
            assert sorted(chosen.tolist()) == expected


@given(tables(), rules(), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_anchor_and_positive_are_of_the_same_part(table, positive, seed):
    part = np.random.default_rng(seed).integers(2, size=len(table))
    found = MetadataPositives.of(table, positive, part).has_positive()
    for number in (0, 1):
        alone = MetadataPositives.of(table[part == number].reset_index(drop=True), positive).has_positive()
        assert found[part == number].tolist() == alone.tolist()


@given(tables(), rules(), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_a_choice_depends_only_on_its_own_slot(table, positive, seed):
    rule = MetadataPositives.of(table, positive)
    rows = np.flatnonzero(rule.has_positive())
    if len(rows):
        rng = np.random.default_rng(seed)
        rows, draws = rng.choice(rows, 20), rng.random(20)
        together = rule.choose(rows, draws)
        assert [rule.choose(rows[[i]], draws[[i]])[0] for i in range(20)] == together.tolist()


CROSS_WELL = PositiveConfig(match="condition", differ="well")


def make_cross_well_table(n_wells, n_cells):
    wells = [f"{'ABCDEFGH'[number // 12]}/{number % 12 + 1}" for number in range(n_wells)]
    return make_table(
        [
            ("m", "xy"[number % 2], well, f"{well}/0", cell, 0, 0, "u")
            for number, well in enumerate(wells)
            for cell in range(n_cells)
        ]
    )


def test_every_other_cell_of_the_condition_in_another_well_is_equally_likely():
    """Chi-square with a false alarm rate of 1e-6."""
    table = make_cross_well_table(8, 5)
    n_draws = 15_000
    chosen = MetadataPositives.of(table, CROSS_WELL).choose(
        np.zeros(n_draws, int), np.random.default_rng(0).random(n_draws)
    )
    expected = np.flatnonzero((table["condition"] == "x") & (table["well"] != table["well"][0]))
    counts = np.bincount(chosen, minlength=len(table))
    assert counts.sum() == counts[expected].sum()
    statistic = ((counts[expected] - n_draws / len(expected)) ** 2 / (n_draws / len(expected))).sum()
    assert statistic < chi2.isf(1e-6, len(expected) - 1)


def test_wells_of_the_same_name_in_two_experiments_differ():
    rows = [(experiment, "x", "A/1", "A/1/0", 0, 0, 0, "u") for experiment in "mt"]
    rule = MetadataPositives.of(make_table(rows), CROSS_WELL)
    assert rule.choose(np.array([0, 1]), np.zeros(2)).tolist() == [1, 0]


def test_the_last_draw_gives_the_last_candidate():
    rule = MetadataPositives.of(make_cross_well_table(4, 3), CROSS_WELL)
    assert rule.choose(np.array([0]), np.array([np.nextafter(1, 0)])).tolist() == [8]


def test_choosing_for_no_anchors_gives_no_positives():
    rule = MetadataPositives.of(make_cross_well_table(4, 3), CROSS_WELL)
    assert rule.choose(np.empty(0, np.int64), np.empty(0)).shape == (0,)


@pytest.mark.parametrize("missing", ["match", "differ"])
def test_choosing_for_an_observation_without_a_positive_is_refused(missing):
    table = make_table([("m", "x", f"A/{n}", f"A/{n}/0", 0, 0, None if n == 2 else 1, "u") for n in range(3)])
    columns = {"match": {"match": "dose", "differ": "well"}, "differ": {"match": "condition", "differ": "dose"}}
    rule = MetadataPositives.of(table, PositiveConfig(**columns[missing]))
    with pytest.raises(ValueError, match="rows must have a positive, row 2 has none"):
        rule.choose(np.array([2]), np.zeros(1))


@pytest.mark.parametrize(("channel", "expected"), [("same", [2]), ("other", [3]), ("any", [2, 3])])
def test_the_marker_of_the_positive_is_the_same_or_another_or_any(channel, expected):
    rows = [("m", "x", well, f"{well}/0", 0, 0, 0, "u") for well in ("A/1", "A/1", "A/2", "A/2")]
    table = make_table(rows).assign(channel=["c1", "c2"] * 2, marker=["phase", "virus"] * 2)
    rule = MetadataPositives.of(table, PositiveConfig(match="condition", differ="well", channel=channel))
    assert set(rule.choose(np.zeros(2, int), np.array([0.2, 0.7])).tolist()) == set(expected)
