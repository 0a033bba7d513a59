"""Composed batches: the sampler without torch."""

import pickle
import sys
from types import SimpleNamespace

import pytest
from torch.utils.data import Sampler

from viscy_data import ComposedBatches, FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

TABLE = make_anchors(600)
OPTIONS = {"leaky": 0.2, "temporal_enrichment": True, "seed": 5, "drop_last": False}


def test_batches_and_states_are_those_of_the_sampler():
    batches, sampler = ComposedBatches(TABLE, 32, **OPTIONS), FlexibleBatchSampler(TABLE, 32, **OPTIONS)
    assert batches.batch(3, epoch=2) == sampler.batch(3, epoch=2)
    iterator = iter(batches)
    drawn = [next(iterator) for _ in range(5)]
    sampler.load_state_dict(batches.state_dict())
    assert drawn + list(sampler) == list(FlexibleBatchSampler(TABLE, 32, **OPTIONS))
    assert batches.planned().strata.equals(sampler.planned().strata)


def test_the_sampler_is_composed_batches_and_a_sampler_of_torch():
    assert issubclass(FlexibleBatchSampler, ComposedBatches)
    assert not issubclass(ComposedBatches, Sampler)


def test_they_are_pickled_and_continue_where_they_were():
    batches = ComposedBatches(TABLE, 32, num_replicas=2, rank=1)
    next(iter(batches))
    copy = pickle.loads(pickle.dumps(batches))
    assert type(copy) is ComposedBatches
    assert copy.state_dict() == batches.state_dict()
    assert list(copy) == list(batches)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (None, (0, 1)),
        (SimpleNamespace(), (0, 1)),  # while it is being imported, or built without distributed training
        (SimpleNamespace(is_initialized=lambda: False), (0, 1)),
        (SimpleNamespace(is_initialized=lambda: True, get_rank=lambda: 2, get_world_size=lambda: 3), (2, 3)),
    ],
)
def test_the_rank_is_that_of_torch_if_it_has_been_imported(monkeypatch, module, expected):
    batches = ComposedBatches(TABLE, 32)
    monkeypatch.setitem(sys.modules, "torch.distributed", module)
    assert (batches.rank, batches.num_replicas) == expected


def test_a_sampler_instead_of_a_table_is_named_in_the_error():
    with pytest.raises(TypeError, match="got the sampler FlexibleBatchSampler: Lightning rebuilt"):
        ComposedBatches(FlexibleBatchSampler(TABLE, 32), 32)
