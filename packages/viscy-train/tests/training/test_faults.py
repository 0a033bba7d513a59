"""Training runs that are disturbed by planned faults; `make faults` runs 200 of them."""

from dataclasses import replace

import pytest

from train_faults import make_command, make_project
from viscy_sampling_testkit import plan_faults, run_faults

pytestmark = pytest.mark.slow
N_FAULTS = 8


def test_a_run_that_is_disturbed_trains_on_the_same_batches_with_the_same_losses(tmp_path):
    make_project(tmp_path / "project")
    command = make_command(tmp_path / "project")
    # In the middle of the run, where these faults have something to disturb. Python's functions read files at the start
    # only, and a limit on file sizes also applies to the shared memory of workers, which torch does not report.
    faults = [fault for fault in command.faults if fault not in ("read error", "size limit")]
    plans = [
        replace(plan, moment=round(0.2 + 0.6 * plan.moment, 4)) for plan in plan_faults(5, N_FAULTS, faults=faults)
    ]
    report = run_faults(command, plans, tmp_path / "runs")
    report.raise_if_failed()
    assert len(report.passed) == N_FAULTS, str(report)
