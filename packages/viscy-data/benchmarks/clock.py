"""A profiler: charges time to the function that is running, not to its callers.

All functions and methods of the package are wrapped for a while, whatever they are called, so the sampler need not know
about the profiler. A wrapped call takes about half a microsecond longer: little compared with functions of arrays, much
compared with the few lines of Python that run for each batch. Modules that consist of such lines are left out; their
time is what remains.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from time import perf_counter_ns
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

import viscy_data

# Names for time that no function of the package takes: look-ups in an array, conversion to lists, and the remainder.
LOOK_UP, LISTING, REST = "look-up", "tolist", "rest"


class Clock:
    """Wall-clock time in nanoseconds, and number of calls, by name; reading CPU time would take ten times as long."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._within = 0  # time of timed calls since the function that is running was called

    def timed(self, function: Callable, name: str) -> Callable:
        """Wrap a function so that every call is charged to a name, except for the timed calls within it."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            before, self._within = self._within, 0
            start = perf_counter_ns()
            try:
                return function(*args, **kwargs)
            finally:
                took = perf_counter_ns() - start
                self.spent[name] += took - self._within
                self.calls[name] += 1
                self._within = before + took

        return run

    def listed(self, function: Callable) -> Callable:
        """Wrap a function so that each row of its result is converted to a list once more, which is charged."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            rows = function(*args, **kwargs)
            start = perf_counter_ns()
            for row in rows:
                row.tolist()
            self.spent[LISTING] += perf_counter_ns() - start
            self.calls[LISTING] += len(rows)
            return rows

        return run

    def timed_array(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an array whose look-ups are timed; the arrays that they return are plain."""
        methods = {name: self.timed(_on_plain(getattr(np.ndarray, name)), LOOK_UP) for name in ("__getitem__", "take")}
        return array.view(type("TimedArray", (np.ndarray,), methods))

    def reset(self) -> None:
        """Start over."""
        self.__init__()

    def charge_rest(self, took: int) -> None:
        """Charge the remainder of the total time `took`; lists were made twice."""
        self.spent[REST] = took - self._within - 2 * self.spent[LISTING]


@contextmanager
def timed_package(clock: Clock, leave_out: Collection[str], listed: str) -> Generator[set[str]]:
    """Time all functions and methods of the package.

    Parameters
    ----------
    clock : Clock
        The clock.
    leave_out : collection of str
        Modules whose functions are not timed, by dotted name below the package.
    listed : str
        The function or method that returns the array whose rows are converted to lists.

    Yields
    ------
    set of str
        Names of everything that is timed, as ``module.function`` and ``module.Class.method``.
    """
    modules = {name: module for name, module in _modules() if name not in leave_out}
    before: list[tuple[Any, str, Any]] = []
    wrappers: dict[Any, Callable] = {}
    names = set()
    for owner, attribute, name, value in [entry for item in modules.items() for entry in _functions(*item)]:
        function = getattr(value, "__func__", value)
        wrapper = clock.timed(function, name)
        if name == listed:
            wrapper = clock.listed(wrapper)
        wrappers[function] = wrapper
        before.append((owner, attribute, value))
        setattr(owner, attribute, wrapper if function is value else type(value)(wrapper))
        names.add(name)
    for _, module in _modules():  # modules that imported a function by name
        for attribute, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value in wrappers:
                before.append((module, attribute, value))
                setattr(module, attribute, wrappers[value])
    try:
        yield names
    finally:
        for owner, attribute, value in reversed(before):
            setattr(owner, attribute, value)


def _modules() -> Iterator[tuple[str, ModuleType]]:
    """Yield the modules of the package and its sub-packages, by dotted name below the package."""
    prefix = f"{viscy_data.__name__}."
    for module in pkgutil.walk_packages(viscy_data.__path__, prefix):
        yield module.name.removeprefix(prefix), importlib.import_module(module.name)


def _functions(name: str, module: ModuleType) -> Iterator[tuple[Any, str, str, Any]]:
    """Yield the functions and methods that a module's file defines, and the objects that hold them.

    The time of a generator is charged to the function that iterates over it, and that of a property to its reader.
    """
    classes = {key: value for key, value in vars(module).items() if inspect.isclass(value)}
    for prefix, owner in ({name: module} | {f"{name}.{key}": value for key, value in classes.items()}).items():
        for attribute, value in list(vars(owner).items()):
            function = getattr(value, "__func__", value)
            if not isinstance(function, FunctionType) or inspect.isgeneratorfunction(function):
                continue
            if function.__code__.co_filename == module.__file__ and function.__module__ == module.__name__:
                yield owner, attribute, f"{prefix}.{attribute}", value


def _on_plain(method: Callable) -> Callable:
    """Wrap a method of arrays so that it takes and returns plain arrays."""

    @wraps(method)
    def run(array: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        result = method(array.view(np.ndarray), *args, **kwargs)
        return result.view(np.ndarray) if isinstance(result, np.ndarray) else result

    return run
