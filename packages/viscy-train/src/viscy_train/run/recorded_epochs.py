"""Recorded epochs: how many epochs the batch record of a run has, also if they were shortened or cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class RecordedEpochs:
    """The epochs of a run, in order.

    Parameters
    ----------
    n_batches : sequence of int
        Number of recorded batches of each epoch, from `viscy_train.run.batch_record.count_batches_of_epochs`.
    planned : int
        Number of batches of an epoch that nothing shortens, without those that fill up its last step.

    Notes
    -----
    An epoch has ended if it has all planned batches, or if another one follows it: options of the trainer, such as
    ``limit_train_batches``, shorten epochs. Whether a last epoch with fewer batches has ended is not recorded.

    Examples
    --------
    >>> RecordedEpochs(n_batches=[100, 100, 25], planned=100).total
    2.25
    >>> RecordedEpochs(n_batches=[5, 5, 5], planned=100).total
    3.0
    >>> RecordedEpochs(n_batches=[5], planned=100).total is None
    True
    """

    n_batches: Sequence[int]
    planned: int

    @property
    def length(self) -> int | None:
        """Number of batches of the longest epoch that has ended, at most those planned; None if none has ended."""
        return min(max(ended), self.planned) if (ended := self._ended) else None

    @property
    def total(self) -> float | None:
        """Number of epochs, the last one in part if it has not ended; None if none has ended."""
        if self.length is None:
            return None
        is_last_cut = len(self._ended) < len(self.n_batches)
        return len(self._ended) + (min(self.n_batches[-1] / self.length, 1.0) if is_last_cut else 0.0)

    @property
    def _ended(self) -> list[int]:
        *earlier, last = self.n_batches or [0]
        return [*earlier, last] if last >= self.planned > 0 else earlier
