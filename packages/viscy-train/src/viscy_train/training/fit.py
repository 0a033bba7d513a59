"""Fit: train a run from its checks to its last checkpoint, from the beginning or resumed."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import yaml

from viscy_train.anchors.fingerprint import check_fingerprint
from viscy_train.anchors.staleness import check_sources
from viscy_train.composition.step import (
    StepSettings,
    describe_step,
    warn_of_missing_negatives,
    warn_of_missing_positives,
)
from viscy_train.composition.step_plan import plan_step
from viscy_train.composition.targets import target_composition
from viscy_train.config.yaml_source import read_yaml
from viscy_train.console import MAX_ROWS, make_table, note, say, say_sentences
from viscy_train.errors import UserError
from viscy_train.evaluation.probes import columns_to_probe
from viscy_train.evaluation.projection import check_projection
from viscy_train.loading.axes import axis_names, check_axes, label_plan
from viscy_train.loading.sampler import collect_sampler_warnings, restore_sampler
from viscy_train.positives.rule import check_labels
from viscy_train.run.attempts import read_attempts
from viscy_train.run.checkpoint import checkpoint_to_resume
from viscy_train.run.directory import RunDirectory, require_new
from viscy_train.run.provenance import record_attempt
from viscy_train.training.changes import list_changes
from viscy_train.training.initial_weights import load_initial_weights
from viscy_train.training.lightning_warnings import quiet_lightning
from viscy_train.training.rank_watch import RankWatch
from viscy_train.training.refusals import check_limits, explained_refusals
from viscy_train.wording import count

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from viscy_data import ComposedBatches, PlannedComposition
    from viscy_train.config.schema import LossConfig
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
    start = _load_initial_weights(model, data) if checkpoint is None else []
    with collect_sampler_warnings() as warnings:
        sampler = data.make_sampler(0, trainer.world_size)
    changes = _check(cli, trainer, data, sampler, checkpoint)
    if checkpoint is not None and (reached := _limit_reached(cli, checkpoint)):
        return _end_at_once(cli, trainer, model, data, checkpoint, reached)
    if trainer.is_global_zero:
        _create_directory(cli)
        show_targets(data, sampler.planned(), trainer.world_size, cli.make_loss_config(), warnings)
        _begin(cli, data, checkpoint, changes)
        _say_start(model, checkpoint, start)
    untrained = untrained_encoder(model) if trainer.is_global_zero else None
    path = None if checkpoint is None else checkpoint.path
    for callback in trainer.callbacks:  # ty: ignore[missing-attribute]
        if isinstance(callback, RankWatch):
            callback.wait_for_start(trainer)
    with quiet_lightning(), explained_refusals():
        trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    return None if untrained is None else (untrained, model.encoder)


def untrained_encoder(model: ContrastiveModule) -> Encoder:
    """Return a copy of an encoder that has not been trained, with the weights that the run started from.

    A resumed run needs them for its report only, so it is a note if they cannot be read.
    """
    untrained = deepcopy(model.encoder)
    if model.init_from is not None:
        try:
            load_initial_weights(model.init_from, untrained)
        except UserError as error:
            note(f"the report compares the trained encoder with random weights, because {error}")
    return untrained


def _load_initial_weights(model: ContrastiveModule, data: PairDataModule) -> list[str]:
    """Load the weights that a new run starts from, on every process, and return what was loaded."""
    return [] if model.init_from is None else load_initial_weights(model.init_from, model.encoder, data.encoder_input)


def _say_start(model: ContrastiveModule, checkpoint: Checkpoint | None, start: list[str]) -> None:
    """Say which weights the run starts from, if the configuration names some."""
    say_sentences(start)
    if model.init_from is not None and checkpoint is not None:
        say(f"The weights are those of the checkpoint; model.init_from {model.init_from} has no effect")


def _end_at_once(
    cli: TrainingCLI,
    trainer: Trainer,
    model: ContrastiveModule,
    data: PairDataModule,
    checkpoint: Checkpoint,
    reached: str,
) -> tuple[Encoder, Encoder] | None:
    """Say that there is nothing to train, and load the run's own checkpoint, so that its report is written again."""
    if not trainer.is_global_zero:
        return None
    say(f"Nothing to train: the checkpoint has reached {reached}; raise it to train for longer")
    if checkpoint.path.parent != cli.run_directory.checkpoints:
        return None
    untrained = untrained_encoder(model)
    data.setup("fit")
    model.load_state_dict(checkpoint.weights)
    return untrained, model.encoder


def _limit_reached(cli: TrainingCLI, checkpoint: Checkpoint) -> str | None:
    """Return the limit of the trainer that a checkpoint has reached, so that there is nothing to train."""
    options, epoch, step = cli.config.trainer, checkpoint.data["epoch"], checkpoint.content["global_step"]
    for name, limit, reached in (("max_epochs", options.max_epochs, epoch), ("max_steps", options.max_steps, step)):
        if limit is not None and 0 <= limit <= reached:
            return f"trainer.{name} {limit}"
    return None


def _check(
    cli: TrainingCLI,
    trainer: Trainer,
    data: PairDataModule,
    sampler: ComposedBatches,
    checkpoint: Checkpoint | None,
) -> list[str]:
    """Check everything before the run's directory is created, and return the settings that were changed.

    Every process does so: one that waited for others would not end if they refuse to train.
    """
    if checkpoint is not None:
        check_fingerprint(checkpoint.data, data.table.fingerprint, "the checkpoint")
        restore_sampler(sampler, checkpoint.data)
    positives = cli.make_loss_config().positives
    check_labels(data.table.observations, data.positive, positives, data.options.condition_by)
    check_axes(data.axes_of_train_anchors(), data.options, positives=positives)
    check_sources(data.table)
    columns_to_probe(data.table.observations, data.table.extra_columns, cli.config.evaluation.probe)
    check_projection(cli.config.evaluation.projection)
    check_limits(trainer, len(sampler), data.count_validation_batches(trainer.world_size))
    if checkpoint is None:
        return []
    changes = list_changes(_config_of(checkpoint), yaml.safe_load(cli.dump()))
    sizes = _describe_size(checkpoint, trainer, split_batches=data.options.split_batches)
    return [*sizes, *changes]


def _create_directory(cli: TrainingCLI) -> None:
    """Create the run's directory, unless a run in it is resumed."""
    run_directory = cli.run_directory
    if cli.config.ckpt_path is None or not run_directory.has_run:
        if run_directory.remove_unsaved():
            say(f"Replacing the run in {run_directory.path}, which ended before it saved a checkpoint")
        require_new(
            run_directory.path, "name another directory with --out, or resume the run in it with --checkpoint last"
        )


def _begin(cli: TrainingCLI, data: PairDataModule, checkpoint: Checkpoint | None, changes: list[str]) -> None:
    """Record the configuration of this attempt, and print what has changed since the one before."""
    run_directory = cli.run_directory
    attempt = len(read_attempts(run_directory)) + 1
    run_directory.write_config(cli.dump(), attempt=attempt)
    record_attempt(run_directory, attempt)
    run_directory.write_table_fingerprint(data.table.fingerprint)
    if checkpoint is not None:
        say(f"Resuming from {checkpoint.path}")
        for line in changes:
            say(f"Changed: {line}")


def _config_of(checkpoint: Checkpoint) -> Any:
    """Return the configuration of the run that saved a checkpoint, or None if its directory does not contain one."""
    path = RunDirectory(checkpoint.path.absolute().parent.parent).config
    return read_yaml(path) if path.is_file() else None


def _describe_size(checkpoint: Checkpoint, trainer: Any, *, split_batches: bool) -> list[str]:
    """Return a sentence if the epochs of a limited run have another size on the present number of processes."""
    span, limit = checkpoint.data.get("span"), trainer.limit_train_batches
    num_replicas = 1 if split_batches else trainer.world_size
    if span is None or span["num_replicas"] == num_replicas or not isinstance(limit, int):
        return []
    name = "overfit_batches" if trainer.overfit_batches else "limit_train_batches"
    whose = "that all processes share" if split_batches else f"of each of {num_replicas} processes"
    former = f"of each of {span['num_replicas']}" if split_batches else span["num_replicas"]
    return [
        f"trainer.{name} {limit} counts batches {whose} (was {former}); an epoch in progress ends where "
        "it would have ended"
    ]


def show_targets(
    data: PairDataModule, planned: PlannedComposition, world_size: int, loss: LossConfig, notes: list[str]
) -> None:
    """Print the size and the target composition of an epoch, and what the loss compares an anchor with.

    Parameters
    ----------
    data : PairDataModule
        The data.
    planned : viscy_data.PlannedComposition
        The sampler's plan.
    world_size : int
        Number of processes that train.
    loss : LossConfig
        The loss.
    notes : list of str
        Warnings of the sampler.
    """
    anchors, planned = data.labels_of_train_anchors(), label_plan(planned)
    processes = f" on {world_size} processes" if world_size > 1 else ""
    say(
        f"{count(len(anchors), 'anchor')} for training, {len(data.validation_rows):,} for validation; "
        f"{count(planned.n_batches, 'batch')} of {data.options.batch_size} per epoch{processes}. Target composition of "
        "an epoch:"
    )
    table = make_table(axis_names(data.options), ["anchors", "share of table", "target"])
    targets = target_composition(anchors, planned)
    for (experiment, condition), row in zip(targets.index[:MAX_ROWS], targets.to_dict("records"), strict=False):
        shares = f"{row['table_share']:.1%}", f"{row['target']:.1%}"
        table.add_row(experiment, condition, f"{row['anchors']:,.0f}", *shares)
    if (n_more := len(targets) - MAX_ROWS) > 0:
        table.add_row(f"and {n_more:,} more")
    say(table)
    settings = StepSettings.from_config(loss, split_batches=data.options.split_batches, world_size=world_size)
    step = plan_step(anchors, planned, settings)
    for sentence in describe_step(step):
        say(sentence)
    missing = [*warn_of_missing_positives(step, planned), *warn_of_missing_negatives(step, planned)]
    say_sentences(data.describe_positives(loss))
    for sentence in [*notes, *missing, *data.split_warnings(world_size)]:
        note(sentence)
