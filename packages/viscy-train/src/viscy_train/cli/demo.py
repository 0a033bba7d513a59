"""Demo command: write the demo project, build its anchor table and train on it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from viscy_train.cli.verbosity import is_verbose
from viscy_train.console import is_quiet, say, say_result
from viscy_train.exit_codes import EXIT_FAILED, explain_exit
from viscy_train.sample_projects.demo import write_demo

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_SECONDS_TO_STOP = 10.0


def run_demo(out: Path) -> int:
    """Write the demo project to a new directory, build its anchor table, train on it and write the report.

    Parameters
    ----------
    out : pathlib.Path
        New or empty directory. Receives ``plates``, ``tracks``, ``experiments.yaml``, ``config.yaml``,
        ``anchors.parquet`` and the results in ``run``.

    Returns
    -------
    int
        Exit code, which is that of the first command that failed.

    Raises
    ------
    UserError
        If the directory is not empty.
    """
    say(f"Writing three simulated experiments to {out}")
    config = write_demo(out)
    for command in ("index", "fit"):
        say(f"$ viscy-train {command} --config {shlex.quote(str(config))}")
        flags = ["--quiet"] if is_quiet() else ["--verbose"] if is_verbose() else []
        code = run_command([sys.executable, "-m", "viscy_train", command, "--config", str(config), *flags])
        if code:
            # A negative code is the number of the signal that ended the process.
            return explain_exit(f"`viscy-train {command}` ended with exit code {code}", max(code, EXIT_FAILED))
    again = f"viscy-train fit --config {shlex.quote(str(config))} --out ANOTHER_DIRECTORY"
    say(f"To try other settings, edit {config} and run: {again}")
    say_result(f"Done. Open {out / 'run' / 'report.html'}")
    return 0


def run_command(command: list[str]) -> int:
    """Run a command and wait for it; Ctrl-C and SIGTERM also stop all the processes that it started.

    Parameters
    ----------
    command : list of str
        Program and arguments.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, once the command has stopped.
    SystemExit
        After SIGTERM, once the command has stopped.
    """
    # The command gets its own process group, so that its descendants can be stopped with it.
    with _sigterm_as_exit(), subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            _stop_group(process)
            raise


def _stop_group(process: subprocess.Popen) -> None:
    """Ask a process and its descendants to stop, and kill those that do not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_STOP)
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _sigterm_as_exit() -> Generator[None]:
    """Raise SystemExit on SIGTERM, so that the command is stopped first."""
    previous = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
