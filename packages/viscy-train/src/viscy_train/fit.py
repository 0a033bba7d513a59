"""Fit: a run from its checks to its report, started anew or gone on with."""

from __future__ import annotations

import time
import warnings
import zipfile
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from viscy_train.composition import make_sampler, planned_composition
from viscy_train.crops import CropReader
from viscy_train.embeddings import look_back
from viscy_train.errors import UserError
from viscy_train.folder import require_new
from viscy_train.lives import read_lives
from viscy_train.report import RunFacts, choose_strips, write_report
from viscy_train.table_checks import check_plates
from viscy_train.terminal import make_table

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from viscy_train.data_module import PairDataModule
    from viscy_train.encoder import Encoder
    from viscy_train.folder import RunFolder
    from viscy_train.module import ContrastiveModule
    from viscy_train.training_cli import TrainingCLI


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
    checkpoint = checkpoint_to_go_on_from(cli.folder, cli.config.ckpt_path)
    if trainer.is_global_zero:
        _prepare(cli, trainer, data, checkpoint, Console())
    untrained = deepcopy(model.encoder)
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if trainer.is_global_zero:
        report(cli.folder, untrained, model.encoder, data, trainer.current_epoch, Console())


def report(
    folder: RunFolder, untrained: Encoder, trained: Encoder, data: PairDataModule, epochs: int, console: Console
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
    epochs : int
        Epochs that were trained.
    console : rich.console.Console
        Where to.
    """
    console.print("Embedding anchors, writing the report", highlight=False)
    table = data.table
    device = next(trained.parameters()).device
    learned = look_back(untrained.to(device), trained, table, data.validation_rows, data.seed, console)
    strips = choose_strips(table.cells, learned.rows)
    crops = CropReader(table).read(strips.rows.ravel())
    middle = crops[:, :, crops.shape[2] // 2]
    lives = read_lives(folder)
    facts = RunFacts(
        cells=table.cells,
        trained_on=data.train_rows,
        options=data.options,
        epochs=epochs,
        processes=int(lives["processes"].iloc[-1]),
        seed=data.seed,
        seconds=time.time() - datetime.fromisoformat(lives["started"].iloc[-1]).timestamp(),
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


def checkpoint_to_go_on_from(folder: RunFolder, asked: str | None) -> Path | None:
    """Return the checkpoint that is asked for.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    asked : str, optional
        A path, or ``last`` for the run's own last one, which may not be there yet.

    Returns
    -------
    pathlib.Path, optional
        None to start anew.

    Raises
    ------
    UserError
        If it is not there or damaged.
    """
    if asked is None:
        return None
    path = folder.last_checkpoint if asked == "last" else Path(asked)
    if asked == "last" and not path.exists():
        return None
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is no checkpoint, or a damaged one; name another with --ckpt_path")
    return path


def checkpoint_to_measure(folder: RunFolder, asked: str) -> Path:
    """Return the checkpoint that is asked for; unlike one to go on from, it must be there.

    Raises
    ------
    UserError
        If it is not, or is damaged.
    """
    path = checkpoint_to_go_on_from(folder, asked)
    if path is None:
        raise UserError(f"there is no checkpoint {folder.last_checkpoint}; train first, or name one with --ckpt_path")
    return path


def _prepare(
    cli: TrainingCLI, trainer: Trainer, data: PairDataModule, checkpoint: Path | None, console: Console
) -> None:
    folder = cli.folder
    # What does not fit is told before a folder is made.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # told with the plan
        make_sampler(data.train_anchors(), data.options, data.seed, 0, trainer.world_size)
    check_plates(data.table)
    if cli.config.ckpt_path is None or not folder.config.exists():
        require_new(folder.path, "name another folder as `output`, or go on with its run by --ckpt_path last")
    show_plan(data, trainer.world_size, console)
    folder.write_config(cli.dump())
    if checkpoint is not None:
        console.print(f"Going on from {checkpoint}", highlight=False, soft_wrap=True, markup=False)


def show_plan(data: PairDataModule, world_size: int, console: Console) -> None:
    """Show what an epoch is to hold, and what the sampler has to say to it.

    Parameters
    ----------
    data : PairDataModule
        The data.
    world_size : int
        Processes that train.
    console : rich.console.Console
        Where to.
    """
    anchors = data.train_anchors()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_sampler(anchors, data.options, data.seed, 0, world_size)
    console.print(
        f"{len(anchors):,} anchors, {data.n_batches:,} batches of {data.options.batch_size} in an epoch"
        f"{f' on {world_size} processes' if world_size > 1 else ''}, {len(data.validation_rows):,} anchors kept for "
        "validation; what the batches are to hold:",
        highlight=False,
        soft_wrap=True,
    )
    table = make_table(["experiment", "condition"], ["anchors", "of the table", "asked for"])
    planned = planned_composition(anchors, data.options)
    for (experiment, condition), row in zip(planned.index, planned.to_dict("records"), strict=True):
        table.add_row(experiment, condition, f"{row['anchors']:.0f}", f"{row['of_table']:.1%}", f"{row['asked']:.1%}")
    console.print(table, highlight=False, markup=False)
    for warning in told:
        console.print(f"Note: {warning.message}", highlight=False, soft_wrap=True, markup=False)
