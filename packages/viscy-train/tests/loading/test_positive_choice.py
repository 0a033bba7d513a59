"""The positive of an anchor is a function of its batch, and with locality those of a position share their frames."""

import numpy as np
import pandas as pd
import pytest

from viscy_sampling_testkit import assert_uniform
from viscy_train.config.schema import PositiveConfig
from viscy_train.loading.batches import Batch
from viscy_train.loading.positive_choice import PositiveChoice
from viscy_train.loading.rng import Purpose, random_uniform
from viscy_train.positives.lineages import Lineages
from viscy_train.positives.metadata_positives import MetadataPositives

N_FRAMES, N_TRACKS = 12, 10
POSITIVE = PositiveConfig(max_frames=3)


def make_observations(positions=("A/1/0", "A/1/1"), experiments=("monday",)):
    """Make a table of tracks that are observed in all frames, of which track 1 divides before frame 6."""
    rows = [
        (experiment, position, track, {1: (0, 6), 2: (6, N_FRAMES), 3: (6, N_FRAMES)}.get(track, (0, N_FRAMES)))
        for experiment in experiments
        for position in positions
        for track in range(N_TRACKS)
    ]
    rows = [(*names, track, 1 if track in (2, 3) else -1, t) for *names, track, span in rows for t in range(*span)]
    table = pd.DataFrame(rows, columns=["experiment", "position", "track_id", "parent_track_id", "t"])
    return table.assign(condition="mock", hours_post_infection=table["t"] * 0.5)


OBSERVATIONS = make_observations()


def choose(rows, *, together, positive=POSITIVE, epoch=0, index=0, first_slot=0, seed=3):
    lineages = Lineages.of(OBSERVATIONS, positive)
    choice = PositiveChoice(lineages, seed, OBSERVATIONS if together else None)
    return choice.choose(Batch(np.asarray(rows), epoch, index, first_slot))


def rows_of(**values):
    is_row = np.logical_and.reduce([OBSERVATIONS[name] == value for name, value in values.items()])
    return np.flatnonzero(is_row)


def test_without_locality_each_positive_is_chosen_by_the_numbers_of_its_slot():
    rows = np.arange(0, len(OBSERVATIONS), 3)
    draws = random_uniform(3, 1, 2, Purpose.POSITIVE, len(rows), 2)
    expected = Lineages.of(OBSERVATIONS, POSITIVE).choose(rows, *draws.T)
    np.testing.assert_array_equal(choose(rows, together=False, epoch=1, index=2), expected)


def test_anchors_of_a_frame_with_equal_frames_to_choose_from_share_the_frame_of_their_positives():
    of_frame = rows_of(t=4, position="A/1/0")
    for index in range(20):
        positives = OBSERVATIONS["t"].to_numpy()[choose(of_frame, together=True, index=index)]
        assert len(set(positives)) == 1
    alone = OBSERVATIONS["t"].to_numpy()[choose(of_frame, together=False)]
    assert len(set(alone)) > 1


def test_positions_choose_independently():
    first, other = (rows_of(t=4, position=position) for position in ("A/1/0", "A/1/1"))
    frames = OBSERVATIONS["t"].to_numpy()
    pairs = [[frames[choose(rows, together=True, index=index)[0]] for rows in (first, other)] for index in range(40)]
    assert len(set(map(tuple, pairs))) > 10


@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_each_positive_is_as_likely_as_without_locality(decay):
    """Chi-square with a false alarm rate of 1e-6 for each of three anchors, over 3,000 batches that hold them."""
    positive = PositiveConfig(max_frames=3, decay=decay)
    anchors = [rows_of(t=4, position="A/1/0", track_id=track)[0] for track in (0, 1)]
    anchors.append(rows_of(t=0, position="A/1/0", track_id=5)[0])
    lineages = Lineages.of(OBSERVATIONS, positive)
    choice = PositiveChoice(lineages, 3, OBSERVATIONS)
    chosen = np.array([choice.choose(Batch(np.array(anchors), 0, index)) for index in range(3000)])
    frames = OBSERVATIONS["t"].to_numpy()
    for anchor, positives in zip(anchors, chosen.T, strict=True):
        distance = np.abs(frames[positives] - frames[anchor])
        _, candidates = lineages._candidates(np.array([anchor]))
        of_frame = pd.Series(candidates).groupby(frames[candidates]).transform("size").to_numpy()
        weight = np.exp(-decay * (np.abs(frames[candidates] - frames[anchor]) - 1) / 2) / of_frame
        observed = (positives[:, None] == candidates).sum(axis=0)
        assert observed.sum() == len(positives)
        assert distance.min() >= 1
        assert_uniform(observed, weight / weight.sum())


def test_relatives_in_the_shared_frame_are_chosen_independently():
    mother = rows_of(t=5, position="A/1/0", track_id=1)
    daughters = OBSERVATIONS["track_id"].to_numpy()[
        [choose(mother, together=True, index=index)[0] for index in range(60)]
    ]
    assert {2, 3} <= set(daughters)


def test_the_positives_of_a_part_of_a_batch_are_those_of_the_batch():
    rows = np.arange(0, 100, 3)
    whole = choose(rows, together=True)
    np.testing.assert_array_equal(choose(rows[10:], together=True, first_slot=10), whole[10:])


def test_an_anchor_without_a_positive_is_an_error():
    with pytest.raises(ValueError, match="rows must have a positive, row 3 has none"):
        choose([3], together=True, positive=PositiveConfig(min_frames=20, max_frames=30))


def test_positives_by_metadata_are_those_without_locality():
    positives = MetadataPositives.of(OBSERVATIONS, PositiveConfig(match=["condition"], differ=["position"]))
    batch = Batch(np.arange(50), 0, 0)
    together, alone = (PositiveChoice(positives, 3, table).choose(batch) for table in (OBSERVATIONS, None))
    np.testing.assert_array_equal(together, alone)
