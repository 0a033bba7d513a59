"""A disturbance: what a fault does to a running attempt, or to the files of a run."""

from __future__ import annotations

import errno
import shutil
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from viscy_sampling_testkit.faults._attempt import RunningAttempt, pause
from viscy_sampling_testkit.faults._injection import Injection
from viscy_sampling_testkit.faults._processes import Process
from viscy_sampling_testkit.faults.command import TrainingCommand
from viscy_sampling_testkit.faults.plan import FaultPlan

# Sizes beyond which files cannot be written, as fractions of the largest file of the run.
_SIZE_LIMITS = (0.75, 0.5, 0.25, 0.1, 0.0)
# Opens like any file, but reading its first byte is an error of input and output.
_UNREADABLE = "/proc/self/mem"
# Faults after which the exit codes of processes show that they were killed.
_KILLED = ("kill all", "kill rank", "stop rank", "cut checkpoint")


class Disturbance:
    """The fault of a plan, for one run.

    Parameters
    ----------
    plan : FaultPlan
        The plan.
    command : TrainingCommand
        What runs.
    directory : Path
        Directory of the run.
    scratch : Path
        A folder outside that directory.
    """

    def __init__(self, plan: FaultPlan, command: TrainingCommand, directory: Path, scratch: Path) -> None:
        self.plan, self._command, self._directory, self._scratch = plan, command, directory, scratch
        self.injection = self._make_injection()
        self.was_applied = False
        self._was_made_unreadable: Path | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that the processes of the attempt need."""
        return {} if self.injection is None else self.injection.environment(self._scratch)

    def is_possible(self, attempt: RunningAttempt) -> bool:
        """Return whether there is something to disturb: a worker, a checkpoint."""
        if self.plan.fault.endswith("worker"):
            return bool(attempt.workers())
        return self.plan.fault != "cut checkpoint" or bool(checkpoints_of(self._command, self._directory))

    def apply(self, attempt: RunningAttempt, step_seconds: float) -> None:
        """Disturb the attempt after a part of the duration of a step."""
        time.sleep(self.plan.delay * step_seconds)
        self.was_applied = not attempt.has_ended
        _ACTIONS[self.plan.fault](self, attempt)

    def has_happened(self, attempt: RunningAttempt, n_missing: int) -> bool:
        """Return whether the attempt, which has ended and left a number of batches out, was disturbed."""
        if self.injection is not None:
            return self.injection.has_failed()
        claims_success = set(attempt.exit_codes) == {0}
        if self.plan.fault == "size limit":  # a run that completes has not met it
            return self.was_applied and not (claims_success and n_missing == 0)
        # A process that was killed after its end has the exit code with which it ended.
        return self.was_applied and not (claims_success and self.plan.fault in _KILLED)

    def _make_injection(self) -> Injection | None:
        trigger = str(self._scratch / "trigger")
        if self.plan.fault == "full disk":
            return Injection("write", str(self._directory), trigger, errno.ENOSPC)
        if self.plan.fault == "read error":
            return Injection("read", str(self._data()), trigger, errno.EIO)
        return None

    def _data(self) -> Path:
        if self._command.data is None:
            raise ValueError(
                f"the fault {self.plan.fault!r} needs TrainingCommand.data; give it, or leave out the fault"
            )
        return self._command.data(self._directory)

    def _kill_all(self, attempt: RunningAttempt) -> None:
        while running := attempt.watch():
            attempt.kill(running)
            _ = attempt.has_ended

    def _kill_one(self, attempt: RunningAttempt) -> None:
        attempt.kill(self._target(attempt))

    def _pause(self, attempt: RunningAttempt) -> None:
        processes = self._target(attempt)
        pause(attempt, processes, self.plan.pause)
        for process in processes:
            process.send(signal.SIGCONT)

    def _stop(self, attempt: RunningAttempt) -> None:
        processes = self._target(attempt)
        pause(attempt, processes, self.plan.pause)
        attempt.kill(processes)

    def _inject(self, attempt: RunningAttempt) -> None:
        if self.injection is not None:
            self.injection.start(self.plan.target)

    def _limit(self, attempt: RunningAttempt) -> None:
        sizes = [path.stat().st_size for path in self._directory.rglob("*") if path.is_file()]
        attempt.limit_file_size(int(_SIZE_LIMITS[self.plan.target % len(_SIZE_LIMITS)] * max(sizes, default=0)))

    def _make_unreadable(self, attempt: RunningAttempt) -> None:
        folder = self._data()
        if not folder.resolve().is_relative_to(self._directory.resolve()):
            raise ValueError(f"TrainingCommand.data must be in {self._directory} to be made unreadable, got {folder}")
        self._was_made_unreadable = folder
        make_unreadable(folder)

    def restore(self) -> None:
        """Undo what must not last longer than the attempt."""
        if self._was_made_unreadable is not None:
            make_readable(self._was_made_unreadable)

    def _target(self, attempt: RunningAttempt) -> list[Process]:
        """Return the rank or the worker that the plan names."""
        found = attempt.workers() if self.plan.fault.endswith("worker") else attempt.ranks()
        return found and [found[self.plan.target % len(found)]]


_ACTIONS: dict[str, Callable[[Any, RunningAttempt], None]] = {
    "kill all": Disturbance._kill_all,
    "cut checkpoint": Disturbance._kill_all,
    "kill rank": Disturbance._kill_one,
    "kill worker": Disturbance._kill_one,
    "pause rank": Disturbance._pause,
    "pause worker": Disturbance._pause,
    "stop rank": Disturbance._stop,
    "stop worker": Disturbance._stop,
    "full disk": Disturbance._inject,
    "read error": Disturbance._inject,
    "size limit": Disturbance._limit,
    "unreadable data": Disturbance._make_unreadable,
}


def make_unreadable(folder: Path) -> None:
    """Replace every file in a folder by one that cannot be read; `make_readable` restores them."""
    unreadable = folder.with_name(f"{folder.name}.unreadable")
    unreadable.mkdir()
    for path in sorted(folder.rglob("*")):  # a directory comes before its contents
        copy = unreadable / path.relative_to(folder)
        copy.mkdir() if path.is_dir() else copy.symlink_to(_UNREADABLE)
    folder.rename(_intact(folder))
    unreadable.rename(folder)


def make_readable(folder: Path) -> None:
    """Undo `make_unreadable`."""
    shutil.rmtree(folder, ignore_errors=True)
    _intact(folder).rename(folder)


def _intact(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.intact")


def checkpoints_of(command: TrainingCommand, directory: Path) -> list[Path]:
    """Return the existing checkpoints of a run, the one that was modified last at the end."""
    found = [] if command.checkpoints is None else [path for path in command.checkpoints(directory) if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


@contextmanager
def cut_checkpoint(command: TrainingCommand, directory: Path, fraction: float) -> Generator[str]:
    """Truncate the last checkpoint within a context, then restore it unless it was replaced; yields what was cut."""
    path = checkpoints_of(command, directory)[-1]
    content = path.read_bytes()
    size = min(int(fraction * len(content)), max(len(content) - 1, 0))
    with path.open("rb+") as file:
        file.truncate(size)
    yield f"{path.name} cut to {size} of {len(content)} bytes"
    if path.is_file() and path.read_bytes() == content[:size]:
        path.write_bytes(content)
