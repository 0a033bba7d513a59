"""Focus: how many primary slots come from the focal window, and how the others keep clear of those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.parts import Kind
from viscy_data._compose.rounding import BITS, UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_data._compose.segments import Hands


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


def keep_clear_of_focal(hands: Hands, cards: NDArray[np.int64]) -> None:
    """Change the cards of global slots, in place, so that they repeat no focal anchor while there are others.

    A global slot whose card is one that a focal slot of the same cell holds takes the next card of its deck instead.
    Whether a card is held is read off its place in the focal deck. Once a cell is used up, its deck starts over.
    """
    hand_of_slot = hands.of_slots()
    # rows of the pool that no focal slot holds
    held = np.minimum(hands.size, hands.slots)[hands.sibling]
    has_focal = (hands.kind == Kind.GLOBAL) & (hands.sibling >= 0)
    clear = np.where(has_focal, hands.size - held, 0)
    slots = np.flatnonzero(has_focal[hand_of_slot])
    number = hands.slot_numbers()[slots]

    late = number >= clear[hand_of_slot[slots]]
    _take_cards(hands, cards, slots[late], (number - clear[hand_of_slot[slots]])[late])

    next_place = np.minimum(hands.slots, clear)
    slots = _held_by_focal(hands, cards, slots[~late], hand_of_slot)
    while slots.size:
        hand, first, count = np.unique(hand_of_slot[slots], return_index=True, return_counts=True)
        rank = np.arange(len(slots)) - np.repeat(first, count)
        _take_cards(hands, cards, slots, np.repeat(next_place[hand], count) + rank)
        next_place[hand] += count
        slots = _held_by_focal(hands, cards, slots, hand_of_slot)


def _take_cards(hands: Hands, cards: NDArray[np.int64], slots: NDArray[np.int64], place: NDArray[np.int64]) -> None:
    if slots.size:
        decks = hands.decks.take(hands.of_slots()[slots])
        cards[slots] = decks.card(place % decks.size)


def _held_by_focal(
    hands: Hands, cards: NDArray[np.int64], slots: NDArray[np.int64], hand_of_slot: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return those of some global slots whose card a focal slot holds."""
    hand = hand_of_slot[slots]
    focal = hands.sibling[hand]
    card = cards[slots] + (hands.start[hand] - hands.start[focal])
    inside = np.flatnonzero((card >= 0) & (card < hands.size[focal]))
    slots, focal, card = slots[inside], focal[inside], card[inside]
    return slots[hands.decks.take(focal).place(card) < hands.slots[focal]]
