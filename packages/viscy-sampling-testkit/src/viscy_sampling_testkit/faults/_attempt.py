"""An attempt that is running: its processes and their output; whatever happens, none of them is left at its end."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from viscy_sampling_testkit.faults._preload import Forked, Preloaded
from viscy_sampling_testkit.faults._processes import Process, descendants, kill_all, list_processes
from viscy_sampling_testkit.faults.command import Launch

# Every process of an attempt inherits this variable, so it is found even if it has left its parent and session.
_MARK = "VISCY_FAULTS_ATTEMPT"
# How often the processes are looked at, in seconds.
POLL_SECONDS = 0.005
# How often those that they have started are looked for, in seconds.
_WATCH_SECONDS = 0.1
# How much output of a process is kept, in bytes from its end.
_KEPT_OUTPUT = 20_000


class RunningAttempt:
    """The processes of an attempt.

    Parameters
    ----------
    num_replicas : int
        Number of ranks.
    scratch : Path
        An empty folder outside the run's directory.
    server : Preloaded
        Starts processes that need preloaded modules.
    """

    def __init__(self, num_replicas: int, scratch: Path, server: Preloaded) -> None:
        self.num_replicas = num_replicas
        self.killed: set[int] = set()
        self._scratch, self._server = scratch, server
        self._mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen[bytes] | Forked] = []
        self._outputs: list[tuple[_Output, _Output]] = []
        self._known: dict[tuple[int, int], Process] = {}
        self._watched_at = 0.0

    def start(self, launch: Launch, extra: Mapping[str, str]) -> None:
        """Start a process, with more variables in its environment."""
        number = len(self._started)
        pair = _Output(self._scratch / f"stdout-{number}"), _Output(self._scratch / f"stderr-{number}")
        self._outputs.append(pair)
        env = os.environ | dict(launch.env) | dict(extra) | {_MARK: self._mark}
        cwd = Path.cwd() if launch.cwd is None else launch.cwd
        if self._server.can_start(launch.argv):
            self._started.append(self._server.start(launch.argv, env, cwd, [output.path for output in pair]))
            return
        with pair[0].path.open("wb") as stdout, pair[1].path.open("wb") as stderr:
            process = subprocess.Popen(
                list(launch.argv),
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self._started.append(process)

    def poll(self) -> None:
        """Read what the processes have printed, and look for those that they have started."""
        for output in self._all_outputs():
            output.read()
        if time.monotonic() - self._watched_at > _WATCH_SECONDS:
            self.watch()

    def watch(self) -> list[Process]:
        """Return all processes of the attempt that run, the oldest first."""
        listed = list_processes()
        pids = {process.pid for process in self._started}
        known = {process.pid for process in listed if process.key in self._known}
        for process in listed:
            if process.pid in pids or process.session in pids:
                self._known[process.key] = process
        for process in descendants(listed, pids | known):
            self._known[process.key] = process
        self._watched_at = time.monotonic()
        return [process for process in listed if process.key in self._known and process.is_running]

    @property
    def has_ended(self) -> bool:
        """Whether all processes that were started have ended; those that they have started may still run."""
        return None not in self.exit_codes

    @property
    def exit_codes(self) -> list[int | None]:
        """Exit code of each process that was started; None if it runs. None stays a zombie."""
        return [process.poll() for process in self._started]

    @property
    def survivors(self) -> list[int]:
        """Which of the started processes were not killed on purpose."""
        return [i for i, process in enumerate(self._started) if process.pid not in self.killed]

    @property
    def messages(self) -> list[str]:
        """What each process has printed to standard error."""
        return [stderr.text for _, stderr in self._outputs]

    @property
    def output(self) -> str:
        """The last output of all processes."""
        parts = [
            f"{name} of process {i}:\n{output.text.strip()[-3000:]}"
            for i, pair in enumerate(self._outputs)
            for name, output in zip(("standard output", "standard error"), pair, strict=True)
            if output.text.strip()
        ]
        return "\n".join(parts) or "no output"

    def ranks(self) -> list[Process]:
        """Return the ranks: the processes that were started, or those that a launcher has started."""
        running = self.watch()
        pids = {process.pid for process in self._started}
        own = [process for process in running if process.pid in pids]
        if len(self._started) == self.num_replicas:
            return own
        found = [process for process in running if b"\0LOCAL_RANK=" in b"\0" + process.environment]
        inner = {process.pid for process in found}
        top = [process for process in found if process.parent not in inner]
        # A launcher may itself be rank 0.
        return top if len(top) == self.num_replicas else own + top

    def workers(self) -> list[Process]:
        """Return the processes that ranks have started, without other ranks."""
        ranks = {process.pid for process in self.ranks()}
        children = descendants(self.watch(), ranks)
        return [process for process in children if process.pid not in ranks and not process.is_helper]

    def kill(self, processes: Sequence[Process]) -> None:
        """Kill processes of this attempt, so that they are not survivors."""
        self.killed |= {process.pid for process in processes}
        kill_all(processes)

    def limit_file_size(self, size: int) -> None:
        """Let writes beyond a size fail in all ranks, and in processes that they start.

        Workers are left out, because the limit would also apply to the shared memory through which they send batches.
        """
        for process in self.ranks():
            with suppress(ProcessLookupError, PermissionError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))

    def left(self) -> list[Process]:
        """Return the processes that still run, including those that have left their parent and session."""
        found = {process.key: process for process in self.watch()}
        mark = f"{_MARK}={self._mark}\0".encode()
        for process in list_processes():
            if process.is_running and mark in process.environment:
                found[process.key] = process
        return list(found.values())

    def stop(self) -> None:
        """Kill everything that is left, and remove the output files."""
        while running := self.left():
            kill_all(running)
            _ = self.has_ended
            time.sleep(POLL_SECONDS)
        _ = self.has_ended
        for output in self._all_outputs():
            output.read()
            output.close()

    def _all_outputs(self) -> list[_Output]:
        return [output for pair in self._outputs for output in pair]


class _Output:
    """A named pipe that receives the output of a process: unlike a file, it is not subject to a limit on file sizes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Opened for writing, too, so that it has a writer before the process starts and after it has ended.
        self._file: int | None = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._content = b""

    @property
    def text(self) -> str:
        """The end of the output."""
        return self._content.decode(errors="replace")

    def read(self) -> None:
        """Read what is there."""
        with suppress(BlockingIOError):
            while self._file is not None and (part := os.read(self._file, 65536)):
                self._content = (self._content + part)[-_KEPT_OUTPUT:]

    def close(self) -> None:
        """Close and remove the pipe."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self.path.unlink(missing_ok=True)


@contextmanager
def running(
    launches: Callable[[], Sequence[Launch]],
    num_replicas: int,
    scratch: Path,
    server: Preloaded,
    extra: Mapping[str, str],
) -> Generator[RunningAttempt]:
    """Start the processes of an attempt; at the end of the context, none is left."""
    attempt = RunningAttempt(num_replicas, scratch, server)
    try:
        for launch in launches():
            attempt.start(launch, extra)
        yield attempt
    finally:
        attempt.stop()


def wait_for(
    attempt: RunningAttempt, condition: Callable[[], bool], progress: Callable[[], int], patience: float
) -> bool:
    """Wait until a condition holds or the attempt ends; False if there was no progress for as long as `patience`."""
    seen, seen_at = -1, time.monotonic()
    while not condition() and not attempt.has_ended:
        attempt.poll()
        if (steps := progress()) != seen:
            seen, seen_at = steps, time.monotonic()
        if time.monotonic() - seen_at > patience:
            return False
        time.sleep(POLL_SECONDS)
    attempt.poll()
    return True


def pause(attempt: RunningAttempt, processes: Sequence[Process], seconds: float) -> None:
    """Stop processes, and wait."""
    for process in processes:
        process.send(signal.SIGSTOP)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        attempt.poll()
        time.sleep(POLL_SECONDS)
