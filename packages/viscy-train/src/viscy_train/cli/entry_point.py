"""Command line: one configuration file, and a command for each thing to be done with it."""

from __future__ import annotations

import logging
import re
import sys
from argparse import ArgumentError
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from viscy_train.atomic import is_disk_full
from viscy_train.errors import UserError
from viscy_train.exit_codes import EXIT_INTERRUPTED, EXIT_USER_ERROR, explain_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_SECTIONS = [
    "trainer",
    "model",
    *(f"model.{name}" for name in ("encoder", "loss", "optimizer")),
    "data",
    *(f"data.{name}" for name in ("positive", "sampler", "split", "augmentation")),
    "checkpoint",
]
_WITH_FILE = re.compile(r"\S+\.ya?ml(, line \d+)?:? ")
_TITLE = "Contrastive training on OME-Zarr time-lapse data, with batches of a stated composition."
_MADE = {
    "demo": "make three small experiments and train on them",
    "hela": "write the HeLa time-lapse of the Cell Tracking Challenge as a project",
}
_CONFIGURED = {
    "index": "build the table of cells from plates and tracks, and check them",
    "inspect": "show what the batches will hold, before any training",
    "fit": "train",
    "validate": "measure a checkpoint on what is kept for validation",
    "predict": "write the embedding of every cell",
    "replay": "draw the crops of one step",
    "report": "write the report of a run anew",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        Exit code: 0; 2 for a mistake of the user; 1 where a process of the training failed; 75 where a run was asked to
        stop and can go on; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What iohub warns of on the way is told in our errors, and no news where there is none.
    logging.getLogger("iohub").setLevel(logging.ERROR)
    try:
        return _run(given)
    except (ArgumentError, UserError) as error:
        return explain_exit(f"error: {_explained(error, given)}", EXIT_USER_ERROR)
    except KeyboardInterrupt:
        return explain_exit("interrupted", EXIT_INTERRUPTED)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning makes it an exit
            return explain_exit("interrupted", EXIT_INTERRUPTED)
        raise
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        text = " ".join(str(error).split())
        return explain_exit(
            f"error: the disk is full ({text}); make room; `fit` goes on with --ckpt_path last", EXIT_USER_ERROR
        )


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else EXIT_USER_ERROR
    command, *options = arguments
    if command in _MADE:
        return _make(command, options)
    if command not in _CONFIGURED:
        raise UserError(f"there is no command {command!r}; there are {', '.join([*_MADE, *_CONFIGURED])}")
    if not options:
        raise UserError(f"{command} needs --config FILE; `viscy-train demo` writes one to start from")
    for path in _config_files(options):
        _check_config_file(path)
    # Loading Lightning takes seconds, which a mistake above need not wait for.
    from viscy_train.cli import commands

    run: Callable[[list[str], str], int] = getattr(commands, command)
    return run(options, _CONFIGURED[command])


def _make(command: str, options: list[str]) -> int:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"viscy-train {command}", exit_on_error=False, description=f"{_MADE[command]}.")
    folder = Path("viscy-demo" if command == "demo" else command)
    parser.add_argument("--out", type=Path, default=folder, help="new folder for what is made")
    out = parser.parse_args(options).out
    if command == "demo":
        from viscy_train.cli.demo import run_demo

        return run_demo(out)
    from viscy_train.sample_projects.hela import write_hela

    write_hela(out)
    return 0


def _help() -> str:
    width = max(map(len, [*_MADE, *_CONFIGURED]))
    lines = [f"  {name:{width}}  {what}" for name, what in {**_MADE, **_CONFIGURED}.items()]
    return "\n".join(
        [
            _TITLE,
            "",
            "viscy-train COMMAND [--out FOLDER] | [--config FILE] [--key value ...]",
            "",
            *lines,
            "",
            "`viscy-train COMMAND --help` lists options, `viscy-train fit --config FILE --print_config` all values.",
        ]
    )


def _config_files(options: list[str]) -> list[Path]:
    named = [later for option, later in pairwise(options) if option == "--config"]
    return [Path(name) for name in named + [text.removeprefix("--config=") for text in options if "--config=" in text]]


def _check_config_file(path: Path) -> None:
    """Refuse what the parser would not tell with the file's name and line, or not at all."""
    try:
        if not path.is_file():
            return  # The parser names what is missing, and a pipe can be read only once.
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the config file {str(path)!r}: {error}") from error
    from viscy_train.config.yaml_source import line_of, read_yaml

    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a mapping of keys to values; `viscy-train demo` writes a config to start from")
    for section in _SECTIONS:
        *above, name = section.split(".")
        part = content
        for key in above:
            part = part.get(key) if isinstance(part, dict) else None
        if not isinstance(part, dict) or name not in part:
            continue
        value = part[name]
        if not isinstance(value, dict) and not (isinstance(value, str) and (path.parent / value).is_file()):
            got = "null" if value is None else repr(value)
            raise UserError(f"{path}, line {line_of(path, section)}: {section} must be a mapping of keys, got {got}")


def _explained(error: Exception, arguments: list[str]) -> str:
    """Return an error as one line, or its own lines where it is a list, with the line of the file it is about."""
    from viscy_train.config.yaml_source import with_line

    text = str(error)
    if isinstance(error, UserError) and "\n" in text:
        return text
    text = " ".join(text.split())
    if _WITH_FILE.match(text):
        return text
    for path in _config_files(arguments):
        if path.is_file():
            text = with_line(path, text)
    return text
