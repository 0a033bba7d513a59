"""Recorded epochs: epochs that options of the trainer shorten, and a last one that was cut off."""

import pytest

from viscy_train.run.recorded_epochs import RecordedEpochs


@pytest.mark.parametrize(
    ("n_batches", "total", "length"),
    [
        ([100], 1.0, 100),
        ([100, 100, 40], 2.4, 100),
        ([102, 102, 51], 2.51, 100),  # batches that fill up the last step of several processes
        ([100, 102, 102], 3.0, 100),  # resumed with more processes
        ([5, 5, 5], 3.0, 5),  # limit_train_batches
        ([5, 5, 2], 2.4, 5),
        ([5, 20, 5], 2.25, 20),  # resumed with another limit
        ([5, 5, 40], 3.0, 5),
        ([40], None, None),  # max_steps, or stopped
        ([], None, None),
    ],
)
def test_epochs_are_counted_by_their_own_length(n_batches, total, length):
    epochs = RecordedEpochs(n_batches=n_batches, planned=100)
    assert (epochs.total, epochs.length) == (pytest.approx(total), length)
