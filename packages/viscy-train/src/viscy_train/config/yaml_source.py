"""YAML source: a file that the user wrote, with the line of each key, so that an error can name the line.

jsonargparse reads the values. ruamel.yaml, which records the position of each key, adds the lines and refuses keys that
occur twice, of which jsonargparse would take the last.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from jsonargparse import get_loader
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.reader import ReaderError
from yaml.constructor import ConstructorError

from viscy_train.config.yaml_bounds import MAX_BYTES, check_bounds
from viscy_train.config.yaml_problems import explain_syntax
from viscy_train.errors import UserError, require_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# How jsonargparse names a key: level by level from the outermost, or the one that is missing.
_PARSER_KEY = re.compile(r"""(?:(?:[Kk]ey|[Gg]roup|[Oo]ption) ["']|required: )(\w[\w.]*)""")
# Our own messages name a key as a dotted word, or begin with it.
_WORD = re.compile(r"\w+(?:\.\w+)*")
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN = "!plain"


class Entry(NamedTuple):
    """Value of a key and the line of the key, counted from 1."""

    line: int
    value: Any


class Spelled(NamedTuple):
    """Value as `read_yaml` returns it, and its text in the file, without quotes."""

    value: Any
    text: str


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Parameters
    ----------
    path : pathlib.Path
        File in UTF-8.

    Returns
    -------
    object
        Content, with values as jsonargparse reads them: YAML 1.1, but a date is text and ``1e-3`` is a number.

    Raises
    ------
    UserError
        If the file is missing, empty, not UTF-8, not valid YAML or beyond the limits of `check_bounds`, or if a key
        occurs twice in a mapping. The message gives the line where possible.
    """
    text = _read_text(path)
    try:
        check_bounds(path, text)
        document = _load(text)
        content = get_loader("yaml")(text)
    except UserError:
        raise
    except Exception as error:  # many types, also KeyError for a tag such as `!!bool`
        raise UserError(_explain(path, error)) from error
    if document is None:
        raise UserError(f"{path} is empty")
    # jsonargparse returns a mapping of nulls as text, because `--key name:` on the command line is text.
    is_mapping_of_nulls = isinstance(document, CommentedMap) and not isinstance(content, dict)
    return dict.fromkeys(document) if is_mapping_of_nulls else content


def read_spelled(path: Path) -> Any:
    """Read a YAML file with the text of each value.

    Parameters
    ----------
    path : pathlib.Path
        A file that `read_yaml` accepts.

    Returns
    -------
    object
        Mappings and lists of `Spelled`. Merged mappings are replaced by their keys, and all keys are text as it is
        written: ``012`` and ``10`` are two of them.

    Raises
    ------
    UserError
        If two keys of a mapping are written alike, one of them in quotes.
    """
    try:
        return yaml.load(_read_text(path), Loader=_SpellingLoader)
    except ConstructorError as error:
        raise UserError(_explain(path, error, is_valid=True)) from error


def read_as_text(path: Path) -> Any:
    """Read a YAML file like `read_spelled`, without interpreting its values.

    Returns
    -------
    object
        Content as `read_yaml` returns it, but each key and each value is the text that the file contains:
        ``2024_10_09`` rather than the integer 20241009.
    """
    return _texts(read_spelled(path))


def line_of(path: Path, key: str | Sequence[str]) -> int | None:
    """Return the line of a key.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.
    key : str or sequence of str
        Dotted key, with the index of a list's item as a level: ``experiments.1.plate``; or its levels, which may then
        have dots. The levels that jsonargparse leaves out of its messages, such an index and ``init_args``, may be
        missing.

    Returns
    -------
    int, optional
        Line, counted from 1. None if the key, or the file, does not exist, or if several keys match.
    """
    entry = _entry(path, key)
    return None if entry is None else entry.line


def with_line(path: Path, message: str, within: str = "") -> str:
    """Return an error message with the file and the line of the key that it names.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.
    message : str
        A single line, from jsonargparse, or with the key as a dotted word or as the first word.
    within : str
        Dotted key of the part of the file that the message is about, by default the complete file.

    Returns
    -------
    str
        The message, preceded by the line of the key or, if it names none in this file, by the line of `within`.
    """
    keys = [f"{within}.{key}" if within else key for key in _keys_in(message)]
    for key in [*keys, within] if within else keys:
        line = line_of(path, key)
        if line is not None:
            return f"{path}, line {line}: {message}"
    return message


def refuse_clock_time(path: Path, key: str) -> None:
    """Refuse ``3:30`` where a number belongs, because YAML 1.1 reads it as 210, in base 60.

    Parameters
    ----------
    path : pathlib.Path
        YAML file.
    key : str
        Dotted key of a number.

    Raises
    ------
    UserError
        If the value contains a colon.
    """
    entry = _entry(path, key)
    # ruamel.yaml follows YAML 1.2, in which 3:30 is text.
    if entry is not None and isinstance(entry.value, str) and ":" in entry.value:
        name = key.rpartition(".")[2]
        raise UserError(f"{path}, line {entry.line}: {name} must be a number, got {entry.value}")


class _Constructor(RoundTripConstructor):
    """Give both lines of a repeated key; ruamel.yaml's own message gives both values, however large."""

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        if key in mapping:
            first = mapping.lc.key(key)[0] + 1
            problem = f"key {key!r} is already defined in line {first}; remove one of them"
            raise DuplicateKeyError(problem=problem, problem_mark=key_node.start_mark)
        return True


class _SpellingLoader(yaml.SafeLoader):
    """Read scalars as `Spelled`, and keys as text."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Return the tag of a node; whatever has neither a tag nor quotes is left to jsonargparse."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _MERGE if value == "<<" else _PLAIN
        return super().resolve(kind, value, implicit)

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return the node of a mapping whose own keys differ; those of merged mappings may be the same."""
        node = super().compose_mapping_node(anchor)
        first: dict[str, Any] = {}
        for key, _ in node.value:
            mark = first.setdefault(key.value, key.start_mark)
            if mark is not key.start_mark:
                problem = f"key {key.value!r} is already defined in line {mark.line + 1}; remove one of them"
                raise ConstructorError(None, None, problem, key.start_mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value of a node."""
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep=deep)
        # With a space, `---` is text rather than the end of a document.
        value = get_loader("yaml")(f" {node.value}") if node.tag == _PLAIN else super().construct_object(node)
        return Spelled(value, node.value)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        """Return a mapping, in which merged mappings are replaced by their keys."""
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


def _texts(node: Any) -> Any:
    """Return the texts of spelled values."""
    if isinstance(node, Spelled):
        return node.text
    if isinstance(node, dict):
        return {key: _texts(value) for key, value in node.items()}
    return [_texts(item) for item in node] if isinstance(node, list) else node


def _read_text(path: Path) -> str:
    require_regular_file(path, "a YAML file")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path} must be a YAML file of at most {MAX_BYTES:,} bytes, got {size:,}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"file not found: {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be a YAML file in UTF-8, got other bytes; save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


@lru_cache(maxsize=4)  # A file is searched once for each key whose line is needed.
def _load(text: str) -> Any:
    loader = YAML(typ="rt", pure=True)
    loader.Constructor = _Constructor
    return loader.load(text)


def _explain(path: Path, error: Exception, *, is_valid: bool = False) -> str:
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if isinstance(error, ReaderError) and isinstance(error.character, int):
        line = _read_text(path).count("\n", 0, error.position) + 1
        return f"{path}, line {line}: invalid YAML: it has the control character U+{error.character:04X}; delete it"
    if problem is None or mark is None:
        return f"{path} is not valid YAML: {' '.join(str(error).split())}"
    if is_valid or isinstance(error, DuplicateKeyError):
        return f"{path}, line {mark.line + 1}: {problem}"
    line, words = explain_syntax(problem, mark, getattr(error, "context", None), getattr(error, "context_mark", None))
    return f"{path}, line {line}: invalid YAML: {words}"


def _keys_in(message: str) -> list[str]:
    """Return the keys that a message may be about, the likeliest first."""
    if quoted := _PARSER_KEY.findall(message):
        return [".".join(quoted), quoted[-1]]
    words = _WORD.findall(message)
    return [word for word in words if "." in word] + words[:1]


def _entry(path: Path, key: str | Sequence[str]) -> Entry | None:
    try:
        text = _read_text(path)
        check_bounds(path, text)
        found = [Entry(1, _load(text))]
    except (ValueError, YAMLError, yaml.YAMLError):
        return None  # Reading the file reports what is wrong with it.
    for level in key.split(".") if isinstance(key, str) else key:
        found = [below for entry in found for below in _entries_below(entry.value, level)]
    return found[0] if len(found) == 1 else None


def _entries_below(node: Any, level: str) -> Iterator[Entry]:
    """Yield the entry that a level of a dotted key names; entries of all items of a list that the key leaves out."""
    if isinstance(node, CommentedSeq) and level.isdigit():
        if int(level) < len(node):
            yield Entry(node.lc.item(int(level))[0] + 1, node[int(level)])
        return
    for item in node if isinstance(node, CommentedSeq) else [node]:
        for mapping in (item, item.get("init_args")) if isinstance(item, CommentedMap) else ():
            yield from _entries_of(mapping, level) if isinstance(mapping, CommentedMap) else ()


def _entries_of(mapping: CommentedMap, key: str) -> list[Entry]:
    """Return the entries of a key in a mapping, or else in the first of its merged mappings that has it."""
    # The keys with a position: without those of a merged mapping.
    own = [Entry(mapping.lc.key(one)[0] + 1, mapping[one]) for one in mapping.lc.data or () if str(one) == key]
    merged = (_entries_of(one, key) for one in mapping.merge)
    return own or next(filter(None, merged), [])
