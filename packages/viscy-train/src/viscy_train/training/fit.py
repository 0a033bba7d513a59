"""Fit: a run from its checks to its report, started anew or gone on with."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from rich.console import Console

from viscy_train.anchors.staleness import check_plates
from viscy_train.composition.targets import planned_composition
from viscy_train.console import make_table
from viscy_train.evaluation.embeddings import look_back
from viscy_train.loading.crops import CropReader
from viscy_train.loading.sampler import go_on_with, make_sampler, warnings_of_sampler
from viscy_train.report.run_page import RunFacts, choose_strips, write_report
from viscy_train.run.attempts import read_lives
from viscy_train.run.batch_record import count_batches
from viscy_train.run.checkpoint import checkpoint_to_go_on_from
from viscy_train.run.directory import require_new

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import Trainer

    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.encoder import Encoder
    from viscy_train.model.module import ContrastiveModule
    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.run.directory import RunFolder
    from viscy_train.training.lightning_cli import TrainingCLI


def fit(cli: TrainingCLI, trainer: Trainer, model: ContrastiveModule, data: PairDataModule) -> None:
    """Train as configured, in this and all other processes of the run.

    Parameters
    ----------
    cli : TrainingCLI
        The configuration.
    trainer, model, data
        Made from it.

    Raises
    ------
    UserError
        If the data do not fit the configuration, or the folder holds something else.
    StoppedError
        If the run was asked to stop.
    """
    console = Console()
    checkpoint = checkpoint_to_go_on_from(cli.folder, cli.config.ckpt_path, model)
    if trainer.is_global_zero:
        _prepare(cli, trainer, data, checkpoint, console)
    untrained = deepcopy(model.encoder)
    path = None if checkpoint is None else checkpoint.path
    trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    if not trainer.is_global_zero:
        return
    if not count_batches(cli.folder.batches):
        console.print("Nothing was trained: all of trainer.max_epochs are behind this checkpoint", highlight=False)
        return
    report(cli.folder, untrained, model.encoder, data, trainer.strategy.root_device, console)


def report(
    folder: RunFolder,
    untrained: Encoder,
    trained: Encoder,
    data: PairDataModule,
    device: torch.device,
    console: Console,
) -> None:
    """Write the report of a run, and say where it is.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    untrained, trained : Encoder
        As the run began and as it ended.
    data : PairDataModule
        What it was trained on.
    device : torch.device
        Where to embed.
    console : rich.console.Console
        Where to.
    """
    console.print("Embedding anchors, writing the report", highlight=False)
    table = data.table
    learned = look_back(untrained.to(device), trained.to(device), table, data.validation_rows, data.seed, console)
    strips = choose_strips(table.cells, learned.rows)
    crops = CropReader(table).read(strips.rows.ravel())
    middle = crops[:, :, crops.shape[2] // 2]
    lives = read_lives(folder)
    facts = RunFacts(
        cells=table.cells,
        trained_on=data.train_rows,
        options=data.options,
        processes=int(lives["processes"].iloc[-1]),
        seed=data.seed,
        seconds=float(lives["seconds"].sum()),
        channels=data.channels,
        strips=strips,
        crops=middle.reshape(*strips.rows.shape, *middle.shape[1:]),
        embedded=learned.rows,
        embeddings=learned.embeddings,
        found=learned.found,
        probes=learned.probes,
    )
    write_report(folder, facts)
    console.print(f"Done. Open {folder.report}", highlight=False, soft_wrap=True, markup=False)


def _prepare(
    cli: TrainingCLI, trainer: Trainer, data: PairDataModule, checkpoint: Checkpoint | None, console: Console
) -> None:
    folder = cli.folder
    # What does not fit is told before a folder is made.
    with warnings_of_sampler() as told:
        sampler = make_sampler(data.train_anchors(), data.options, data.seed, 0, trainer.world_size)
    if checkpoint is not None:
        go_on_with(sampler, checkpoint.data)
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
    planned = planned_composition(anchors, data.options)
    for (experiment, condition), row in zip(planned.index, planned.to_dict("records"), strict=True):
        table.add_row(experiment, condition, f"{row['anchors']:,.0f}", f"{row['of_table']:.1%}", f"{row['asked']:.1%}")
    console.print(table, highlight=False, markup=False)
    for note in [*notes, *data.notes]:
        console.print(f"Note: {note}", highlight=False, soft_wrap=True, markup=False)
