"""Leak: the rows of all groups but one, as numbers that can be drawn from one slice.

The rows that may leak are numbered condition by condition, and in each group by group. All of a condition but those of
one group are then a slice from which that group's own rows are left out.
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
    """The rows that may leak, of all groups that are drawn at all.

    Parameters
    ----------
    index, quotas
        Of the sampler.
    """

    def __init__(self, index: AnchorIndex, quotas: Quotas) -> None:
        self._pool_size = quotas.leak_pool
        self._n_groups = len(index.groups)
        self._cell_size = quotas.leak_source.T.ravel()
        self._cell_start = np.cumsum(self._cell_size) - self._cell_size
        self._to_row = index.cell_start.T.ravel() - self._cell_start

    def pools(self, group: NDArray[np.int64], slots: NDArray[np.int64]) -> Pools:
        """Return the pools of batches of some groups, with the slots to fill, shape (n_batches, n_conditions)."""
        first = np.arange(slots.shape[1]) * self._n_groups  # cell of the first group
        return Pools(
            kind=Kind.LEAK,
            start=np.broadcast_to(self._cell_start[first], slots.shape),
            size=self._pool_size[group],
            slots=slots,
            own=first + group[:, None],
        )

    def rows(self, number: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn the numbers of leaked rows, in place, into rows of the sorted anchors; leave others as they are.

        Parameters
        ----------
        number
            Shape (n,).
        own
            The cell that is left out in counting; -1 where the number is that of a row already. Shape (n,).
        """
        leaked = np.flatnonzero(own >= 0)
        if leaked.size:
            counted, own = number[leaked], own[leaked]
            counted += (counted >= self._cell_start[own]) * self._cell_size[own]
            cell = np.searchsorted(self._cell_start, counted, side="right") - 1
            number[leaked] = counted + self._to_row[cell]
        return number
