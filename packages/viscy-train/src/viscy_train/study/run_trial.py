"""Run trial: train an encoder on a case with an arm and a seed, or take a reference, and measure its embeddings."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from viscy_train.composition.dry_run import dry_run
from viscy_train.config.schema import EncoderConfig, OptimizerConfig
from viscy_train.errors import UserError
from viscy_train.loading.axes import check_axes
from viscy_train.loading.sampler import collect_sampler_warnings
from viscy_train.model.module import ContrastiveModule
from viscy_train.positives.rule import check_labels
from viscy_train.study.arms import PIXELS, UNTRAINED, Arm
from viscy_train.study.measures import measure
from viscy_train.study.pixels import principal_components
from viscy_train.study.trial import Result
from viscy_train.training.data_cli import make_loss_config
from viscy_train.training.initial_weights import load_initial_weights
from viscy_train.training.lightning_warnings import quiet_lightning
from viscy_train.training.refusals import check_limits, explained_refusals

if TYPE_CHECKING:
    from collections.abc import Generator

    from jsonargparse import Namespace
    from numpy.typing import NDArray
    from torch import Tensor

    from viscy_train.model.encoder import Encoder
    from viscy_train.study.cases import Case
    from viscy_train.study.joined_batches import StudyPairs
    from viscy_train.study.opened_case import OpenedCase

_CROPS_PER_BATCH = 256
_EXAMINED_BATCHES = 20
# Options of the trainer of a project that decide what is learned.
_TRAINER_OPTIONS = ("precision", "gradient_clip_val", "accumulate_grad_batches")


def run_trial(opened: OpenedCase, arm: Arm | str, seed: int, n_steps: int, accelerator: str = "cpu") -> Result:
    """Run a trial.

    Parameters
    ----------
    opened : OpenedCase
        The case.
    arm : Arm or str
        The arm, or the name of a reference.
    seed : int
        Seed of the initial weights, which are those of all arms, and of the batches.
    n_steps : int
        Number of steps of the optimizer.
    accelerator : str, default "cpu"
        Where to train, as Lightning names it.

    Returns
    -------
    Result
        The same for the same arguments, on one machine and with one thread.

    Raises
    ------
    UserError
        If the arm does not fit the case.
    """
    composition: list[dict[str, Any]] = []
    if isinstance(arm, Arm):
        with _naming(arm, opened.case):
            data, config = opened.data(arm, seed)
            composition = _examine(data, config, seed)
            encoder = train(data, config, seed, n_steps, accelerator).encoder
        embeddings = embed(_on(encoder, accelerator), opened.crops)
    elif arm == PIXELS:
        pixels, n_features = opened.crops.flatten(1).numpy(), opened.config.model.encoder.features
        embeddings = principal_components(pixels, opened.is_trained, n_features)
    else:
        data, config = opened.data(Arm(name=UNTRAINED), seed)
        embeddings = embed(_on(make_module(data, config, seed).encoder, accelerator), opened.crops)
    measured = measure(embeddings, opened.observations, opened.is_trained, seed)
    name, steps = (arm.name, n_steps) if isinstance(arm, Arm) else (arm, 0)
    key = {"world": opened.case.world, "fold": opened.case.fold, "seed": seed, "arm": name, "steps": steps}
    return Result(row=key | measured.values, reasons=measured.reasons, composition=composition)


def make_module(data: StudyPairs, config: Namespace, seed: int) -> ContrastiveModule:
    """Return the model before training, whose weights depend on the configuration of the encoder and the seed only."""
    model, settings = config.model, data.crops
    torch.manual_seed(seed)
    module = ContrastiveModule(
        encoder=EncoderConfig(**model.encoder.as_dict()),
        loss=make_loss_config(config),
        optimizer=OptimizerConfig(**model.optimizer.as_dict()),
        n_channels=data.n_channels,
        z_slices=settings.z_slices,
        crop=settings.crop,
        split_batches=data.options.split_batches,
        init_from=model.init_from,
    )
    if module.init_from is not None:
        load_initial_weights(module.init_from, module.encoder, data.encoder_input)
    return module


def train(data: StudyPairs, config: Namespace, seed: int, n_steps: int, accelerator: str = "cpu") -> ContrastiveModule:
    """Train a model for a number of steps, and return it.

    Raises
    ------
    UserError
        If the batches cannot be composed, or Lightning refuses an option of the trainer.
    """
    module = make_module(data, config, seed)
    options = {name: config.trainer[name] for name in _TRAINER_OPTIONS} | _as_processes(data, config)
    if accelerator != "cpu":  # where sums may be rounded in another way each time
        options["deterministic"] = "warn"
    with quiet_lightning(), explained_refusals(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        trainer = Trainer(
            **options,
            accelerator=accelerator,
            devices=1,
            max_epochs=-1,
            max_steps=n_steps,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with collect_sampler_warnings():
            check_limits(trainer, len(data.make_sampler()), 0)
        trainer.fit(module, datamodule=data)
    return module


def _as_processes(data: StudyPairs, config: Namespace) -> dict[str, Any]:
    """Let a step have the batches of several processes, and return the options of the trainer that this needs.

    Processes that compare within their own batches train as one that accumulates their gradients; those that compare
    all batches of a step, as one with a batch of all (see `viscy_train.model.module.ContrastiveModule`). Steps with the
    batches of fewer processes are left out, as a sampler leaves out batches that are not full.
    """
    n_processes = config.trainer.devices
    if n_processes == 1 or data.options.split_batches:
        return {}
    per_step = n_processes * config.trainer.accumulate_grad_batches
    with collect_sampler_warnings():
        n_batches = len(data.make_sampler())
    if n_batches < per_step:
        raise UserError(
            f"trainer.devices must be at most {n_batches}, the batches of an epoch, got {n_processes}; make "
            "data.sampler.batch_size smaller"
        )
    if config.model.loss.negatives == "step":
        data.n_joined = n_processes
        return {}
    return {"accumulate_grad_batches": per_step, "limit_train_batches": n_batches // per_step * per_step}


@torch.inference_mode()
def embed(encoder: Encoder, crops: Tensor) -> NDArray[np.float32]:
    """Return the embeddings of crops, shape (n_crops, features)."""
    device = next(encoder.parameters()).device
    encoder.eval()
    parts = [encoder(part.to(device)).float().cpu().numpy() for part in crops.split(_CROPS_PER_BATCH)]
    return np.concatenate(parts)


def _on(encoder: Encoder, accelerator: str) -> Encoder:
    """Return an encoder where it was trained; Lightning moves it to the host after training."""
    return encoder.to("cuda" if accelerator == "gpu" else "cpu")


@contextmanager
def _naming(arm: Arm, case: Case) -> Generator[None]:
    """Name the arm and the case in an error of the block."""
    try:
        yield
    except UserError as error:
        prefix = f"arm {arm.name!r}"
        message = str(error).removeprefix(f"{prefix}: ")
        raise UserError(f"{prefix}, {case.name}: {message}") from error


def _examine(data: StudyPairs, config: Namespace, seed: int) -> list[dict[str, Any]]:
    """Check that batches can be composed, and return how their composition compares with the targets."""
    loss, options = make_loss_config(config), data.options
    anchors = data.train_anchors()
    check_labels(data.table.observations, data.positive, loss.positives, options.condition_by)
    check_axes(anchors, options, positives=loss.positives)
    if len(anchors) < options.batch_size:
        raise UserError(
            f"data.sampler.batch_size must be at most {len(anchors)}, the anchors that are left for training, got "
            f"{options.batch_size}"
        )
    labeled = data.train_anchors(labeled=True)
    result = dry_run(anchors, options, seed=seed, loss=loss, max_batches=_EXAMINED_BATCHES, labeled=labeled)
    return [
        {"check": one.name, "target": one.target, "observed": one.observed, "off_target": one.off_target}
        for one in result.checks
    ]
