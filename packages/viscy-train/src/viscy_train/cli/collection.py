"""Garbage collection of a command: rare, because imports make many objects and no garbage."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

# Python's own threshold is 700 new objects, and imports make several hundred thousand.
_NEW_OBJECTS = 100_000


@contextmanager
def rare_collections() -> Generator[None]:
    """Look for reference cycles only after 100,000 new objects, which saves a command a tenth of a second or two."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
