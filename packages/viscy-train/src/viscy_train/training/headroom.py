"""Headroom: how much faster training could be at most if reading took no time, measured on batches in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import mean, quantiles
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from viscy_train.anchors.staleness import check_sources
from viscy_train.config.checks import require
from viscy_train.console import say
from viscy_train.training.lightning_warnings import quiet_lightning
from viscy_train.training.refusals import explained_refusals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lightning.pytorch import LightningModule, Trainer

    from viscy_train.training.lightning_cli import TrainingCLI

WARM_UP = 3
_MAX_KEPT = 8
# Less could be chance.
_WORTHWHILE = 1.1


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """Seconds that each batch took, with normal loading and from memory."""

    loaded: list[float]
    in_memory: list[float]

    @property
    def gain(self) -> float:
        """How many times as fast training would be if reading took no time."""
        return mean(self.loaded) / max(mean(self.in_memory), 1e-9)


def describe_headroom(headroom: Headroom) -> list[str]:
    """Return what was measured, a sentence each."""
    times = [f"{mean(some):.3g} s ({_spread(some)})" for some in (headroom.loaded, headroom.in_memory)]
    sentences = [
        f"A batch takes {times[0]} with normal loading and {times[1]} from memory: mean of {len(headroom.loaded)} "
        "batches each (10 to 90 % of them).",
    ]
    if headroom.gain < 1 / _WORTHWHILE:
        return [
            *sentences,
            "Batches from memory cannot take longer, so something else disturbed the measurement: repeat it when the "
            "machine does nothing else, with a larger --headroom.",
        ]
    if headroom.gain < _WORTHWHILE:
        return [*sentences, "The network limits training; faster loading could gain next to nothing."]
    return [
        *sentences,
        f"Reading limits training; faster loading could make it {headroom.gain:.2g} times as fast at most. "
        "`viscy-train inspect` estimates what a batch reads, and what would make that less.",
    ]


def _spread(seconds: list[float]) -> str:
    if len(seconds) == 1:
        return f"{seconds[0]:.3g}"
    deciles = quantiles(seconds, n=10, method="inclusive")
    return f"{deciles[0]:.3g} to {deciles[-1]:.3g}"


def measure_headroom(cli: TrainingCLI, n_batches: int) -> Headroom:
    """Train on some batches as a run would, then on as many from memory, and print what that says.

    Parameters
    ----------
    cli : TrainingCLI
        The configuration.
    n_batches : int
        Number of batches of each measurement, for each process. Before each, `WARM_UP` more are trained on.

    Returns
    -------
    Headroom
        What was measured.

    Raises
    ------
    UserError
        If an epoch has fewer batches, or the data do not match the configuration.

    Notes
    -----
    Limits of the run, such as ``trainer.max_steps``, do not apply: they may be below what a measurement needs. Nothing
    is written into the directory of the run, and the weights are discarded. There is neither a logger nor a
    record, a validation or a checkpoint.
    """
    # All else is as in a run, such as devices and precision.
    unlimited = {"max_epochs": 1, "max_steps": -1, "limit_train_batches": 1.0, "overfit_batches": 0.0, "max_time": None}
    nothing_else = {"limit_val_batches": 0, "enable_checkpointing": False, "callbacks": None, "fast_dev_run": False}
    for name, value in (unlimited | nothing_else).items():
        cli.config.trainer[name] = value
    trainer, model, data = cli.make_all(training=False)
    check_sources(data.table)
    make_loader, clock = data.train_dataloader, _Clock(n_batches)

    def load() -> PhasedBatches:
        loader: Any = make_loader()
        most = len(loader) - WARM_UP
        rule = f"--headroom must be at most {most}, the batches of an epoch less {WARM_UP}"
        require(n_batches <= most, rule, n_batches)
        return PhasedBatches(loader, n_batches)

    data.train_dataloader = load  # ty: ignore[invalid-assignment]
    trainer.callbacks.append(clock)  # ty: ignore[missing-attribute]
    with quiet_lightning(), explained_refusals():
        trainer.fit(model, datamodule=data)
    if trainer.is_global_zero:
        for sentence in describe_headroom(clock.headroom):
            say(sentence)
    return clock.headroom


class PhasedBatches:
    """The batches of a loader, then as many that are in memory, each with batches of warm-up before.

    Parameters
    ----------
    loader : iterable
        Has more batches than needed.
    n_batches : int
        Number of batches of each, without those of the warm-up.
    """

    def __init__(self, loader: Iterable[Any], n_batches: int) -> None:
        self._loader, self._n_batches = loader, n_batches

    def __len__(self) -> int:
        return 2 * (WARM_UP + self._n_batches)

    def __iter__(self) -> Iterator[Any]:
        n, kept = WARM_UP + self._n_batches, []
        for batch in islice(self._loader, n):
            kept = [*kept, dict(batch)][-_MAX_KEPT:]
            yield batch
        for batch in islice(cycle(kept), n):
            yield dict(batch)


class _Clock(Callback):
    """Takes the time at which each batch ends."""

    def __init__(self, n_batches: int) -> None:
        self._n_batches = n_batches
        self._ends: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the time; where a measurement begins or ends, once the GPU has done its work."""
        n = WARM_UP + self._n_batches
        if pl_module.device.type == "cuda" and batch_idx % n in (WARM_UP - 1, n - 1):
            torch.cuda.synchronize()
        self._ends.append(time.perf_counter())

    @property
    def headroom(self) -> Headroom:
        """The seconds of each batch."""
        seconds = [after - before for before, after in zip(self._ends, self._ends[1:], strict=False)]
        n = WARM_UP + self._n_batches
        return Headroom(loaded=seconds[WARM_UP - 1 : n - 1], in_memory=seconds[n + WARM_UP - 1 :])
