"""The process of one rank: loads its function, joins the process group, and sends back a result or an exception."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a rank sends back: a result, or an error and its traceback.

    `at` is the time of the outcome on the machine's monotonic clock, in seconds; `failed_to_join` is True if the rank
    could not connect to the other ranks.
    """

    rank: int
    result: Any = None
    error: BaseException | None = None
    trace: str = ""
    at: float = 0.0
    failed_to_join: bool = False

    def dumps(self) -> bytes:
        """Return the outcome as bytes; a result or error that cannot be pickled becomes an error that says so."""
        try:
            data = pickle.dumps(self)
            if self.error is not None:
                # An exception can be pickled but not unpickled if its class does not accept `self.args`.
                pickle.loads(data)
        except Exception as failure:
            what = "result" if self.error is None else f"{type(self.error).__name__}: {self.error}"
            error = RuntimeError(f"{what} of rank {self.rank} (it could not be pickled: {failure})")
            return pickle.dumps(replace(self, result=None, error=error))
        return data

    @staticmethod
    def loads(data: bytes) -> Outcome:
        """Read what `dumps` wrote."""
        return pickle.loads(data)

    def exception(self, num_replicas: int) -> BaseException:
        """Return the error, with a note that gives the rank and its traceback."""
        error = self.error or RuntimeError("no error")
        error.add_note(f"raised on rank {self.rank} of {num_replicas}:\n{self.trace}")
        return error


def main(
    connection: Connection, payload: bytes, rank: int, num_replicas: int, store: str, stderr: str, timeout: float
) -> None:
    """Run the process of one rank; its standard error goes to the file `stderr`."""
    os.setsid()
    redirect_stderr(stderr)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    run_rank(connection, payload, rank, num_replicas, store, timeout)


def redirect_stderr(file: str) -> None:
    """Send the standard error of this process, and of those that it starts, to a file."""
    sys.stderr.flush()
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, 2)
    os.close(opened)


def run_rank(connection: Connection, payload: bytes, rank: int, num_replicas: int, store: str, timeout: float) -> None:
    """Call the function as one rank of a process group, and send its outcome."""
    import torch.distributed as dist

    is_joining = False
    try:
        file, module, name, arguments = pickle.loads(payload)
        function = load_function(file, module, name)
        args = pickle.loads(arguments)
        is_joining = True
        join(rank, num_replicas, store, timedelta(seconds=timeout))
        is_joining = False
        outcome = Outcome(rank, result=function(rank, num_replicas, *args), at=time.monotonic())
    except BaseException as error:
        trace = traceback.format_exc()
        outcome = Outcome(rank, error=error, trace=trace, at=time.monotonic(), failed_to_join=is_joining)
    # Send before leaving the group: peers that fail because this rank is gone must not report first.
    connection.send_bytes(outcome.dumps())
    connection.close()
    if dist.is_initialized():
        dist.destroy_process_group()


def join(rank: int, num_replicas: int, file: str, timeout: timedelta) -> None:
    """Join the process group and wait for all ranks: one that left early would break the connections of the others."""
    import torch.distributed as dist

    for interface in {"lo", "lo0"}.intersection(name for _, name in socket.if_nameindex()):
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    store = dist.FileStore(file, num_replicas)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num_replicas, timeout=timeout)
    if store.add("number of ranks that joined", 1) == num_replicas:
        store.set("all have joined", "yes")
    store.wait(["all have joined"], timeout)


def load_function(file: str, module: str, name: str) -> Callable[..., Any]:
    """Return a function by file, module and name; if the module cannot be imported by name, load the file."""
    found: Any = _import_module(module, file) or _load_module(module, file)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _import_module(module: str, file: str) -> ModuleType | None:
    """Import a module by name; None if that fails or the module comes from another file."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    origin = getattr(found, "__file__", None)
    return found if origin is not None and Path(origin).resolve() == Path(file) else None


def _load_module(module: str, file: str) -> ModuleType:
    """Load a file under a module name, so that its classes are pickled under that name."""
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    for parent in _parents(module):  # unpickling imports the parents, which need not exist as packages
        sys.modules.setdefault(parent, ModuleType(parent))
    found = sys.modules[module] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _parents(module: str) -> list[str]:
    """Return the names of the packages that contain a module, the outermost first."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _die_with_parent() -> None:
    """Wait until the parent dies, then kill this process and everything it has started."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
