"""A fault run: exposes a training command to planned faults, and compares it with undisturbed runs."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from viscy_sampling_testkit.faults._attempt import POLL_SECONDS, RunningAttempt, running, wait_for
from viscy_sampling_testkit.faults._comparison import compare_batches, compare_losses, count_missing, kept_batches
from viscy_sampling_testkit.faults._disturbance import Disturbance, cut_checkpoint
from viscy_sampling_testkit.faults._ending import Ending, problems_of
from viscy_sampling_testkit.faults._preload import Preloaded
from viscy_sampling_testkit.faults._processes import Process
from viscy_sampling_testkit.faults.command import TrainedBatch, TrainingCommand
from viscy_sampling_testkit.faults.plan import FaultPlan
from viscy_sampling_testkit.faults.report import FaultReport, FaultVerdict

type Expected = Mapping[int, Sequence[TrainedBatch]]
"""Batches of undisturbed runs by number of ranks."""

# The mean duration of a step includes the start of the run, so it is limited to this, in seconds.
_MAX_STEP_SECONDS = 0.05


def run_faults(
    command: TrainingCommand,
    plans: Iterable[FaultPlan],
    directory: Path,
    *,
    patience: float = 900.0,
    exit_patience: float = 300.0,
    results: Path | None = None,
    on_verdict: Callable[[FaultVerdict], object] | None = None,
) -> FaultReport:
    """Expose a training command to faults, and compare what it trains on with undisturbed runs.

    For each plan, the command is started in a new directory on `plan.num_replicas` ranks. Once it has completed the
    planned step, the fault happens. When the attempt has ended, the command resumes on `plan.resume_num_replicas`
    ranks. The verdict says whether the run as a whole has trained on the batches, and with the losses, of a run that
    was not disturbed, whether each attempt ended as it should, and whether a process is left. The moment of a fault is
    a number of steps that are seen to be completed, so it does not depend on the speed of the machine; if the command
    finishes before its fault has happened, it is started again with the fault at half as many steps (a read error: at
    once). Needs Linux.

    Parameters
    ----------
    command : TrainingCommand
        The command.
    plans : iterable of FaultPlan
        The faults, for instance of `plan_faults`.
    directory : Path
        Receives a directory for each run. Those of failed plans are kept.
    patience : float, default 900.0
        Seconds without progress after which an attempt is said to hang, including its start.
    exit_patience : float, default 300.0
        The same after a fault; also how long processes may outlast the attempt that has started them.
    results : Path, optional
        File to which each verdict is appended. Plans whose verdicts it contains already are not run again.
    on_verdict : callable, optional
        Called with each new verdict, for instance `print`.

    Returns
    -------
    FaultReport
        A verdict for each plan.

    Raises
    ------
    RuntimeError
        If an undisturbed run fails; the message contains its output.
    ValueError
        If the command does not have what a fault disturbs, such as `checkpoints`.

    Notes
    -----
    Every process is started in its own session, and killed at the end of its attempt, also after an error or Ctrl-C.
    The idea of killing a job again and again to see what its users would see is that of Netflix's Chaos Monkey; here,
    the kills are seeded, and the outcome is compared with a run without them.
    """
    todo = list(plans)
    done = _read_results(results)
    verdicts = []
    with ExitStack() as stack:
        server = stack.enter_context(Preloaded(command.preload))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        runner = _Runner(command, directory.resolve(), scratch, server, patience, exit_patience)
        for plan in todo:
            verdict = done.get(plan)
            if verdict is None:
                verdict = runner.run(plan)
                _append_result(results, verdict)
                if on_verdict is not None:
                    on_verdict(verdict)
            verdicts.append(verdict)
    return FaultReport(tuple(verdicts))


@dataclass(frozen=True)
class _Undisturbed:
    """An undisturbed run: its batches, its number of steps, and the mean duration of a step in seconds."""

    batches: list[TrainedBatch]
    n_steps: int
    step_seconds: float


@dataclass
class _Runner:
    """What all runs share, and the undisturbed runs by number of ranks."""

    command: TrainingCommand
    directory: Path
    scratch: Path
    server: Preloaded
    patience: float
    exit_patience: float
    undisturbed: dict[int, _Undisturbed] = field(default_factory=dict)

    def run(self, plan: FaultPlan) -> FaultVerdict:
        """Return the verdict on a plan."""
        expected = {n: self._undisturbed(n).batches for n in (plan.num_replicas, plan.resume_num_replicas)}
        began = time.monotonic()
        directory = self.directory / f"plan-{plan.number}"
        endings = self._attempts(plan, directory, expected)
        is_missed = not endings[0].happened and not endings[0].hung
        problems = {} if is_missed else self._problems(plan, endings, directory, expected)
        if not problems:
            shutil.rmtree(directory, ignore_errors=True)
        return FaultVerdict(
            plan=plan,
            outcome="failed" if problems else "missed" if is_missed else "passed",
            problems=problems,
            attempts=tuple(map(str, endings)),
            output="\n".join(ending.output for ending in endings) if problems or is_missed else "",
            seconds=time.monotonic() - began,
        )

    def _attempts(self, plan: FaultPlan, directory: Path, expected: Expected) -> list[Ending]:
        """Run the attempts of a plan."""
        first = self._disturbed_attempt(plan, directory, expected)
        if not first.happened or first.claims_success:
            return [first]
        attempt = partial(self._attempt, directory, plan.resume_num_replicas, expected, resume=True)
        if plan.fault != "cut checkpoint":
            return [first, attempt(label="resumed")]
        with cut_checkpoint(self.command, directory, plan.cut) as what:
            second = attempt(label=f"with {what}")
        return [first, second] if second.claims_success else [first, second, attempt(label="resumed")]

    def _disturbed_attempt(self, plan: FaultPlan, directory: Path, expected: Expected) -> Ending:
        """Run the first attempt, again with an earlier fault if the run has ended before the fault."""
        step = math.floor(plan.moment * self._undisturbed(plan.num_replicas).n_steps)
        while True:
            _make_empty(directory)
            disturbance = Disturbance(plan, self.command, directory, self._make_scratch())
            label = f"{plan.fault} after step {step}"
            ending = self._attempt(directory, plan.num_replicas, expected, (disturbance, step), label=label)
            if ending.happened or ending.hung or step == 0:
                return ending
            # Data that are not read any more were read at the start.
            step = 0 if plan.fault == "read error" else step // 2

    def _problems(
        self, plan: FaultPlan, endings: Sequence[Ending], directory: Path, expected: Expected
    ) -> dict[str, tuple[str, ...]]:
        """Return what is wrong with a run, by check."""
        problems: dict[str, list[str]] = {}
        for ending in endings:
            found = problems_of(ending, self.command, plan, is_last=ending.fault == "resumed")
            for check, messages in found.items():
                problems.setdefault(check, []).extend(messages)
        if endings[-1].claims_success:
            batches = list(self.command.read(directory))
            kept = kept_batches(batches)
            tolerances = self.command.loss_tolerance, self.command.elastic_tolerance
            problems["same batches"] = compare_batches(kept, expected)
            problems["same losses"] = compare_losses(kept, expected, *tolerances)
            if plan.fault == "cut checkpoint" and endings[-1].fault != "resumed" and _started_over(batches):
                problems["cut checkpoint refused"] = [f"the run started from the beginning: {endings[-1]}"]
        return {check: tuple(messages) for check, messages in problems.items() if messages}

    def _undisturbed(self, num_replicas: int) -> _Undisturbed:
        """Return the undisturbed run on a number of ranks."""
        if num_replicas not in self.undisturbed:
            directory = self.directory / f"undisturbed-{num_replicas}"
            _make_empty(directory)
            began = time.monotonic()
            ending = self._attempt(directory, num_replicas, {})
            seconds = time.monotonic() - began
            batches = kept_batches(self.command.read(directory))
            if not ending.claims_success or ending.hung or not batches:
                raise RuntimeError(f"an undisturbed run must succeed and have batches: {ending}\n{ending.output}")
            n_steps = batches[-1].step + 1
            self.undisturbed[num_replicas] = _Undisturbed(batches, n_steps, min(seconds / n_steps, _MAX_STEP_SECONDS))
            shutil.rmtree(directory, ignore_errors=True)
        return self.undisturbed[num_replicas]

    def _attempt(
        self,
        directory: Path,
        num_replicas: int,
        expected: Expected,
        fault: tuple[Disturbance, int] | None = None,
        *,
        label: str = "",
        resume: bool = False,
    ) -> Ending:
        """Run one attempt, with a disturbance after a number of steps or without one."""
        first_step = self.command.progress(directory)
        extra = {} if fault is None else fault[0].environment()
        launches = partial(self.command.start, directory, num_replicas, resume)
        with running(launches, num_replicas, self._make_scratch(), self.server, extra) as attempt:
            hung = self._wait_for_end(attempt, directory, fault)
            missing = count_missing(kept_batches(self.command.read(directory)), expected) if expected else 0
            happened = fault is None or fault[0].has_happened(attempt, missing)
            exit_codes, survivors = tuple(attempt.exit_codes), tuple(attempt.survivors)
            left = () if hung else tuple(map(str, self._wait_for_processes(attempt)))
        return Ending(
            num_replicas=num_replicas,
            fault=label,
            happened=happened,
            exit_codes=exit_codes,
            survivors=survivors,
            messages=tuple(attempt.messages),
            left=left,
            hung=hung,
            n_missing=missing,
            steps=(first_step, self.command.progress(directory)),
            output=attempt.output,
        )

    def _wait_for_end(self, attempt: RunningAttempt, directory: Path, fault: tuple[Disturbance, int] | None) -> bool:
        """Wait until an attempt has ended, and disturb it at its moment; return whether it hung."""
        progress = partial(self.command.progress, directory)
        if fault is None:
            return not wait_for(attempt, lambda: False, progress, self.patience)
        disturbance, step = fault
        try:
            if not wait_for(
                attempt, lambda: progress() >= step and disturbance.is_possible(attempt), progress, self.patience
            ):
                return True
            if not attempt.has_ended:
                disturbance.apply(attempt, self._undisturbed(attempt.num_replicas).step_seconds)
            return not wait_for(attempt, lambda: False, progress, self.exit_patience)
        finally:
            disturbance.restore()

    def _wait_for_processes(self, attempt: RunningAttempt) -> list[Process]:
        """Wait until nothing is left of an attempt that has ended; return what is left."""
        ends = time.monotonic() + self.exit_patience
        while (left := attempt.left()) and time.monotonic() < ends:
            attempt.poll()
            time.sleep(POLL_SECONDS)
        return left

    def _make_scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.scratch))


def _started_over(batches: Sequence[TrainedBatch]) -> bool:
    """Return whether the last of several attempts began with the first step."""
    last = max((one.attempt for one in batches), default=0)
    return last > 0 and min(one.step for one in batches if one.attempt == last) == 0


def _make_empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _read_results(results: Path | None) -> dict[FaultPlan, FaultVerdict]:
    """Read the verdicts in a file; a kill may have left an incomplete line."""
    verdicts = []
    if results is not None and results.exists():
        for line in results.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                verdicts.append(FaultVerdict.loads(line))
    return {verdict.plan: verdict for verdict in verdicts}


def _append_result(results: Path | None, verdict: FaultVerdict) -> None:
    if results is not None:
        earlier = results.read_text() if results.exists() else ""
        with results.open("a") as file:
            file.write("" if earlier.endswith("\n") or not earlier else "\n")
            file.write(f"{verdict.dumps()}\n")
