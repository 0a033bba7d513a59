"""Tracks follow from links between cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscy_train.errors import UserError
from viscy_train.tracks.checks import check_tracks
from viscy_train.tracks.formats.lineage import tracks_of_links


def tracks(frames, links, numbers=None):
    table, _ = tracks_of_links(np.arange(len(frames)), frames, links, "file", numbers)
    return table["track_id"].tolist(), table["parent_track_id"].tolist()


def test_a_chain_is_a_track_in_whatever_order_and_direction_its_links_are():
    assert tracks([3, 0, 2, 9], [(3, 0), (2, 0), (1, 2), (1, 2)]) == ([0, 0, 0, 0], [-1, -1, -1, -1])


def test_daughters_begin_tracks_of_their_own():
    assert tracks([0, 1, 2, 2], [(0, 1), (1, 2), (1, 3)]) == ([0, 0, 1, 2], [-1, -1, 0, 0])


def test_a_cell_without_links_is_a_track():
    assert tracks([0, 0, 1], []) == ([0, 1, 2], [-1, -1, -1])


def test_a_merged_cell_begins_a_track_without_a_mother():
    table, notes = tracks_of_links([5, 6, 7], [0, 0, 1], [(5, 7), (6, 7)], "file")
    assert table["parent_track_id"].tolist() == [-1, -1, -1]
    assert notes == ("cells that merge from several begin a track without a mother",)


def test_numbers_in_the_file_are_kept_where_they_differ():
    links = [(0, 1), (1, 2), (1, 3)]
    assert tracks([0, 1, 2, 2], links, [8, 8, 4, 6]) == ([8, 8, 4, 6], [-1, -1, 8, 8])
    assert tracks([0, 1, 2, 2], links, [8, 8, 8, 8]) == ([8, 8, 9, 10], [-1, -1, 8, 8])


@pytest.mark.parametrize(
    ("links", "message"),
    [([(0, 9)], "unknown cell 9"), ([(0, 0)], "links 0 and 0 in frame 0"), ([(1, 2)], "links 1 and 2 in frame 1")],
)
def test_an_impossible_link_is_an_error(links, message):
    with pytest.raises(UserError, match=message):
        tracks([0, 1, 1], links)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=40))
def test_any_tree_of_links_gives_possible_tracks_that_have_all_links(cells):
    frames = np.array([frame for frame, _ in cells])
    links = []
    for cell, (frame, pick) in enumerate(cells):
        before = np.flatnonzero(frames < frame)
        if len(before) and pick:
            links.append((int(before[pick % len(before)]), cell))
    table, _ = tracks_of_links(np.arange(len(cells)), frames, links, "file")
    checked = check_tracks("file", table.assign(t=frames, y=0.0, x=0.0))
    assert len(checked) == len(cells)
    track, parent = table["track_id"], table["parent_track_id"]
    linked = {other: one for one, other in links}
    for cell in range(len(cells)):
        is_first = frames[cell] == frames[track == track[cell]].min()
        if cell in linked and is_first:
            assert parent[cell] == track[linked[cell]]
        elif cell in linked:
            assert track[cell] == track[linked[cell]]
        else:
            assert is_first
            assert parent[cell] == -1
