"""Rotations: each cycle visits every number once, and visits to an arc are counted without visiting."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from viscy_data._compose.rotation import Rotation
from viscy_data._random.hash import derive, epoch_key


def make_rotation(size, seed=0):
    return Rotation.from_keys(np.array([size]), epoch_key(seed, 0))


@given(st.integers(1, 500), st.integers(0, 100))
def test_every_cycle_visits_each_number_once(size, seed):
    visits = make_rotation(size, seed).visit(np.arange(3 * size))
    for cycle in visits.reshape(3, size):
        assert sorted(cycle) == list(range(size))


@given(st.integers(1, 300), st.integers(0, 1000), st.integers(0, 600), st.data())
def test_visits_to_an_arc_are_counted(size, time, first, data):
    length = data.draw(st.integers(0, size))
    rotation = make_rotation(size)
    visits = rotation.visit(np.arange(time))
    expected = ((visits - first) % size < length).sum()
    assert rotation.count(np.array([time]), np.array([first]), np.array([length])) == expected


@given(st.integers(1, 2**22), st.integers(1, 2**22))
@example(104_056, 340_102)  # the step next to the golden section has a quotient of 199 here
@example(1_859_870, 929_935)  # and of 359 here
def test_visits_to_an_arc_are_spread_evenly(size, time):
    length = size // 3
    count = make_rotation(size).count(np.array([time]), np.array([0]), np.array([length]))
    assert abs(count[0] - time * length / size) < 2 + np.log2(size)


def test_many_rotations_are_counted_at_once():
    size = np.arange(1, 40)
    rotation = Rotation.from_keys(size, derive(epoch_key(0, 0), size))
    counts = rotation.count(np.arange(50)[:, None], np.zeros(39, np.int64), size // 2)
    for column in (0, 7, 38):
        one = rotation.take([column])
        single = one.count(np.arange(50), np.array([0]), size[[column]] // 2)
        assert counts[:, column].tolist() == single.tolist()
