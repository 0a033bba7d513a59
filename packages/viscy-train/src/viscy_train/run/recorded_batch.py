"""Recorded batch: the batch of a step, found in the record of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError
from viscy_train.run.batch_record import files_of_ranks, slots_of
from viscy_train.run.step_csv import last_step, whole_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.run.directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class RecordedBatch:
    """A batch as it was recorded.

    Parameters
    ----------
    step : int
        When it was trained on.
    epoch, number : int
        Its epoch, and its number in the epoch's sequence of all ranks: what its random choices are a function of.
    rank : int
        Which process had it.
    rows : numpy.ndarray
        Rows of the anchor table in order, shape (n_slots,), int64.
    """

    step: int
    epoch: int
    number: int
    rank: int
    rows: NDArray[np.int64]


def batch_of_step(folder: RunDirectory, step: int, rank: int = 0) -> RecordedBatch:
    """Find what a process trained on at a step.

    Parameters
    ----------
    folder : RunDirectory
        Of the run.
    step : int
        Counted from 0.
    rank : int, default 0
        Which process.

    Returns
    -------
    RecordedBatch
        The batch; the first of the step where several were accumulated.

    Raises
    ------
    UserError
        If the run has no record, or none of this rank or step.
    """
    files = files_of_ranks(folder.batches)
    ends = {number: end for number, path in files.items() if (end := last_step(path)) is not None}
    if not ends:
        raise UserError(f"{folder.path} has no record of its batches; name the folder of a run that has trained")
    if rank not in ends:
        ranks = "0" if list(ends) == [0] else f"{min(ends)} to {max(ends)}"
        raise UserError(f"--rank must be one of the run's, {ranks}, got {rank}")
    for line in whole_lines(files[rank]):
        if line.startswith(f"{step},"):
            slots = slots_of([line])
            head = slots.iloc[0]
            return RecordedBatch(
                step=step,
                epoch=int(head["epoch"]),
                number=int(head["batch"]),
                rank=rank,
                rows=slots["row"].to_numpy(),
            )
    raise UserError(f"--step must be a recorded one, rank {rank} has the steps 0 to {ends[rank]}, got {step}")
