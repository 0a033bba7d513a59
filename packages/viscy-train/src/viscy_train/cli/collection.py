"""Garbage collection of a command: rare, because imports make many objects and no garbage."""

from __future__ import annotations

import atexit
import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

# Python's own threshold is 700 new objects, and imports make several hundred thousand.
_NEW_OBJECTS = 100_000


@contextmanager
def rare_collections() -> Generator[None]:
    """Look for reference cycles only after 100,000 new objects, and not when the process exits.

    That saves a command up to half a second. A process that exits would look through all objects otherwise, although
    its memory is returned anyway.
    """
    atexit.unregister(_search_nothing)
    atexit.register(_search_nothing)
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _search_nothing() -> None:
    """Leave all objects out of the search at exit; not with torch, where a library prints what it has left."""
    if "torch" not in sys.modules:
        gc.freeze()
