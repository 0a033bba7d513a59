"""Positives along the lineage in hours, with a decay and in other channels, and how settings are put into words."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from viscy_train.config.schema import PositiveConfig
from viscy_train.errors import UserError
from viscy_train.experiments.experiments_file import Experiment
from viscy_train.positives.claimed import wrong_claims
from viscy_train.positives.description import (
    describe_positives,
    describe_recognized,
    permits_other_timepoints,
    setting_text,
    warn_of_labels,
    warn_of_positives,
)
from viscy_train.positives.frame_range import FrameRange, frame_ranges
from viscy_train.positives.rule import check_labels, make_positives, missing_values


def make_experiments(**minutes):
    """Make an experiment of each name with the given minutes per frame."""
    paths = {"plate": Path("plate.zarr"), "tracks": Path("tracks"), "channels": ["c"], "conditions": {"A/1": "x"}}
    return [Experiment(name=name, minutes_per_frame=value, **paths) for name, value in minutes.items()]


SLOW_AND_FAST = make_experiments(m=30, t=20)


def make_observations(tracks, experiment="m", channels=None):
    """Make a sorted table from tracks, each (track_id, parent_track_id, frames), or (..., channels)."""
    rows = [
        (experiment, "A/1/0", channel, track, parent, frame)
        for channel in channels or ["c"]
        for track, parent, frames, *own in sorted(tracks)
        for frame in frames
        if not own or channel in own[0]
    ]
    table = pd.DataFrame(rows, columns=["experiment", "position", "channel", "track_id", "parent_track_id", "t"])
    table["lineage_id"] = 0
    table = table.astype({"experiment": "category", "channel": "category"})
    return table if channels else table.drop(columns="channel")


@pytest.mark.parametrize(
    ("minutes", "hours", "expected"),
    [
        (30, {"max_hours": 2}, FrameRange(1, 4)),
        (20, {"max_hours": 2}, FrameRange(1, 6)),
        (20, {"min_hours": 0, "max_hours": 2}, FrameRange(0, 6)),
        (20, {"min_hours": 0.5, "max_hours": 1.5}, FrameRange(2, 4)),
        (20, {"min_hours": 0.333, "max_hours": 0.333}, FrameRange(1, 1)),
        (20, {"min_hours": 0.667, "max_hours": 1.333}, FrameRange(2, 4)),
        (20, {"min_hours": 0.34, "max_hours": 99.99}, FrameRange(2, 299)),
        (7.2, {"min_hours": 0.12, "max_hours": 0.36}, FrameRange(1, 3)),
        (0.1, {"min_hours": 0.1, "max_hours": 0.3}, FrameRange(60, 180)),
        (30, {"min_hours": 1e300, "max_hours": 1e300}, FrameRange(2**31, 2**31)),
        (20, {"min_frames": 0, "max_frames": 10**30}, FrameRange(0, 2**31)),
    ],
)
def test_hours_are_converted_inward_with_a_tolerance_for_rounding(minutes, hours, expected):
    assert frame_ranges(make_experiments(m=minutes), PositiveConfig(**hours)) == {"m": expected}


def test_hours_without_a_whole_number_of_frames_are_refused_with_each_experiment():
    with pytest.raises(UserError) as error:
        frame_ranges(make_experiments(m=30, t=20, s=60), PositiveConfig(min_hours=0.6, max_hours=0.9))
    assert str(error.value).splitlines()[1:] == [
        f"  experiment {name!r}: data.positive must permit a whole number of frames, got 0.6 to 0.9 hours at {minutes} "
        "minutes per frame; widen min_hours and max_hours"
        for name, minutes in (("m", 30), ("s", 60))
    ]


INVALID = [
    ({"min_frames": 1, "max_hours": 2}, r"must be in frames or in hours, not in both, got \['min_frames'\]"),
    ({"max_frames": 4, "max_hours": 2}, r"must be in frames or in hours, not in both, got \['max_frames'\]"),
    ({"min_hours": 1}, "max_hours must be given with min_hours, got null"),
    ({"min_hours": 2, "max_hours": 1}, "max_hours must be at least min_hours, got 1"),
    ({"min_hours": -1, "max_hours": 1}, "min_hours must be at least 0, got -1"),
    ({"max_hours": float("inf")}, "max_hours must be finite, got inf"),
    ({"min_frames": -1}, "min_frames must be an integer of at least 0, got -1"),
    ({"min_frames": 5}, "max_frames must be at least min_frames, got 4"),
    ({"decay": -1}, "decay must be at least 0, got -1"),
    ({"decay": 1, "min_frames": 2, "max_frames": 2}, "decay has no effect on a single distance; remove it, got 1"),
    ({"differ": "well"}, r"differ needs data.positive.match, got \['well'\]"),
    ({"match": "condition", "max_frames": 4}, "max_frames has no effect with data.positive.match; use hours"),
    ({"match": "condition", "decay": 1}, "decay has no effect with data.positive.match; remove it, got 1"),
    ({"match": ["well", "condition"], "differ": ["well"]}, r"match and data.positive.differ must name different colu"),
    ({"match": ["well", "well"]}, r"match must name each column once, got \['well', 'well'\]"),
    ({"match": [""]}, "match must name columns, got ''"),
    ({"match": "condition", "differ": "marker", "channel": "any"}, "channel has no effect if .* names marker"),
    ({"match": "condition", "min_hours": 2, "max_hours": 1}, "max_hours must be at least min_hours, got 1"),
]


@pytest.mark.parametrize(("options", "message"), INVALID)
def test_a_contradictory_setting_is_refused(options, message):
    with pytest.raises(UserError, match=rf"data\.positive.*{message}"):
        PositiveConfig(**options)


FRAMES = st.tuples(st.integers(0, 3), st.integers(0, 4), st.sampled_from(["same", "other", "any"]))


@st.composite
def channel_tables(draw):
    """Draw a family of up to five tracks in one to three channels, of which some lack frames or tracks."""
    tracks, ends = [], {}
    for track in range(draw(st.integers(1, 5))):
        parent = draw(st.sampled_from([-1, *ends]))
        begin = draw(st.integers(0, 3)) if parent < 0 else ends[parent] + draw(st.integers(1, 2))
        frames = begin + np.flatnonzero([True, *draw(st.lists(st.booleans(), max_size=3))])
        tracks.append((track, parent, frames.tolist(), draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))))
        ends[track] = int(frames[-1])
    table = make_observations(tracks, channels=draw(st.sampled_from(["a", "ab", "abc"])))
    is_kept = draw(st.lists(st.integers(0, 9), min_size=len(table), max_size=len(table)))
    return table[np.array(is_kept, dtype=int) > 0].reset_index(drop=True)


def find_candidates(table, smallest, largest, channel):
    """Return the possible positives of each row: its cell, or ancestors and descendants that are in the table."""
    mothers = dict(zip(table["track_id"], table["parent_track_id"], strict=True))

    def ancestry(track):
        return [track, *ancestry(mothers[track])] if track in mothers else []

    def is_positive(one, other):
        related = one.track_id in ancestry(other.track_id) or other.track_id in ancestry(one.track_id)
        is_permitted = {"same": one.channel == other.channel, "other": one.channel != other.channel, "any": True}
        return related and smallest <= abs(one.t - other.t) <= largest and is_permitted[channel]

    rows = list(table.itertuples())
    return [[other.Index for other in rows if is_positive(one, other)] for one in rows]


@given(channel_tables(), FRAMES)
@settings(max_examples=60)
def test_positives_of_any_channel_are_those_of_a_walk_along_the_lineage(table, options):
    smallest, more, channel = options
    if not len(table):
        return
    positive = PositiveConfig(min_frames=smallest, max_frames=smallest + more, channel=channel)
    candidates = find_candidates(table, smallest, smallest + more, channel)
    rule = make_positives(table, SLOW_AND_FAST, positive)
    claimed = table.assign(has_positive=rule.has_positive())
    assert claimed["has_positive"].tolist() == [bool(found) for found in candidates]
    assert not wrong_claims(claimed, SLOW_AND_FAST, positive).any()
    assert wrong_claims(claimed.assign(has_positive=~claimed["has_positive"]), SLOW_AND_FAST, positive).all()
    grid = ((np.indices((40, 40)) + 0.5) / 40).reshape(2, -1)
    for row, expected in enumerate(candidates):
        if expected:
            assert sorted(set(rule.choose(np.full(1600, row), *grid).tolist())) == expected


def test_the_range_of_each_experiment_is_its_own():
    parts = [make_observations([(1, -1, list(range(9)))], experiment=name) for name in "mt"]
    table = pd.concat(parts, ignore_index=True).assign(experiment=pd.Categorical(["m"] * 9 + ["t"] * 9))
    rule = make_positives(table, SLOW_AND_FAST, PositiveConfig(min_hours=1, max_hours=1))
    assert rule.choose(np.array([0, 9]), np.zeros(2), np.zeros(2)).tolist() == [2, 9 + 3]


def test_the_same_frame_is_the_anchor_itself():
    table = make_observations([(1, -1, [0]), (2, -1, [5])])
    rule = make_positives(table, SLOW_AND_FAST, PositiveConfig(min_frames=0, max_frames=0))
    assert rule.has_positive().all()
    assert rule.choose(np.array([1, 0]), np.zeros(2), np.zeros(2)).tolist() == [1, 0]


@pytest.mark.parametrize(("smallest", "largest", "decay"), [(1, 6, 2.0), (0, 4, 0.5), (2, 9, 40.0), (1, 3, 5000.0)])
def test_frames_are_chosen_with_the_stated_weights(smallest, largest, decay):
    """Chi-square with a false alarm rate of 1e-6; frame 4 is missing, so the others share its weight."""
    frames = [frame for frame in range(13) if frame != 4]
    table = make_observations([(1, -1, frames)])
    positive = PositiveConfig(min_frames=smallest, max_frames=largest, decay=decay)
    n_draws, anchor = 40_000, 6
    row = frames.index(anchor)
    draws = np.random.default_rng(3).random((2, n_draws))
    chosen = make_positives(table, SLOW_AND_FAST, positive).choose(np.full(n_draws, row), *draws)
    distance = np.abs(np.array(frames) - anchor)
    is_permitted = (distance >= smallest) & (distance <= largest)
    weights = np.where(is_permitted, np.exp(-decay * np.maximum(distance - smallest, 0) / (largest - smallest)), 0)
    expected = n_draws * weights / weights.sum()
    counts = np.bincount(chosen, minlength=len(frames))
    likely = expected > 5
    assert counts[~likely].sum() <= 60
    statistic = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert statistic < chi2.isf(1e-6, int(likely.sum()))


def test_a_choice_with_decay_depends_only_on_its_own_slot():
    table = make_observations([(1, -1, [0, 1, 2, 5]), (2, 1, [6, 7]), (3, 1, [6, 9])])
    rule = make_positives(table, SLOW_AND_FAST, PositiveConfig(min_frames=1, max_frames=5, decay=3.0))
    rng = np.random.default_rng(1)
    rows, draws = rng.integers(len(table), size=60), rng.random((2, 60))
    together = rule.choose(rows, *draws)
    assert [rule.choose(rows[[i]], *draws[:, [i]])[0] for i in range(60)] == together.tolist()


def test_a_decay_of_0_is_uniform_and_a_large_one_takes_the_nearest_frame():
    table = make_observations([(1, -1, [0, 3, 4, 9])])
    rule = make_positives(table, SLOW_AND_FAST, PositiveConfig(min_frames=1, max_frames=9, decay=1e6))
    rows, draws = np.repeat(np.arange(4), 50), np.random.default_rng(0).random((2, 200))
    assert set(zip(rows, rule.choose(rows, *draws), strict=True)) == {(0, 1), (1, 2), (2, 1), (3, 2)}


def test_a_range_in_frames_is_described_in_hours_for_each_experiment():
    assert describe_positives(SLOW_AND_FAST, PositiveConfig()) == [
        "A positive is another frame of its anchor's lineage, 1 to 4 frames (0.5 to 2 h) away in m.",
        "It is 1 to 4 frames (0.333 to 1.33 h) away in t.",
    ]
    assert describe_positives(make_experiments(m=30, t=30), PositiveConfig(decay=2)) == [
        "A positive is another frame of its anchor's lineage, 1 to 4 frames (0.5 to 2 h) away in each experiment. "
        "Near frames are likelier (decay 2)."
    ]
    assert describe_positives(SLOW_AND_FAST, PositiveConfig(match="condition", differ=["well"], max_hours=2)) == [
        "A positive is another observation with the same condition and another well up to 2 hours away."
    ]


@pytest.mark.parametrize(
    ("options", "beginning"),
    [
        ({"max_frames": 0}, "the same frame of its anchor's lineage, 0 frames (0 h) away in each experiment."),
        ({"max_frames": 1}, "the same or another frame of its anchor's lineage, 0 to 1 frames (0 to 0.5 h) away"),
        ({"max_frames": 0, "channel": "other"}, "the same frame of its anchor's lineage in another channel, 0 frames"),
    ],
)
def test_the_same_frame_is_described_as_such(options, beginning):
    (sentence,) = describe_positives(make_experiments(m=30), PositiveConfig(min_frames=0, **options))
    assert sentence.startswith(f"A positive is {beginning}")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "a tracked cell at another timepoint"),
        ({"channel": "any"}, "a tracked cell at another timepoint in any channel"),
        ({"max_hours": 1}, "a tracked cell at another timepoint"),
        ({"min_hours": 0, "max_hours": 1}, "a tracked cell at the same or another timepoint"),
        ({"min_frames": 0, "channel": "other"}, "a tracked cell at the same or another timepoint in another channel"),
        ({"min_frames": 0, "max_frames": 0}, "a cell in spite of random changes"),
        (
            {"min_frames": 0, "max_frames": 0, "channel": "other"},
            "a tracked cell at the same timepoint in another channel",
        ),
        ({"min_hours": 0, "max_hours": 0}, "a cell in spite of random changes"),
        ({"match": "condition", "differ": "well"}, "a cell with the same condition and another well"),
        ({"match": "state", "channel": "other"}, "a cell with the same state in another channel"),
        (
            {"match": ["condition", "state"], "max_hours": 1},
            "a cell with the same condition and state up to 1 hour away",
        ),
        ({"match": "state", "min_hours": 1}, "a cell with the same state at least 1 hour away"),
        ({"match": "state", "min_hours": 0, "max_hours": 1}, "a cell with the same state 0 to 1 hours away"),
    ],
)
def test_the_report_says_what_is_recognized(options, expected):
    assert describe_recognized(PositiveConfig(**options)) == expected
    assert describe_recognized(PositiveConfig(**options), SLOW_AND_FAST) == expected


def test_the_text_of_settings_that_runs_have_recorded_stays():
    assert setting_text(PositiveConfig(match="state", max_hours=1)) == "up to 1 hours; match state"
    assert setting_text(PositiveConfig(min_frames=1, max_frames=1)) == "1 to 1 frames"


def test_hours_that_are_shorter_than_an_interval_are_the_same_timepoint():
    positive = PositiveConfig(min_hours=0, max_hours=0.1)
    assert describe_recognized(positive, make_experiments(m=30, n=20)) == "a cell in spite of random changes"
    assert not permits_other_timepoints(positive, make_experiments(m=30, n=20))
    fast = make_experiments(m=30, t=5)
    assert describe_recognized(positive, fast) == "a tracked cell at the same or another timepoint"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"min_frames": 0}, True),
        ({"min_frames": 0, "max_frames": 0}, False),
        ({"max_hours": 1}, True),
        ({"match": "condition"}, False),
        ({"match": "lineage_id"}, True),
        ({"match": "lineage_id", "max_hours": 0}, False),
    ],
)
def test_positives_of_a_lineage_at_other_timepoints_are_known(options, expected):
    assert permits_other_timepoints(PositiveConfig(**options), SLOW_AND_FAST) is expected


def test_the_same_frames_of_different_intervals_are_a_warning():
    (warning,) = warn_of_positives(make_experiments(m=30, t=5), PositiveConfig())
    assert warning.startswith("4 frames are 2 h in m but 0.333 h in t: set data.positive.max_hours")
    assert warn_of_positives(make_experiments(m=30, t=29), PositiveConfig()) == []
    assert warn_of_positives(make_experiments(m=30, t=5), PositiveConfig(max_hours=2)) == []


def test_equal_pairs_are_a_warning_where_nothing_is_augmented():
    same = PositiveConfig(min_frames=0)
    (warning,) = warn_of_positives(make_experiments(m=30), same, is_augmented=False)
    assert warning.startswith("a positive may be the anchor itself with the same pixels")
    assert warn_of_positives(make_experiments(m=30), same) == []
    other = PositiveConfig(min_frames=0, channel="other")
    assert warn_of_positives(make_experiments(m=30), other, is_augmented=False) == []


def test_settings_are_put_into_words_that_tell_them_apart():
    rules = [
        *(
            {},
            {"max_frames": 5},
            {"decay": 1},
            {"channel": "any"},
            {"max_hours": 1},
            {"min_hours": 0.5, "max_hours": 1},
        ),
        *(
            {"match": "a"},
            {"match": "a", "differ": "b"},
            {"match": "a", "min_hours": 1},
            {"match": "a", "max_hours": 1},
        ),
    ]
    texts = [setting_text(PositiveConfig(**rule)) for rule in rules]
    assert texts[0] == setting_text(PositiveConfig(min_frames=1, max_frames=4)) == "1 to 4 frames"
    assert len(set(texts)) == len(rules)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": "dose"}, r"match must name columns of the anchor table \(experiment, .*\), got 'dose'"),
        ({"match": "t", "differ": ["has_positive"]}, r"differ must name columns of .*, got 'has_positive'"),
        ({"channel": "other"}, "channel must be same, because data.channels is not one, got 'other'"),
    ],
)
def test_a_column_that_does_not_exist_is_refused(options, message):
    table = make_observations([(1, -1, [0])]).assign(has_positive=True)
    with pytest.raises(UserError, match=message):
        make_positives(table, SLOW_AND_FAST, PositiveConfig(**options))


def test_observations_without_a_value_are_named_by_their_column():
    table = make_observations([(1, -1, [0, 1, 2])]).assign(dose=[0.5, None, 0.5], size=1.0)
    positive = PositiveConfig(match=["dose", "size"])
    assert {name: missing.tolist() for name, missing in missing_values(table, positive).items()} == {
        "dose": [False, True, False]
    }
    assert make_positives(table, SLOW_AND_FAST, positive).has_positive().tolist() == [True, False, True]


def test_a_loss_by_condition_needs_positives_of_the_same_condition():
    table = make_observations([(1, -1, [0, 1, 2])]).assign(condition=["x", "y", "x"], drug=["a", "b", "a"], dose=1)
    for match in ("condition", "drug", ["dose", "drug"]):
        check_labels(table, PositiveConfig(match=match), "condition")
    check_labels(table, PositiveConfig(match="dose"), "pair")
    check_labels(table, PositiveConfig(), "condition")
    with pytest.raises(UserError, match=r"model\.loss\.positives condition contradicts data\.positive"):
        check_labels(table, PositiveConfig(match="dose"), "condition")


def test_a_loss_by_lineage_is_a_warning_with_positives_of_other_lineages():
    (warning,) = warn_of_labels(PositiveConfig(match="condition"), "lineage")
    assert "set model.loss.positives to pair" in warning
    assert warn_of_labels(PositiveConfig(match="lineage_id"), "lineage") == []
    assert warn_of_labels(PositiveConfig(match="condition"), "pair") == []
    assert warn_of_labels(PositiveConfig(), "lineage") == []
