"""Aliases: other names of a command's options, which are replaced by those that its parser knows."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viscy_train.cli.registry import Command

# By command: an earlier name, and the present one.
_RENAMED = {
    "inspect": {"page": "out"},
    "predict": {"embeddings": "out"},
    "replay": {"picture": "out"},
}
_REMOVED_IN = "0.3.0"
# An option that has the name of a section of the configuration; a file or mapping is a value of the section.
_SECTION = "checkpoint"
_YAML = (".yaml", ".yml")


def replace_aliases(command: Command, options: list[str]) -> list[str]:
    """Return the options of a command with the names that its parser knows, and warn of names that will be removed."""
    renamed = _RENAMED.get(command.name, {})
    parsed = {name: option.parsed_as for name, option in command.options.items() if option.parsed_as}
    replaced = []
    for word, following in zip_longest(options, options[1:], fillvalue=""):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in renamed:
            from viscy_train.console import warn

            warn(f"--{name} is now --{renamed[name]}; the earlier name will be removed in {_REMOVED_IN}")
            name = renamed[name]
        is_section = name == _SECTION and _is_section(value if equals else following)
        if word.startswith("--") and not is_section:
            word = f"--{parsed.get(name, name)}{equals}{value}"
        replaced.append(word)
    return replaced


def _is_section(value: str) -> bool:
    return value.endswith(_YAML) or value.lstrip().startswith("{")
