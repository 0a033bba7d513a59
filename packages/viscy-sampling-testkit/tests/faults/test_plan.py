"""Fault plans depend on the seed alone, and every fault meets every pair of numbers of ranks."""

from collections import Counter

import pytest

from viscy_sampling_testkit import FAULTS, FaultPlan, plan_faults


def test_plans_of_a_seed_are_equal_and_do_not_depend_on_their_number():
    assert plan_faults(1, 5) == plan_faults(1, 50)[:5]
    assert plan_faults(1, 20) != plan_faults(2, 20)


def test_every_fault_meets_every_pair_of_numbers_of_ranks():
    plans = plan_faults(0, len(FAULTS) * 9, num_replicas=(1, 2, 3))
    pairs = Counter((plan.fault, plan.num_replicas, plan.resume_num_replicas) for plan in plans)
    assert len(pairs) == len(FAULTS) * 9
    assert set(pairs.values()) == {1}


def test_moments_cover_the_run_and_a_checkpoint_is_cut_only_when_there_may_be_one():
    plans = plan_faults(0, 600)
    assert {int(10 * plan.moment) for plan in plans} == set(range(10))
    assert min(plan.moment for plan in plans if plan.fault == "cut checkpoint") >= 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fault": "fire"}, "fault must be one of kill all"),
        ({"moment": 1.0}, r"moment must be in \[0, 1\), got 1.0"),
        ({"cut": -0.1}, r"cut must be in \[0, 1\), got -0.1"),
        ({"num_replicas": 0}, "num_replicas must be at least 1, got 0"),
        ({"resume_num_replicas": 0}, "resume_num_replicas must be at least 1, got 0"),
    ],
)
def test_an_invalid_plan_is_refused(make_plan, changes, message):
    with pytest.raises(ValueError, match=message):
        FaultPlan(**vars(make_plan("kill all")) | changes)


@pytest.mark.parametrize("options", [{"faults": []}, {"num_replicas": []}])
def test_plans_need_something_to_choose_from(options):
    with pytest.raises(ValueError, match="must not be empty"):
        plan_faults(0, 3, **options)


def test_a_command_is_exposed_to_what_it_has(make_command):
    assert set(make_command().faults) == set(FAULTS)
    bare = make_command(checkpoints=None, data=None, has_workers=False)
    assert bare.faults == ("kill all", "kill rank", "pause rank", "stop rank", "full disk", "size limit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"long_messages": ["fire"]}, "long_messages must name faults"),
        ({"loss_tolerance": -1.0}, "loss_tolerance must be at least 0"),
        ({"elastic_tolerance": float("nan")}, "elastic_tolerance must be at least 0"),
    ],
)
def test_an_invalid_command_is_refused(make_command, changes, message):
    with pytest.raises(ValueError, match=message):
        make_command(**changes)
