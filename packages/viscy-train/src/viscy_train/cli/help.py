"""Help: what a command does and its own options, on a screen, and the versions of what is installed."""

from __future__ import annotations

import platform
import textwrap
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import TYPE_CHECKING

from viscy_train.cli.registry import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viscy_train.cli.option import Option
    from viscy_train.cli.registry import Command

_WIDTH = 80
_TITLE = "Contrastive training on OME-Zarr time-lapse data, with batches of a configured composition."
_USES = {
    "Create a sample project": ["COMMAND [--out DIRECTORY]"],
    "Start a project of your own": ["init PLATE ... [--out DIRECTORY]", "import COLLECTION [--out DIRECTORY]"],
    "Find out when composing batches pays": ["study [--size ci|laptop|gpu] [--out DIRECTORY]"],
    "Look at a run": ["view RUN [--step K] [--position POSITION] [--color COLUMN]"],
    "Work on a project": ["COMMAND --config FILE [--key value ...]"],
}
_COMMON = [
    ("-v, --verbose", "say what is done and why, with the seconds since the start, and what libraries log"),
    ("-q, --quiet", "print results, warnings, notes and errors only"),
    ("-h, --help", "show this help"),
]
_PACKAGES = ("viscy-train", "viscy-data", "viscy-sampling-testkit", "torch", "lightning")


def overall_help() -> str:
    """Return the help of the program: all commands, by what they are for."""
    width = max(map(len, COMMANDS))
    lines = [_TITLE]
    for group, commands in groupby(COMMANDS.values(), lambda command: command.group):
        first, *others = [f"viscy-train {use}" for use in _USES[group]]
        lines += ["", f"{group}: {first}", *(" " * (len(group) + 2) + other for other in others), ""]
        lines += [f"  {command.name:{width}}  {command.does}" for command in commands]
    return "\n".join(
        [
            *lines,
            "",
            "Run `viscy-train COMMAND --help` to list the options of a command, and",
            "`viscy-train fit --config FILE --print_config` to print a configuration with all defaults.",
            "`viscy-train --version` prints the versions of what is installed, and",
            "`viscy-train --print_shtab bash` (or zsh, fish) a script for completion by the shell.",
        ]
    )


def command_help(command: Command) -> str:
    """Return the help of a command: what it does, its own options, an example, and where the rest is."""
    arguments = [option.value + (" ..." if option.nargs else "") for option in command.arguments.values()]
    config = ["--config FILE"] if command.takes_config else []
    required = [f"--{name} {option.shown_value}" for name, option in command.options.items() if option.required]
    keys = ["[--KEY VALUE ...]"] if command.takes_config else []
    usage = " ".join(["usage: viscy-train", command.name, *arguments, *config, *required, "[options]", *keys])
    rows = [(option.value, option.help) for option in command.arguments.values()]
    rows += [("-c, --config FILE", "configuration in YAML")] if command.takes_config else []
    rows += [(_spelled(name, option), _described(option)) for name, option in command.options.items()]
    if command.takes_config:
        rows.append(("--KEY VALUE", "any key of the configuration, such as --data.crop 64; overrides the file"))
    rows += _COMMON
    lines = [
        *textwrap.wrap(usage, _WIDTH, subsequent_indent="  "),
        "",
        *textwrap.wrap(f"{command.description} {command.more}", _WIDTH),
        "",
        "Options:",
        *_table(rows),
        "",
        "Example:",
        f"  viscy-train {command.name} {command.example}",
    ]
    if command.takes_config:
        lines += [
            "",
            f"`viscy-train {command.name} --help-all` lists all keys, and --print_config prints",
            "the configuration with the values of all keys.",
        ]
    return "\n".join(lines)


def versions() -> str:
    """Return the versions of this project's packages and of what results depend on, without importing any."""
    lines = []
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # the testkit is optional, and a checkout has no version
            if name == "viscy-train":
                lines.append(f"{name} unknown")
    return "\n".join([*lines, f"python {platform.python_version()}"])


def _spelled(name: str, option: Option) -> str:
    return f"--{name} {option.shown_value}".rstrip()


def _described(option: Option) -> str:
    if option.required:
        return f"{option.help} (required)"
    return option.help if option.default is None else f"{option.help} (default: {option.default})"


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max(len(spelled) for spelled, _ in rows)
    lines = []
    for spelled, text in rows:
        first, *others = textwrap.wrap(text, _WIDTH - width - 4)
        lines += [f"  {spelled:{width}}  {first}", *(" " * (width + 4) + other for other in others)]
    return lines
