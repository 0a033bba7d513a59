"""Code blocks: the Python and shell code of a Markdown page, run in order in one directory.

A block whose first line is `# Not tested: REASON` is not run. Blocks in other languages, such as YAML and output, are
not run either. Python blocks of a page share their names; each shell block is run by a shell of its own, which ends at
the first command that fails.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

PYTHON = ("python", "{code-cell} ipython3", "{code-cell}")
SHELL = ("bash", "sh")
_NOT_TESTED = "# Not tested: "
_SECONDS = 600


class CodeBlock(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int  # of its first line of code, counted from 1
    language: str
    code: str

    @property
    def reason(self) -> str:
        """Why the block is not run; empty if it is."""
        first, _, _ = self.code.partition("\n")
        return first.removeprefix(_NOT_TESTED).strip() if first.startswith(_NOT_TESTED) else ""


def read_blocks(page: Path) -> list[CodeBlock]:
    """Return the Python and shell blocks of a page, in order."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [
        CodeBlock(page, token.map[0] + 2, token.info.strip(), token.content)
        for token in tokens
        if token.type == "fence" and token.map and token.info.strip() in (*PYTHON, *SHELL)
    ]


def run_page(page: Path, directory: Path) -> list[CodeBlock]:
    """Run the blocks of a page in a directory and return those that were run.

    Raises
    ------
    AssertionError
        If a shell block fails; the message has its output.
    Exception
        Whatever a Python block raises; its traceback has lines of the page.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = [block for block in read_blocks(page) if not block.reason]
    previous = Path.cwd()
    os.chdir(directory)
    try:
        for block in blocks:
            if block.language in SHELL:
                run_shell(block, directory)
            else:
                code = "\n" * (block.line - 1) + block.code
                exec(compile(code, str(page), "exec"), names)
    finally:
        os.chdir(previous)
    return blocks


def run_shell(block: CodeBlock, directory: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Run a shell block, with the commands of this Python first on the path.

    Raises
    ------
    AssertionError
        If a command fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
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
