"""Fit: a run from its checks to its report, started anew or gone on with."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from rich.console import Console

from viscy_train.anchors.staleness import check_plates
from viscy_train.composition.targets import target_composition
from viscy_train.console import make_table
from viscy_train.loading.sampler import collect_sampler_warnings, make_sampler, restore_sampler
from viscy_train.run.batch_record import count_batches
from viscy_train.run.checkpoint import checkpoint_to_resume
from viscy_train.run.directory import require_new

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.encoder import Encoder
    from viscy_train.model.module import ContrastiveModule
    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.training.lightning_cli import TrainingCLI


def fit(
    cli: TrainingCLI, trainer: Trainer, model: ContrastiveModule, data: PairDataModule
) -> tuple[Encoder, Encoder] | None:
    """Train as configured, in this and all other processes of the run.

    Parameters
    ----------
    cli : TrainingCLI
        The configuration.
    trainer, model, data
        Made from it.

    Returns
    -------
    tuple of Encoder, optional
        The encoder as it was before training and as it is now; None on other ranks than 0, and where nothing was
        trained.

    Raises
    ------
    UserError
        If the data do not fit the configuration, or the folder holds something else.
    StoppedError
        If the run was asked to stop.
    """
    console = Console()
    checkpoint = checkpoint_to_resume(cli.folder, cli.config.ckpt_path, model)
    if trainer.is_global_zero:
        _prepare(cli, trainer, data, checkpoint, console)
    untrained = deepcopy(model.encoder)
    path = None if checkpoint is None else checkpoint.path
    trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    if not trainer.is_global_zero:
        return None
    if not count_batches(cli.folder.batches):
        console.print("Nothing was trained: all of trainer.max_epochs are behind this checkpoint", highlight=False)
        return None
    return untrained, model.encoder


def _prepare(
    cli: TrainingCLI, trainer: Trainer, data: PairDataModule, checkpoint: Checkpoint | None, console: Console
) -> None:
    folder = cli.folder
    # What does not fit is told before a folder is made.
    with collect_sampler_warnings() as told:
        sampler = make_sampler(data.train_anchors(), data.options, data.seed, 0, trainer.world_size)
    if checkpoint is not None:
        restore_sampler(sampler, checkpoint.data)
    check_plates(data.table)
    if cli.config.ckpt_path is None or not folder.config.exists():
        require_new(folder.path, "name another folder as `output`, or go on with its run by --ckpt_path last")
    show_plan(data, trainer.world_size, told, console)
    folder.write_config(cli.dump())
    if checkpoint is not None:
        console.print(f"Going on from {checkpoint.path}", highlight=False, soft_wrap=True, markup=False)


def show_plan(data: PairDataModule, world_size: int, notes: list[str], console: Console) -> None:
    """Show what an epoch is to hold, and what there is to say to it.

    Parameters
    ----------
    data : PairDataModule
        The data.
    world_size : int
        Processes that train.
    notes : list of str
        Sentences of the sampler.
    console : rich.console.Console
        Where to.
    """
    anchors = data.train_anchors()
    processes = f" on {world_size} processes" if world_size > 1 else ""
    console.print(
        f"{len(anchors):,} anchors, {data.n_batches:,} batches of {data.options.batch_size} in an epoch{processes}, "
        f"{len(data.validation_rows):,} anchors kept for validation; what the batches are to hold:",
        highlight=False,
        soft_wrap=True,
    )
    table = make_table(["experiment", "condition"], ["anchors", "of the table", "asked for"])
    planned = target_composition(anchors, data.options)
    for (experiment, condition), row in zip(planned.index, planned.to_dict("records"), strict=True):
        table.add_row(experiment, condition, f"{row['anchors']:,.0f}", f"{row['of_table']:.1%}", f"{row['asked']:.1%}")
    console.print(table, highlight=False, markup=False)
    for note in [*notes, *data.notes]:
        console.print(f"Note: {note}", highlight=False, soft_wrap=True, markup=False)
