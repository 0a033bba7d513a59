"""The leak: rows of all groups except one, numbered so that they can be drawn from one slice.

The rows that may leak are numbered by condition and, within a condition, by group. All rows of a condition except those
of one group are then a slice of the numbers from which that group's own numbers are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.parts import Kind, Pools

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.quotas import Quotas
    from viscy_data.index import AnchorIndex


class Leak:
    """The rows that may leak, from all groups that have batches.

    Parameters
    ----------
    index
        The sampler's index.
    quotas
        The sampler's quotas.
    """

    def __init__(self, index: AnchorIndex, quotas: Quotas) -> None:
        self._pool_size = quotas.leak_pool
        self._n_groups = len(index.groups)
        self._stratum_size = quotas.leak_source.T.ravel()
        self._stratum_start = np.cumsum(self._stratum_size) - self._stratum_size
        self._to_row = index.stratum_start.T.ravel() - self._stratum_start

    def pools(self, group: NDArray[np.int64], slots: NDArray[np.int64]) -> Pools:
        """Return the leak pools of batches, given their groups and the slots to fill, (n_batches, n_conditions)."""
        first = np.arange(slots.shape[1]) * self._n_groups  # the stratum of the first group
        return Pools(
            kind=Kind.LEAK,
            start=np.broadcast_to(self._stratum_start[first], slots.shape),
            size=self._pool_size[group],
            slots=slots,
            own=first + group[:, None],
        )

    def rows(self, number: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn numbers of leaking rows, in place, into rows of the sorted anchors; leave other entries as they are.

        Parameters
        ----------
        number
            Numbers of leaking rows, or rows; shape (n,).
        own
            The stratum that is left out of the count; -1 where `number` is a row already. Shape (n,).

        Returns
        -------
        NDArray[np.int64]
            Rows of the sorted anchors, shape (n,): `number` itself.
        """
        leaks = np.flatnonzero(own >= 0)
        if leaks.size:
            counted, own = number[leaks], own[leaks]
            counted += (counted >= self._stratum_start[own]) * self._stratum_size[own]
            stratum = np.searchsorted(self._stratum_start, counted, side="right") - 1
            number[leaks] = counted + self._to_row[stratum]
        return number
