"""Focus: how many primary slots come from the focal window, and how the others keep clear of those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._parts import Kind, Parts
from viscy_data._rounding import BITS, UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray


def focal_slots(
    slots: NDArray[np.int64], quota: NDArray[np.int64], fraction: float, offset: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Split the primary slots of each condition into focal and global ones.

    Given the whole slots, the number of focal ones is rounded so that both numbers are the floor or the ceiling of
    their quotas, and equal them on average.

    Parameters
    ----------
    slots
        Primary slots of each condition, shape (n_batches, n_conditions).
    quota
        The quotas that `slots` were rounded from, in units of 2**-24, same shape.
    fraction
        Of the quota that is focal.
    offset
        Random, in [0, 2**24), shape (n_batches,).

    Returns
    -------
    NDArray[np.int64]
        The focal ones of `slots`, same shape.
    """
    focal = np.rint(quota * fraction).astype(np.int64)
    rest = quota - focal
    a, b = focal % UNIT, rest % UNIT
    extra = slots - (focal >> BITS) - (rest >> BITS)  # slots beyond the floors: 0 or 1 if a + b <= 1, else 1 or 2
    few = a + b <= UNIT
    numerator = np.where(few, extra * a, np.where(extra == 2, 1, UNIT - b))
    denominator = np.where(few, np.maximum(a + b, 1), np.where(extra == 2, 1, 2 * UNIT - a - b))
    expected = (numerator << BITS) // denominator  # focal slots beyond the floor, given the slots there are
    bound = np.zeros((len(slots), slots.shape[1] + 1), np.int64)
    np.cumsum(expected, axis=1, out=bound[:, 1:])
    return (focal >> BITS) + np.diff((bound + offset[:, None]) >> BITS, axis=1)


def keep_clear_of_focal(parts: Parts, cards: NDArray[np.int64]) -> None:
    """Change the cards of global slots, in place, so that they repeat no focal anchor while there are others.

    A global slot whose card is one that a focal slot of the same cell holds takes the next card of its deck instead.
    Whether a card is held is read off its place in the focal deck. Once a cell is used up, its deck starts over.
    """
    parts_of_slots = parts.of_slots()
    # rows of the pool that no focal slot holds
    held = np.minimum(parts.size, parts.slots)[parts.sibling]
    has_focal = (parts.kind == Kind.GLOBAL) & (parts.sibling >= 0)
    clear = np.where(has_focal, parts.size - held, 0)
    slots = np.flatnonzero(has_focal[parts_of_slots])
    number = parts.slot_numbers()[slots]

    late = number >= clear[parts_of_slots[slots]]
    _take_cards(parts, cards, slots[late], (number - clear[parts_of_slots[slots]])[late])

    next_place = np.minimum(parts.slots, clear)
    slots = _held_by_focal(parts, cards, slots[~late], parts_of_slots)
    while slots.size:
        part, first, count = np.unique(parts_of_slots[slots], return_index=True, return_counts=True)
        rank = np.arange(len(slots)) - np.repeat(first, count)
        _take_cards(parts, cards, slots, np.repeat(next_place[part], count) + rank)
        next_place[part] += count
        slots = _held_by_focal(parts, cards, slots, parts_of_slots)


def _take_cards(parts: Parts, cards: NDArray[np.int64], slots: NDArray[np.int64], place: NDArray[np.int64]) -> None:
    if slots.size:
        decks = parts.decks.take(parts.of_slots()[slots])
        cards[slots] = decks.card(place % decks.size)


def _held_by_focal(
    parts: Parts, cards: NDArray[np.int64], slots: NDArray[np.int64], parts_of_slots: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return those of some global slots whose card a focal slot holds."""
    part = parts_of_slots[slots]
    focal = parts.sibling[part]
    card = cards[slots] + (parts.start[part] - parts.start[focal])
    inside = np.flatnonzero((card >= 0) & (card < parts.size[focal]))
    slots, focal, card = slots[inside], focal[inside], card[inside]
    return slots[parts.decks.take(focal).place(card) < parts.slots[focal]]
