"""Entry point: parses the command line, runs a command and turns errors into one line and an exit code."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentError
from contextlib import nullcontext
from typing import TYPE_CHECKING

from viscy_train.cli.aliases import replace_aliases
from viscy_train.cli.collection import rare_collections
from viscy_train.cli.config_files import check_config_files, config_files
from viscy_train.cli.failures import explain_failure, quiet_threads
from viscy_train.cli.help import command_help, overall_help, versions
from viscy_train.cli.registry import COMMANDS
from viscy_train.cli.verbosity import verbosity
from viscy_train.config.parser_messages import reword
from viscy_train.config.suggestions import CommandLineError, did_you_mean
from viscy_train.errors import UserError
from viscy_train.exit_codes import EXIT_INTERRUPTED, EXIT_USER_ERROR, explain_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.cli.registry import Command

_HELP, _HELP_ALL = {"-h", "--help"}, "--help-all"
_IS_MISSING = re.compile(r"the key '[\w.]+' is missing")
_NAMES_A_FILE = re.compile(r"\S+\.ya?ml(, line \d+)?:? ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command and options, by default those of the process.

    Returns
    -------
    int
        Exit code: 0 on success, 1 if a process of the run was lost, 2 for a user error, 75 if a run was stopped on
        request and can be resumed, 130 after Ctrl-C. The demo returns the exit code of a command that failed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with quiet_threads(), verbosity(words) as others:
            return _run(others)
    except (ArgumentError, UserError) as error:
        return explain_exit(f"error: {_explain(error, words)}", EXIT_USER_ERROR)
    except KeyboardInterrupt:
        return explain_exit("interrupted", EXIT_INTERRUPTED)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns it into an exit
            return explain_exit("interrupted", EXIT_INTERRUPTED)
        raise
    except (OSError, RuntimeError) as error:
        failure = explain_failure(error)
        if failure is None:
            raise
        message, code = failure
        return explain_exit(f"error: {message}", code)


def _run(words: list[str]) -> int:
    first, *options = words or [""]
    if first in ("", "-h", "--help"):
        print(overall_help())
        return 0 if first else EXIT_USER_ERROR
    if first in ("-V", "--version"):
        print(versions())
        return 0
    if first == "--print_shtab":
        from viscy_train.cli.completion import completion_script

        print(completion_script(options[0] if options else ""))
        return 0
    if first not in COMMANDS:
        raise CommandLineError(_not_a_command(first))
    if any(word.partition("=")[0] == "--print_shtab" for word in options):
        raise CommandLineError("--print_shtab is given without a command: viscy-train --print_shtab bash")
    command = COMMANDS[first]
    if _HELP.intersection(options):
        print(command_help(command))
        return 0
    options = ["--help" if word == _HELP_ALL else word for word in replace_aliases(command, options)]
    return _run_with_config(command, options) if command.takes_config else _run_without_config(command, options)


def _not_a_command(word: str) -> str:
    """Return what is wrong with a word in the place of the command."""
    if word.startswith("-"):
        meant = did_you_mean(word.partition("=")[0], ["--help", "--version", "--print_shtab"])
        return f"the command comes before its options, got {word!r}{meant or '; see viscy-train --help'}"
    meant = did_you_mean(word, [*COMMANDS, "--help"])
    return f"unknown command {word!r}{meant or '; choose from ' + ', '.join(COMMANDS)}"


def _run_without_config(command: Command, options: list[str]) -> int:
    from viscy_train.cli import zarr_thread

    try:
        return command.run(options)
    finally:
        zarr_thread.end_at_exit()


def _run_with_config(command: Command, options: list[str]) -> int:
    if not options:
        raise UserError(f"{command.name} needs --config FILE; `viscy-train demo` writes an example")
    check_config_files(options)
    # Importing Lightning takes seconds, so the mistakes above are reported first.
    _check_that_viscy_data_is_ours()
    from viscy_train.cli import zarr_thread

    with nullcontext() if command.needs_model else rare_collections():
        try:
            return command.run(options)
        finally:
            zarr_thread.end_at_exit()


def _check_that_viscy_data_is_ours() -> None:
    """Refuse the package of another project that has the same name, which package installers find on their own."""
    try:
        from viscy_data import AnchorIndex  # noqa: F401
    except ImportError as error:
        raise UserError(
            "the installed package viscy-data is not the one that viscy-train needs, but probably VisCy's, which has "
            "the same name; install both packages of this project in one command, as the README describes"
        ) from error


def _explain(error: Exception, arguments: list[str]) -> str:
    """Return an error message on one line, with the config file and the line; a list of problems stays a list."""
    from viscy_train.config.yaml_source import with_line

    text = str(error)
    if isinstance(error, CommandLineError) or (isinstance(error, UserError) and "\n" in text):
        return text
    text = reword(" ".join(text.split()))
    if _NAMES_A_FILE.match(text) or _is_of_an_option(text, arguments):
        return text
    for path in reversed(config_files(arguments)):  # a later file overrides an earlier one
        if path.is_file() and (located := with_line(path, text)) != text:
            return located
        if _IS_MISSING.fullmatch(text):
            return f"{path}: {text}"
    return text


def _is_of_an_option(text: str, arguments: list[str]) -> bool:
    """Return whether a message begins with a key that the command line gives, so that no file contains the mistake."""
    return f"--{text.partition(' ')[0]}" in [word.partition("=")[0] for word in arguments]
