"""Entry point: parses the command line, runs a command and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import re
import sys
from argparse import ArgumentError
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.cli.collection import rare_collections
from viscy_train.cli.failures import explain_failure, quiet_threads
from viscy_train.config.parser_messages import reword
from viscy_train.errors import UserError, require_regular_file
from viscy_train.exit_codes import EXIT_INTERRUPTED, EXIT_USER_ERROR, explain_exit
from viscy_train.output import in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


# Sections with a key `name`, for which a name alone is a common mistake.
_NAMED = ("model.encoder", "model.loss")
_SECTIONS = [
    "trainer",
    "model",
    *(f"model.{name}" for name in ("encoder", "loss", "optimizer")),
    "data",
    *(f"data.{name}" for name in ("normalization", "positive", "sampler", "split", "augmentation")),
    "checkpoint",
    "evaluation",
]
# Values that are names, or have names as items or keys.
_NAMES = [
    "output",
    "data.experiments",
    "data.anchors",
    "data.store",
    "data.split.experiments",
    "data.sampler.experiment_weights",
    "data.sampler.condition_ratio",
    *(f"data.sampler.{name}" for name in ("distinct_by", "place_by", "experiment_by", "condition_by", "time_by")),
    *(f"data.positive.{name}" for name in ("match", "differ")),
    "model.encoder.name",
    "evaluation.probe",
    "evaluation.time",
]
_YAML = (".yaml", ".yml")
_NAMES_A_FILE = re.compile(r"\S+\.ya?ml(, line \d+)?:? ")
_TITLE = "Contrastive training on OME-Zarr time-lapse data, with batches of a configured composition."
_PROJECT_COMMANDS = {
    "demo": "simulate three small experiments and train on them",
    "hela": "write the HeLa time-lapse of the Cell Tracking Challenge as a project",
}
_FILE_COMMANDS = {
    "init": "look at plates, and write experiments.yaml and config.yaml to start from",
    "import": "write experiments.yaml and config.yaml from a collection of VisCy",
}
_STUDY_COMMANDS = {
    "study": "compare compositions of the batches on made-up worlds, to see when composing pays",
}
_VIEW_COMMANDS = {
    "view": "open napari with a position of a run: the plate, its tracks, and a batch",
}
_CONFIG_COMMANDS = {
    "index": "check plates and tracks, and build the anchor table from them",
    "pack": "write the crops of all observations to a store, from which `data.store` reads them fast",
    "inspect": "show the composition of the batches without training",
    "compare": "train with several compositions of the batches, and say which of them pays",
    "fit": "train and write a report",
    "validate": "evaluate a checkpoint on the validation anchors",
    "predict": "write the embedding of every cell",
    "export": "write the encoder of a checkpoint as safetensors, with a model card, and as ONNX",
    "replay": "plot the crops of one training step",
    "report": "write the report of a run again",
}

# The others hold tensors, whose memory is not free before cycles with them are found.
_WITHOUT_MODEL = ("index", "pack", "inspect")


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
    # Our own errors cover what iohub warns about.
    iohub = logging.getLogger("iohub")
    level = iohub.level
    iohub.setLevel(logging.ERROR)
    try:
        with quiet_threads():
            return _run(words)
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
    finally:
        iohub.setLevel(level)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else EXIT_USER_ERROR
    command, *options = arguments
    if command in _PROJECT_COMMANDS:
        return _make_project(command, options)
    if command in _FILE_COMMANDS:
        return _write_project_files(command, options)
    if command in _STUDY_COMMANDS:
        from viscy_train.cli.studies import run_study_command

        return run_study_command(options, _sentence(_STUDY_COMMANDS[command]))
    if command in _VIEW_COMMANDS:
        from viscy_train.cli.view import run_view

        return run_view(options, _sentence(_VIEW_COMMANDS[command]))
    if command not in _CONFIG_COMMANDS:
        names = [*_PROJECT_COMMANDS, *_FILE_COMMANDS, *_STUDY_COMMANDS, *_VIEW_COMMANDS, *_CONFIG_COMMANDS]
        raise UserError(f"unknown command {command!r}; choose from {', '.join(names)}")
    if not options:
        raise UserError(f"{command} needs --config FILE; `viscy-train demo` writes an example")
    with rare_collections() if command in _WITHOUT_MODEL else nullcontext():
        return _run_with_config(command, options)


def _run_with_config(command: str, options: list[str]) -> int:
    for path in _config_files(options):
        _check_config_file(path)
    for path in _named_files(options):
        _check_bounds_of(path)
    # Importing Lightning takes seconds, so the mistakes above are reported first.
    _check_that_viscy_data_is_ours()
    from viscy_train.cli import commands, zarr_thread

    run: Callable[[list[str], str], int] = getattr(commands, command)
    try:
        return run(options, _sentence(_CONFIG_COMMANDS[command]))
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


def _make_project(command: str, options: list[str]) -> int:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"viscy-train {command}", exit_on_error=False, description=_sentence(_PROJECT_COMMANDS[command])
    )
    directory = Path("viscy-demo" if command == "demo" else command)
    parser.add_argument("--out", type=Path, default=directory, help="new or empty directory for the project")
    out = parser.parse_args(options).out
    with in_use(out, command):
        if command == "demo":
            from viscy_train.cli.demo import run_demo

            return run_demo(out)
        from viscy_train.sample_projects.hela import write_hela

        write_hela(out)
        return 0


def _write_project_files(command: str, options: list[str]) -> int:
    from viscy_train.cli import project_files, zarr_thread

    run = {"init": project_files.run_init, "import": project_files.run_import}[command]
    try:
        return run(options, _sentence(_FILE_COMMANDS[command]))
    finally:
        zarr_thread.end_at_exit()


def _help() -> str:
    commands = [*_PROJECT_COMMANDS, *_FILE_COMMANDS, *_STUDY_COMMANDS, *_VIEW_COMMANDS, *_CONFIG_COMMANDS]
    width = max(map(len, commands))

    def list_commands(descriptions: dict[str, str]) -> list[str]:
        return [f"  {name:{width}}  {description}" for name, description in descriptions.items()]

    return "\n".join(
        [
            _TITLE,
            "",
            "Create a sample project: viscy-train COMMAND [--out DIRECTORY]",
            "",
            *list_commands(_PROJECT_COMMANDS),
            "",
            "Start a project of your own: viscy-train init PLATE ... [--out DIRECTORY]",
            "                             viscy-train import COLLECTION [--out DIRECTORY]",
            "",
            *list_commands(_FILE_COMMANDS),
            "",
            "Find out when composing batches pays: viscy-train study [--size ci|laptop|gpu] [--out DIRECTORY]",
            "",
            *list_commands(_STUDY_COMMANDS),
            "",
            "Look at a run: viscy-train view RUN [--step K] [--position POSITION] [--color COLUMN]",
            "",
            *list_commands(_VIEW_COMMANDS),
            "",
            "Work on a project: viscy-train COMMAND --config FILE [--key value ...]",
            "",
            *list_commands(_CONFIG_COMMANDS),
            "",
            "Run `viscy-train COMMAND --help` to list the options of a command, and",
            "`viscy-train fit --config FILE --print_config` to print a configuration with all defaults.",
        ]
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _config_files(options: list[str]) -> list[Path]:
    names = [value for option, value in pairwise(options) if option == "--config"]
    names += [option.removeprefix("--config=") for option in options if option.startswith("--config=")]
    return [Path(name) for name in names]


def _check_config_file(path: Path) -> None:
    """Report mistakes that the parser misses, or reports without the file and the line."""
    try:
        require_regular_file(path, "the config file")
        if not path.is_file():
            return  # The parser reports a missing file.
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the config file {str(path)!r}: {error}") from error
    from viscy_train.config.yaml_source import line_of, read_as_text, read_yaml

    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a mapping of keys to values; `viscy-train demo` writes an example")
    for section in _SECTIONS:
        *parents, name = section.split(".")
        part = content
        for key in parents:
            part = part.get(key) if isinstance(part, dict) else None
        if not isinstance(part, dict) or name not in part:
            continue
        value = part[name]
        if not isinstance(value, dict) and not (isinstance(value, str) and (path.parent / value).is_file()):
            got = "null" if value is None else repr(value)
            write = f"; write {name}: {{name: {value}}}" if section in _NAMED and isinstance(value, str) else ""
            where = f"{path}, line {line_of(path, section)}"
            raise UserError(f"{where}: {section} must be a mapping of keys, got {got}{write}")
    _check_names(path, content, read_as_text(path))
    for name in _strings_in(content):
        if name.endswith(_YAML):
            _check_bounds_of(path.parent / name)


def _check_names(path: Path, content: Any, text: Any) -> None:
    """Refuse a name that YAML takes for a number or boolean, which the parser would report with another spelling."""
    from viscy_train.config.yaml_source import line_of

    for key in _NAMES:
        values, spelled = content, text
        for level in key.split("."):
            values, spelled = (part.get(level) if isinstance(part, dict) else None for part in (values, spelled))
        is_one = not isinstance(values, (dict, list)) or not isinstance(spelled, (dict, list))
        pairs = [(values, spelled)] if is_one else zip(values, spelled, strict=False)
        for value, name in pairs:
            if isinstance(value, (bool, int, float)) and isinstance(name, str):
                line = line_of(path, key)
                raise UserError(f"{path}, line {line}: {key} must be text, got {name}; put it in quotes: '{name}'")


def _strings_in(value: Any) -> Iterator[str]:
    """Yield the strings among the values of nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings_in(item)


def _named_files(options: list[str]) -> list[Path]:
    """Return the YAML files that options name."""
    return [Path(name) for option in options if (name := option.rpartition("=")[2]).endswith(_YAML)]


def _check_bounds_of(path: Path) -> None:
    """Refuse a file that the parser would need too much time or memory for; the parser reports all other mistakes."""
    from viscy_train.config.yaml_source import read_yaml

    if path.is_file():
        read_yaml(path)


def _explain(error: Exception, arguments: list[str]) -> str:
    """Return an error message on one line, with the config file and the line; a list of problems stays a list."""
    from viscy_train.config.yaml_source import with_line

    text = str(error)
    if isinstance(error, UserError) and "\n" in text:
        return text
    text = reword(" ".join(text.split()))
    if _NAMES_A_FILE.match(text):
        return text
    for path in reversed(_config_files(arguments)):  # a later file overrides an earlier one
        if path.is_file() and (located := with_line(path, text)) != text:
            return located
    return text
