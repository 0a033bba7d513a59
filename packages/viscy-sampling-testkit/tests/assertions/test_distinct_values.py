"""Rows of a batch share a value only if no row of their pools has another."""

import numpy as np

from viscy_sampling_testkit import assert_distinct_values

VALUES = ["x", "x", "y", "y", "z", "z", "w", "w"]
GROUPS = [0, 0, 0, 0, 0, 0, 1, 1]


def test_batches_with_distinct_values_pass():
    assert_distinct_values([[0, 2, 4], [1, 3, 7]], VALUES)


def test_value_that_is_repeated_needlessly_fails(assertion_fails):
    with assertion_fails("share a value", r"positions \[0, 1\] share 'x'", "such as position 4", "batch: 1"):
        assert_distinct_values([[0, 2], [0, 1, 2]], VALUES)


def test_value_is_repeated_once_a_pool_has_no_others():
    assert_distinct_values([[0, 1, 2, 4, 6]], VALUES)
    assert_distinct_values([[0, 1, 2]], VALUES, conditions=["a", "a", "a", *"bbbbb"])


def test_leak_is_of_other_groups(assertion_fails):
    # Group 1 has the value w only, and group 0 is exhausted.
    assert_distinct_values([[0, 2, 4, 6, 7]], VALUES, GROUPS)
    with assertion_fails(r"positions \[6, 7\] share 'w'", "such as position 8"):
        assert_distinct_values([[0, 2, 4, 6, 7]], [*VALUES, "v"], [*GROUPS, 2])
    assert_distinct_values([[0, 2, 4, 6, 7]], [*VALUES, "v"], [*GROUPS, 2], excluded=[2])


def test_rows_of_different_conditions_must_not_share_a_value(assertion_fails):
    with assertion_fails(r"positions \[0, 1\] share 'x'"):
        assert_distinct_values([[0, 1]], VALUES, conditions=list("ababcccc"))


def test_pool_of_a_row_in_the_window_is_the_window(assertion_fails):
    times = np.array([0.0, 0, 9, 9, 5, 5, 5, 5])
    assert_distinct_values([[0, 1]], VALUES, times=times, window_hours=1.0, window_fraction=0.6)
    with assertion_fails(r"positions \[4, 5\] share 'z'", "position 6"):
        assert_distinct_values([[0, 4, 5]], VALUES, times=times, window_hours=1.0, window_fraction=0.6)
