"""YAML lines: where in a file a key is, so that a mistake can be told with its line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IN_GROUP = re.compile(r"[Gg]roup '([^']+)' does not accept (?:option|nested key) '([^']+)'")
_WORD = re.compile(r"[\w.]+")


def with_line(path: Path, message: str) -> str:
    """Return a message about a key of a file, led by the line of the key.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.
    message : str
        As the parser raised it, with a dotted key in it.

    Returns
    -------
    str
        The message itself where none of the file's keys is in it.
    """
    lines = {key: line for key, line, _ in _entries(path)}
    named = [f"{group}.{key}" for group, key in _IN_GROUP.findall(message)]
    named += [word.strip(".") for word in _WORD.findall(message) if "." in word]
    found = [word for word in named if word in lines] or _by_last_part(path, message)
    if not found:
        return message
    return f"{path}, line {lines[max(found, key=lambda key: key.count('.'))]}: {message}"


def _by_last_part(path: Path, message: str) -> list[str]:
    """Return the key that a message names without saying where; of several, the one whose value it gives, too."""
    words = set(_WORD.findall(message))
    named = [(key, value) for key, _, value in _entries(path) if key.rpartition(".")[2] in words]
    innermost = [(key, value) for key, value in named if not any(other.startswith(f"{key}.") for other, _ in named)]
    told = [(key, value) for key, value in innermost if value is not None and value in words]
    chosen = told if len(innermost) > 1 else innermost
    return [key for key, _ in chosen] if len(chosen) == 1 else []


def refuse_repeated_keys(path: Path) -> None:
    """Refuse a file in which a mapping has a key twice: the parser would take the last and drop the first.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.

    Raises
    ------
    UserError
        If there is such a key.
    """
    seen: dict[str, int] = {}
    for key, line, _ in _entries(path):
        if key in seen:
            raise UserError(f"{path}, line {line}: {key} is there already in line {seen[key]}; leave one out")
        seen[key] = line


def _entries(path: Path) -> Iterator[tuple[str, int, str | None]]:
    """Yield every key of a file, dotted, with its line from 1 and its value if that is no mapping or list."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return  # the parser tells
    yield from _entries_below(root, "")


def _entries_below(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int, str | None]]:
    if isinstance(node, yaml.MappingNode):
        parts = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        parts = [(str(number), value, value) for number, value in enumerate(node.value)]
    else:
        return
    for name, marked, value in parts:
        yield prefix + name, marked.start_mark.line + 1, value.value if isinstance(value, yaml.ScalarNode) else None
        yield from _entries_below(value, f"{prefix}{name}.")
