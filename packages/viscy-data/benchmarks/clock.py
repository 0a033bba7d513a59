"""A clock: charges every moment to the one function that runs, not to those that called it.

Functions and methods of the package are put behind it for a while, whatever they are called, so the sampler need not
know of it. A call then takes about half a microsecond more: little beside functions of arrays, much beside the few
lines of Python that are run for each batch. Modules of such lines are left out; what they take is what is left over.
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

# Names of what is no function of the package: look-ups in an array, lists made of one, and all that was not clocked.
LOOK_UP, LISTING, REST = "look-up", "tolist", "rest"


class Clock:
    """Time on the wall in nanoseconds, and calls, by name: CPU time would take ten times as long to read."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._within = 0  # what clocked calls took since a point in the one that runs

    def behind(self, function: Callable, name: str) -> Callable:
        """Return a function with every call charged to a name, but for the clocked calls in it."""

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

    def listing(self, function: Callable) -> Callable:
        """Return a function whose result is made into lists, a row each, once more: what that takes is charged."""

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

    def looking_up(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an array whose look-ups are clocked; what they return is plain."""
        methods = {name: self.behind(_plainly(getattr(np.ndarray, name)), LOOK_UP) for name in ("__getitem__", "take")}
        return array.view(type("ClockedArray", (np.ndarray,), methods))

    def forget(self) -> None:
        """Start anew."""
        self.__init__()

    def whole(self, took: int) -> None:
        """Charge the rest of what everything took; lists were made twice."""
        self.spent[REST] = took - self._within - 2 * self.spent[LISTING]


@contextmanager
def clocked(clock: Clock, leave_out: Collection[str], listed: str) -> Generator[set[str]]:
    """Put all functions and methods of the package behind a clock.

    Parameters
    ----------
    clock : Clock
        The clock.
    leave_out : collection of str
        Modules, without the package's name, whose functions are not clocked.
    listed : str
        The function or method whose result is an array that is made into lists.

    Yields
    ------
    set of str
        Names, as ``module.function`` and ``module.Class.method``, of all that is clocked.
    """
    modules = {name: module for name, module in _modules() if name not in leave_out}
    before: list[tuple[Any, str, Any]] = []
    behind: dict[Any, Callable] = {}
    names = set()
    for place, attribute, name, value in [entry for item in modules.items() for entry in _functions(*item)]:
        function = getattr(value, "__func__", value)
        put = clock.behind(function, name)
        if name == listed:
            put = clock.listing(put)
        behind[function] = put
        before.append((place, attribute, value))
        setattr(place, attribute, put if function is value else type(value)(put))
        names.add(name)
    for _, module in _modules():  # that have imported a function under its own name
        for attribute, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value in behind:
                before.append((module, attribute, value))
                setattr(module, attribute, behind[value])
    try:
        yield names
    finally:
        for place, attribute, value in reversed(before):
            setattr(place, attribute, value)


def _modules() -> Iterator[tuple[str, ModuleType]]:
    for found in pkgutil.iter_modules(viscy_data.__path__):
        yield found.name, importlib.import_module(f"viscy_data.{found.name}")


def _functions(name: str, module: ModuleType) -> Iterator[tuple[Any, str, str, Any]]:
    """Yield the functions and methods that a module's file defines, and where they are kept.

    A generator's time is charged to who draws from it, and a property's to who reads it.
    """
    classes = {key: value for key, value in vars(module).items() if inspect.isclass(value)}
    for prefix, place in ({name: module} | {f"{name}.{key}": value for key, value in classes.items()}).items():
        for attribute, value in list(vars(place).items()):
            function = getattr(value, "__func__", value)
            if not isinstance(function, FunctionType) or inspect.isgeneratorfunction(function):
                continue
            if function.__code__.co_filename == module.__file__ and function.__module__ == module.__name__:
                yield place, attribute, f"{prefix}.{attribute}", value


def _plainly(method: Callable) -> Callable:
    """Return a method of arrays that takes and returns plain ones."""

    @wraps(method)
    def run(array: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        result = method(array.view(np.ndarray), *args, **kwargs)
        return result.view(np.ndarray) if isinstance(result, np.ndarray) else result

    return run
