"""Code blocks: the Python and shell code of a Markdown page, run in order in one directory.

A block after a comment `<!-- not run: REASON -->` is not run. Blocks in other languages, such as YAML and output, are
not run either. Python blocks of a page share their names; each shell block is run by a shell of its own, which ends at
the first command that fails. `uv run` runs a command in the environment of this Python.
"""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

PYTHON = ("python", "{code-cell} ipython3", "{code-cell}")
SHELL = ("bash", "sh")
_NOT_RUN = re.compile(r"\s*<!-- not run: (.+) -->\s*")
_SECONDS = 600
# The environment of this Python is that of the workspace, so `uv run` has nothing to install.
_UV = 'uv() { [ "$1" = run ]; shift; while [ "$1" = --extra ]; do shift 2; done; "$@"; }\n'


class CodeBlock(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int  # of its first line of code, counted from 1
    language: str
    code: str
    reason: str  # why it is not run; empty if it is


def read_blocks(page: Path) -> list[CodeBlock]:
    """Return the Python and shell blocks of a page, in order."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    blocks = []
    for before, token in itertools.pairwise([Token("", "", 0), *tokens]):
        if token.type == "fence" and token.map and token.info.strip() in (*PYTHON, *SHELL):
            comment = _NOT_RUN.fullmatch(before.content) if before.type == "html_block" else None
            reason = comment[1] if comment else ""
            blocks.append(CodeBlock(page, token.map[0] + 2, token.info.strip(), token.content, reason))
    return blocks


def read_indented(page: Path) -> list[int]:
    """Return the lines, counted from 1, at which code without a language begins: it is indented and cannot be run."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [token.map[0] + 1 for token in tokens if token.type == "code_block" and token.map]


def run_page(page: Path, directory: Path, commands: set[str] | None = None) -> list[CodeBlock]:
    """Run the blocks of a page in a directory and return those that were run.

    Parameters
    ----------
    page : Path
        Markdown.
    directory : Path
        Where to run them.
    commands : set of str, optional
        Shell blocks that other pages have run in the directory: they are not run again. Those of this page are added.

    Raises
    ------
    AssertionError
        If a shell block fails; the message has its output.
    Exception
        Whatever a Python block raises; its traceback has lines of the page.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    commands = set() if commands is None else commands
    done = []
    previous = Path.cwd()
    os.chdir(directory)
    try:
        for block in read_blocks(page):
            if block.reason or (block.language in SHELL and _is_done(block, commands)):
                continue
            if block.language in SHELL:
                run_shell(block, directory)
            else:
                code = "\n" * (block.line - 1) + block.code
                exec(compile(code, str(page), "exec"), names)
            done.append(block)
    finally:
        os.chdir(previous)
    return done


def _is_done(block: CodeBlock, commands: set[str]) -> bool:
    """Return whether all commands of a shell block were run before, and note them."""
    lines = {line.removeprefix("uv run ") for line in block.code.replace("\\\n", " ").splitlines()}
    is_done = lines <= commands
    commands |= lines
    return is_done


def run_shell(block: CodeBlock, directory: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Run a shell block, with the commands of this Python first on the path.

    Raises
    ------
    AssertionError
        If a command fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _UV + block.code],
        cwd=directory,
        env={**environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if result.returncode:
        raise AssertionError(f"{block.page.name}, line {block.line}: exit code {result.returncode}\n{result.stdout}")
