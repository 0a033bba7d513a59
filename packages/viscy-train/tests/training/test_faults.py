"""Training runs that are disturbed by planned faults of two kinds; `make faults` runs 200 of all kinds."""

from dataclasses import replace

import pytest

from train_faults import make_command, make_project
from viscy_sampling_testkit import plan_faults, run_faults

pytestmark = [pytest.mark.slow, pytest.mark.weekly]
# Other tests kill ranks, and fill the disk.
FAULTS = ("pause worker", "cut checkpoint")


def test_a_run_that_is_disturbed_trains_on_the_same_batches_with_the_same_losses(tmp_path):
    make_project(tmp_path / "project")
    command = make_command(tmp_path / "project")
    # In the middle of the run, where these faults have something to disturb.
    plans = [
        replace(plan, moment=round(0.2 + 0.6 * plan.moment, 4)) for plan in plan_faults(5, len(FAULTS), faults=FAULTS)
    ]
    assert {plan.fault for plan in plans} == set(FAULTS) <= set(command.faults)
    report = run_faults(command, plans, tmp_path / "runs")
    report.raise_if_failed()
    assert len(report.passed) == len(FAULTS), str(report)
