"""Fit: train a run from its checks to its last checkpoint, from the beginning or resumed."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from viscy_train.anchors.fingerprint import check_fingerprint
from viscy_train.anchors.staleness import check_sources
from viscy_train.composition.targets import target_composition
from viscy_train.console import get_console, make_table, say
from viscy_train.loading.sampler import collect_sampler_warnings, make_sampler, restore_sampler
from viscy_train.run.batch_record import count_batches
from viscy_train.run.checkpoint import checkpoint_to_resume
from viscy_train.run.directory import require_new
from viscy_train.training.lightning_warnings import quiet_lightning

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from viscy_data import PlannedComposition
    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.encoder import Encoder
    from viscy_train.model.module import ContrastiveModule
    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.training.lightning_cli import TrainingCLI


def fit(
    cli: TrainingCLI, trainer: Trainer, model: ContrastiveModule, data: PairDataModule
) -> tuple[Encoder, Encoder] | None:
    """Train as configured. Every process of the run calls this.

    Parameters
    ----------
    cli : TrainingCLI
        The configuration.
    trainer, model, data
        Made from the configuration.

    Returns
    -------
    tuple of Encoder, optional
        The encoder before and after training. None on ranks other than 0, and if there was nothing to train.

    Raises
    ------
    UserError
        If the data do not match the configuration, or the run's directory contains something else.
    StoppedError
        If the run was stopped on request.
    """
    checkpoint = checkpoint_to_resume(cli.run_directory, cli.config.ckpt_path, model)
    if trainer.is_global_zero:
        _prepare(cli, trainer, data, checkpoint)
    untrained = deepcopy(model.encoder)
    path = None if checkpoint is None else checkpoint.path
    with quiet_lightning():
        trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    if not trainer.is_global_zero:
        return None
    if not count_batches(cli.run_directory.batches):
        say("Nothing to train: the checkpoint is already at the end of trainer.max_epochs")
        return None
    return untrained, model.encoder


def _prepare(cli: TrainingCLI, trainer: Trainer, data: PairDataModule, checkpoint: Checkpoint | None) -> None:
    """Check everything before the run's directory is created, then create it and show what will be trained."""
    run_directory = cli.run_directory
    with collect_sampler_warnings() as warnings:
        sampler = make_sampler(data.train_anchors(), data.options, data.seed, 0, trainer.world_size)
    if checkpoint is not None:
        check_fingerprint(checkpoint.data, data.table.fingerprint, "the checkpoint")
        restore_sampler(sampler, checkpoint.data)
    check_sources(data.table)
    if cli.config.ckpt_path is None or not run_directory.has_run:
        require_new(
            run_directory.path, "name another directory as `output`, or resume the run in it with --ckpt_path last"
        )
    show_targets(data, sampler.planned(), trainer.world_size, warnings)
    run_directory.write_config(cli.dump())
    run_directory.write_table_fingerprint(data.table.fingerprint)
    if checkpoint is not None:
        say(f"Resuming from {checkpoint.path}")


def show_targets(data: PairDataModule, planned: PlannedComposition, world_size: int, notes: list[str]) -> None:
    """Print the size and the target composition of an epoch.

    Parameters
    ----------
    data : PairDataModule
        The data.
    planned : viscy_data.PlannedComposition
        The sampler's plan.
    world_size : int
        Number of processes that train.
    notes : list of str
        Warnings of the sampler.
    """
    anchors = data.train_anchors()
    processes = f" on {world_size} processes" if world_size > 1 else ""
    say(
        f"{len(anchors):,} anchors for training, {len(data.validation_rows):,} for validation; {planned.n_batches:,} "
        f"batches of {data.options.batch_size} per epoch{processes}. Target composition of an epoch:"
    )
    table = make_table(["experiment", "condition"], ["anchors", "share of table", "target"])
    targets = target_composition(anchors, planned)
    for (experiment, condition), row in zip(targets.index, targets.to_dict("records"), strict=True):
        shares = f"{row['table_share']:.1%}", f"{row['target']:.1%}"
        table.add_row(experiment, condition, f"{row['anchors']:,.0f}", *shares)
    get_console().print(table)
    for note in [*notes, *data.split_warnings]:
        say(f"Note: {note}")
