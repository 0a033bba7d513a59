"""Positive choice: the positive of each anchor of a batch, as a function of the batch's key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.loading.rng import Purpose, random_uniform, uniform_at
from viscy_train.positives.column_codes import encode_column

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.loading.batches import Batch
    from viscy_train.positives.rule import Positives


class PositiveChoice:
    """Chooses the positives of batches.

    Parameters
    ----------
    positives : Positives
        The possible positives of each observation.
    seed : int
        Seed of the run.
    observations : pandas.DataFrame, optional
        The observations, for positives of which those of a position share their frames as far as lineages permit: the
        positives of a batch are then in few frames. Each positive is as likely as without. By default, every positive
        is chosen on its own.
    """

    def __init__(self, positives: Positives, seed: int, observations: pd.DataFrame | None = None) -> None:
        self._positives, self._seed = positives, seed
        self._position = None if observations is None else encode_column(observations, "position").astype(np.int32)

    def choose(self, batch: Batch) -> NDArray[np.int64]:
        """Return the rows of the positives of a batch of n anchors, shape (n,)."""
        key = self._seed, batch.epoch, batch.index
        n_slots = batch.first_slot + len(batch.rows)
        draws, more_draws = random_uniform(*key, Purpose.POSITIVE, n_slots, 2)[batch.first_slot :].T
        if self._position is None:
            return self._positives.choose(batch.rows, draws, more_draws)
        position = self._position[batch.rows]

        def draw(slots: NDArray[np.int64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
            return uniform_at(*key, Purpose.FRAME_OF_POSITIVES, position[slots], frames)

        return self._positives.choose_together(batch.rows, draw, draws, more_draws)
