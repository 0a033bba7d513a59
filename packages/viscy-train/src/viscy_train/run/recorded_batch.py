"""Recorded batch: the batch of one step and rank, looked up in the batch record of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.errors import UserError
from viscy_train.run.batch_record import find_records, parse_slots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.run.directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class RecordedBatch:
    """A batch of the record.

    Parameters
    ----------
    step : int
        The step that trained on it.
    epoch, number : int
        Its epoch and its index in the epoch's global sequence, on which its random choices depend.
    rank : int
        The rank that trained on it.
    rows : numpy.ndarray
        Rows of the anchor table in order, shape (n_slots,), int64: the rank's part, if the ranks shared the batch.
    """

    step: int
    epoch: int
    number: int
    rank: int
    rows: NDArray[np.int64]


def batch_of_step(run_directory: RunDirectory, step: int, rank: int = 0) -> RecordedBatch:
    """Find the batch that a rank trained on in a step.

    Parameters
    ----------
    run_directory : RunDirectory
        The run.
    step : int
        The step, counted from 0.
    rank : int, default 0
        The rank.

    Returns
    -------
    RecordedBatch
        The batch; if the step accumulated gradients over several, the first of them.

    Raises
    ------
    UserError
        If the run has no record, or none of this rank or step.
    """
    records = find_records(run_directory.batches)
    last = {number: end for number, record in records.items() if (end := record.last_step()) is not None}
    if not last:
        raise UserError(
            f"{run_directory.path} has no record of batches; name the directory of a run that has been trained"
        )
    if rank not in last:
        ranks = "0" if list(last) == [0] else f"{min(last)} to {max(last)}"
        raise UserError(f"--rank must be a rank of the run ({ranks}), got {rank}")
    for line in records[rank].lines():
        if line.startswith(f"{step},"):
            slots = parse_slots([line])
            head = slots.iloc[0]
            return RecordedBatch(
                step=step,
                epoch=int(head["epoch"]),
                number=int(head["batch"]),
                rank=rank,
                rows=slots["row"].to_numpy(),
            )
    raise UserError(f"--step must be a recorded step, from 0 to {last[rank]} for rank {rank}, got {step}")
