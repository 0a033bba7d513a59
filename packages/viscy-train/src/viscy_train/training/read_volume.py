"""Read volume: how much of the plates is decoded for a training step, and how much of that its crops use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from viscy_train.loading.crop_source import READS, ReadCounts
from viscy_train.loading.progress import step_is_complete
from viscy_train.run.metrics_csv import CACHE_HITS, DECODED_MB, USED_MB, is_logged

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

_MB = 1e6


class ReadVolume(Callback):
    """Log what was decoded for a step, what its crops used, and how many chunks had been decoded before.

    Notes
    -----
    The metrics are `DECODED_MB` and `USED_MB`, in MB a step, and `CACHE_HITS`, the share of the chunks that were needed
    and were decoded already; each is that of the steps since the one that was logged before. A batch carries what the
    process that read it has read so far, whether a thread of this process or a worker, so nothing that is read ahead is
    lost or counted twice. Rank 0 measures its own reads; those of validations do not count.
    """

    def __init__(self) -> None:
        self._of_process: dict[int, ReadCounts] = {}
        self._step = -1
        self._since_logged, self._n_steps = ReadCounts(), 0
        self.of_epoch, self.n_steps_of_epoch = ReadCounts(), 0

    @property
    def sentence(self) -> str | None:
        """What a step of the epoch reads on average, in a few words; None if nothing was read."""
        counts, n = self.of_epoch, self.n_steps_of_epoch
        if not (n and counts.decoded_bytes):
            return None
        decoded, used = (number / _MB / n for number in (counts.decoded_bytes, counts.used_bytes))
        return f"{decoded:,.3g} MB decoded a step for {used:,.3g} MB of crops"

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the sums of the epoch."""
        self.of_epoch, self.n_steps_of_epoch = ReadCounts(), 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the step, because Lightning increments its counter before the batch ends."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add what was read for the batch, and log a complete step."""
        new = self._take(batch)
        self._since_logged += new
        self.of_epoch += new
        if not step_is_complete(trainer, batch_idx):
            return
        self._n_steps, self.n_steps_of_epoch = self._n_steps + 1, self.n_steps_of_epoch + 1
        if trainer.is_global_zero and READS in batch and is_logged(trainer, self._step):
            metrics = read_metrics(self._since_logged, self._n_steps)
            self._since_logged, self._n_steps = ReadCounts(), 0
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=self._step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave out what was read for a validation."""
        self._take(batch)

    def _take(self, batch: Any) -> ReadCounts:
        """Return what the process of a batch has read since its batch before."""
        if READS not in batch:
            return ReadCounts()
        process, *counts = (int(number) for number in batch[READS])
        read, before = ReadCounts.of(counts), self._of_process.get(process, ReadCounts())
        if read.n_crops < before.n_crops:  # of a thread that began earlier
            return ReadCounts()
        self._of_process[process] = read
        return read - before


def read_metrics(counts: ReadCounts, n_steps: int) -> dict[str, float]:
    """Return the metrics of some steps."""
    return {
        DECODED_MB: counts.decoded_bytes / _MB / n_steps,
        USED_MB: counts.used_bytes / _MB / n_steps,
        CACHE_HITS: counts.n_hits / max(counts.n_chunks, 1),
    }


def read_volume_of(trainer: Any) -> ReadVolume | None:
    """Return the trainer's callback that measures what is read, or None if it has none."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, ReadVolume)), None)
