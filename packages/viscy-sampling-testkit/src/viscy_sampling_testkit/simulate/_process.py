"""The process of one rank: finds its function, joins the group, answers with a result or an exception."""

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
    """What a rank answers: a result, or an error and its traceback.

    `at` is when, on the machine's monotonic clock; `is_apart` whether the error is that it could not join the others.
    """

    rank: int
    result: Any = None
    error: BaseException | None = None
    trace: str = ""
    at: float = 0.0
    is_apart: bool = False

    def dumps(self) -> bytes:
        """Return it as bytes; what does not survive pickling becomes an error that says so."""
        try:
            data = pickle.dumps(self)
            if self.error is not None:
                # An exception may well be written and yet not read: its class must accept its own arguments.
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
        """Return the error, with a note on where it was raised."""
        error = self.error or RuntimeError("no error")
        error.add_note(f"raised on rank {self.rank} of {num_replicas}:\n{self.trace}")
        return error


def main(connection: Connection, payload: bytes, rank: int, num_replicas: int, store: str, deadline: float) -> None:
    """Be the process of one rank."""
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    answer(connection, payload, rank, num_replicas, store, deadline)


def answer(connection: Connection, payload: bytes, rank: int, num_replicas: int, store: str, deadline: float) -> None:
    """Run the function as one rank of a process group, and send its outcome."""
    import torch.distributed as dist

    is_joining = False
    try:
        file, module, name, arguments = pickle.loads(payload)
        function = find(file, module, name)
        args = pickle.loads(arguments)
        is_joining = True
        join(rank, num_replicas, store, timedelta(seconds=deadline))
        is_joining = False
        outcome = Outcome(rank, result=function(rank, num_replicas, *args), at=time.monotonic())
    except BaseException as error:
        trace = traceback.format_exc()
        outcome = Outcome(rank, error=error, trace=trace, at=time.monotonic(), is_apart=is_joining)
    # Sent before the group is left: peers that fail because this rank is gone must not be heard first.
    connection.send_bytes(outcome.dumps())
    connection.close()
    if dist.is_initialized():
        dist.destroy_process_group()


def join(rank: int, num_replicas: int, file: str, timeout: timedelta) -> None:
    """Join the process group, and wait until all have: a rank that left before would break the others' connections."""
    import torch.distributed as dist

    for interface in {"lo", "lo0"}.intersection(name for _, name in socket.if_nameindex()):
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    store = dist.FileStore(file, num_replicas)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num_replicas, timeout=timeout)
    if store.add("number of ranks that joined", 1) == num_replicas:
        store.set("all have joined", "yes")
    store.wait(["all have joined"], timeout)


def find(file: str, module: str, name: str) -> Callable[..., Any]:
    """Return a function by its file, module and name, loading the file where the module cannot be imported by name."""
    found: Any = _imported(module, file) or _loaded(module, file)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _imported(module: str, file: str) -> ModuleType | None:
    """Return the module of that name if it is the one of that file."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    origin = getattr(found, "__file__", None)
    return found if origin is not None and Path(origin).resolve() == Path(file) else None


def _loaded(module: str, file: str) -> ModuleType:
    """Load a file as the module of that name, under which its classes are then pickled."""
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    for parent in _parents(module):  # unpickling imports them, and none need be a package that can be imported
        sys.modules.setdefault(parent, ModuleType(parent))
    found = sys.modules[module] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _parents(module: str) -> list[str]:
    """Return the names of the packages that a module is in, the outermost first."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _die_with_parent() -> None:
    """Wait for the parent's death, and follow it with everything this process has started."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
