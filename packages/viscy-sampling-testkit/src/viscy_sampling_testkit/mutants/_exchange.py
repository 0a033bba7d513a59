"""Exchange of rows: primary slots of a block whose rows change places until no batch holds a value twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np


class PrimarySlots:
    """The primary slots of a block as places ``(stratum, i)``: the batch of each, and the row that fills it.

    `orders` has the rows of each stratum, round after round, and `batches` the batch that each is for, -1 for none.
    `held` has the number of slots of each value in each batch.
    """

    def __init__(
        self, orders: list[np.ndarray], batches: list[np.ndarray], lengths: list[int], values: np.ndarray
    ) -> None:
        self.orders, self.batches, self.lengths, self.values = orders, batches, lengths, values
        self.held: dict[int, Counter[int]] = {}
        for order, numbers in zip(orders, batches, strict=True):
            for row, number in zip(order, numbers.tolist(), strict=True):
                self.held.setdefault(number, Counter())[int(values[row])] += 1

    @classmethod
    def of(
        cls,
        strata: np.ndarray,
        elements: np.ndarray,
        permutations: list[np.ndarray],
        order_rounds: Callable[[np.ndarray, int], list[np.ndarray]],
        values: np.ndarray,
    ) -> PrimarySlots:
        """Place the elements of all batches; `strata` and `elements` have shape (n_batches, batch_size)."""
        orders, batches = [], []
        for stratum, permutation in enumerate(permutations):
            numbers, slots = np.nonzero(strata == stratum)
            used = elements[numbers, slots]
            n_rounds = 1 + int(used.max(initial=0)) // len(permutation)
            orders.append(np.concatenate(order_rounds(permutation, n_rounds)))
            batches.append(np.full(len(orders[-1]), -1))
            batches[-1][used] = numbers
        return cls(orders, batches, [len(permutation) for permutation in permutations], values)

    def value(self, stratum: int, i: int) -> int:
        """Return the value of the row at a place."""
        return int(self.values[self.orders[stratum][i]])

    def clashes(self) -> list[tuple[int, int]]:
        """Return the places whose row shares its value with another row of the batch."""
        return [
            (stratum, i)
            for stratum, numbers in enumerate(self.batches)
            for i, number in enumerate(numbers.tolist())
            if number >= 0 and self.held[number][self.value(stratum, i)] > 1
        ]

    def exchange(self, rng: np.random.Generator, place: tuple[int, int]) -> bool:
        """Exchange the row at a place with another one of its round, so that neither batch holds a value twice."""
        (stratum, i), numbers = place, self.batches[place[0]]
        own, value = int(numbers[i]), self.value(*place)
        start = i - i % self.lengths[stratum]
        if self.held[own][value] < 2:
            return False
        for other in (start + rng.permutation(self.lengths[stratum])).tolist():
            number, fresh = int(numbers[other]), self.value(stratum, other)
            if number != own and not self.held[own][fresh] and (number < 0 or not self.held[number][value]):
                self.move(own, value, fresh)
                self.move(number, fresh, value)
                order = self.orders[stratum]
                order[i], order[other] = order[other], order[i]
                return True
        return False

    def replace(self, rng: np.random.Generator, stratum: int, i: int, rows: np.ndarray) -> None:
        """Fill a place with another row of the stratum, if one has a value that the batch does not hold."""
        number, value = int(self.batches[stratum][i]), self.value(stratum, i)
        fresh = [row for row in rng.permutation(rows) if not self.held[number][int(self.values[row])]]
        if fresh and self.held[number][value] > 1:
            self.orders[stratum][i] = fresh[0]
            self.move(number, value, self.value(stratum, i))

    def move(self, number: int, value: int, other: int) -> None:
        """Count that a batch holds another value in place of one."""
        held = self.held.setdefault(number, Counter())
        held[value] -= 1
        held[other] += 1
