import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_train.anchors.lineages import Lineages, lineage_ids
from viscy_train.config.schema import PositiveConfig


def cells_of(*tracks, experiment="monday", position="A/1/0"):
    """Make the cells of a position from tracks, each (track_id, parent_track_id, frames)."""
    rows = [(track, parent, t) for track, parent, frames in sorted(tracks) for t in frames]
    cells = pd.DataFrame(rows, columns=["track_id", "parent_track_id", "t"])
    return cells.assign(experiment=experiment, position=position)


@st.composite
def tables(draw):
    """Draw a table of some positions, with divisions into 1 to 3, gaps in time, and lost mothers."""
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
        parts.append(cells_of(*tracks, experiment=experiment, position=position))
    return pd.concat(parts, ignore_index=True)


def relatives_of(cells):
    """Tell by walking up which cells are of one line of descent, shape (n_cells, n_cells)."""
    names = list(cells[["experiment", "position", "track_id"]].itertuples(index=False, name=None))
    mothers = {name: (*name[:2], parent) for name, parent in zip(names, cells["parent_track_id"], strict=True)}

    def line(name):
        return [name, *line(mothers[name])] if name in mothers else []

    return np.array([[one in line(other) or other in line(one) for other in names] for one in names])


def roots_of(cells):
    names = list(cells[["experiment", "position", "track_id"]].itertuples(index=False, name=None))
    mothers = {name: (*name[:2], parent) for name, parent in zip(names, cells["parent_track_id"], strict=True)}

    def root(name):
        return root(mothers[name]) if mothers[name] in mothers else name

    return [root(name) for name in names]


def candidates_of(cells, positive):
    """Return for each cell its possible positives: frames ascending, in each the rows ascending."""
    related, t = relatives_of(cells), cells["t"].to_numpy()
    distance = np.abs(t[:, None] - t)
    allowed = related & (distance >= positive.min_frames) & (distance <= positive.max_frames)
    return [[np.flatnonzero(row & (t == frame)).tolist() for frame in np.unique(t[row])] for row in allowed]


bounds = st.tuples(st.integers(1, 4), st.integers(0, 6)).map(
    lambda pair: PositiveConfig(min_frames=pair[0], max_frames=sum(pair))
)


@given(tables(), bounds)
@settings(max_examples=80, deadline=None)
def test_a_cell_has_a_positive_where_a_walk_along_its_lineage_finds_one(cells, positive):
    expected = [bool(candidates) for candidates in candidates_of(cells, positive)]
    assert Lineages.of(cells, positive).has_positive().tolist() == expected


@given(tables(), bounds, st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_the_positive_is_drawn_by_frame_and_then_by_cell(cells, positive, seed):
    candidates = candidates_of(cells, positive)
    rng = np.random.default_rng(seed)
    rows = np.array([row for row in rng.integers(len(cells), size=40) if candidates[row]], dtype=np.int64)
    steps, words = rng.random((2, len(rows)))
    chosen = Lineages.of(cells, positive).choose(rows, steps, words)
    for row, step, word, positive_row in zip(rows, steps, words, chosen, strict=True):
        frame = candidates[row][int(step * len(candidates[row]))]
        assert positive_row == frame[int(word * len(frame))]


@given(tables())
@settings(max_examples=60, deadline=None)
def test_cells_are_of_one_lineage_exactly_where_they_have_one_root(cells):
    ids = lineage_ids(cells)
    assert ids.dtype == np.int64
    assert len(set(zip(ids, roots_of(cells), strict=True))) == len(set(ids)) == len(set(roots_of(cells)))


FAMILY = [(1, -1, [0, 1]), (2, 1, [2, 3]), (3, 1, [2, 3]), (4, 2, [4]), (5, 2, [4]), (6, 2, [4])]


def test_sisters_and_cousins_are_no_positives():
    cells = cells_of(*FAMILY)
    lineages = Lineages.of(cells, PositiveConfig(min_frames=1, max_frames=9))
    words = np.random.default_rng(0).random((2, 4000))
    of_track_2 = lineages.choose(np.full(4000, 2), *words)
    assert set(cells["track_id"][of_track_2]) == {1, 2, 4, 5, 6}
    assert set(cells["track_id"][lineages.choose(np.full(4000, 4), *words)]) == {1, 3}


def test_frames_are_equally_likely_and_so_are_the_cells_in_one():
    cells = cells_of(*FAMILY)
    lineages = Lineages.of(cells, PositiveConfig(min_frames=1, max_frames=2))
    # From frame 2 of track 2: frames 0, 1, 3 and 4; three granddaughters of track 1 are in frame 4.
    steps, words = ((np.indices((12, 12)) + 0.5) / 12).reshape(2, -1)
    chosen = cells.iloc[lineages.choose(np.full(144, 2), steps, words)]
    assert chosen.groupby("t").size().to_dict() == {0: 36, 1: 36, 3: 36, 4: 36}
    assert chosen[chosen["t"] == 4].groupby("track_id").size().to_dict() == {4: 12, 5: 12, 6: 12}


def test_a_choice_depends_on_its_own_slot_alone():
    cells = cells_of(*FAMILY)
    lineages = Lineages.of(cells, PositiveConfig(min_frames=1, max_frames=3))
    rng = np.random.default_rng(1)
    rows, (steps, words) = rng.integers(len(cells), size=60), rng.random((2, 60))
    together = lineages.choose(rows, steps, words)
    alone = [lineages.choose(rows[[i]], steps[[i]], words[[i]])[0] for i in range(60)]
    assert together.tolist() == alone


def test_the_word_just_below_1_is_the_last_choice():
    cells = cells_of(*FAMILY)
    lineages = Lineages.of(cells, PositiveConfig(min_frames=1, max_frames=9))
    last = np.array([np.nextafter(1, 0)])
    assert cells["track_id"][lineages.choose(np.array([0]), last, last)[0]] == 6


def test_no_slot_has_no_positive():
    lineages = Lineages.of(cells_of(*FAMILY), PositiveConfig())
    assert lineages.choose(np.empty(0, np.int64), np.empty(0), np.empty(0)).shape == (0,)


def test_a_cell_without_a_positive_is_refused():
    lineages = Lineages.of(cells_of((1, -1, [0, 1]), (2, -1, [9])), PositiveConfig())
    with pytest.raises(ValueError, match="rows must have a positive, row 2 has none"):
        lineages.choose(np.array([0, 2]), np.zeros(2), np.zeros(2))


def test_tracks_of_one_name_in_two_positions_are_strangers():
    cells = pd.concat(
        [cells_of((1, -1, [0]), (2, 1, [1])), cells_of((1, -1, [2]), (3, 1, [3]), position="A/1/1")], ignore_index=True
    )
    assert lineage_ids(cells).tolist() == [0, 0, 2, 2]
    assert Lineages.of(cells, PositiveConfig(min_frames=2)).has_positive().tolist() == [False] * 4


def test_a_long_line_of_single_daughters_is_one_lineage():
    cells = cells_of(*((track, track - 1 if track else -1, [track]) for track in range(3000)))
    assert (lineage_ids(cells) == 0).all()
    assert Lineages.of(cells, PositiveConfig(min_frames=1, max_frames=20)).has_positive().all()


def test_a_batch_is_chosen_in_little_time_from_many_cells():
    tracks = 5000
    one = np.arange(tracks)
    cells = pd.DataFrame({"track_id": np.repeat(one, 40), "t": np.tile(np.arange(40), tracks)})
    cells["t"] += 40 * (cells["track_id"] % 2)
    cells["parent_track_id"] = np.where(cells["track_id"] % 2, cells["track_id"] - 1, -1)
    lineages = Lineages.of(cells.assign(experiment="m", position="A/1/0"), PositiveConfig())
    rng = np.random.default_rng(0)
    rows, words = rng.integers(len(cells), size=256), rng.random((2, 256))
    lineages.choose(rows, *words)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        lineages.choose(rows, *words)
        seconds.append(time.perf_counter() - start)
    # A millisecond or less; the bound is for a busy machine, and refuses a search of the whole table.
    assert min(seconds) < 0.02
