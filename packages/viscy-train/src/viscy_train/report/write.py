"""Write: the page of a run, from the files of the run and its encoders before and after training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.composition.frames import count_frames
from viscy_train.composition.step import StepSettings
from viscy_train.console import say, say_result
from viscy_train.errors import UserError
from viscy_train.evaluation.embeddings import evaluate_encoders
from viscy_train.evaluation.probes import columns_to_probe
from viscy_train.loading.axes import HOURS, label_plan, time_name
from viscy_train.loading.crops import CropReader
from viscy_train.loading.sampler import collect_sampler_warnings
from viscy_train.report.example_tracks import choose_example_tracks
from viscy_train.report.neighbor_gallery import choose_gallery
from viscy_train.report.run_page import write_run_page
from viscy_train.report.run_results import RunResults
from viscy_train.run.attempts import read_attempts
from viscy_train.run.batch_record import check_rows, count_batches, find_records
from viscy_train.run.metrics_csv import read_log
from viscy_train.run.provenance import read_provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from viscy_train.config.schema import LossConfig
    from viscy_train.evaluation.projection import Method
    from viscy_train.loading.data_module import PairDataModule
    from viscy_train.model.encoder import Encoder
    from viscy_train.run.directory import RunDirectory

# Batches that are read to count their frames.
_COUNTED_BATCHES = 50


def evaluate_and_write_page(
    run_directory: RunDirectory,
    untrained: Encoder,
    trained: Encoder,
    data: PairDataModule,
    loss: LossConfig,
    device: torch.device,
    probe: Sequence[str] | str | None = None,
    time: str = HOURS,
    projection: Method = "pca",
) -> None:
    """Evaluate the encoders of a run, write its page and print the path.

    Parameters
    ----------
    run_directory : RunDirectory
        The directory of the run.
    untrained, trained : Encoder
        The encoder before and after training.
    data : PairDataModule
        The data of the run.
    loss : LossConfig
        The loss of the run.
    device : torch.device
        Device to compute embeddings on.
    probe : str or sequence of str, optional
        Columns to probe, see `viscy_train.evaluation.probes.columns_to_probe`.
    time : str
        What the hours of the experiments are called.
    projection : {"pca", "umap"}
        How embeddings are shown in two dimensions.
    """
    n_batches, attempts = count_batches(run_directory.batches), read_attempts(run_directory)
    read_log(run_directory.metrics)  # damage is reported before the work begins
    if not n_batches:
        raise UserError(f"{run_directory.batches} has no record of batches; name the directory of a trained run")
    counted = run_directory.read_batches(_COUNTED_BATCHES)
    check_rows(counted["row"].to_numpy(), data.train_rows, run_directory.batches)
    say("Embedding anchors and writing the report")
    table = data.table
    columns = columns_to_probe(table.observations, table.extra_columns, probe)
    encoders = untrained.to(device), trained.to(device)
    evaluation = evaluate_encoders(*encoders, table, data.validation_rows, data.seed, columns=columns, store=data.store)
    examples = choose_example_tracks(table.observations, evaluation.rows)
    is_held_out = np.isin(evaluation.rows, data.train_rows, invert=True)
    queries = is_held_out if is_held_out.any() else ~is_held_out
    gallery = choose_gallery(evaluation.embeddings, evaluation.rows, table.observations, queries, data.seed)
    reader = CropReader(table, store=data.store)
    gallery_crops = None if gallery is None else _middle_slices(reader, gallery.rows)
    with collect_sampler_warnings():  # training has shown them
        planned = label_plan(data.make_sampler().planned())
    n_processes = int(attempts["processes"].iloc[-1]) if len(attempts) else len(find_records(run_directory.batches))
    results = RunResults(
        observations=table.observations,
        labeled=data.labeled,
        train_rows=data.train_rows,
        planned=planned,
        step=StepSettings.from_config(loss, split_batches=data.options.split_batches, world_size=n_processes),
        n_processes=n_processes,
        seed=data.seed,
        seconds=float(attempts["seconds"].sum()),
        channels=data.channels,
        examples=examples,
        crops=_middle_slices(reader, examples.rows),
        evaluation=evaluation,
        positive=data.positive,
        experiments=table.experiments,
        frames=count_frames(counted, table.observations, data.positive_choice),
        time=time_name(data.options.time_by, time),
        hours=time,
        provenance=read_provenance(run_directory),
        gallery=gallery,
        gallery_crops=gallery_crops,
        projection=projection,
    )
    write_run_page(run_directory, results)
    say_result(f"Done. Open {run_directory.report}")


def _middle_slices(reader: CropReader, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the middle slices of the crops of rows, shape (*rows.shape, n_channels, side, side).

    Instead of -1, the first row of its line is read.
    """
    crops = reader.read(np.where(rows < 0, rows[:, :1], rows).ravel())
    middle = crops[:, :, crops.shape[2] // 2]
    return middle.reshape(*rows.shape, *middle.shape[1:])
