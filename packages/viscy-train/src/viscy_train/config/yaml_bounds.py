"""YAML bounds: a file that would need much time or memory to load is refused before it is loaded.

Aliases can stand for aliases, so a few lines can mean billions of values. The number of events of a file grows with its
length only, and the number of values that it means follows from them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import yaml

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_BYTES = 4_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_bounds(path: Path, text: str) -> None:
    """Refuse text that means more values, or deeper ones, than a configuration has.

    Parameters
    ----------
    path : pathlib.Path
        The file, for error messages.
    text : str
        Its content.

    Raises
    ------
    UserError
        If there are more than `MAX_VALUES` values with all aliases replaced, more than `MAX_DEPTH` levels, or an alias
        of the value that it is in.
    """
    with suppress(yaml.YAMLError):  # reported when the file is loaded
        _count(path, yaml.parse(text, Loader=_LOADER))


def _count(path: Path, events: Iterable[Any]) -> None:
    sizes: dict[str | None, int] = {}
    # For each open list or mapping: its anchor, and how many values it has so far.
    open_values: list[tuple[str | None, int]] = [(None, 0)]
    for event in events:
        where = f"{path}, line {event.start_mark.line + 1}"
        anchor, size = getattr(event, "anchor", None), 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_values.append((anchor, 1))
            if len(open_values) > MAX_DEPTH:
                raise UserError(f"{where}: values must be nested at most {MAX_DEPTH} levels deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_values.pop()
            sizes[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            size = sizes[anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == name for name, _ in open_values):
                raise UserError(f"{where}: alias *{anchor} must not be inside the value that it stands for")
            size = sizes.get(anchor, 1)
        outer, total = open_values[-1]
        open_values[-1] = outer, total + size
        if total + size > MAX_VALUES:
            raise UserError(f"{where}: a file must have at most {MAX_VALUES:,} values, with all aliases replaced")
