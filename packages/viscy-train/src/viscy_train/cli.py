"""Command line: `viscy-train demo` and `viscy-train fit`; a user's mistake is one line and exit code 2."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from viscy_train.config import config_of, config_parser
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        Exit code: 0, 2 for a mistake of the user, 1 where a training process failed, 130 after Ctrl-C.
    """
    # Left until here, so that help and most mistakes are answered without loading torch.
    from viscy_train.launch import TrainingFailedError

    try:
        _run(_parse(sys.argv[1:] if arguments is None else list(arguments)))
    except (ArgumentError, UserError) as error:
        return _tell(f"error: {_in_one_line(error)}", EXIT_USER_ERROR)
    except TrainingFailedError as error:
        return _tell(f"failed: {error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return _tell("interrupted", EXIT_INTERRUPTED)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="viscy-train",
        exit_on_error=False,
        description="Contrastive training on OME-Zarr time-lapse data, with batches of a stated composition.",
    )
    commands = parser.add_subcommands(dest="command", required=True)
    demo = ArgumentParser(exit_on_error=False, description="Make three small experiments and train on them.")
    demo.add_argument("--out", type=Path, default=Path("viscy-demo"), help="new folder for data and results")
    commands.add_subcommand("demo", demo, help="make three small experiments and train on them")
    commands.add_subcommand("fit", config_parser(), help="train as a config file says")
    return parser


def _parse(arguments: list[str]) -> Any:
    if arguments == ["fit"]:
        raise UserError("fit needs --config FILE; `viscy-train demo` writes one to start from")
    _check_config_file(arguments)
    return _parser().parse_args(arguments)


def _check_config_file(arguments: list[str]) -> None:
    """Refuse a config file that is empty or no text, which the parser cannot tell with the file's name."""
    named = [later for option, later in pairwise(arguments) if option == "--config"]
    named += [option.removeprefix("--config=") for option in arguments if option.startswith("--config=")]
    for name in named:
        try:
            if not Path(name).is_file():
                continue  # The parser names what is missing, and a pipe can be read only once.
            text = Path(name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{name} must be a YAML file in UTF-8, got other bytes; save it as UTF-8") from error
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the config file {name!r}: {error}") from error
        if not text.strip():
            raise UserError(f"{name} is empty; `viscy-train demo` writes a config file to start from")


def _run(parsed: Any) -> None:
    if parsed.command == "demo":
        from viscy_train.demo import run_demo

        run_demo(parsed.demo.out)
        return
    config = config_of(parsed.fit)
    from viscy_train.run import fit

    folder = fit(config)
    print(f"Done. Open {folder.report}")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _tell(message: str, code: int) -> int:
    print(f"viscy-train: {message}", file=sys.stderr)
    return code
