"""Forks: calls in other processes, whose hash seed, process id and clock differ from those of this one."""

from __future__ import annotations

import atexit
import importlib.machinery
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import IO, Any

import cloudpickle

_SERVE = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve()"
# How far the clock of a fork is ahead: a hundred days.
_AHEAD = 100 * 86_400.0
_servers: dict[str, Server] = {}
_lock = threading.Lock()


class Server:
    """A Python process that forks a child for each call; it ends with this process.

    Parameters
    ----------
    hash_seed : str
        Its environment variable ``PYTHONHASHSEED``.
    """

    def __init__(self, hash_seed: str) -> None:
        # One numerical thread, because a process with several threads should not fork.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE.format(path=_absolute_path(), module=__name__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **threads, "PYTHONHASHSEED": hash_seed},
        )
        self.parent = os.getpid()

    def send(self, payload: bytes) -> None:
        """Send a pickled call."""
        assert self.process.stdin is not None
        _write(self.process.stdin, payload)

    def receive(self) -> tuple[bool, Any]:
        """Return whether the call returned, and its result or the text of its exception."""
        assert self.process.stdout is not None
        return pickle.loads(_read(self.process.stdout))

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        if self.parent == os.getpid():
            self.process.wait()


def call_in_forks(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Return what a function returns in processes with two other hash seeds, other ids, and another time.

    Parameters
    ----------
    function : callable
        A function; lambdas and local functions are possible.
    *args
        Its arguments.

    Returns
    -------
    list
        The two results.

    Raises
    ------
    ValueError
        If function or arguments cannot be pickled.
    RuntimeError
        If the function raised an exception, with its text.
    """
    if not hasattr(os, "fork"):
        raise ValueError("other processes need os.fork, which this platform does not have")
    payload = _pickle((function, args))
    hash_seeds = [seed for seed in ("1", "2", "3") if seed != os.environ.get("PYTHONHASHSEED")][:2]
    with _lock:
        servers = [_server(hash_seed) for hash_seed in hash_seeds]
        for server in servers:
            server.send(payload)
        answers = [server.receive() for server in servers]
    return [_result(*answer) for answer in answers]


def _result(returned: bool, result: Any) -> Any:
    if not returned:
        raise RuntimeError(result)
    return result


def serve() -> None:
    """Answer the calls that arrive on standard input, each in a fork, until it is closed."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    while True:
        try:
            payload = _read(calls)
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            _answer(payload, answers)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            _write(answers, pickle.dumps((False, "the process ended without an answer")))


def _answer(payload: bytes, answers: IO[bytes]) -> None:
    """Call the function of a payload, under another time."""
    for name, factor in (("time", 1), ("time_ns", 10**9)):
        clock = getattr(time, name)
        setattr(time, name, lambda clock=clock, ahead=int(_AHEAD) * factor: clock() + ahead)
    try:
        function, args = pickle.loads(payload)
        answer = pickle.dumps((True, function(*args)))
    except BaseException as error:
        answer = pickle.dumps((False, f"{type(error).__name__}: {error}"))
    _write(answers, answer)


def _server(hash_seed: str) -> Server:
    server = _servers.get(hash_seed)
    if server is None or server.parent != os.getpid() or server.process.poll() is not None:
        server = _servers[hash_seed] = Server(hash_seed)
        atexit.register(server.close)
    return server


def _pickle(value: Any) -> bytes:
    """Pickle a value; functions and classes of modules that other processes cannot import are pickled by value."""
    with _by_value() as register:
        while True:
            try:
                payload = cloudpickle.dumps(value)
            except Exception as error:
                raise ValueError(f"it must be possible to pickle the factory, got {error!r}") from None
            names = {argument for _, argument, _ in pickletools.genops(payload) if isinstance(argument, str)}
            if not register([sys.modules[name] for name in names if name in sys.modules]):
                return payload


@contextmanager
def _by_value() -> Generator[Callable[[list[ModuleType]], bool]]:
    """Return a function that registers modules to be pickled by value, and tells whether there were any new ones."""
    registered: list[ModuleType] = []

    def register(modules: list[ModuleType]) -> bool:
        known = cloudpickle.list_registry_pickle_by_value()
        new = [module for module in modules if module.__name__ not in known and not _can_be_imported(module)]
        for module in new:
            cloudpickle.register_pickle_by_value(module)
        registered.extend(new)
        return bool(new)

    try:
        yield register
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _can_be_imported(module: ModuleType) -> bool:
    """Return whether another process with the same path finds the module by its name."""
    file = getattr(module, "__file__", None)
    names = module.__name__.split(".")
    if file is None or names[0] in sys.stdlib_module_names:
        return True
    try:
        spec = _find(names)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin == file


def _find(names: list[str]) -> Any:
    """Return the spec of a module, given the parts of its name, without importing anything."""
    spec, path = None, _absolute_path()
    for i in range(len(names)):
        name = ".".join(names[: i + 1])
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None and i == 0:
            spec = _find_elsewhere(name)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def _find_elsewhere(name: str) -> Any:
    """Return the spec of a package that a finder of its own provides, such as that of an editable installation."""
    finders = (finder for finder in sys.meta_path if "editable" in getattr(finder, "__module__", ""))
    return next(filter(None, (finder.find_spec(name, None) for finder in finders)), None)


def _absolute_path() -> list[str]:
    """Return the directories in which modules are found wherever a process runs; others depend on its directory."""
    return [directory for directory in sys.path if os.path.isabs(directory)]


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes:
    header = pipe.read(8)
    if len(header) < 8:
        raise EOFError("the pipe was closed")
    (length,) = struct.unpack("<Q", header)
    return pipe.read(length)
