from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viscy_train.composition.check import check_targets, observed_composition, own_experiments, shares_of_batches
from viscy_train.composition.targets import batch_targets, group_shares, target_composition
from viscy_train.composition.temporal import check_temporal_target, find_focus
from viscy_train.config.schema import SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.sampler import make_sampler

CELLS = [("a", "mock", 60), ("a", "virus", 20), ("b", "mock", 10), ("b", "virus", 10), ("c", "mock", 100)]


@pytest.fixture
def anchors():
    parts = [
        pd.DataFrame({"experiment": e, "condition": c, "hours_post_infection": np.arange(n) % 10 * 1.0}, range(n))
        for e, c, n in CELLS
    ]
    return pd.concat(parts, ignore_index=True)


def draw(anchors, options, n_batches=None):
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
def test_experiments_share_the_batches_as_asked(anchors, weights, expected):
    shares = group_shares(anchors, SamplerConfig(experiment_weights=weights))
    assert shares.index.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(shares, expected)


def test_an_excluded_experiment_gets_no_batch_and_leaks_nothing(anchors):
    options = SamplerConfig(experiment_weights={"a": 1, "b": 1, "c": 0}, leaky=0.2)
    assert group_shares(anchors, options).index.tolist() == ["a", "b"]
    assert (batch_targets(anchors, options)["c"] == 0).all(axis=None)


def test_what_is_asked_of_a_batch_is_worked_out_by_hand(anchors):
    asked = batch_targets(anchors, SamplerConfig(leaky=0.2))
    assert asked.loc["a", ("a", "mock")] == pytest.approx(0.4)
    assert asked.loc["a", ("a", "virus")] == pytest.approx(0.4)
    assert asked.loc["a", ("b", "virus")] == pytest.approx(0.1)
    assert asked.loc["a", ("b", "mock")] == pytest.approx(0.1 * 10 / 110)
    assert asked.loc["a", ("c", "mock")] == pytest.approx(0.1 * 100 / 110)
    # Experiment c has no virus: its primary slots are all mock.
    assert asked.loc["c", ("c", "mock")] == pytest.approx(0.8)
    assert asked.loc["c", ("b", "virus")] == pytest.approx(0.1 * 10 / 30)
    np.testing.assert_allclose(asked.sum(axis=1), 1)


def test_without_axes_everything_is_in_proportion(anchors):
    planned = target_composition(anchors, SamplerConfig(experiment_aware=False, condition_balanced=False))
    np.testing.assert_allclose(planned["asked"], planned["of_table"])
    assert planned["anchors"].tolist() == [60, 20, 10, 10, 100]


def test_a_ratio_is_kept(anchors):
    options = SamplerConfig(experiment_aware=False, condition_ratio={"mock": 1, "virus": 3})
    asked = target_composition(anchors, options)["asked"]
    assert asked.groupby(level="condition").sum().to_dict() == pytest.approx({"mock": 0.25, "virus": 0.75})


@pytest.mark.parametrize(
    "options",
    [
        SamplerConfig(batch_size=10),
        SamplerConfig(batch_size=16, leaky=0.125, experiment_weights="uniform"),
        SamplerConfig(batch_size=9, leaky=0.3, condition_ratio={"mock": 1, "virus": 2}),
        SamplerConfig(batch_size=10, condition_balanced=False, leaky=0.6),
    ],
)
def test_the_sampler_draws_what_is_planned(anchors, options):
    batches = draw(anchors, options, n_batches=600)
    assert all(promise.kept for promise in check_targets(batches, anchors, options))
    planned, drawn = target_composition(anchors, options)["asked"], observed_composition(batches, anchors)
    assert drawn.sum() == pytest.approx(1)
    np.testing.assert_allclose(drawn, planned, atol=0.03)


def test_a_batch_that_is_not_as_asked_is_found_out(anchors):
    options = SamplerConfig(batch_size=10)
    batches = draw(anchors, options)
    rows = batches["row"].to_numpy().copy()
    whose = anchors.iloc[rows]
    own_a = np.flatnonzero((whose["experiment"] == "a") & (whose["condition"] == "virus"))[:1]
    broken = batches.assign(row=np.where(np.isin(np.arange(len(rows)), own_a), 0, rows))
    kept = {promise.what: promise.kept for promise in check_targets(broken, anchors, options)}
    assert kept == {"the batch's own experiment": True, "condition mock": False, "condition virus": False}


def test_shares_of_a_batch_are_counted(anchors):
    batches = pd.DataFrame({"epoch": 0, "batch": [0, 0, 0, 0, 1], "rank": 0, "row": [0, 1, 60, 100, 199]})
    shares = shares_of_batches(batches, anchors, "experiment")
    assert shares.to_numpy().tolist() == [[0.75, 0, 0.25], [0, 0, 1]]
    assert own_experiments(batches, anchors, SamplerConfig()).tolist() == ["a", "c"]


def test_the_focal_window_is_found_and_holds_its_share(anchors):
    options = SamplerConfig(
        batch_size=20, temporal_enrichment=True, temporal_window_hours=1.0, temporal_global_fraction=0.2
    )
    focus = find_focus(draw(anchors, options), anchors, options)
    assert check_temporal_target(focus).kept
    assert focus["drawn"].mean() == pytest.approx(focus["asked"].mean(), abs=0.05)
    plain = find_focus(draw(anchors, replace(options, temporal_enrichment=False)), anchors, options)
    assert not check_temporal_target(plain).kept


def test_a_batch_larger_than_the_table_is_the_users_to_change(anchors):
    with pytest.raises(UserError, match=r"sampler: batch_size .*201"):
        make_sampler(anchors, SamplerConfig(batch_size=201), seed=0)
