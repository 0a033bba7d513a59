"""Suggestions: what a misspelled key, option or value was probably meant to be."""

from __future__ import annotations

import difflib
import re
from argparse import ArgumentError
from typing import TYPE_CHECKING, Any

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_LEAST_ALIKE = 0.6
_TOP_KEYS = ("output",)  # that a configuration must have
# In jsonargparse's messages.
_NOT_IN_GROUP = re.compile(r"Group '(?P<group>[^']*)' does not accept option '(?P<key>[^']*)'")
_NOT_ACCEPTED = re.compile(r"Option '(?P<key>[^']*)' is not accepted")
_UNRECOGNIZED = re.compile(r"[Uu]nrecognized arguments: (?P<words>.*)", re.DOTALL)
_REQUIRED = re.compile(r"the following arguments are required: (?P<names>.*)")
_INVALID_CHOICE = re.compile(
    r"argument (?P<option>\S+): invalid choice: '?(?P<value>.*?)'? \(choose from (?P<choices>.*)\)"
)
_NO_VALUE = re.compile(r"argument (?:\S+/)?(?P<option>--\S+): expected one argument")


class CommandLineError(UserError):
    """A mistake in the words of the command line, which no file contains."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean ...?`` to append to a message, or nothing if no known name is like a name.

    Examples
    --------
    >>> did_you_mean("idnex", ["index", "inspect"]), did_you_mean("x", ["index"])
    ('; did you mean index?', '')
    """
    meant = _most_alike(name, list(known))
    return "" if meant is None else f"; did you mean {meant}?"


def key_meant_by(key: str, known: Collection[str]) -> str | None:
    """Return the key with dots that a key was probably meant to be.

    Parameters
    ----------
    key : str
        A key that is not known.
    known : collection of str
        All keys.

    Returns
    -------
    str, optional
        A key of the same section whose name is alike, or else one of another section whose name is the same or alike.
    """
    parent, _, leaf = key.rpartition(".")
    section = [name for name in known if name.rpartition(".")[0] == parent]
    if (meant := _most_alike(leaf, [name.rpartition(".")[2] for name in section])) is not None:
        return f"{parent}.{meant}" if parent else meant
    leaves = [name.rpartition(".")[2] for name in known]
    meant = leaf if leaf in leaves else _most_alike(leaf, leaves, least=0.8)
    elsewhere = [name for name in known if name.rpartition(".")[2] == meant]
    return max(elsewhere, key=lambda name: difflib.SequenceMatcher(None, key, name).ratio(), default=None)


def parse(parser: Any, words: Sequence[str]) -> Any:
    """Parse words, and explain what the parser does not know.

    Parameters
    ----------
    parser : jsonargparse.ArgumentParser
        The parser.
    words : sequence of str
        What to parse.

    Raises
    ------
    CommandLineError
        If an option is unknown, lacks its value, or has a value that is none of its choices.
    argparse.ArgumentError
        If a file has an unknown key, lacks one, or has a value of another type.
    """
    try:
        return parser.parse_args(list(words))
    except ArgumentError as error:
        if found := _REQUIRED.search(str(error)):
            raise _missing(found["names"].split(", ")[0], parser) from error
        raise explained(error, parser) from error


def explained(error: ArgumentError, parser: Any) -> ArgumentError | CommandLineError:
    """Return an error of a parser in other words, or the same one if it is not about a name."""
    text = " ".join(str(error).split())
    if found := _UNRECOGNIZED.search(text):
        return CommandLineError(_unknown_option(found["words"].split(), parser))
    if found := _INVALID_CHOICE.search(text):
        choices = [choice.strip().strip("'") for choice in found["choices"].split(",")]
        rule = f"{found['option']} must be {one_of(choices)}, got {found['value']}"
        return CommandLineError(rule + did_you_mean(found["value"], choices))
    if found := _NO_VALUE.search(text):
        return CommandLineError(f"{found['option']} needs a value")
    if found := _NOT_IN_GROUP.search(text):
        return ArgumentError(None, unknown_key(f"{found['group']}.{found['key']}", _names_of(parser)))
    if found := _NOT_ACCEPTED.search(text):
        return ArgumentError(None, unknown_key(found["key"], _names_of(parser)))
    if found := _REQUIRED.search(text):
        return ArgumentError(None, f"the key '{found['names'].split(', ')[0]}' is missing")
    return error


def unknown_key(key: str, known: Collection[str]) -> str:
    """Return a message on a key with dots that is not known, or whose section is not."""
    levels = key.split(".")
    sections = {".".join(name.split(".")[:n]) for name in known for n in range(1, name.count(".") + 2)}
    for n in range(1, len(levels) + 1):
        if (part := ".".join(levels[:n])) not in sections:
            meant = key_meant_by(part, sections if n < len(levels) else known)
            return f"unknown key '{part}'" + (f"; did you mean {meant}?" if meant else "")
    return f"unknown key '{key}'"


def one_of(choices: Sequence[str]) -> str:
    """Return choices as a list with ``or``."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _unknown_option(words: list[str], parser: Any) -> str:
    option = next((word for word in words if word.startswith("-")), None)
    if option is None:
        return f"unexpected argument {words[0]!r}; options begin with --"
    name = option.lstrip("-").partition("=")[0]
    meant = key_meant_by(name, _names_of(parser))
    return f"unknown option --{name}" + (f"; did you mean --{meant}?" if meant else "; see --help and --help-all")


def _missing(name: str, parser: Any) -> ArgumentError | CommandLineError:
    """Return the error of an argument or option that the command line lacks, or of a key that its file lacks."""
    arguments = {action.dest: action.metavar for action in parser._actions if not action.option_strings}
    if (argument := arguments.get(name)) is not None:
        return CommandLineError(f"{argument} is missing; see {parser.prog} --help")
    if "." in name or name in _TOP_KEYS:
        return ArgumentError(None, f"the key '{name}' is missing")
    return CommandLineError(f"--{name} is missing; see {parser.prog} --help")


def _names_of(parser: Any) -> list[str]:
    words = [word for action in parser._actions for word in (*action.option_strings, action.dest)]
    return [word.lstrip("-") for word in words if (word and not word.startswith("-")) or word.startswith("--")]


def _most_alike(name: str, known: Sequence[str], least: float = _LEAST_ALIKE) -> str | None:
    spelled = {_folded(one): one for one in known}
    close = difflib.get_close_matches(_folded(name), list(spelled), n=1, cutoff=least)
    return spelled[close[0]] if close and spelled[close[0]] != name else None


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")
