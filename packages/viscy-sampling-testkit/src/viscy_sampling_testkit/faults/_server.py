"""A server process that has imported what a training command needs, and forks the processes of runs.

It is a program of its own that imports the standard library only, apart from the modules that it preloads. It reads a
request in JSON from each line of its standard input and answers on its standard output. When its input ends, it kills
the processes that it has started.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import runpy
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any


def main(modules: list[str]) -> None:
    """Serve requests; a forked child runs its module instead, and the interpreter then ends as usual."""
    folder = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path != folder]
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # modules may print when they are imported
    # Libraries for numbers start threads that a forked process does not need.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    for module in modules:
        importlib.import_module(module)
    children: set[int] = set()
    while line := requests.readline():
        request = json.loads(line)
        if "argv" in request:
            pid = os.fork()
            if pid == 0:
                os.close(requests.fileno())
                os.close(answers.fileno())
                return run_child(request)
            children.add(pid)
            answer: Any = pid
        else:
            answer = poll(request["poll"], children)
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()
    for pid in children:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    return None


def poll(pid: int, children: set[int]) -> int | None:
    """Return the exit code of a child; None if it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    children.discard(pid)
    return os.waitstatus_to_exitcode(status)


def run_child(request: dict[str, Any]) -> None:
    """Run ``python -m module ...`` in this process."""
    os.setsid()
    for number, file in enumerate((os.devnull, *request["outputs"])):
        opened = os.open(file, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.path.insert(0, request["cwd"])
    install_injection(request["injection"])
    _, _, module, *arguments = request["argv"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def install_injection(file: str) -> None:
    """Do what the file that Python loads at its start would do."""
    spec = importlib.util.spec_from_file_location("viscy_faults_injection", file)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.install(os.environ)


if __name__ == "__main__":
    main(sys.argv[1:])
