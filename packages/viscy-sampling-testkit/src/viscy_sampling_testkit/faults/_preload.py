"""Preloading: a client of the server process that forks the processes of runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from viscy_sampling_testkit.faults import _injection, _server

# Variables that keep libraries for numbers from starting threads, which a fork would not copy.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Preloaded:
    """A server process that has imported modules; a context that ends it, and all processes that it has started."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = list(modules)
        self._process: subprocess.Popen[bytes] | None = None

    def can_start(self, argv: Sequence[str]) -> bool:
        """Return whether a command is a module that this server can run."""
        return bool(self._modules) and len(argv) > 2 and argv[0] == sys.executable and argv[1] == "-m"

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, outputs: Sequence[Path]) -> Forked:
        """Fork a process that leads its own session; its standard output and error go to two files."""
        outputs_of = [str(path) for path in outputs]
        request = {"argv": list(argv), "env": dict(env), "cwd": str(cwd), "outputs": outputs_of}
        return Forked(self, self._ask(request | {"injection": _injection.__file__}))

    def poll(self, pid: int) -> int | None:
        """Return the exit code of a process that was forked, or None if it runs."""
        return self._ask({"poll": pid})

    def __enter__(self) -> Preloaded:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with suppress(OSError):
                self._process.communicate()  # closes its input
            self._process = None

    def _ask(self, request: Mapping[str, Any]) -> Any:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, _server.__file__, *self._modules],
                env=os.environ | dict.fromkeys(_THREADS, "1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        server: Any = self._process
        with suppress(BrokenPipeError):
            server.stdin.write(f"{json.dumps(request)}\n".encode())
            server.stdin.flush()
        answer = server.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process that preloads {', '.join(self._modules)} ended; its error is above")
        return json.loads(answer)


class Forked:
    """A process that a server has forked; has the methods of `subprocess.Popen` that an attempt uses."""

    def __init__(self, server: Preloaded, pid: int) -> None:
        self._server, self.pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None if the process runs."""
        if self.returncode is None:
            self.returncode = self._server.poll(self.pid)
        return self.returncode
