"""A part: so many slots of one batch, filled from one pool of rows by the cards of one deck."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._deck import Decks

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Kind(IntEnum):
    """What the slots of a part are; the numbers go into the key of the part's deck."""

    FOCAL = 0
    GLOBAL = 1
    DEALT = 2
    LEAK = 3


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """The pools of one kind of part in every batch of a block, each field of shape (n_batches, n_conditions)."""

    kind: Kind
    start: NDArray[np.int64]
    """Where the pool starts in the sorted anchors; for LEAK, whose pools are not one slice, not used."""
    size: NDArray[np.int64]
    """Rows of the pool."""
    slots: NDArray[np.int64]
    """Slots to fill; 0 where the pool is empty."""
    first: NDArray[np.int64]
    """Place in the deck of the first slot's card."""
    key: NDArray[np.uint64]
    """Key of the deck."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """All parts of a block that fill a slot, batch by batch; each field but `decks` of shape (n_parts,)."""

    batch: NDArray[np.int64]
    kind: NDArray[np.int64]
    condition: NDArray[np.int64]
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    slots: NDArray[np.int64]
    first: NDArray[np.int64]
    sibling: NDArray[np.int64]
    """The part of the kind before, in the same batch and condition: of a GLOBAL part the FOCAL one; -1 if none."""
    decks: Decks

    @classmethod
    def of(cls, pools: list[Pools]) -> Parts:
        """List the parts of the given kinds."""
        slots = np.stack([pool.slots for pool in pools], axis=1)
        kept = np.flatnonzero(slots)
        batch, kind, condition = np.unravel_index(kept, slots.shape)
        number = np.full(slots.size, -1)
        number[kept] = np.arange(len(kept))
        before = kept - slots.shape[2]
        start, size, first, key = (
            np.stack([getattr(pool, name) for pool in pools], axis=1).ravel()[kept]
            for name in ("start", "size", "first", "key")
        )
        return cls(
            batch=batch,
            kind=np.array([pool.kind for pool in pools])[kind],
            condition=condition,
            start=start,
            size=size,
            slots=slots.ravel()[kept],
            first=first,
            sibling=np.where(kind > 0, number[before], -1),
            decks=Decks.keyed(size, key),
        )

    def of_slots(self) -> NDArray[np.int64]:
        """Return the part that each slot is of, shape (n_slots,)."""
        return np.repeat(np.arange(len(self.slots)), self.slots)

    def slot_numbers(self) -> NDArray[np.int64]:
        """Return the number of each slot within its part, from 0, shape (n_slots,)."""
        return np.arange(self.slots.sum()) - np.repeat(np.cumsum(self.slots) - self.slots, self.slots)

    def cards(self) -> NDArray[np.int64]:
        """Return the card of each slot, shape (n_slots,): consecutive ones, round and round the deck."""
        place = np.repeat(self.first, self.slots) + self.slot_numbers()
        decks = self.decks.repeat(self.slots)
        beyond = np.flatnonzero(place >= decks.size)
        place[beyond] %= decks.size[beyond]
        return decks.card(place).astype(np.int64)
