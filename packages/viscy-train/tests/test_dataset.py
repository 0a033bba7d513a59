import pickle

import numpy as np
import pytest
import torch

from viscy_train.anchors import build_anchors
from viscy_train.dataset import CropReader, PairDataset


@pytest.fixture
def anchors(config):
    return build_anchors(config)


def test_a_positive_is_the_same_cell_within_the_bounds(config, anchors):
    dataset = PairDataset(anchors, config)
    positives = anchors.iloc[[dataset.positive_of(row) for row in range(len(anchors))]].reset_index(drop=True)
    for column in ("experiment", "position", "track_id"):
        assert (positives[column] == anchors[column]).all()
    steps = (positives["t"] - anchors["t"]).abs()
    assert set(steps) == {1, 2, 3}


def test_every_permitted_step_is_taken_in_some_epoch(config, anchors):
    row = int(np.flatnonzero(anchors["t"] == 10)[0])
    steps = {int(anchors["t"].iloc[PairDataset(anchors, config, epoch).positive_of(row)]) - 10 for epoch in range(100)}
    assert steps == {-3, -2, -1, 1, 2, 3}


def test_a_pair_depends_on_seed_epoch_and_row_alone(config, anchors):
    once, again = PairDataset(anchors, config, 3), PairDataset(anchors, config, 3)
    for row in (20, 5, 11):
        again[row]
    for row in (5, 20):
        for key in ("anchor", "positive"):
            assert torch.equal(once[row][key], again[row][key])


def test_another_epoch_has_other_pairs(config, anchors):
    first, second = (PairDataset(anchors, config, epoch) for epoch in (0, 1))
    differ = [first.positive_of(row) != second.positive_of(row) for row in range(len(anchors))]
    assert np.mean(differ) > 0.5


def test_items_have_the_shapes_of_the_configuration(config, anchors):
    item = PairDataset(anchors, config)[7]
    assert item["row"] == 7
    assert item["anchor"].shape == item["positive"].shape == (2, 16, 16)
    assert item["anchor"].dtype == torch.float32


def test_border_cells_have_whole_crops(config, anchors):
    corner = anchors.assign(y=0.0, x=191.0)
    assert CropReader(corner, config).crop(0).shape == (2, 16, 16)


def test_experiments_are_brought_to_a_common_scale(config, anchors):
    reader = CropReader(anchors, config)
    for name in ("monday", "tuesday"):
        rows = np.flatnonzero(anchors["experiment"] == name)[:40]
        brightest = np.median([reader.crop(row)[0].max() for row in rows])
        assert 2 < brightest < 20


def test_an_opened_reader_can_be_sent_to_a_worker(config, anchors):
    dataset = PairDataset(anchors, config)
    before = dataset[3]
    after = pickle.loads(pickle.dumps(dataset))[3]
    assert torch.equal(before["anchor"], after["anchor"])
