"""The options of a run's sampler are those of FlexibleBatchSampler, and are adapted to the validation anchors."""

import inspect
from dataclasses import fields

import numpy as np
import pytest

from viscy_data import FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors
from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.sampler import (
    drop_excluded,
    make_sampler,
    restore_sampler,
    training_options,
    validation_options,
)

ANCHORS = make_anchors(1200, experiments={"monday": 2, "tuesday": 1}, n_timepoints=24, seed=3)


def test_the_configuration_has_the_names_and_defaults_of_the_sampler():
    parameters = inspect.signature(FlexibleBatchSampler).parameters
    assert {field.name: field.default for field in fields(SamplerConfig)} == {
        field.name: parameters[field.name].default for field in fields(SamplerConfig)
    }


def test_invalid_options_are_refused_with_the_section_of_the_configuration():
    with pytest.raises(UserError, match=r"^data.sampler: leaky must be in \[0, 1\), got 1.5"):
        make_sampler(ANCHORS, SamplerConfig(leaky=1.5), seed=0)


def test_the_state_of_another_composition_is_refused():
    state = make_sampler(ANCHORS, SamplerConfig(batch_size=16), seed=0).state_dict()
    with pytest.raises(UserError, match=r"the checkpoint belongs to other data or batches: .*; restore seed"):
        restore_sampler(make_sampler(ANCHORS, SamplerConfig(batch_size=32), seed=0), state)


@pytest.mark.parametrize(
    "options",
    [
        SamplerConfig(experiment_weights={"monday": 1.0, "tuesday": 0.0}),
        SamplerConfig(condition_ratio={"uninfected": 0.0, "infected": 1.0}),
        SamplerConfig(experiment_weights={"monday": 1.0, "...": 0.0}),
        SamplerConfig(condition_ratio={"infected": 1.0, "...": 0.0}),
        SamplerConfig(condition_ratio={"uninfected": 0.0, "...": 1.0}),
    ],
)
def test_observations_with_weight_0_are_dropped(options):
    rows = drop_excluded(options, ANCHORS, np.arange(len(ANCHORS)))
    kept = ANCHORS.iloc[rows]
    assert set(kept["experiment"]) == ({"monday"} if options.experiment_weights else {"monday", "tuesday"})
    assert set(kept["condition"]) == ({"infected"} if options.condition_ratio else {"infected", "uninfected"})


def test_validation_options_suit_a_small_table_of_one_experiment_and_condition():
    options = SamplerConfig(
        batch_size=64,
        leaky=0.25,
        experiment_weights={"monday": 2.0, "tuesday": 1.0},
        condition_ratio={"uninfected": 1.0, "infected": 3.0},
    )
    is_kept = (ANCHORS["experiment"] == "monday") & (ANCHORS["condition"] == "infected")
    anchors = ANCHORS[is_kept].head(20).reset_index(drop=True)
    adapted = validation_options(options, anchors)
    (batch,) = make_sampler(anchors, adapted, seed=0)
    assert sorted(batch) == list(range(20))


TABLE = {"experiment": {"monday", "tuesday", "friday"}, "condition": {"infected", "uninfected"}}
TRAINED = {"experiment": {"monday", "tuesday"}, "condition": {"infected", "uninfected"}}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"monday": 1.0, "tuesday": 2.0, "friday": 3.0}, {"monday": 1.0, "tuesday": 2.0}),
        ({"monday": 1.0, "friday": 0.0, "...": 3.0}, {"monday": 1.0, "...": 3.0}),
        ({"monday": 1.0, "sunday": 2.0}, {"monday": 1.0, "sunday": 2.0}),
        ("uniform", "uniform"),
        (None, None),
    ],
)
def test_a_weight_of_an_experiment_that_is_not_trained_on_is_dropped(weights, expected):
    assert training_options(SamplerConfig(experiment_weights=weights), TABLE, TRAINED).experiment_weights == expected


def test_a_ratio_of_a_condition_that_is_not_trained_on_is_dropped():
    options = training_options(
        SamplerConfig(condition_ratio={"infected": 1.0, "uninfected": 2.0}),
        TABLE,
        TRAINED | {"condition": {"infected"}},
    )
    assert options.condition_ratio == {"infected": 1.0}


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ({"infected": 3.0, "...": 1.0}, {"infected": 3.0, "uninfected": 1.0}),
        ({"infected": 3.0, "uninfected": 2.0, "mock": 1.0}, {"infected": 3.0, "uninfected": 2.0}),
        ({"infected": 3.0}, None),
        ({"mock": 3.0}, None),
    ],
)
def test_validation_gives_each_condition_its_weight_or_the_default(ratio, expected):
    adapted = validation_options(SamplerConfig(batch_size=16, condition_ratio=ratio), ANCHORS)
    assert adapted.condition_ratio == expected
    assert len(next(iter(make_sampler(ANCHORS, adapted, seed=0)))) == 16
