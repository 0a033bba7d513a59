"""Completion: the script by which a shell completes commands, options, keys and choices."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from viscy_train.cli.registry import COMMANDS
from viscy_train.config.suggestions import CommandLineError, did_you_mean, one_of

if TYPE_CHECKING:
    from viscy_train.cli.option import Option
    from viscy_train.cli.registry import Command

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "DIRECTORY", "PATH", "RUN", "PLATE", "COLLECTION")
_FLAGS = ("-h", "--help", "--help-all", "-v", "--verbose", "-q", "--quiet")


def completion_script(shell: str) -> str:
    """Return the script of a shell.

    Parameters
    ----------
    shell : {"bash", "zsh", "fish"}
        The shell.

    Raises
    ------
    CommandLineError
        If it is another one.
    """
    if shell not in SHELLS:
        rule = f"--print_shtab must be {one_of(SHELLS)}, got {shell or 'nothing'}"
        raise CommandLineError(rule + did_you_mean(shell, SHELLS))
    import shtab

    return shtab.complete(_make_parser(), shell)


def _make_parser() -> argparse.ArgumentParser:
    """Return a parser that only describes the command line: Python's own, which shtab knows, with all commands."""
    parser = argparse.ArgumentParser(prog="viscy-train", add_help=False)
    for flag in ("-h", "--help", "-V", "--version"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--print_shtab", choices=SHELLS)
    commands = parser.add_subparsers()
    keys = _choices_of_keys()
    for command in COMMANDS.values():
        _describe(commands.add_parser(command.name, help=command.does, add_help=False), command, keys)
    return parser


def _describe(parser: argparse.ArgumentParser, command: Command, keys: dict[str, tuple[str, ...]]) -> None:
    for name, option in command.arguments.items():
        _complete_files(parser.add_argument(name, nargs=option.nargs), option)
    for name, option in command.options.items():
        if option.kind == "flag":
            parser.add_argument(f"--{name}", action="store_true", help=_escaped(option))
        else:
            choices = option.choices or None
            _complete_files(parser.add_argument(f"--{name}", choices=choices, help=_escaped(option)), option)
    for flag in _FLAGS:
        parser.add_argument(flag, action="store_true")
    if command.takes_config:
        _complete_files(parser.add_argument("-c", "--config"))
        for name in sorted(keys.keys() - command.options.keys()):
            parser.add_argument(f"--{name}", choices=keys[name] or None)


def _choices_of_keys() -> dict[str, tuple[str, ...]]:
    """Return all keys of a configuration, and the values of those that have few."""
    from viscy_train.training.data_cli import make_data_parser

    found = {}
    for action in make_data_parser("viscy-train", "", {})._actions:
        for word in action.option_strings:
            if word.startswith("--") and word not in ("--help", "--config"):
                found[word.removeprefix("--")] = _choices_of(getattr(action, "_typehint", None))
    return found


def _choices_of(kind: Any) -> tuple[str, ...]:
    """Return the values of a type that has few, or the names among the values of a union."""
    if kind is bool:
        return ("true", "false")
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return tuple(choice for one in get_args(kind) if get_origin(one) is Literal for choice in map(str, get_args(one)))


def _complete_files(action: Any, option: Option | None = None) -> None:
    import shtab

    if option is None or option.kind == "path" or any(word in _FILES for word in option.value.split("|")):
        action.complete = shtab.FILE


def _escaped(option: Option) -> str:
    return option.help.replace("%", "%%")
