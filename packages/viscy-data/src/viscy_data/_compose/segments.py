"""A segment: consecutive elements of a keyed permutation, which fill the slots of one part.

Elements of a permutation are distinct, so the rows of a segment are too. Segments fill parts whose permutation
continues from batch to batch, and all parts of batches that have a small pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from viscy_data._random.permutation import KeyedPermutations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.parts import Parts


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of all parts that have slots, batch by batch; each array of shape (n_segments,)."""

    kind: NDArray[np.int64]
    start: NDArray[np.int64]
    size: NDArray[np.int64]
    slots: NDArray[np.int64]
    first: NDArray[np.int64]
    """Index in the permutation of the first slot's element."""
    sibling: NDArray[np.int64]
    """The segment of the preceding kind in the same batch and condition (WINDOW for a GLOBAL one); -1 if none."""
    key: NDArray[np.uint64]
    """Key of the permutation."""

    @classmethod
    def from_parts(cls, parts: Parts, first: NDArray[np.int64], key: NDArray[np.uint64]) -> Segments:
        """List the segments of parts; `first` and `key` of their permutations are shaped like the fields of `parts`."""
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
            key=key.ravel()[kept],
        )

    @cached_property
    def permutations(self) -> KeyedPermutations:
        """The permutations of the pools."""
        return KeyedPermutations.from_keys(self.size, self.key)

    def of_slots(self) -> NDArray[np.int64]:
        """Return the segment of each slot, shape (n_slots,)."""
        return np.repeat(np.arange(len(self.slots)), self.slots)

    def slot_numbers(self) -> NDArray[np.int64]:
        """Return the number of each slot within its segment, from 0, shape (n_slots,)."""
        return np.arange(self.slots.sum()) - np.repeat(np.cumsum(self.slots) - self.slots, self.slots)

    def rows(self) -> NDArray[np.int64]:
        """Return the row of each slot, shape (n_slots,)."""
        return self.rows_at(self.of_slots(), np.repeat(self.first, self.slots) + self.slot_numbers())

    def rows_at(self, segment: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows of segments, given their indices in the permutations, which start over when they are used up."""
        permutations = self.permutations.take(segment)
        beyond = np.flatnonzero(index >= permutations.size)
        index[beyond] %= permutations.size[beyond]
        return self.start[segment] + permutations.element(index)
