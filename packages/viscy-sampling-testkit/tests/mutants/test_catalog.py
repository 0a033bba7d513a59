"""Each mutant is rejected by the law that it breaks; the reference, which breaks none, always passes."""

import dataclasses

import numpy as np
import pytest

from viscy_sampling_testkit import (
    Setting,
    assert_exchangeable_slots,
    assert_mean_counts,
    assert_row_inclusion,
    assert_uniform,
    assert_unrelated,
    check_batch_sampler,
)
from viscy_sampling_testkit.conformance.check import LAWS, check_law, make_trials
from viscy_sampling_testkit.mutants.catalog import MUTANTS, REFERENCE_SAMPLERS
from viscy_sampling_testkit.mutants.reference import ReferenceSampler

pytestmark = pytest.mark.slow

BRIEF = Setting(
    name="brief", seeds=(0,), replicas=(1, 2, 3), n_epochs=2, row_times=60, most_batches=900, every_position=False
)
# A single row needs more batches to be detected.
LONG = dataclasses.replace(BRIEF, most_batches=1500)
STATISTICAL = (
    *("leak rows", "focal turns", "window shares", "random order", "unbiased rounding"),
    *("independent batches", "independent rows", "row blocks", "fresh padding", "seeds far apart"),
    *("slot classes", "slices alike", "unbiased choice", "pairs of conditions", "rounds unrelated"),
)
# A brief check is enough for the others, because it rejects every mutant.
THOROUGH = ("all axes",)
# At the default false-alarm rate, with about ten tests per seed, the test fails by chance in one of 500 runs.
SEEDS = range(200)


@pytest.mark.parametrize("name", REFERENCE_SAMPLERS)
def test_reference_satisfies_every_law_that_it_claims(name):
    factory, promises = REFERENCE_SAMPLERS[name]
    report = check_batch_sampler(factory, promises, setting="fast" if name in THOROUGH else BRIEF)
    report.raise_if_failed()
    assert not report.of("not testable")


def test_every_law_is_claimed_by_a_reference():
    claimed = {law.name for law in LAWS for _, promises in REFERENCE_SAMPLERS.values() if law.claimed(promises)}
    assert claimed == {law.name for law in LAWS}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected_by_the_law_that_it_breaks(name):
    factory, law, promises = MUTANTS[name]
    setting = LONG if law == "row inclusion" else BRIEF
    verdict = check_law(law, make_trials(factory, promises, setting=setting))
    assert verdict.outcome == "failed"
    assert verdict.message
    assert str(verdict).startswith(f"{law}: failed")


@pytest.mark.parametrize("name", ["leak twice as large", "uneven ranks"])
def test_report_on_a_mutant_names_the_law_that_it_breaks(name):
    factory, law, promises = MUTANTS[name]
    report = check_batch_sampler(factory, promises, setting=BRIEF)
    assert law in report.failed
    assert f"{law}: failed (" in str(report)
    with pytest.raises(AssertionError, match=f"{law} +failed"):
        report.raise_if_failed()


def test_every_law_is_broken_by_a_mutant():
    assert {law for _, law, _ in MUTANTS.values()} == {law.name for law in LAWS}
    assert len(MUTANTS) >= 250


@pytest.mark.weekly
def test_reference_raises_no_false_alarm_in_two_hundred_seeds():
    """Checks every statistical assertion on 100 batches of every seed."""
    factory, promises = REFERENCE_SAMPLERS["mixed"]
    shares, conditions = promises.condition_shares or {}, promises.table["condition"].to_numpy()
    hours = np.unique(promises.table["hours"], return_inverse=True)[1]
    strata = promises.table[["experiment", "condition"]]
    groups = np.unique(promises.table["experiment"], return_inverse=True)[1]
    for seed in SEEDS:
        sampler = factory(0, 1, seed=seed)
        epochs = [list(sampler) for _ in range(5)]
        batches = [batch for epoch in epochs for batch in epoch]
        for condition, share in shares.items():
            assert_mean_counts([(conditions[batch] == condition).sum() for batch in batches], 12 * share, seed=seed)
        assert_mean_counts([12 - np.bincount(groups[batch]).max() for batch in batches], 1.2, seed=seed)
        assert_uniform(np.bincount(hours[np.concatenate(batches)]), seed=seed)
        assert_exchangeable_slots(batches, conditions, seed=seed)
        assert_row_inclusion(batches, strata, seed=seed)
        assert_unrelated(epochs[0] + epochs[2], epochs[1] + epochs[3], 24, seed=seed)


@pytest.mark.weekly
@pytest.mark.parametrize(
    "name", ["mixed", "windowed", "all axes", "sparse", "weighted", "split", "chosen", "short epochs"]
)
def test_statistical_laws_raise_no_false_alarm_on_other_seeds(name):
    factory, promises = REFERENCE_SAMPLERS[name]
    setting = dataclasses.replace(BRIEF, seeds=range(100, 103), most_batches=400)
    trials = make_trials(factory, promises, setting=setting)
    verdicts = [check_law(law, trials) for law in STATISTICAL]
    assert [str(verdict) for verdict in verdicts if verdict.outcome in ("failed", "not testable")] == []
    assert sum(verdict.tried for verdict in verdicts) >= 3


def test_reference_raises_for_a_group_without_a_condition():
    _, promises = REFERENCE_SAMPLERS["mixed"]
    table = promises.table.query("experiment != 'a' or condition != 'zika'")
    with pytest.raises(ValueError, match=r"every group must have rows of every condition of .*; leave one axis off"):
        ReferenceSampler(table, group_by="experiment", condition_by="condition")
