"""Deal: the cards of decks. The slots of a part take consecutive cards of its deck, so they are distinct.

So are filled the parts whose deck goes from batch to batch, and those of batches with a pool that is not roomy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.permutation import Decks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.parts import Parts


@dataclass(frozen=True, slots=True, eq=False)
class Hands:
    """All parts that fill a slot, batch by batch, with a deck each; each array of shape (n_hands,)."""

    kind: NDArray[np.int64]
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    slots: NDArray[np.int64]
    first: NDArray[np.int64]
    """Place in the deck of the first slot's card."""
    sibling: NDArray[np.int64]
    """The hand of the kind before, in the same batch and condition: of a GLOBAL one the FOCAL one; -1 if none."""
    decks: Decks

    @classmethod
    def of(cls, parts: Parts, first: NDArray[np.int64], key: NDArray[np.uint64]) -> Hands:
        """List the parts; `first` and `key` of their decks have the shape of the fields of `parts`."""
        kept = np.flatnonzero(parts.slots)
        kind = kept // parts.slots.shape[2] % len(parts.kinds)
        number = np.full(parts.slots.size, -1)
        number[kept] = np.arange(len(kept))
        start, size, slots, first = (array.ravel()[kept] for array in (parts.start, parts.size, parts.slots, first))
        return cls(
            kind=np.array(parts.kinds)[kind],
            start=start,
            size=size,
            slots=slots,
            first=first,
            sibling=np.where(kind > 0, number[kept - parts.slots.shape[2]], -1),
            decks=Decks.keyed(size, key.ravel()[kept]),
        )

    def of_slots(self) -> NDArray[np.int64]:
        """Return the hand that each slot is of, shape (n_slots,)."""
        return np.repeat(np.arange(len(self.slots)), self.slots)

    def slot_numbers(self) -> NDArray[np.int64]:
        """Return the number of each slot within its hand, from 0, shape (n_slots,)."""
        return np.arange(self.slots.sum()) - np.repeat(np.cumsum(self.slots) - self.slots, self.slots)

    def cards(self) -> NDArray[np.int64]:
        """Return the card of each slot, shape (n_slots,): consecutive ones, round and round the deck."""
        place = np.repeat(self.first, self.slots) + self.slot_numbers()
        decks = self.decks.repeat(self.slots)
        beyond = np.flatnonzero(place >= decks.size)
        place[beyond] %= decks.size[beyond]
        return decks.card(place).astype(np.int64)
