"""Callbacks: what a rank notes and shows while it trains."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import LightningModule, Trainer

BATCH_COLUMNS = ["step", "epoch", "batch", "rank", "row"]


class BatchRecorder(Callback):
    """Write down which rows of the anchor table each batch of this rank held.

    Parameters
    ----------
    folder : pathlib.Path
        Where to write ``rank<rank>.csv``: a row for each slot, with the batch's number in the sequence of all ranks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if trainer.global_rank == 0:
            for path in self._folder.glob("rank*.csv"):
                lines = path.read_text().splitlines(keepends=True)
                path.write_text(
                    "".join(
                        [
                            line
                            for line in lines
                            if line.endswith("\n")
                            and line[0].isdigit()
                            and int(line.split(",")[0]) < trainer.global_step
                        ]
                    )
                )
        trainer.strategy.barrier()
        path = self._folder / f"rank{trainer.global_rank}.csv"
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note a batch, before it is trained on: should that fail, the batch is known."""
        self._writer.writerows(
            [trainer.global_step, batch["epoch"], batch["batch"], trainer.global_rank, row]
            for row in batch["row"].tolist()
        )
        self._file.flush()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()


class LossProgress(Callback):
    """Show the epochs with their loss: as bars on a terminal, elsewhere a line at the end of each.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar."""
        self._losses: list[float] = []
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        total = int(trainer.num_training_batches)
        self._task = self._bar.add_task(self._title(trainer), total=total)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar on."""
        if not hasattr(self, "_losses"):
            self.on_train_epoch_start(trainer, pl_module)
        self._losses.append(float(outputs["loss"]))  # the same in all processes, which gather their batches
        self._bar.update(self._task, advance=1, description=f"{self._title(trainer)}  loss {self._losses[-1]:.2f}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a line."""
        self._bar.stop()
        mean = sum(self._losses) / len(self._losses)
        steps = f"{len(self._losses)} steps on each of {trainer.world_size} processes"
        self._console.print(f"{self._title(trainer)}  mean loss {mean:.3f}, {steps}", highlight=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that what follows is legible."""
        if hasattr(self, "_bar"):
            self._bar.stop()

    @staticmethod
    def _title(trainer: Trainer) -> str:
        return f"  epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"


class TempLog(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_start(self, trainer, pl_module):
        if trainer.global_rank == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
            keep = [
                l for l in lines if l.endswith("\n") and l[0].isdigit() and int(l.split(",")[0]) < trainer.global_step
            ]
            self.path.write_text("step,loss\n" + "".join(keep))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 0:
            with self.path.open("a") as f:
                f.write(f"{trainer.global_step - 1},{float(outputs['loss'])!r}\n")
