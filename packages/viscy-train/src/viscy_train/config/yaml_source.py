"""YAML lines: where in a file a key is, so that a mistake can be told with its line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# What jsonargparse says of a key: where it is, level by level, what is wrong there, and the value.
_LEVEL = re.compile(r"(?:Parser key|[Gg]roup) [\"']([^\"']+)[\"']")
_REFUSED = re.compile(r"(?:[Oo]ption|nested key) '([^']+)'")
_LACKING = re.compile(r"arguments are required: ([\w.]+)")
_VALUE = re.compile(r"[Gg]ot (?:value: )?(.+)$")
_DOTTED = re.compile(r"\w+(?:\.\w+)+")
_FIRST_WORD = re.compile(r"[\w.]+")
# Levels of a file that messages leave out.
_SILENT = re.compile(r"\d+|init_args")


class Entry(NamedTuple):
    """A key of a mapping, or an item of a list.

    Parameters
    ----------
    key : str
        Dotted, with the numbers of items: ``experiments.1.plate``.
    plain : tuple of str
        The levels that a message would name.
    line : int
        From 1.
    node : yaml.Node
        The value.
    """

    key: str
    plain: tuple[str, ...]
    line: int
    node: yaml.Node

    def holds(self, text: str | None) -> bool:
        """Tell whether the value is what a message calls so."""
        if text is None:
            return False
        value = yaml.SafeLoader("").construct_object(self.node, deep=True)
        return text in (str(value), repr(value)) or (isinstance(value, int | float) and text == str(float(value)))


def line_of(path: Path, key: str) -> int | None:
    """Return the line of a key.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.
    key : str
        Dotted, items of lists by their number from 0: ``experiments.1.plate``.

    Returns
    -------
    int, optional
        From 1; None where there is no such key, or no such file.
    """
    return next((entry.line for entry in _entries(path) if entry.key == key), None)


def with_line(path: Path, message: str) -> str:
    """Return a message about a key of a file, led by the line of the key.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.
    message : str
        In one line, as jsonargparse says it, or with the key as a dotted word or as the first word.

    Returns
    -------
    str
        The message itself where it is about none of the file's keys, or about one of several alike.
    """
    entries = list(_entries(path))
    levels = tuple(".".join(_LEVEL.findall(message)).split(".")) if _LEVEL.search(message) else ()
    entry = _told_by_parser(entries, levels, message) or _told_by_us(entries, message)
    return f"{path}, line {entry.line}: {message}" if entry else message


def _told_by_parser(entries: list[Entry], levels: tuple[str, ...], message: str) -> Entry | None:
    if refused := _REFUSED.search(message):
        option = tuple(refused[1].split("."))
        return _first(entries, levels + option) or _first(entries, option)
    if not levels:
        return None
    if lacking := _LACKING.search(message):
        of_null = [entry for entry in entries if entry.plain == (*levels, lacking[1]) and entry.holds("None")]
        below = [entry for entry in entries if entry.plain == levels and isinstance(entry.node, yaml.MappingNode)]
        without = [entry for entry in below if lacking[1] not in [key.value for key, _ in entry.node.value]]
        return next(iter(of_null + without), None)
    return _only(
        [entry for entry in entries if entry.plain == levels],
        [entry for entry in entries if entry.plain[: len(levels)] == levels],
        message,
    )


def _told_by_us(entries: list[Entry], message: str) -> Entry | None:
    for word in sorted(_DOTTED.findall(message), key=len, reverse=True):
        named = [entry for entry in entries if word in (entry.key, ".".join(entry.plain))]
        if named:
            return _only(named, named, message)
    first = _FIRST_WORD.match(message)
    named = [entry for entry in entries if first and entry.plain and entry.plain[-1] == first[0]]
    return _only(named, named, message)


def _first(entries: list[Entry], levels: tuple[str, ...]) -> Entry | None:
    return next((entry for entry in entries if entry.plain == levels), None)


def _only(named: list[Entry], around: list[Entry], message: str) -> Entry | None:
    """Return the one that is named, or of several the one, there or around, that holds the value of the message."""
    value = _VALUE.search(message)
    holding = [entry for entry in around if entry.holds(value[1] if value else None)]
    if len(named) == 1 and not holding:
        return named[0]
    return holding[-1] if holding else None


def refuse_clock_times(path: Path, names: Iterable[str]) -> None:
    """Refuse ``3:30`` as a number: YAML takes it for 210, sixties that are not the unit of anything here.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.
    names : iterable of str
        Keys that have numbers.

    Raises
    ------
    UserError
        If one has such a value.
    """
    for entry in _entries(path):
        if entry.plain[-1:] and entry.plain[-1] in names and ":" in str(entry.node.value):
            raise UserError(f"{path}, line {entry.line}: {entry.plain[-1]} must be a number, got {entry.node.value}")


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
    for entry in _entries(path):
        if entry.key in seen:
            raise UserError(
                f"{path}, line {entry.line}: {entry.key} is there already in line {seen[entry.key]}; leave one out"
            )
        seen[entry.key] = entry.line


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Parameters
    ----------
    path : pathlib.Path
        In UTF-8.

    Returns
    -------
    object
        Its content.

    Raises
    ------
    UserError
        If it is not there, is no text, is empty or no YAML, or has a key twice; with the line, where there is one.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be a YAML file in UTF-8, got other bytes; save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: {error.problem or error.context}, which is no YAML") from error
    except (yaml.YAMLError, ValueError) as error:
        # Of control characters, and of what looks like a date and is none.
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if content is None:
        raise UserError(f"{path} is empty")
    refuse_repeated_keys(path)
    return content


def _entries(path: Path) -> Iterator[Entry]:
    """Yield every key and item of a file, in its order."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return  # the parser tells
    if root is not None:
        yield from _entries_below(root, ())


def _entries_below(node: yaml.Node, above: tuple[str, ...], within: tuple[yaml.Node, ...] = ()) -> Iterator[Entry]:
    if any(node is other for other in within):
        return  # an alias of what it is in
    if isinstance(node, yaml.MappingNode):
        parts = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        parts = [(str(number), value, value) for number, value in enumerate(node.value)]
    else:
        return
    for name, marked, value in parts:
        levels = (*above, name)
        plain = tuple(level for level in levels if not _SILENT.fullmatch(level))
        yield Entry(".".join(levels), plain, marked.start_mark.line + 1, value)
        yield from _entries_below(value, levels, (*within, node))
