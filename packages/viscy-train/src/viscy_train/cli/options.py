"""Options: those that single commands have in addition to the keys of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viscy_train.cli.option import Option
from viscy_train.study.sizes import SIZES

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_SEEDS, DEFAULT_STEPS = 3, 300
"""Of a comparison: number of runs of each composition and fold, and steps of each run without trainer.max_steps."""
FURTHER = "further"
"""Value of ``--arms`` for the compositions that come with the package."""
# Names that the parser has for options.
CKPT_PATH, OUTPUT, ANCHORS = "ckpt_path", "output", "data.anchors"
_KEYS = (OUTPUT, ANCHORS)  # are in the configuration

_RESUMED = Option(
    value="last|PATH",
    parsed_as=CKPT_PATH,
    help="checkpoint to resume from; `last` is that of the run, or starts a new run if it has none",
)
_HEADROOM = Option(
    kind="count",
    help="do not train, but measure on so many batches what faster loading could gain at most; limits such as "
    "trainer.max_steps do not apply",
)
_EVALUATED = Option(
    default="last",
    value="best|last|PATH",
    parsed_as=CKPT_PATH,
    help="checkpoint to load, also called --ckpt_path; `best` is the one with the lowest val/loss",
)
_RUN = Option(value="DIRECTORY", parsed_as=OUTPUT, help="directory of the run, new or empty, by default the key output")
_TABLE = Option(value="FILE", parsed_as=ANCHORS, help="anchor table to write, by default the key data.anchors")
_EMBEDDINGS = Option(
    value="FILE",
    help="file to write, by default embeddings.h5ad in the run's directory; a zarr store if the name ends in .zarr",
)
_EXPORT = Option(value="DIRECTORY", help="directory to write to, by default `export` in the run's directory")
_ONNX = Option(kind="flag", help="also write encoder.onnx, checked against torch; needs viscy-train[onnx]")
_RANKS = Option(kind="count", default=1, help="number of training processes, for the number of steps")
_EPOCHS = Option(kind="count", default=1, help="number of epochs to draw")
_PAGE = Option(value="FILE", help="page to write, by default inspect.html next to the run's directory")
_CROPS = Option(
    kind="count",
    help="also read so many crops, of each experiment as many, and say how much the experiments mix in their pixels "
    "before any training, such as 600; by default, no pixels are looked at for this",
)
_STEP = Option(kind="integer", required=True, help="training step, as in the log")
_RANK = Option(kind="integer", default=0, help="rank of the process whose batch to plot")
_STORE = Option(
    value="DIRECTORY", help="directory to write, by default data.store, or crops.zarr next to the anchor table"
)
_READERS = Option(kind="count", default=1, help="number of processes of this machine that read plates")
_PART = Option(
    value="K/N",
    help="part to read, such as 2/8 for the second of 8 parts that 8 tasks of a cluster read at the same time",
)
_PICTURE = Option(value="FILE", help="image file to write, by default step-<step>.png in the run's directory")
_CONTRAST = Option(
    default="pair",
    choices=("pair", "experiment"),
    help="what has one display range per channel: each pair, or all pairs of an experiment",
)
_PIXELS = Option(
    default="sample",
    choices=("sample", "all"),
    help="check the pixels of a sample of frames, or of all frames, which also excludes cells with invalid pixels",
)
_SHEET = Option(
    default="write",
    choices=("write", "none"),
    help="draw a contact sheet next to the anchor table: crops, fields of view, intensities and cells over time",
)
_ARMS = Option(
    value="FILE",
    help=f"YAML file with further compositions to compare, or `{FURTHER}` for those that come with the package",
)
_WORKERS = Option(kind="count", help="number of processes, by default one for each processor; not used with a GPU")


def _new_directory(name: str) -> Option:
    return Option(kind="path", default=name, value="DIRECTORY", help="new or empty directory for the project")


_FILES = Option(kind="path", default=".", value="DIRECTORY", help="directory to write to; nothing in it is replaced")
_SIZES = "; ".join(f"{name}: {size.about}" for name, size in SIZES.items())

OPTIONS: dict[str, dict[str, Option]] = {
    "demo": {"out": _new_directory("viscy-demo")},
    "hela": {"out": _new_directory("hela")},
    "init": {"out": _FILES},
    "import": {"out": _FILES},
    "study": {
        "size": Option(choices=tuple(SIZES), default="laptop", help=f"how much to run; {_SIZES}"),
        "out": Option(kind="path", default="study", value="DIRECTORY", help="directory to write, or to continue"),
        "seeds": Option(kind="count", help="number of seeds of each world"),
        "arms": _ARMS,
        "processes": _WORKERS,
    },
    "view": {
        "step": Option(kind="integer", help="training step whose batch to show, as in the log"),
        "rank": Option(kind="integer", default=0, help="rank of the process whose batch to show"),
        "experiment": Option(value="NAME", help="experiment to show, by default that with the most of it"),
        "position": Option(value="POSITION", help="position to show, such as A/1/0"),
        "color": Option(
            value="COLUMN",
            help="what colors the tracks: a column of the anchor table, or `embedding PC1` to `PC8` after predict; by "
            "default the condition",
        ),
    },
    "index": {"out": _TABLE, "pixels": _PIXELS, "processes": _READERS, "part": _PART, "sheet": _SHEET},
    "pack": {"out": _STORE, "processes": _READERS, "part": _PART},
    "inspect": {"processes": _RANKS, "epochs": _EPOCHS, "crops": _CROPS, "out": _PAGE},
    "compare": {
        "hold-out": Option(
            choices=("experiment", "position"),
            default="experiment",
            help="what encoders are not trained on, but measured on",
        ),
        "seeds": Option(kind="count", default=DEFAULT_SEEDS, help="number of runs of each composition and fold"),
        "steps": Option(
            kind="count", help=f"training steps of each run, by default trainer.max_steps or {DEFAULT_STEPS}"
        ),
        "arms": _ARMS,
        "out": Option(value="DIRECTORY", help="directory to write, by default `compare` next to that of the run"),
        "processes": _WORKERS,
    },
    "fit": {"checkpoint": _RESUMED, "out": _RUN, "headroom": _HEADROOM},
    "validate": {"checkpoint": _EVALUATED},
    "predict": {"checkpoint": _EVALUATED, "out": _EMBEDDINGS},
    "export": {"checkpoint": _EVALUATED, "out": _EXPORT, "onnx": _ONNX},
    "replay": {"step": _STEP, "rank": _RANK, "out": _PICTURE, "contrast": _CONTRAST},
    "report": {},
}
"""Options of each command by name."""

ARGUMENTS: dict[str, dict[str, Option]] = {
    "init": {
        "plates": Option(
            kind="path",
            value="PLATE",
            nargs="+",
            help="HCS plate, OME-Zarr image, or folder of OME-Zarr images",
        )
    },
    "import": {"collection": Option(kind="path", value="COLLECTION", help="collection of VisCy, a YAML file")},
    "view": {"run": Option(kind="path", value="RUN", help="directory of a run")},
}
"""Arguments without a name in front of them, of each command that has some."""


def keywords_of(command: str) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments of ``add_argument`` by name, for the options that are not in a configuration."""
    named = {option.parsed_as or name: option for name, option in OPTIONS[command].items()}
    return {name: option.keywords() for name, option in named.items() if name not in _KEYS}


def make_parser(command: str, description: str) -> Any:
    """Return the parser of a command without a configuration."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"viscy-train {command}", exit_on_error=False, description=description)
    arguments: Mapping[str, Option] = ARGUMENTS.get(command, {})
    for name, option in arguments.items():
        words: dict[str, Any] = {"type": option.keywords()["type"], "metavar": option.value, "help": option.help}
        parser.add_argument(name, **words, **({"nargs": option.nargs} if option.nargs else {}))
    for name, option in OPTIONS[command].items():
        parser.add_argument(f"--{name}", **option.keywords())
    return parser
