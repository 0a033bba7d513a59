"""Rank watch: in a run on several processes, a line on the console that says for which of them the others wait."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback
from torch.distributed import distributed_c10d

from viscy_train.loading.stall import StallWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

_LONGEST_EXCHANGE = 10.0  # seconds


class RankWatch(Callback):
    """Say which rank is waited for if no rank completes a batch for long.

    Parameters
    ----------
    seconds : float
        How long.
    waits_for_data : callable
        Returns whether this process waits for its data loader; the loader then says so itself.

    Notes
    -----
    The processes exchange heartbeats over the store of their process group. The lowest rank that responds prints. An
    operation that needs all ranks still ends with the timeout of the process group, if it has one.
    """

    def __init__(self, seconds: float, waits_for_data: Callable[[], bool]) -> None:
        self._watch = StallWatch(seconds)
        self._seconds, self._waits_for_data = seconds, waits_for_data
        self._heartbeats: Heartbeats | None = None

    def wait_for_start(self, trainer: Trainer) -> None:
        """Begin to wait for the other processes; one that ends before all have started is never heard of."""
        if trainer.world_size > 1:
            others = f"{trainer.world_size - 1} other process{'es' * (trainer.world_size > 2)} of this run to start"
            self._watch.start(lambda: others)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End that wait: all processes have started."""
        self._watch.close()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the exchange of heartbeats."""
        if trainer.world_size > 1:
            self._heartbeats = Heartbeats(trainer.global_rank, trainer.world_size, self._seconds, self._waits_for_data)
        self._note(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note that a batch has arrived."""
        self._note(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that a batch is complete."""
        self._note(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note that a batch of a validation is complete."""
        self._note(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the exchange."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the exchange."""
        self._close()

    def _note(self, trainer: Trainer) -> None:
        if self._heartbeats is not None:
            self._heartbeats.step = trainer.global_step
            self._watch.start(self._heartbeats.describe_missing)

    def _close(self) -> None:
        self._watch.close()
        if self._heartbeats is not None:
            self._heartbeats.close()
            self._heartbeats = None


@dataclass
class _Beat:
    content: dict[str, Any]
    changed_at: float


class Heartbeats:
    """Exchange with the other ranks, in a thread, that this process runs, at which step, and whether it waits for data.

    Parameters
    ----------
    rank, world_size : int
        Rank of this process, and number of processes.
    seconds : float
        After which time without a heartbeat a rank does not respond.
    waits_for_data : callable
        Returns whether this process waits for data.
    """

    def __init__(self, rank: int, world_size: int, seconds: float, waits_for_data: Callable[[], bool]) -> None:
        self.step = 0
        self._rank, self._seconds, self._waits_for_data = rank, seconds, waits_for_data
        self._others = [other for other in range(world_size) if other != rank]
        self._beats: dict[int, _Beat] = {}
        self._exchanged_at = time.monotonic()
        self._closed = threading.Event()
        # A connection of its own, since one that waits for an answer cannot be used by another thread.
        store: Any = distributed_c10d._get_default_store().clone()
        self._thread = threading.Thread(target=self._exchange, args=(store,), name="heartbeats", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the exchange, and wait for its thread: the interpreter must not end while it uses the store."""
        self._closed.set()
        self._thread.join(_LONGEST_EXCHANGE)  # the store may not respond

    def describe_missing(self) -> str | None:
        """Return for which ranks this one waits; None if it is not for this rank to say."""
        if self._waits_for_data():
            return None
        now = time.monotonic()
        if now - self._exchanged_at > self._seconds:  # the store belongs to rank 0, or to the launcher
            return f"rank 0 at step {self.step}: its store does not respond" if self._rank == 1 else None
        silent = [rank for rank in self._others if self._is_silent(rank, now)]
        if any(rank < self._rank and rank not in silent for rank in self._others):
            return None
        waiting = [rank for rank, beat in self._beats.items() if beat.content["waits_for_data"] and rank not in silent]
        parts = [f"{self._name(rank)}, which does not respond" for rank in silent]
        parts += [f"{self._name(rank)}, which waits for data" for rank in waiting]
        return f"{' and '.join(parts)}, at step {self.step}" if parts else None

    def _is_silent(self, rank: int, now: float) -> bool:
        return rank not in self._beats or now - self._beats[rank].changed_at > 0.75 * self._seconds

    def _name(self, rank: int) -> str:
        return f"rank {rank}" + (f" ({self._beats[rank].content['process']})" if rank in self._beats else "")

    def _exchange(self, store: Any) -> None:
        number, process = 0, f"process {os.getpid()} on {socket.gethostname()}"
        while not self._closed.is_set():
            number += 1
            own = {"number": number, "process": process, "waits_for_data": self._waits_for_data()}
            try:
                store.set(f"viscy_train/heartbeat/{self._rank}", json.dumps(own))
                for rank in self._others:
                    self._read(store, rank)
            except RuntimeError:  # the store has ended, and the run ends with it
                return
            self._exchanged_at = time.monotonic()
            self._closed.wait(min(5.0, self._seconds / 8))

    def _read(self, store: Any, rank: int) -> None:
        key = f"viscy_train/heartbeat/{rank}"
        if store.check([key]):
            content = json.loads(store.get(key))
            if rank not in self._beats or self._beats[rank].content != content:
                self._beats[rank] = _Beat(content, time.monotonic())
