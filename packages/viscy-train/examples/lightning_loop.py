"""Lightning: the data module and the module in a `Trainer` of your own, resumed in mid-epoch from its checkpoint.

Run it with the folder of a project: ``python lightning_loop.py viscy-demo``
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from project import ENCODER, make_data

from viscy_train import ContrastiveModule, OptimizerConfig, PairDataModule


class RowRecorder(Callback):
    """Records the rows of the anchor table in each training batch."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Record a batch."""
        self.rows.append(batch["row"].tolist())


def train(folder: Path, n_steps: int, output: Path, checkpoint: Path | None = None) -> list[list[int]]:
    """Train until a step; return the rows of each batch."""
    data: PairDataModule = make_data(folder)
    optimizer = OptimizerConfig(schedule="constant")
    module = ContrastiveModule(ENCODER, n_channels=data.n_channels, crop=data.crop, optimizer=optimizer)
    recorder = RowRecorder()
    trainer = Trainer(
        max_steps=n_steps,
        accelerator="cpu",
        # The sampler distributes batches over ranks itself. Lightning's default would replace it, and is refused.
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[recorder],
    )
    # The state of the sampler is in the checkpoint: epoch and position of the last batch that was trained on.
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    trainer.save_checkpoint(output)
    return recorder.rows


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as saved:
        first = train(folder, 3, Path(saved, "3.ckpt"))
        rest = train(folder, 6, Path(saved, "6.ckpt"), Path(saved, "3.ckpt"))
        uninterrupted = train(folder, 6, Path(saved, "all.ckpt"))
    assert first + rest == uninterrupted
    print(f"6 batches of {len(first[0])} anchors, the same with and without an interruption")
