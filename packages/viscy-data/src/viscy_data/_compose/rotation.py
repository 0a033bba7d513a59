"""A rotation: numbers visited in equal steps around a circle, and how many visits fall on an arc, in closed form.

The step is close to the golden section of the circle and has no divisor in common with its size, so every number is
visited once in each cycle. How evenly an arc is visited over time depends on the quotients of Euclid's algorithm for
step and size: the smaller their sum, the more evenly (L. Kuipers and H. Niederreiter, "Uniform Distribution of
Sequences", 1974, section 2.3); of 32 steps, the one with the least sum is taken. How many of the first n visits fall on
an arc is a difference of two sums of quotients, which a variant of that algorithm computes in a logarithmic number of
steps (R. L. Graham, D. E. Knuth and O. Patashnik, "Concrete Mathematics", 1994, section 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_data._random.hash import below

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN_SECTION = (5**0.5 - 1) / 2
_N_CANDIDATES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Many rotations; all fields have the same shape."""

    size: NDArray[np.int64]
    step: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def from_keys(cls, size: NDArray[np.int64], key: NDArray[np.uint64]) -> Rotation:
        """Make a rotation of the numbers 0..size-1 (1 to 2**25 of them) for each key, with a random start."""
        steps = np.rint(size * _GOLDEN_SECTION).astype(np.int64)[..., None] + np.arange(_N_CANDIDATES)
        best = _unevenness(size[..., None], steps).argmin(-1, keepdims=True)
        step = np.take_along_axis(steps, best, -1)[..., 0]
        return cls(size, step, below(key, size).astype(np.int64))

    def take(self, which: Any) -> Rotation:
        """Return some of the rotations; `which` is an index of the arrays."""
        return Rotation(self.size[which], self.step[which], self.start[which])

    def visit(self, time: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number that is visited at a time, 0, 1, 2, ..."""
        return (time % self.size * self.step + self.start) % self.size

    def count(self, time: NDArray[np.int64], first: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the visits before a time on the arc of numbers first, first + 1, ..., modulo the size.

        Parameters
        ----------
        time
            Number of visits to look at.
        first
            First number of the arc.
        length
            How many numbers the arc has, 0 to the size.

        Returns
        -------
        NDArray[np.int64]
            In the shape to which the parameters and the rotations are broadcast.
        """
        cycles, time = np.divmod(time, self.size)
        start = (self.start - first) % self.size
        on_arc = _sum_of_quotients(time, self.size, self.step, start)
        on_arc = on_arc - _sum_of_quotients(time, self.size, self.step, start + self.size - length) + time
        return cycles * length + on_arc


def _unevenness(size: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of the quotients of Euclid's algorithm; the largest integer where a divisor is shared."""
    size, step = np.broadcast_arrays(size, step % size)
    total = np.zeros_like(size)
    while step.any():
        quotient, rest = np.divmod(size, np.maximum(step, 1))
        total += np.where(step > 0, quotient, 0)
        size, step = np.where(step > 0, step, size), np.where(step > 0, rest, 0)
    return np.where(size == 1, total, np.iinfo(np.int64).max)


def _sum_of_quotients(
    n: NDArray[Any], modulus: NDArray[Any], step: NDArray[Any], start: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the sum of ``(step * i + start) // modulus`` over i = 0..n-1.

    All numbers are below 2**52, so that quotients of doubles, which are several times as fast, are exact.
    """
    n, modulus, step, start = (array.astype(np.float64) for array in np.broadcast_arrays(n, modulus, step, start))
    total = np.zeros_like(n)
    while True:
        whole = np.floor(step / modulus)
        step -= whole * modulus
        total += n * (n - 1) * (whole * 0.5)
        whole = np.floor(start / modulus)
        start -= whole * modulus
        total += n * whole
        last = step * n + start
        n = np.floor(last / modulus)
        if not n.any():
            return total.astype(np.int64)
        start = last - n * modulus
        # the roles of step and modulus change; a sum that is complete has no terms any more, whatever they are
        modulus, step = np.where(n > 0, step, 1.0), modulus
