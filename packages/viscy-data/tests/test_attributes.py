"""Attributes: every option of a sampler can be read under its own name, and none can be set."""

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

from viscy_data import AnchorIndex, ComposedBatches, FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

TABLE = make_anchors(400, seed=1)
PARAMETERS = inspect.signature(FlexibleBatchSampler).parameters
NAMES = [name for name in PARAMETERS if name != "valid_anchors"]
DEFAULTS = {name: PARAMETERS[name].default for name in NAMES} | {"num_replicas": 1, "rank": 0}
OTHERS = {
    "batch_size": 24,
    "leaky": 0.25,
    "experiment_weights": {"exp0": 1.0, "exp1": 3.0},
    "condition_ratio": {"uninfected": 2.0, "infected": 1.0},
    "temporal_enrichment": True,
    "temporal_window_hours": 3.5,
    "temporal_global_fraction": 0.5,
    "num_replicas": 3,
    "rank": 2,
    "seed": 9,
    "drop_last": False,
    "even_batches": False,
    "as_arrays": True,
    "sharded_by": "sampler",
    "experiment_aware": False,
    "condition_balanced": False,
    "split_batches": True,
    "experiment_by": ("experiment", "condition"),
    "condition_by": "experiment",
    "time_by": "hours",
}


def read(sampler, names=NAMES):
    return {name: getattr(sampler, name) for name in names}


def test_every_option_has_its_default_value():
    assert read(FlexibleBatchSampler(TABLE)) == DEFAULTS


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in ("num_replicas", "rank", "time_by")])
def test_an_option_is_read_as_it_was_given(name):
    sampler = FlexibleBatchSampler(TABLE, **{name: OTHERS[name]})
    assert read(sampler) == DEFAULTS | {name: OTHERS[name]}
    assert type(getattr(sampler, name)) is type(OTHERS[name])


def test_the_ranks_are_those_that_were_given():
    assert read(FlexibleBatchSampler(TABLE, num_replicas=3, rank=2), ["num_replicas", "rank"]) == {
        "num_replicas": 3,
        "rank": 2,
    }


def test_ranks_that_were_not_given_are_looked_up_at_each_use(monkeypatch):
    sampler = FlexibleBatchSampler(TABLE)
    assert (sampler.rank, sampler.num_replicas) == (0, 1)
    monkeypatch.setattr("viscy_data._sharding.rank_and_world_size", lambda: (5, 8))
    assert (sampler.rank, sampler.num_replicas) == (5, 8)


def test_values_are_plain_python_objects():
    sampler = FlexibleBatchSampler(TABLE, np.int64(24), leaky=np.float32(0.25), experiment_by=["experiment"])
    assert [type(value) for value in (sampler.batch_size, sampler.leaky)] == [int, float]
    assert sampler.experiment_by == ("experiment",)
    assert FlexibleBatchSampler(TABLE, experiment_weights="sqrt").experiment_weights == "sqrt"


@pytest.mark.parametrize("name", NAMES)
def test_no_option_can_be_set_or_deleted(name):
    sampler = FlexibleBatchSampler(TABLE, rank=0, num_replicas=2)
    before = getattr(sampler, name)
    with pytest.raises(AttributeError, match=f"{name} must not change .*; construct another sampler with {name}=7"):
        setattr(sampler, name, 7)
    with pytest.raises(AttributeError):
        delattr(sampler, name)
    assert getattr(sampler, name) == before


def test_changing_a_mapping_that_was_read_does_not_change_the_sampler():
    sampler = FlexibleBatchSampler(TABLE, condition_ratio={"uninfected": 2.0, "infected": 1.0})
    state = sampler.state_dict()
    ratio: Any = sampler.condition_ratio
    ratio["infected"] = 99.0
    assert sampler.condition_ratio == {"uninfected": 2.0, "infected": 1.0}
    assert sampler.state_dict() == state


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_is_documented_under_the_name_of_its_parameter(name):
    attribute = inspect.getattr_static(FlexibleBatchSampler, name)
    assert isinstance(attribute, property)
    assert inspect.getdoc(attribute)
    assert getattr(FlexibleBatchSampler, name) is attribute


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_a_copy_has_the_same_attributes(make_copy):
    sampler = FlexibleBatchSampler(TABLE, 24, leaky=0.25, seed=9)
    assert read(make_copy(sampler)) == read(sampler)


def test_a_sampler_of_an_index_has_the_same_attributes():
    index = AnchorIndex.build(TABLE, time_by=None)
    assert read(FlexibleBatchSampler(index, 24)) == read(FlexibleBatchSampler(TABLE, 24))


@pytest.mark.parametrize(
    ("options", "described"),
    [
        ({}, "50 anchors, 6 batches per epoch, batch_size=8"),
        ({"num_replicas": 1, "rank": 0}, "50 anchors, 6 batches per epoch, batch_size=8"),
        (
            {"drop_last": False, "leaky": 0.25, "experiment_weights": "sqrt", "seed": 9},
            "50 anchors, 7 batches per epoch, batch_size=8, leaky=0.25, experiment_weights='sqrt', seed=9, "
            "drop_last=False",
        ),
        ({"experiment_weights": "proportional"}, "50 anchors, 6 batches per epoch, batch_size=8"),
        (
            {"num_replicas": 2, "rank": 0, "split_batches": True},
            "50 anchors, 6 batches per epoch, batch_size=8, num_replicas=2, rank=0, split_batches=True",
        ),
    ],
)
def test_the_representation_shows_the_options_that_differ_from_their_defaults(options, described):
    table = TABLE.iloc[:50]
    assert repr(FlexibleBatchSampler(table, 8, **options)) == f"FlexibleBatchSampler({described})"
    assert repr(ComposedBatches(table, 8, **options)) == f"ComposedBatches({described})"


def test_the_representation_shows_some_weights_of_many():
    table = TABLE.assign(condition=[f"drug {number}" for number in range(400)])
    ratio = dict.fromkeys(table["condition"], 1.0)
    described = repr(FlexibleBatchSampler(table, 8, condition_ratio=ratio))
    assert "condition_ratio={'drug 0': 1.0, 'drug 1': 1.0, " in described
    assert described.endswith("...})")
    assert len(described) < 250


def test_the_representation_of_looked_up_ranks_is_that_of_now(monkeypatch):
    sampler = FlexibleBatchSampler(TABLE, 8)
    monkeypatch.setattr("viscy_data._sharding.rank_and_world_size", lambda: (5, 8))
    assert repr(sampler).endswith("batch_size=8, num_replicas=8, rank=5)")
