"""Commands: what each does with a configuration, from its options to an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt
from rich.console import Console

from viscy_train.atomic import atomic_write
from viscy_train.errors import UserError
from viscy_train.exit_codes import stopped
from viscy_train.training.lightning_cli import TrainingCLI
from viscy_train.training.lightning_warnings import quiet_lightning
from viscy_train.training.stopping import StoppedError

_CHECKPOINT = {"type": str, "default": None, "help": "checkpoint to go on from; `last` is the run's own, if any"}
_MEASURED = {"type": str, "default": "last", "help": "checkpoint; by default the run's last"}
_EMBEDDINGS = {"type": str, "default": None, "help": "file to write; by default embeddings.h5ad in the run's folder"}
_PROCESSES = {"type": PositiveInt, "default": 1, "help": "processes that will train, for the number of steps"}
_EPOCHS = {"type": PositiveInt, "default": 1, "help": "epochs to draw"}
_PAGE = {"type": str, "default": "inspect.html", "help": "page to write"}
_STEP = {"type": int, "required": True, "help": "step, as in the log"}
_RANK = {"type": int, "default": 0, "help": "process whose batch it was"}
_PICTURE = {"type": str, "default": None, "help": "picture to write; by default step-<step>.png in the run's folder"}
_PIXELS = {"type": str, "default": "sample", "choices": ["sample", "all"], "help": "which pixels to check"}


def index(options: list[str], description: str) -> int:
    """Build the anchor table that a configuration names."""
    from viscy_train.anchors.build import build_anchor_table
    from viscy_train.anchors.summary import print_summary

    cli = TrainingCLI("index", options, description, {"pixels": _PIXELS})
    data, console = cli.make_data(), Console()
    table = build_anchor_table(
        data.experiments, data.positive, data.crop, data.z_slices, pixels=cli.config.pixels, console=console
    )
    table.write(data.path)
    print_summary(table, console)
    console.print(f"Done. Wrote {data.path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def fit(options: list[str], description: str) -> int:
    """Train, then report."""
    from viscy_train.report.write import evaluate_and_write_page
    from viscy_train.training.fit import fit as train

    cli = TrainingCLI("fit", options, description, {"ckpt_path": _CHECKPOINT})
    trainer, model, data = cli.make_all()
    try:
        encoders = train(cli, trainer, model, data)
    except StoppedError as error:
        # One process tells; that the others ended in order must not look like a failure of theirs.
        return stopped(error) if trainer.is_global_zero else 0
    if encoders is not None:
        evaluate_and_write_page(cli.run_directory, *encoders, data, trainer.strategy.root_device)
    return 0


def inspect(options: list[str], description: str) -> int:
    """Draw the batches of an epoch without training, and say what they hold."""
    from viscy_train.anchors.staleness import check_sources
    from viscy_train.composition.dry_run import dry_run
    from viscy_train.report.dry_run_page import write_dry_run_page
    from viscy_train.report.dry_run_summary import print_dry_run

    cli = TrainingCLI("inspect", options, description, {"processes": _PROCESSES, "epochs": _EPOCHS, "page": _PAGE})
    data, console = cli.make_data(), Console()
    check_sources(data.table)
    result = dry_run(
        data.train_anchors(),
        data.options,
        seed=data.seed,
        world_size=cli.config.processes,
        epochs=cli.config.epochs,
    )
    print_dry_run(result)
    page = Path(cli.config.page)
    write_dry_run_page(page, result)
    console.print(f"Done. Open {page}", highlight=False, soft_wrap=True, markup=False)
    return 0


def validate(options: list[str], description: str) -> int:
    """Measure a checkpoint on what is kept for validation."""
    from viscy_train.run.checkpoint import checkpoint_to_evaluate

    cli = TrainingCLI("validate", options, description, {"ckpt_path": _MEASURED})
    trainer, model, data = cli.make_all(training=False)
    if not len(data.validation_rows):
        raise UserError("data.split must keep anchors for validation, it keeps none; see `data.split.by`")
    checkpoint = checkpoint_to_evaluate(cli.run_directory, cli.config.ckpt_path, model).path
    with quiet_lightning():
        found = trainer.validate(model, datamodule=data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        for name, value in found[0].items():
            Console().print(f"{name}  {value:.4f}", highlight=False)
    return 0


def predict(options: list[str], description: str) -> int:
    """Write the embedding of every cell."""
    from viscy_train.evaluation.predict import gather_predictions, write_embeddings
    from viscy_train.run.checkpoint import checkpoint_to_evaluate

    cli = TrainingCLI("predict", options, description, {"ckpt_path": _MEASURED, "embeddings": _EMBEDDINGS})
    trainer, model, data = cli.make_all(training=False)
    checkpoint = checkpoint_to_evaluate(cli.run_directory, cli.config.ckpt_path, model).path
    with quiet_lightning():
        predicted: Any = trainer.predict(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        found = gather_predictions(predicted or [], trainer, cli.run_directory.path)
    if found is not None:
        path = Path(cli.config.embeddings or cli.run_directory.embeddings)
        write_embeddings(path, found, data.table, {"checkpoint": str(checkpoint), "config": cli.dump()})
        Console().print(f"Done. Wrote {path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def replay(options: list[str], description: str) -> int:
    """Draw the crops of one step of a run."""
    from viscy_train.loading.batches import Batch
    from viscy_train.report.replay_plot import plot_replay
    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.run.recorded_batch import batch_of_step

    cli = TrainingCLI("replay", options, description, {"step": _STEP, "rank": _RANK, "picture": _PICTURE})
    cli.require_config_of_run()
    data = cli.make_data()
    recorded = batch_of_step(cli.run_directory, cli.config.step, cli.config.rank)
    data.setup("fit")
    if cli.run_directory.last_checkpoint.exists():
        data.load_state_dict(Checkpoint.read(cli.run_directory.last_checkpoint).data)  # refuses that of another table
    pairs = data.load_pairs(Batch(rows=recorded.rows, epoch=recorded.epoch, index=recorded.number))
    title = f"Step {recorded.step} of process {recorded.rank}: batch {recorded.number} of epoch {recorded.epoch + 1}"
    figure = plot_replay(pairs, data.augment(pairs), data.table.observations, data.channels, title)
    path = Path(cli.config.picture or cli.run_directory.path / f"step-{recorded.step}.png")
    with atomic_write(path) as unfinished:
        try:
            figure.savefig(unfinished, format=path.suffix.removeprefix(".") or "png")
        except ValueError as error:
            raise UserError(f"the picture must have the ending of one, got {path}: {error}") from error
    Console().print(f"Done. Open {path}", highlight=False, soft_wrap=True, markup=False)
    return 0


def report(options: list[str], description: str) -> int:
    """Write the report of a run anew, from its last checkpoint."""
    from copy import deepcopy

    from viscy_train.report.write import evaluate_and_write_page
    from viscy_train.run.checkpoint import checkpoint_to_evaluate

    cli = TrainingCLI("report", options, description)
    cli.require_config_of_run()
    trainer, model, data = cli.make_all(training=False)
    untrained = deepcopy(model.encoder)
    checkpoint = checkpoint_to_evaluate(cli.run_directory, "last", model)
    data.setup("fit")
    data.load_state_dict(checkpoint.data)  # refuses that of another table
    model.load_state_dict(checkpoint.weights)
    evaluate_and_write_page(cli.run_directory, untrained, model.encoder, data, trainer.strategy.root_device)
    return 0
