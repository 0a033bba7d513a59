"""Commands that write the files of a project: `init` from plates, `import` from a collection of VisCy."""

from __future__ import annotations

import shlex
from pathlib import Path

from jsonargparse import ArgumentParser

from viscy_train.console import say
from viscy_train.project_files.importer import import_collection
from viscy_train.project_files.new_files import CONFIG, EXPERIMENTS
from viscy_train.project_files.starter import start_project


def run_init(options: list[str], description: str) -> int:
    """Write the files of a project for plates, and return the exit code."""
    parser = _parser("init", description)
    parser.add_argument(
        "plates", nargs="+", type=Path, metavar="PLATE", help="HCS plate, OME-Zarr image, or folder of OME-Zarr images"
    )
    values = parser.parse_args(options)
    return _report(start_project(values.plates, values.out), values.out)


def run_import(options: list[str], description: str) -> int:
    """Write the files of a project from a collection of VisCy, and return the exit code."""
    parser = _parser("import", description)
    parser.add_argument("collection", type=Path, metavar="COLLECTION", help="collection of VisCy, a YAML file")
    values = parser.parse_args(options)
    return _report(import_collection(values.collection, values.out), values.out)


def _parser(command: str, description: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"viscy-train {command}", exit_on_error=False, description=description)
    parser.add_argument("--out", type=Path, default=Path(), help="directory to write to; nothing in it is replaced")
    return parser


def _report(lines: list[str], out: Path) -> int:
    for line in lines:
        say(line)
    say(f"Wrote {out / EXPERIMENTS} and {out / CONFIG}")
    say(f"Next: edit both, and run `viscy-train index --config {shlex.quote(str(out / CONFIG))}`")
    return 0
