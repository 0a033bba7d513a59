"""Batches as arrays: the same as the lists, without the cost of building lists."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

TABLE = make_anchors(2000, seed=5)
ON = {"batch_size": 32, "leaky": 0.1, "temporal_enrichment": True, "seed": 3}


def make_sampler(as_arrays=True) -> Any:
    return FlexibleBatchSampler(TABLE, **ON, as_arrays=as_arrays)


class Hours(Dataset):
    """Reads all rows of a batch at once and returns them with the positions that it received."""

    def __init__(self):
        self.hours = TABLE["hours_post_infection"].to_numpy()

    def __getitems__(self, positions):
        assert isinstance(positions, np.ndarray)
        return self.hours[positions], positions


def collate(batch):
    hours, positions = batch
    return torch.from_numpy(hours), positions


def test_arrays_hold_the_same_batches_as_lists():
    lists, arrays = (make_sampler(flag) for flag in (False, True))
    for _ in range(2):
        for batch, array in itertools.zip_longest(lists, arrays):
            assert (array.dtype, array.shape) == (np.int64, (32,))
            assert array.tolist() == batch
    assert arrays.batch(70, epoch=4).tolist() == lists.batch(70, epoch=4)


def test_batches_are_lists_by_default():
    sampler = FlexibleBatchSampler(TABLE, **ON)
    assert {type(value) for value in next(iter(sampler))} == {int}
    assert type(sampler.batch(0)) is list


def test_changing_an_array_does_not_change_another():
    sampler = make_sampler()
    batches = []
    for batch in itertools.islice(iter(sampler), 30):
        batches.append(batch.tolist())
        batch[:] = -1
    assert batches == [sampler.batch(k).tolist() for k in range(30)]


def test_a_short_last_batch_is_an_array():
    sampler: Any = FlexibleBatchSampler(TABLE, 300, drop_last=False, as_arrays=True)
    assert [batch.shape for batch in sampler][-1] == (200,)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_dataset_receives_the_array(num_workers):
    sampler = make_sampler()
    loader = DataLoader(Hours(), batch_sampler=sampler, num_workers=num_workers, collate_fn=collate)
    for k, (hours, positions) in enumerate(loader):
        assert positions.tolist() == sampler.batch(k).tolist()
        assert hours.tolist() == TABLE["hours_post_infection"].iloc[positions].tolist()


def test_a_run_with_lists_resumes_with_arrays():
    lists, arrays = (make_sampler(flag) for flag in (False, True))
    assert len(list(itertools.islice(iter(lists), 20))) == 20
    arrays.load_state_dict(lists.state_dict())
    assert next(iter(arrays)).tolist() == lists.batch(20)


# torchdata 0.11 uses a function that newer releases of torch deprecate
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_data_loader_resumes_with_arrays(num_workers):
    def make_loader():
        sampler = make_sampler()
        return StatefulDataLoader(Hours(), batch_sampler=sampler, num_workers=num_workers, collate_fn=collate)

    first, second = make_loader(), make_loader()
    for _ in itertools.islice(first, 25):
        state = first.state_dict()
    second.load_state_dict(state)
    _, positions = next(iter(second))
    assert positions.tolist() == first.batch_sampler.batch(25, epoch=0).tolist()


def test_a_value_that_is_not_a_bool_raises_an_error():
    with pytest.raises(TypeError, match="as_arrays must be True or False, got 1"):
        FlexibleBatchSampler(TABLE, **ON, as_arrays=1)
