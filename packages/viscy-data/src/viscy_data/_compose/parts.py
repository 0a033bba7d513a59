"""A part: slots of one batch that are filled from one pool of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A pool with this many rows per slot is large: most rows that are drawn from it at random are drawn only once.
_ROWS_PER_SLOT = 2


class Kind(IntEnum):
    """The kind of a part; the numbers go into the keys of permutations."""

    WINDOW = 0
    """Primary slots from the temporal window."""
    GLOBAL = 1
    """The other primary slots of an enriched batch, from all times of the stratum."""
    STRATUM = 2
    """Primary slots of a batch without enrichment."""
    LEAK = 3
    """Slots from other groups."""


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """The pools of one kind of part in every batch of a block, each array of shape (n_batches, n_conditions)."""

    kind: Kind
    start: NDArray[np.int64]
    """The pool's first row: its index in the sorted anchors or, for LEAK, its number in `Leak`."""
    size: NDArray[np.int64]
    """Rows of the pool."""
    slots: NDArray[np.int64]
    """Slots to fill; 0 where the pool is empty."""
    own: NDArray[np.int64] | int = -1
    """For LEAK: the stratum that is left out, as numbered by `Leak`; -1 for other kinds."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """All parts of a block of batches; each array of shape (n_batches, n_kinds, n_conditions).

    The slots of a batch are laid out part by part, in this order.
    """

    kinds: tuple[Kind, ...]
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    slots: NDArray[np.int64]
    own: NDArray[np.int64]

    @classmethod
    def from_pools(cls, pools: Sequence[Pools]) -> Parts:
        """Combine the pools of all kinds."""
        start, size, slots, own = np.empty((4, len(pools[0].slots), len(pools), pools[0].slots.shape[1]), np.int64)
        for i, pool in enumerate(pools):
            start[:, i], size[:, i], slots[:, i], own[:, i] = pool.start, pool.size, pool.slots, pool.own
        return cls(tuple(pool.kind for pool in pools), start, size, slots, own)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.slots)

    def take(self, which: NDArray | slice) -> Parts:
        """Return the parts of some of the batches."""
        return replace(self, **{name: getattr(self, name)[which] for name in ("start", "size", "slots", "own")})

    def without_first_kind(self) -> Parts:
        """Return the parts without the slots of the first kind."""
        slots = self.slots.copy()
        slots[:, 0] = 0
        return replace(self, slots=slots)

    def per_slot(self, values: NDArray) -> NDArray:
        """Return for each slot the value of its part, shape (n_batches * n_slots,)."""
        return np.repeat(values.ravel(), self.slots.ravel())

    def have_large_pools(self) -> NDArray[np.bool_]:
        """Return whether all pools of each batch, which has window and global slots, are large, shape (n_batches,)."""
        window, rest = (self.kinds.index(kind) for kind in (Kind.WINDOW, Kind.GLOBAL))
        needed = self.slots.copy()
        needed[:, rest] += self.slots[:, window]  # the global pool contains the rows of the window slots as well
        small = np.flatnonzero((self.size < _ROWS_PER_SLOT * needed) & (self.slots > 0))
        large = np.ones(len(self), bool)
        large[small // (self.slots.size // len(self))] = False
        return large
