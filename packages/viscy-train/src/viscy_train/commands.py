"""Commands: what each does with a configuration, from its options to an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from viscy_train.cli import stopped
from viscy_train.stopping import StoppedError
from viscy_train.training_cli import TrainingCLI

if TYPE_CHECKING:
    pass

_CHECKPOINT = {"type": str, "default": None, "help": "checkpoint to go on from; `last` is the run's own, if any"}
_PIXELS = {"type": str, "default": "sample", "choices": ["sample", "all"], "help": "which pixels to check"}


def index(options: list[str], description: str) -> int:
    """Build the anchor table that a configuration names."""
    from viscy_train.index import build_index, describe

    cli = TrainingCLI("index", options, description, {"pixels": _PIXELS})
    data, console = cli.make_data(), Console()
    table = build_index(
        data.experiments, data.positive, data.crop, data.z_slices, pixels=cli.config.pixels, console=console
    )
    table.write(data.path)
    describe(table, console)
    console.print(f"Done. Wrote {data.path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def fit(options: list[str], description: str) -> int:
    """Train, then report."""
    from viscy_train.fit import fit as train

    cli = TrainingCLI("fit", options, description, {"ckpt_path": _CHECKPOINT})
    trainer, model, data = cli.make_all()
    try:
        train(cli, trainer, model, data)
    except StoppedError as error:
        # One process tells; that the others ended in order must not look like a failure of theirs.
        return stopped(error) if trainer.is_global_zero else 0
    return 0
