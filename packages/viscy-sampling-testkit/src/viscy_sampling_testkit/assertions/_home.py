"""The home group of a batch, and which of its slots belong to it; the others are the leak."""

from __future__ import annotations

import numpy as np

from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize


class Homes:
    """The home group of each batch: the group with the most slots.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    groups : sequence, array, Series or DataFrame, optional
        The group of each row, shape (n_anchors,).

    Attributes
    ----------
    slots : Slots
        All slots.
    codes, names
        The group code of each row, and the groups.
    of_batch : numpy.ndarray
        The code of each batch's home group, shape (n_batches,).
    is_home : numpy.ndarray
        Whether the row of a slot belongs to the home group of its batch, shape (n_slots,).
    """

    def __init__(self, batches: Batches, groups: Labels) -> None:
        self.slots = Slots.of(batches)
        self.codes, self.names = factorize(groups)
        self.of_batch = self.slots.counts(self.codes, len(self.names)).argmax(axis=1)
        self.is_home = self.codes[self.slots.positions] == self.of_batch[self.slots.numbers]

    def part(self, is_home: bool) -> list[list[int]]:
        """Return the batches with only their home slots, or only their leak slots."""
        chosen = np.flatnonzero(self.is_home == is_home)
        parts: list[list[int]] = [[] for _ in self.of_batch]
        numbers, positions = self.slots.numbers[chosen].tolist(), self.slots.positions[chosen].tolist()
        for number, position in zip(numbers, positions, strict=True):
            parts[number].append(position)
        return parts
