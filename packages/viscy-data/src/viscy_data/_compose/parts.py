"""A part: so many slots of one batch, filled from one pool of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A pool of so many rows a slot is roomy: of the rows drawn from it at random, the fewer part is drawn twice.
_ROOM = 2


class Kind(IntEnum):
    """What the slots of a part are; the numbers go into the keys of decks."""

    FOCAL = 0
    GLOBAL = 1
    DEALT = 2
    LEAK = 3


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """The pools of one kind of part in every batch of a block, each array of shape (n_batches, n_conditions)."""

    kind: Kind
    start: NDArray[np.int64]
    """Number of the pool's first row: in the sorted anchors, or, for LEAK, in the numbering of `Leak`."""
    size: NDArray[np.int64]
    """Rows of the pool."""
    slots: NDArray[np.int64]
    """Slots to fill; 0 where the pool is empty."""
    own: NDArray[np.int64] | int = -1
    """For LEAK: the cell that is left out, as `Leak` numbers cells; -1 for others."""


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
    def of(cls, pools: Sequence[Pools]) -> Parts:
        """Put the pools of all kinds beside each other."""
        start, size, slots, own = np.empty((4, len(pools[0].slots), len(pools), pools[0].slots.shape[1]), np.int64)
        for at, pool in enumerate(pools):
            start[:, at], size[:, at], slots[:, at], own[:, at] = pool.start, pool.size, pool.slots, pool.own
        return cls(tuple(pool.kind for pool in pools), start, size, slots, own)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.slots)

    def of_batches(self, which: NDArray | slice) -> Parts:
        """Return the parts of some of the batches."""
        return replace(self, **{name: getattr(self, name)[which] for name in ("start", "size", "slots", "own")})

    def of_slots(self, values: NDArray) -> NDArray:
        """Return for each slot the value of its part, shape (n_batches * n_slots,)."""
        return np.repeat(values.ravel(), self.slots.ravel())

    def are_roomy(self) -> NDArray[np.bool_]:
        """Say of each batch with focal and global slots whether all its pools are roomy, shape (n_batches,)."""
        focal, rest = (self.kinds.index(kind) for kind in (Kind.FOCAL, Kind.GLOBAL))
        needed = self.slots.copy()
        needed[:, rest] += self.slots[:, focal]  # the pool of the others holds the rows of the focal slots as well
        tight = np.flatnonzero((self.size < _ROOM * needed) & (self.slots > 0))
        roomy = np.ones(len(self), bool)
        roomy[tight // (self.slots.size // len(self))] = False
        return roomy
