"""Page: the examples of `docs/bring-your-data.md`, which are those that the sample projects use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[4] / "docs" / "bring-your-data.md"
_PROJECT = re.compile(r"^<!-- project: (\S+) -->$", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its language, and its lines."""

    language: str
    text: str


def examples() -> dict[str, list[Block]]:
    """Return the blocks of each project of the page, by its name."""
    _, *parts = _PROJECT.split(PAGE.read_text(encoding="utf-8"))
    return {
        name: [Block(*block) for block in _BLOCK.findall(text)]
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def yaml_of(project: str, file: str) -> str:
    """Return the YAML of a project that belongs into a file, by the comment in its first line."""
    texts = [block.text for block in examples()[project] if block.language == "yaml"]
    (found,) = [text for text in texts if text.startswith(f"# {file}\n")]
    return found


def outputs_of(project: str) -> list[str]:
    """Return what the page says that commands print for a project."""
    return [block.text for block in examples()[project] if block.language == "text"]


def words(text: str) -> str:
    """Return a text with single blanks, so that line breaks make no difference."""
    return " ".join(text.split())
