"""The sampler under any sequence of calls: ranks in step, compared with a model that knows only epochs and indices.

The model computes what every call must return: the batches come from ``batch(k, epoch)`` of a sampler that nothing else
has used. `STEPS` calls are made; `make faults` makes 100,000.
"""

import copy
import functools
import json
import os
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from viscy_data import AnchorIndex, FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

pytestmark = pytest.mark.slow

STEPS = int(os.environ.get("VISCY_DATA_STATE_MACHINE_STEPS", "2500"))
STEPS_AT_ONCE = 50

TABLE = make_anchors(3000, n_experiments=3, seed=5)
OTHER_TABLE = make_anchors(3000, n_experiments=3, seed=6)
TABLES = {"own": TABLE, "other": OTHER_TABLE}
OPTIONS = [
    {"batch_size": 30},
    {"batch_size": 48, "leaky": 0.2, "temporal_enrichment": True},
    {"batch_size": 70, "drop_last": False, "condition_balanced": False},
    {"batch_size": 64, "experiment_aware": False, "seed": 7},
]
RANKS = st.integers(1, 7)
EPOCHS = st.integers(0, 6)


@functools.cache
def oracle(options_index, epoch, k):
    """Return a batch of a sampler that has never been iterated."""
    return FlexibleBatchSampler(TABLE, **OPTIONS[options_index]).batch(k, epoch)


@functools.cache
def index_of(name, options_index):
    """Return the index of a table, which all ranks share: to index it for each takes most of the time."""
    options = OPTIONS[options_index]
    return AnchorIndex.build(
        TABLES[name],
        experiment_by="experiment" if options.get("experiment_aware", True) else None,
        condition_by="condition" if options.get("condition_balanced", True) else None,
        time_by="hours_post_infection" if options.get("temporal_enrichment", False) else None,
    )


@dataclass
class ModelCursor:
    epoch: int
    index: int = 0
    is_chosen: bool = True

    def start(self):
        return (self.epoch, self.index) if self.is_chosen else (self.epoch + 1, 0)

    def saved(self, total):
        return (self.epoch, self.index) if self.index < total else (self.epoch + 1, 0)


@dataclass
class ModelIterator:
    iterators: list
    cursor: ModelCursor | None = None
    epoch: int = 0
    index: int = 0


class SamplerMachine(RuleBasedStateMachine):
    """All ranks of a run receive the same calls, in step."""

    sampler_type = FlexibleBatchSampler

    @initialize(options_index=st.integers(0, len(OPTIONS) - 1), n_ranks=RANKS)
    def begin(self, options_index, n_ranks):
        self.options_index = options_index
        self.total = self.make_sampler().planned().n_batches
        self.states = []
        self.start_ranks(n_ranks)

    def start_ranks(self, n_ranks):
        self.ranks = [self.make_sampler(num_replicas=n_ranks, rank=rank) for rank in range(n_ranks)]
        self.cursor, self.iterators = ModelCursor(0), []

    def make_sampler(self, table="own", **options):
        return self.sampler_type(index_of(table, self.options_index), **OPTIONS[self.options_index] | options)

    def chosen(self, data, items):
        return items[data.draw(st.integers(0, len(items) - 1))]

    # calls

    @rule()
    def make_iterators(self):
        self.iterators = [*self.iterators[-2:], ModelIterator([iter(rank) for rank in self.ranks])]

    @precondition(lambda self: self.iterators)
    @rule(data=st.data(), n_steps=st.integers(1, 20))
    def draw(self, data, n_steps):
        one = self.chosen(data, self.iterators)
        for _ in range(n_steps):
            self.draw_step(one)

    def draw_step(self, one):
        if one.cursor is None:
            one.epoch, one.index = self.cursor.start()
            one.cursor = self.cursor
        if one.index >= self.total:
            assert [next(iterator, None) for iterator in one.iterators] == [None] * len(self.ranks)
            return
        expected = [oracle(self.options_index, one.epoch, one.index + rank) for rank in range(len(self.ranks))]
        assert [next(iterator) for iterator in one.iterators] == expected
        one.index += len(self.ranks)
        one.cursor.epoch, one.cursor.index, one.cursor.is_chosen = one.epoch, one.index, False

    @rule(epoch=EPOCHS)
    def set_epoch(self, epoch):
        for rank in self.ranks:
            rank.set_epoch(epoch)
        if not (self.cursor.is_chosen and self.cursor.epoch == epoch):
            self.cursor = ModelCursor(epoch)

    @rule(as_json=st.booleans())
    def save(self, as_json):
        states = [rank.state_dict() for rank in self.ranks]
        assert all(state == states[0] for state in states)
        assert (states[0]["epoch"], states[0]["position"]) == self.cursor.saved(self.total)
        self.states.append(json.loads(json.dumps(states[0])) if as_json else copy.deepcopy(states[0]))

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def load(self, data):
        self.load_state(self.chosen(data, self.states))

    @precondition(lambda self: self.states)
    @rule(data=st.data(), n_ranks=RANKS)
    def load_on_other_ranks(self, data, n_ranks):
        self.start_ranks(n_ranks)
        self.load_state(self.chosen(data, self.states))

    def load_state(self, state):
        before = copy.deepcopy(state)
        for rank in self.ranks:
            rank.load_state_dict(state)
        assert state == before
        self.cursor = ModelCursor(state["epoch"], state["position"])

    @rule(data=st.data())
    def refuse_the_state_of_another_sampler(self, data):
        table, options, difference = data.draw(
            st.sampled_from(
                [
                    ("other", {}, "valid_anchors"),
                    ("own", {"seed": 99}, "seed"),
                    ("own", {"batch_size": 20}, "batch_size"),
                    ("own", {"leaky": 0.45}, "leaky"),
                ]
            )
        )
        state = self.make_sampler(table, **options).state_dict()
        for rank in self.ranks:
            with pytest.raises(ValueError, match=f"but {difference} differs"):
                rank.load_state_dict(state)

    @rule(k=st.integers(0, 120), epoch=EPOCHS)
    def look_up_a_batch(self, k, epoch):
        for rank in self.ranks[:2]:
            assert rank.batch(k, epoch) == oracle(self.options_index, epoch, k)

    @rule(k=st.integers(0, 120))
    def look_up_a_batch_of_the_current_epoch(self, k):
        assert self.ranks[-1].batch(k) == oracle(self.options_index, self.cursor.epoch, k)

    @rule(copy_of=st.sampled_from([copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))]))
    def continue_with_copies(self, copy_of):
        self.ranks = [copy_of(rank) for rank in self.ranks]
        self.cursor, self.iterators = copy.copy(self.cursor), []

    @rule(n_ranks=RANKS)
    def stop_and_resume(self, n_ranks):
        state = self.ranks[-1].state_dict()
        self.start_ranks(n_ranks)
        self.load_state(state)

    # what always holds

    @invariant()
    def the_state_is_that_of_the_model(self):
        if hasattr(self, "ranks"):
            state = self.ranks[-1].state_dict()
            assert (state["epoch"], state["position"]) == self.cursor.saved(self.total)

    @invariant()
    def the_epoch_is_that_of_the_model(self):
        if hasattr(self, "ranks"):
            assert [rank.epoch for rank in self.ranks] == [self.cursor.epoch] * len(self.ranks)

    @invariant()
    def the_length_is_that_of_an_epoch(self):
        if hasattr(self, "ranks"):
            assert {len(rank) for rank in self.ranks} == {-(-self.total // len(self.ranks))}


SETTINGS = settings(
    max_examples=max(1, STEPS // STEPS_AT_ONCE),
    stateful_step_count=STEPS_AT_ONCE,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_the_sampler_agrees_with_the_model():
    run_state_machine_as_test(SamplerMachine, settings=SETTINGS)


# mutants


class EpochOfIter(FlexibleBatchSampler):
    """Fixes the epoch when ``iter()`` is called."""

    def __iter__(self):
        iterator: Any = super().__iter__()
        iterator.load_state_dict(iterator.state_dict())
        return iterator


class ForgetsLoadedIndex(FlexibleBatchSampler):
    def load_state_dict(self, state_dict):
        super().load_state_dict({**state_dict, "position": 0})


class BatchMovesTheEpoch(FlexibleBatchSampler):
    def batch(self, k, epoch=None):
        batch = super().batch(k, epoch)
        if epoch is not None:
            self.set_epoch(epoch)
        return batch


class SavesTheEndedEpoch(FlexibleBatchSampler):
    def state_dict(self):
        state = super().state_dict()
        return {**state, "epoch": self.epoch}


class RepeatsTheEpoch(FlexibleBatchSampler):
    def __iter__(self):
        self.set_epoch(self.epoch)
        return super().__iter__()


class ForgetsWhenCopied(FlexibleBatchSampler):
    def __getstate__(self):
        return {**self.__dict__, "_cursor": type(self._cursor)()}


class AcceptsAnySeed(FlexibleBatchSampler):
    def load_state_dict(self, state_dict):
        own = self.state_dict()["fingerprint"]["seed"]
        super().load_state_dict({**state_dict, "fingerprint": {**state_dict["fingerprint"], "seed": own}})


MUTANTS = [
    EpochOfIter,
    ForgetsLoadedIndex,
    BatchMovesTheEpoch,
    SavesTheEndedEpoch,
    RepeatsTheEpoch,
    ForgetsWhenCopied,
    AcceptsAnySeed,
]


@pytest.mark.weekly
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_rejects_a_mutant(mutant):
    class Machine(SamplerMachine):
        sampler_type = mutant

    search = settings(SETTINGS, max_examples=300, derandomize=True, phases=[Phase.generate])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(Machine, settings=search)
