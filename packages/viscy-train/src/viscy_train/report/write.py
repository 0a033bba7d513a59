"""Write: the report of a run, from its files and its two encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from viscy_train.evaluation.embeddings import look_back
from viscy_train.loading.crops import CropReader
from viscy_train.report.run_page import RunFacts, choose_strips, write_page
from viscy_train.run.attempts import read_attempts

if TYPE_CHECKING:
    import torch

    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.encoder import Encoder
    from viscy_train.run.directory import RunDirectory


def write_report(
    folder: RunDirectory,
    untrained: Encoder,
    trained: Encoder,
    data: PairDataModule,
    device: torch.device,
    console: Console,
) -> None:
    """Write the report of a run, and say where it is.

    Parameters
    ----------
    folder : RunDirectory
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
    strips = choose_strips(table.observations, learned.rows)
    crops = CropReader(table).read(strips.rows.ravel())
    middle = crops[:, :, crops.shape[2] // 2]
    lives = read_attempts(folder)
    facts = RunFacts(
        observations=table.observations,
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
    write_page(folder, facts)
    console.print(f"Done. Open {folder.report}", highlight=False, soft_wrap=True, markup=False)
