"""Over the epochs of a round, short epochs draw each row of a stratum once before any of them again."""

import pytest

from viscy_sampling_testkit import assert_round_covers, assert_short_epochs

GROUPS = [0, 0, 0, 0, 1, 1, 1, 1]


def test_epochs_that_continue_a_round_pass():
    epochs = [[[0, 1], [4, 5]], [[6, 7], [2, 3]]]
    assert_short_epochs(epochs, 2, 2, groups=GROUPS, shares={0: 0.5, 1: 0.5})
    assert_round_covers(epochs, GROUPS)


def test_epoch_that_starts_a_round_anew_fails(assertion_fails):
    with assertion_fails("over the epochs of a round", "drawn again", "batch: 2", r"epochs: \[2, 2\] batches"):
        assert_round_covers([[[0, 1], [4, 5]], [[0, 3], [6, 7]]], GROUPS)


@pytest.mark.parametrize(
    ("epochs", "patterns"),
    [
        ([[[0, 1], [4, 5]], [[2, 3]]], [r"\[2, 1\] batches in successive epochs", "2 in each"]),
        ([[[0, 1], [4, 5]], [[2], [6, 7]]], ["first offending batch: 2"]),
        # To within one in each epoch, but not in the round.
        ([[[0, 1], [2, 3], [4, 5]]] * 4, ["group|label|share"]),
    ],
)
def test_epochs_with_other_batches_fail(epochs, patterns, assertion_fails):
    with assertion_fails(*patterns):
        assert_short_epochs(epochs, len(epochs[0]), 2, groups=GROUPS, shares={0: 0.5, 1: 0.5})
