import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_train.config.schema import PositiveConfig
from viscy_train.positives import lineage_parts
from viscy_train.positives.frame_range import FrameRange
from viscy_train.positives.lineages import Lineages, lineage_ids


def make_observations(*tracks, experiment="monday", position="A/1/0"):
    """Make the observations of a position from tracks, each (track_id, parent_track_id, frames)."""
    rows = [(track, parent, t) for track, parent, frames in sorted(tracks) for t in frames]
    observations = pd.DataFrame(rows, columns=["track_id", "parent_track_id", "t"])
    return observations.assign(experiment=experiment, position=position)


@st.composite
def tables(draw):
    """Draw a table of some positions, with one to three daughters per mother, gaps in time, and missing mothers."""
    parts = []
    for experiment, position in draw(
        st.lists(st.sampled_from([("m", "A/1/0"), ("m", "A/1/1"), ("t", "A/1/0")]), min_size=1, unique=True)
    ):
        tracks, ends, daughters = [], {}, {}
        for track in draw(st.permutations(range(draw(st.integers(1, 9))))):
            mothers = [mother for mother in ends if daughters[mother] < 3]
            parent = draw(st.sampled_from([-1, *mothers]))
            begin = draw(st.integers(0, 3)) if parent < 0 else ends[parent] + draw(st.integers(1, 3))
            frames = begin + np.flatnonzero([True, *draw(st.lists(st.booleans(), max_size=4))])
            tracks.append((track, parent, frames.tolist()))
            ends[track], daughters[track] = int(frames[-1]), 0
            if parent >= 0:
                daughters[parent] += 1
        parts.append(make_observations(*tracks, experiment=experiment, position=position))
    return pd.concat(parts, ignore_index=True)


def find_relatives(observations):
    """Return which observations are ancestor and descendant, by walking up, shape (n_observations, n_observations)."""
    names = list(observations[["experiment", "position", "track_id"]].itertuples(index=False, name=None))
    mothers = {name: (*name[:2], parent) for name, parent in zip(names, observations["parent_track_id"], strict=True)}

    def ancestry(name):
        return [name, *ancestry(mothers[name])] if name in mothers else []

    return np.array([[one in ancestry(other) or other in ancestry(one) for other in names] for one in names])


def find_roots(observations):
    names = list(observations[["experiment", "position", "track_id"]].itertuples(index=False, name=None))
    mothers = {name: (*name[:2], parent) for name, parent in zip(names, observations["parent_track_id"], strict=True)}

    def root(name):
        return root(mothers[name]) if mothers[name] in mothers else name

    return [root(name) for name in names]


def find_candidates(observations, positive):
    """Return the possible positives of each observation, by ascending frame; within a frame, by ascending row."""
    related, t = find_relatives(observations), observations["t"].to_numpy()
    distance = np.abs(t[:, None] - t)
    allowed = related & (distance >= positive.min_frames) & (distance <= positive.max_frames)
    return [[np.flatnonzero(row & (t == frame)).tolist() for frame in np.unique(t[row])] for row in allowed]


bounds = st.tuples(st.integers(1, 4), st.integers(0, 6)).map(
    lambda pair: PositiveConfig(min_frames=pair[0], max_frames=sum(pair))
)


@given(tables(), bounds)
@settings(max_examples=80, deadline=None)
def test_has_positive_agrees_with_a_walk_along_the_lineage(observations, positive):
    expected = [bool(candidates) for candidates in find_candidates(observations, positive)]
    assert Lineages.of(observations, positive).has_positive().tolist() == expected


@given(tables(), bounds, st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_a_positive_is_drawn_by_frame_and_then_among_the_relatives_in_it(observations, positive, seed):
    candidates = find_candidates(observations, positive)
    rng = np.random.default_rng(seed)
    rows = np.array([row for row in rng.integers(len(observations), size=40) if candidates[row]], dtype=np.int64)
    frame_draws, relative_draws = rng.random((2, len(rows)))
    chosen = Lineages.of(observations, positive).choose(rows, frame_draws, relative_draws)
    for row, frame_draw, relative_draw, positive_row in zip(rows, frame_draws, relative_draws, chosen, strict=True):
        frame = candidates[row][int(frame_draw * len(candidates[row]))]
        assert positive_row == frame[int(relative_draw * len(frame))]


@given(tables())
@settings(max_examples=60, deadline=None)
def test_observations_share_a_lineage_exactly_if_they_share_a_root(observations):
    ids = lineage_ids(observations)
    assert ids.dtype == np.int64
    assert (
        len(set(zip(ids, find_roots(observations), strict=True))) == len(set(ids)) == len(set(find_roots(observations)))
    )


FAMILY = [(1, -1, [0, 1]), (2, 1, [2, 3]), (3, 1, [2, 3]), (4, 2, [4]), (5, 2, [4]), (6, 2, [4])]


def test_sisters_and_cousins_are_not_positives():
    observations = make_observations(*FAMILY)
    lineages = Lineages.of(observations, PositiveConfig(min_frames=1, max_frames=9))
    draws = np.random.default_rng(0).random((2, 4000))
    chosen = lineages.choose(np.full(4000, 2), *draws)
    assert set(observations["track_id"][chosen]) == {1, 2, 4, 5, 6}
    assert set(observations["track_id"][lineages.choose(np.full(4000, 4), *draws)]) == {1, 3}


def test_frames_are_equally_likely_and_so_are_the_relatives_in_a_frame():
    observations = make_observations(*FAMILY)
    lineages = Lineages.of(observations, PositiveConfig(min_frames=1, max_frames=2))
    # From frame 2 of track 2, frames 0, 1, 3 and 4 are permitted; frame 4 has three granddaughters of track 1.
    frame_draws, relative_draws = ((np.indices((12, 12)) + 0.5) / 12).reshape(2, -1)
    chosen = observations.iloc[lineages.choose(np.full(144, 2), frame_draws, relative_draws)]
    assert chosen.groupby("t").size().to_dict() == {0: 36, 1: 36, 3: 36, 4: 36}
    assert chosen[chosen["t"] == 4].groupby("track_id").size().to_dict() == {4: 12, 5: 12, 6: 12}


def test_a_choice_depends_only_on_its_own_slot():
    observations = make_observations(*FAMILY)
    lineages = Lineages.of(observations, PositiveConfig(min_frames=1, max_frames=3))
    rng = np.random.default_rng(1)
    rows, (frame_draws, relative_draws) = rng.integers(len(observations), size=60), rng.random((2, 60))
    together = lineages.choose(rows, frame_draws, relative_draws)
    alone = [lineages.choose(rows[[i]], frame_draws[[i]], relative_draws[[i]])[0] for i in range(60)]
    assert together.tolist() == alone


def test_a_draw_just_below_1_gives_the_last_choice():
    observations = make_observations(*FAMILY)
    lineages = Lineages.of(observations, PositiveConfig(min_frames=1, max_frames=9))
    last = np.array([np.nextafter(1, 0)])
    assert observations["track_id"][lineages.choose(np.array([0]), last, last)[0]] == 6


def test_choosing_for_no_anchors_gives_no_positives():
    lineages = Lineages.of(make_observations(*FAMILY), PositiveConfig())
    assert lineages.choose(np.empty(0, np.int64), np.empty(0), np.empty(0)).shape == (0,)


def test_choosing_for_an_observation_without_a_positive_is_refused():
    lineages = Lineages.of(make_observations((1, -1, [0, 1]), (2, -1, [9])), PositiveConfig())
    with pytest.raises(ValueError, match="rows must have a positive, row 2 has none"):
        lineages.choose(np.array([0, 2]), np.zeros(2), np.zeros(2))


def test_tracks_with_the_same_id_in_two_positions_are_unrelated():
    observations = pd.concat(
        [make_observations((1, -1, [0]), (2, 1, [1])), make_observations((1, -1, [2]), (3, 1, [3]), position="A/1/1")],
        ignore_index=True,
    )
    assert lineage_ids(observations).tolist() == [0, 0, 2, 2]
    assert Lineages.of(observations, PositiveConfig(min_frames=2)).has_positive().tolist() == [False] * 4


def test_a_long_chain_of_single_daughters_is_one_lineage():
    observations = make_observations(*((track, track - 1 if track else -1, [track]) for track in range(3000)))
    assert (lineage_ids(observations) == 0).all()
    assert Lineages.of(observations, PositiveConfig(min_frames=1, max_frames=20)).has_positive().all()


def test_choosing_for_a_batch_is_fast_in_a_large_table():
    tracks = 5000
    one = np.arange(tracks)
    observations = pd.DataFrame({"track_id": np.repeat(one, 40), "t": np.tile(np.arange(40), tracks)})
    observations["t"] += 40 * (observations["track_id"] % 2)
    observations["parent_track_id"] = np.where(observations["track_id"] % 2, observations["track_id"] - 1, -1)
    lineages = Lineages.of(observations.assign(experiment="m", position="A/1/0"), PositiveConfig())
    rng = np.random.default_rng(0)
    rows, draws = rng.integers(len(observations), size=256), rng.random((2, 256))
    lineages.choose(rows, *draws)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        lineages.choose(rows, *draws)
        seconds.append(time.perf_counter() - start)
    # Typically a millisecond or less. The bound allows for a busy machine, but not for a search of the complete table.
    assert min(seconds) < 0.02


@settings(max_examples=50)
@given(tables(), st.sampled_from([None, "same", "other", "any"]), st.integers(0, 2), st.integers(2, 5))
def test_lineages_found_in_parts_choose_the_same_positives(observations, channel, smallest, largest):
    """Parts of single positions, without and with a row for each of two channels."""
    positive = PositiveConfig(min_frames=smallest, max_frames=largest, channel=channel or "same")
    if channel:
        observations = pd.concat([observations.assign(channel=name) for name in ("b", "a")])
    columns = [name for name in ("experiment", "position", "channel", "track_id", "t") if name in observations]
    observations = observations.sort_values(columns, ignore_index=True)
    for name in {"experiment", "position", "channel"} & set(columns):
        observations[name] = observations[name].astype("category")
    ranges = dict.fromkeys(observations["experiment"].unique(), FrameRange(smallest, largest))
    whole = Lineages.of(observations, positive, ranges)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lineage_parts, "LEAST_ROWS_PER_PART", 1)
        parts = [*lineage_parts.arrays_in_parts(observations, positive, ranges)]
    assert len(parts) == len(observations[["experiment", "position"]].drop_duplicates())
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = lineage_parts.lineages_of(joined, observations, positive)
    np.testing.assert_array_equal(found.has_positive(), whole.has_positive())
    rows = np.flatnonzero(whole.has_positive())
    draws = np.random.default_rng(0).random((2, len(rows)))
    np.testing.assert_array_equal(found.choose(rows, *draws), whole.choose(rows, *draws))
