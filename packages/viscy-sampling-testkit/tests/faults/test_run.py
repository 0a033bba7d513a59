"""A training script that resumes rightly passes all faults; each of its mutants fails the check that it breaks."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from viscy_sampling_testkit import FAULTS, Launch, TrainingCommand, plan_faults, run_faults
from viscy_sampling_testkit.faults.report import CHECKS

TWO_RANKS = {"num_replicas": 2, "resume_num_replicas": 2}
FROM_TWO_TO_ONE = {"num_replicas": 2, "resume_num_replicas": 1}
# A mutant that hangs is noticed after this time without progress, in seconds; other endings do not depend on it.
SHORT = 1.0

# Mutant, fault, the check that fails, a part of its message, and the plan.
MUTANTS = [
    ("resumes one batch late", "kill all", "same batches", "1 batch missing", {}),
    ("repeats a batch", "kill all", "same batches", "trained on more than once", {}),
    ("loses the position on other ranks", "kill all", "same batches", "more than once", FROM_TWO_TO_ONE),
    ("loses the weights on other ranks", "kill all", "same losses", "tolerance 0.2", FROM_TWO_TO_ONE),
    ("draws other rows", "kill all", "same batches", "with other rows", {}),
    ("changes the order", "kill all", "same batches", "not in order", TWO_RANKS),
    ("trains on an epoch too many", "kill all", "same batches", "not in the undisturbed run", {}),
    ("forgets the velocity", "kill rank", "same losses", "instead of", {}),
    ("records no loss", "kill all", "same losses", "without a loss", {}),
    ("reads zeros", "unreadable data", "same losses", "instead of", {}),
    ("reads zeros", "read error", "same losses", "instead of", {}),
    ("skips the batch of a lost worker", "kill worker", "clean exit", "exit code 0 although 1 batches are missing", {}),
    ("skips the batch of a lost worker", "kill worker", "same batches", "1 batch missing", {}),
    ("trains on without a rank", "kill rank", "clean exit", "exit code 0 although", TWO_RANKS | {"target": 1}),
    ("ignores a full disk", "full disk", "clean exit", "exit code 0 although", {}),
    ("ignores a full disk", "size limit", "clean exit", "exit code 0 although", {"target": 4}),
    ("claims success", "stop rank", "clean exit", "exit code 0 although", TWO_RANKS),
    ("dies by a signal", "kill rank", "clean exit", "ended by signals", TWO_RANKS),
    ("says nothing", "kill worker", "clean exit", "no process says why", {}),
    ("prints a traceback", "stop worker", "clean exit", "lines instead of one: Traceback", {}),
    ("ends after a pause", "pause rank", "clean exit", "only stopped for a while", {}),
    ("leaves a child behind", "kill rank", "nothing left", "sleep 3600", {}),
    ("hangs without a rank", "kill rank", "no hang", "neither progress nor an end", TWO_RANKS),
    ("leaves a lock behind", "kill all", "resumes", "did not finish", {}),
    ("accepts a cut checkpoint", "cut checkpoint", "cut checkpoint refused", "started from the beginning", {}),
]


@pytest.mark.slow
def test_a_run_that_resumes_rightly_passes_every_fault(make_command, tmp_path):
    command = make_command()
    plans = [replace(plan, moment=0.5 + 0.4 * plan.moment) for plan in plan_faults(3, 12, faults=command.faults)]
    report = run_faults(command, plans, tmp_path / "runs")
    report.raise_if_failed()
    assert sorted(verdict.plan.fault for verdict in report.passed) == sorted(FAULTS)
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "fault", "check", "message", "plan"), MUTANTS)
def test_a_mutant_fails_the_check_that_it_breaks(run_plan, mutant, fault, check, message, plan):
    is_slow = mutant.startswith(("hangs", "leaves a child"))
    verdict = run_plan(fault, mutant, exit_patience=SHORT if is_slow else 300.0, **plan)
    assert verdict.outcome == "failed"
    assert message in " ".join(verdict.problems.get(check, ())), str(verdict)


def test_every_check_has_a_mutant():
    assert {check for _, _, check, _, _ in MUTANTS} == set(CHECKS)


@pytest.mark.parametrize("fault", ["kill rank", "full disk", "unreadable data"])
def test_a_fault_disturbs_the_first_attempt_and_the_second_resumes(run_plan, fault):
    verdict = run_plan(fault, **FROM_TWO_TO_ONE)
    assert verdict.outcome == "passed", str(verdict)
    first, second = verdict.attempts
    assert f"on 2 ranks, {fault} after step 5: steps 0 to" in first
    assert "exit codes 0, 0" not in first
    assert "on 1 rank, resumed" in second
    assert "exit codes 0" in second


def test_a_cut_checkpoint_is_restored_after_it_was_refused(run_plan):
    verdict = run_plan("cut checkpoint")
    assert verdict.outcome == "passed", str(verdict)
    _, cut, resumed = verdict.attempts
    assert "with checkpoint cut to" in cut
    assert "exit codes 1" in cut
    assert "exit codes 0" in resumed


def test_an_undisturbed_run_that_fails_is_an_error_with_its_output(make_command, make_plan, tmp_path):
    def start(directory, num_replicas, resume):
        return [Launch(argv=[sys.executable, "-c", "import sys; sys.exit('no data')"])]

    with pytest.raises(RuntimeError, match=r"(?s)undisturbed run must succeed.*no data"):
        run_faults(make_command(start=start), [make_plan("kill all")], tmp_path)


def test_a_fault_that_finds_nothing_to_disturb_is_missed(make_command, make_plan, tmp_path):
    command = make_command(checkpoints=lambda directory: [])
    report = run_faults(command, [make_plan("cut checkpoint", moment=0.1)], tmp_path)
    assert [verdict.outcome for verdict in report.verdicts] == ["missed"]
    assert "did not happen" in str(report)
    report.raise_if_failed()


def test_verdicts_are_kept_in_a_file_and_not_repeated(make_command, make_plan, tmp_path):
    results, seen = tmp_path / "results.jsonl", []
    plans = [make_plan("kill all"), make_plan("kill worker", number=1)]
    options = {"results": results, "on_verdict": seen.append}
    first = run_faults(make_command(), plans[:1], tmp_path / "runs", **options)
    both = run_faults(make_command(), plans, tmp_path / "runs", **options)
    assert [verdict.plan.number for verdict in seen] == [0, 1]
    assert both.verdicts[0] == first.verdicts[0]
    assert len(results.read_text().splitlines()) == 2


def test_an_incomplete_line_of_the_file_is_ignored(make_command, make_plan, tmp_path):
    results = tmp_path / "results.jsonl"
    results.write_text('{"plan": {"number": 0, "fau')
    run_faults(make_command(), [make_plan("kill all")], tmp_path / "runs", results=results)
    assert len(results.read_text().splitlines()) == 2
    assert json.loads(results.read_text().splitlines()[1])["outcome"] == "passed"


# A shell starts background jobs with SIGINT ignored.
INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from viscy_sampling_testkit import FaultPlan, Launch, TrainingCommand, run_faults
def start(directory, num_replicas, resume):
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(3600)"
    return [Launch(argv=[sys.executable, "-c", code], cwd=directory)]
command = TrainingCommand(start=start, progress=lambda directory: 0, read=lambda directory: [])
plan = FaultPlan(number=0, fault="kill all", moment=0.5, num_replicas=1, resume_num_replicas=1)
run_faults(command, [plan], Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_nothing_is_left_after_ctrl_c(tmp_path, wait_until, is_running, patience):
    kit = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(tmp_path)], stderr=subprocess.PIPE)
    file = tmp_path / "undisturbed-1" / "pid"
    try:
        wait_until(lambda: file.exists() and file.read_text(), "the start of the command")
        pid = int(file.read_text())
        kit.send_signal(signal.SIGINT)
        _, stderr = kit.communicate(timeout=patience)
    finally:
        kit.kill()
        kit.wait()
    assert b"KeyboardInterrupt" in stderr
    assert not is_running(pid)


def test_processes_are_forked_from_one_that_has_preloaded_modules(make_command, make_plan, tmp_path, monkeypatch):
    module = tmp_path / "heavy_training.py"
    module.write_text("import os\nLOADED_BY = os.getpid()\nimport runpy, sys\n")
    (tmp_path / "run_training.py").write_text(
        "import heavy_training, os, runpy, sys\nassert heavy_training.LOADED_BY != os.getpid()\n"
        "sys.argv[0] = sys.argv.pop(1)\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = make_command(preload=["heavy_training"])

    def start(directory, num_replicas, resume):
        launches = command.start(directory, num_replicas, resume)
        return [replace(one, argv=[sys.executable, "-m", "run_training", *one.argv[1:]]) for one in launches]

    faults = ["kill worker", "full disk", "kill rank", "size limit"]
    plans = [make_plan(fault, number=i, num_replicas=1 + i % 2, target=4) for i, fault in enumerate(faults)]
    report = run_faults(replace(command, start=start), plans, tmp_path / "runs")
    assert [verdict.outcome for verdict in report.verdicts] == ["passed"] * 4, str(report)


def test_a_module_that_cannot_be_preloaded_is_an_error(make_command, make_plan, tmp_path, capfd):
    def start(directory, num_replicas, resume):
        return [Launch(argv=[sys.executable, "-m", "json.tool"])]

    command = make_command(start=start, preload=["no_such_module"])
    with pytest.raises(RuntimeError, match="preloads no_such_module ended"):
        run_faults(command, [make_plan("kill all")], tmp_path)
    assert "no_such_module" in capfd.readouterr().err


LAUNCHER = """
import os, subprocess, sys
from pathlib import Path
ranks = [subprocess.Popen([*sys.argv[1:], "--rank", str(r)], env=os.environ | {"LOCAL_RANK": str(r)}) for r in range(2)]
sys.exit(max(abs(rank.wait()) for rank in ranks))
"""


@pytest.mark.parametrize("fault", ["kill rank", "pause worker", "kill all"])
def test_the_ranks_of_a_launcher_are_found(make_command, make_plan, tmp_path, fault):
    command = make_command()

    def start(directory, num_replicas, resume):
        launches = command.start(directory, num_replicas, resume)
        if num_replicas == 1:
            return launches
        argv = list(launches[0].argv)[:-2]
        return [Launch(argv=[sys.executable, "-c", LAUNCHER, *argv])]

    plan = make_plan(fault, **FROM_TWO_TO_ONE)
    report = run_faults(replace(command, start=start), [plan], tmp_path / "runs")
    assert report.passed, str(report)


def test_data_outside_the_directory_of_the_run_are_never_replaced(make_command, make_plan, tmp_path):
    (tmp_path / "data").mkdir()
    command = make_command(data=lambda directory: tmp_path / "data")
    with pytest.raises(ValueError, match="to be made unreadable"):
        run_faults(command, [make_plan("unreadable data")], tmp_path / "runs")


def test_the_environment_of_the_caller_is_inherited(tmp_path, make_plan, monkeypatch):
    monkeypatch.setenv("FOR_TRAINING", "yes")
    code = "import os; open('seen', 'w').write(os.environ['FOR_TRAINING'] + os.environ['MORE'])"

    def start(directory, num_replicas, resume):
        return [Launch(argv=[sys.executable, "-c", code], cwd=directory, env={"MORE": "!"})]

    command = TrainingCommand(start=start, progress=lambda directory: 0, read=lambda directory: [])
    with pytest.raises(RuntimeError, match="must succeed and have batches"):
        run_faults(command, [make_plan("kill all")], tmp_path)
    assert (tmp_path / "undisturbed-1" / "seen").read_text() == "yes!"


def test_output_longer_than_a_pipe_does_not_block_a_command(tmp_path, make_plan):
    def start(directory, num_replicas, resume):
        return [Launch(argv=[sys.executable, "-c", "print('x' * 10**6); raise SystemExit('the end')"])]

    command = TrainingCommand(start=start, progress=lambda directory: 0, read=lambda directory: [])
    with pytest.raises(RuntimeError, match="the end"):
        run_faults(command, [make_plan("kill all")], tmp_path)
