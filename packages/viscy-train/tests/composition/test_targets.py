from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viscy_train.composition.check import (
    check_targets,
    observed_composition,
    own_experiments,
    shares_of_batches,
    shorten_checks,
)
from viscy_train.composition.targets import ALL_EXPERIMENTS, batch_targets, group_shares, target_composition
from viscy_train.composition.temporal import check_all_targets, check_temporal_target, find_temporal_windows
from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.sampler import make_sampler

STRATA = {("a", "mock"): 60, ("a", "virus"): 20, ("b", "mock"): 10, ("b", "virus"): 10, ("c", "mock"): 100}


@pytest.fixture(scope="module")
def anchors(anchors_of):
    return anchors_of(STRATA)


def plan(anchors, options=None, **changes):
    """Return the plan of a sampler of batches of 10, with other options given by name or as a whole."""
    return make_sampler(anchors, options or SamplerConfig(**{"batch_size": 10} | changes), seed=5).planned()


def draw(anchors, options, n_batches=None):
    """Return the slots of the first batches of an epoch."""
    sampler = make_sampler(anchors, options, seed=5)
    batches = [sampler.batch(k) for k in range(n_batches or len(sampler))]
    return pd.DataFrame(
        [(0, k, k % 2, row) for k, batch in enumerate(batches) for row in batch],
        columns=["epoch", "batch", "rank", "row"],
    )


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (None, [0.4, 0.1, 0.5]),
        ("proportional", [0.4, 0.1, 0.5]),
        ("sqrt", np.sqrt([80, 20, 100]) / np.sqrt([80, 20, 100]).sum()),
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ({"a": 2, "b": 1, "c": 1}, [0.5, 0.25, 0.25]),
    ],
)
def test_weights_set_the_share_of_the_batches_of_each_experiment(anchors, weights, expected):
    shares = group_shares(plan(anchors, experiment_weights=weights))
    assert shares.index.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(shares, expected)


def test_an_excluded_experiment_gets_no_batch_and_leaks_nothing(anchors):
    planned = plan(anchors, experiment_weights={"a": 1, "b": 1, "c": 0}, leaky=0.2)
    assert group_shares(planned).index.tolist() == ["a", "b"]
    assert (batch_targets(anchors, planned)["c"] == 0).all(axis=None)


def test_the_target_of_a_batch_agrees_with_a_calculation_by_hand(anchors):
    targets = batch_targets(anchors, plan(anchors, leaky=0.2))
    assert targets.loc["a", ("a", "mock")] == pytest.approx(0.4)
    assert targets.loc["a", ("a", "virus")] == pytest.approx(0.4)
    assert targets.loc["a", ("b", "virus")] == pytest.approx(0.1)
    assert targets.loc["a", ("b", "mock")] == pytest.approx(0.1 * 10 / 110)
    assert targets.loc["a", ("c", "mock")] == pytest.approx(0.1 * 100 / 110)
    # Experiment c has no virus: all of its primary slots are mock.
    assert targets.loc["c", ("c", "mock")] == pytest.approx(0.8)
    assert targets.loc["c", ("b", "virus")] == pytest.approx(0.1 * 10 / 30)
    np.testing.assert_allclose(targets.sum(axis=1), 1)


def test_columns_of_targets_are_in_the_order_of_the_table(anchors):
    reversed_anchors = anchors.iloc[::-1].reset_index(drop=True)
    targets = batch_targets(reversed_anchors, plan(reversed_anchors, leaky=0.2))
    assert targets.columns.tolist() == list(STRATA)[::-1]
    pd.testing.assert_frame_equal(targets[list(STRATA)], batch_targets(anchors, plan(anchors, leaky=0.2)))


def test_without_axes_the_target_is_the_share_of_the_table(anchors):
    planned = plan(anchors, experiment_aware=False, condition_balanced=False)
    targets = target_composition(anchors, planned)
    np.testing.assert_allclose(targets["target"], targets["table_share"])
    assert targets["anchors"].tolist() == [60, 20, 10, 10, 100]
    assert batch_targets(anchors, planned).index.tolist() == [ALL_EXPERIMENTS]


def test_a_share_is_split_over_experiments_in_proportion_to_their_anchors(anchors):
    planned = plan(anchors, experiment_aware=False, condition_ratio={"mock": 1, "virus": 3})
    target = target_composition(anchors, planned)["target"]
    assert target.to_dict() == pytest.approx(
        {
            ("a", "mock"): 0.25 * 60 / 170,
            ("a", "virus"): 0.75 * 20 / 30,
            ("b", "mock"): 0.25 * 10 / 170,
            ("b", "virus"): 0.75 * 10 / 30,
            ("c", "mock"): 0.25 * 100 / 170,
        }
    )


def test_a_share_is_split_over_conditions_in_proportion_to_their_anchors(anchors):
    planned = plan(anchors, condition_balanced=False, leaky=0.2)
    target = batch_targets(anchors, planned).loc["a"]
    assert target.to_dict() == pytest.approx(
        {
            ("a", "mock"): 0.8 * 60 / 80,
            ("a", "virus"): 0.8 * 20 / 80,
            ("b", "mock"): 0.2 * 10 / 120,
            ("b", "virus"): 0.2 * 10 / 120,
            ("c", "mock"): 0.2 * 100 / 120,
        }
    )


@pytest.mark.parametrize(
    "options",
    [
        SamplerConfig(batch_size=10),
        SamplerConfig(batch_size=16, leaky=0.125, experiment_weights="uniform"),
        SamplerConfig(batch_size=9, leaky=0.3, condition_ratio={"mock": 1, "virus": 2}),
        SamplerConfig(batch_size=10, condition_balanced=False, leaky=0.6),
        SamplerConfig(batch_size=10, experiment_aware=False),
    ],
)
def test_batches_match_their_targets(anchors, options):
    batches, planned = draw(anchors, options, n_batches=600), plan(anchors, options)
    assert all(check.matched for check in check_targets(batches, anchors, planned))
    target, observed = target_composition(anchors, planned)["target"], observed_composition(batches, anchors)
    assert observed.sum() == pytest.approx(1)
    np.testing.assert_allclose(observed, target, atol=0.03)


def test_a_batch_off_its_target_is_detected(anchors):
    options = SamplerConfig(batch_size=10)
    batches = draw(anchors, options)
    rows = batches["row"].to_numpy().copy()
    slots = anchors.iloc[rows]
    first_virus = np.flatnonzero((slots["experiment"] == "a") & (slots["condition"] == "virus"))[:1]
    changed = batches.assign(row=np.where(np.isin(np.arange(len(rows)), first_virus), 0, rows))
    matched = {check.name: check.matched for check in check_targets(changed, anchors, plan(anchors, options))}
    assert matched == {"the batch's own experiment": True, "condition mock": False, "condition virus": False}


def test_shares_of_a_batch_are_counted(anchors):
    batches = pd.DataFrame({"epoch": 0, "batch": [0, 0, 0, 0, 1], "rank": 0, "row": [0, 1, 60, 100, 199]})
    shares = shares_of_batches(batches, anchors, "experiment")
    assert shares.to_numpy().tolist() == [[0.75, 0, 0.25], [0, 0, 1]]
    assert own_experiments(batches, anchors, plan(anchors)).tolist() == ["a", "c"]


def test_the_temporal_window_is_found_and_has_its_share(anchors):
    options = SamplerConfig(
        batch_size=20, temporal_enrichment=True, temporal_window_hours=1.0, temporal_global_fraction=0.2
    )
    planned = plan(anchors, options)
    windows = find_temporal_windows(draw(anchors, options), anchors, planned)
    assert check_temporal_target(windows).matched
    assert windows["observed"].mean() == pytest.approx(windows["target"].mean(), abs=0.05)
    not_enriched = draw(anchors, replace(options, temporal_enrichment=False))
    assert not check_temporal_target(find_temporal_windows(not_enriched, anchors, planned)).matched


def test_an_experiment_may_have_the_name_of_all_experiments(anchors):
    renamed = anchors.assign(experiment=anchors["experiment"].cat.rename_categories({"a": ALL_EXPERIMENTS}))
    options = SamplerConfig(batch_size=20, temporal_enrichment=True, temporal_global_fraction=0.2)
    batches, planned = draw(renamed, options), plan(renamed, options)
    assert check_all_targets(batches, renamed, planned) == check_all_targets(
        draw(anchors, options), anchors, plan(anchors, options)
    )


def test_a_batch_larger_than_the_table_is_a_user_error(anchors):
    with pytest.raises(UserError, match=r"sampler: batch_size .*201"):
        make_sampler(anchors, SamplerConfig(batch_size=201), seed=0)


def test_of_many_checks_those_that_missed_their_target_are_shown(anchors_of):
    anchors = anchors_of({("a", f"gene{number}"): 8 for number in range(50)})
    sampler = make_sampler(anchors, SamplerConfig(batch_size=50), 0)
    batches = pd.DataFrame({"epoch": 0, "batch": np.repeat(np.arange(8), 50), "row": np.concatenate(list(sampler))})
    checks = check_targets(batches, anchors, sampler.planned())
    assert len(checks) == 51
    shown, others = shorten_checks(checks)
    assert (len(shown), others) == (40, "and 11 more, all matched")
    missed = [*checks[:-1], replace(checks[-1], off_target=0.5)]
    assert shorten_checks(missed)[0][0] == missed[-1]
    every = [replace(check, off_target=0.5) for check in checks]
    assert shorten_checks(every)[1] == "and 11 more, 11 off target"
    assert shorten_checks(checks[:40]) == (checks[:40], "")
