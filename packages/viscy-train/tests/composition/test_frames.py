"""How many different frames a batch needs."""

from typing import Any

import numpy as np
import pandas as pd

from viscy_train.composition.frames import FrameCounts, count_frames


class NextRow:
    """Chooses the next row as the positive."""

    def choose(self, batch):
        return batch.rows + 1


CHOICE: Any = NextRow()

OBSERVATIONS = pd.DataFrame(
    {
        "experiment": ["a"] * 6 + ["b"] * 6,
        "position": ["A/1/0"] * 12,
        "t": [0, 1, 2] * 4,
    }
)


def test_frames_of_anchors_and_of_pairs_are_counted_by_batch():
    batches = pd.DataFrame({"epoch": 0, "batch": [0, 0, 0, 1, 1, 1], "row": [0, 3, 6, 1, 7, 4]})
    # Batch 0: frame 0 of a twice and of b, then frame 1 of both. Batch 1: frame 1 of both, then frame 2 of both.
    counts: Any = count_frames(batches, OBSERVATIONS, CHOICE)
    assert counts == FrameCounts(batch_size=3, anchors=2.0, pairs=4.0)
    assert counts.sentence == (
        "The 3 anchors of a batch are in 2.0 different frames on average; with their positives, 4.0."
    )


def test_many_batches_are_thinned_and_without_any_nothing_is_counted():
    batches = pd.DataFrame({"epoch": 0, "batch": np.arange(500), "row": np.arange(500) % 11})
    counts: Any = count_frames(batches, OBSERVATIONS, CHOICE)
    assert counts == FrameCounts(batch_size=1, anchors=1.0, pairs=2.0)
    assert count_frames(batches.iloc[:0], OBSERVATIONS, CHOICE) is None
