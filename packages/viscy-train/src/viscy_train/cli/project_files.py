"""Commands that write the files of a project: `init` from plates, `import` from a collection of VisCy."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from viscy_train.cli.options import make_parser
from viscy_train.config.suggestions import parse
from viscy_train.console import say
from viscy_train.project_files.importer import import_collection
from viscy_train.project_files.new_files import CONFIG, EXPERIMENTS
from viscy_train.project_files.starter import start_project

if TYPE_CHECKING:
    from pathlib import Path


def run_init(options: list[str], description: str) -> int:
    """Write the files of a project for plates, and return the exit code."""
    values = parse(make_parser("init", description), options)
    return _report(start_project(values.plates, values.out), values.out)


def run_import(options: list[str], description: str) -> int:
    """Write the files of a project from a collection of VisCy, and return the exit code."""
    values = parse(make_parser("import", description), options)
    return _report(import_collection(values.collection, values.out), values.out)


def _report(lines: list[str], out: Path) -> int:
    for line in lines:
        say(line)
    say(f"Wrote {out / EXPERIMENTS} and {out / CONFIG}")
    say(f"Next: edit both, and run `viscy-train index --config {shlex.quote(str(out / CONFIG))}`")
    return 0
