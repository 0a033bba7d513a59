"""The temporal window that a batch was drawn from: its possible focal times, and batches simulated from the rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions._slots import Batches, Labels, factorize, rounded

HOURS_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The rule of a temporal window.

    Parameters
    ----------
    times : numpy.ndarray
        Time of each row in hours, shape (n_anchors,).
    hours : float
        Half-width of the window in hours, inclusive.
    global_fraction : float
        Fraction of the home slots that are drawn from all times, in [0, 1].
    groups, conditions : sequence, array, Series or DataFrame
        The group and the condition of each row.
    leaky : float
        Fraction of the slots from other groups.
    condition_shares : mapping of label to float, optional
        Share of each condition among the slots.
    """

    times: np.ndarray
    hours: float
    global_fraction: float
    groups: Labels
    conditions: Labels
    leaky: float = 0.0
    condition_shares: Mapping[Any, float] | None = None

    @cached_property
    def condition_codes(self) -> np.ndarray:
        """The condition code of each row, shape (n_anchors,)."""
        return factorize(self.conditions)[0]

    @cached_property
    def shares(self) -> np.ndarray:
        """The share of each condition among the home slots of a group, shape (n_groups, n_conditions)."""
        groups, names = factorize(self.groups)
        codes, conditions = factorize(self.conditions)
        present = np.zeros((len(names), len(conditions)))
        present[groups, codes] = 1
        given = self.condition_shares
        shares = present * np.array([1.0 if given is None else given.get(name, 0.0) for name in conditions])
        if given is None and len(conditions) > 1:
            shares[:] = np.nan
        return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)

    def times_of(self, group: int) -> np.ndarray:
        """Return the distinct times of a group, ascending: its possible focal times."""
        return np.unique(self.times[factorize(self.groups)[0] == group])

    def least(self, slots: np.ndarray, group: int, size: int) -> np.ndarray:
        """Return how many of a condition's home slots are in the window at least, in the shape of `slots`.

        Either the slots or their quotas may be split into window and global slots and rounded.
        """
        least = rounded(slots * (1 - self.global_fraction))[0]
        quota = size * (1 - self.leaky) * self.shares[group]
        if np.isnan(quota).any():
            return np.maximum(least - 1, 0)
        in_window, beyond = rounded(quota * (1 - self.global_fraction))[0], rounded(quota * self.global_fraction)[1]
        return np.minimum(least, np.maximum(in_window, slots - beyond))


class WindowedBatches:
    """Batches of a sampler with a temporal window, by home group and size.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    window : Window
        The rule.
    """

    def __init__(self, batches: Batches, window: Window) -> None:
        self.window, self.homes = window, Homes(batches, window.groups)
        self.sizes = self.homes.slots.sizes
        self.n_home = np.bincount(self.homes.slots.numbers, self.homes.is_home, len(self.sizes)).astype(int)

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield group, batch numbers, and rows of the home slots, shape (n_batches, n_slots), of similar batches."""
        keys = np.stack([self.homes.of_batch, self.sizes, self.n_home], axis=1)
        rows, numbers = self.homes.slots.positions[self.homes.is_home], self.homes.slots.numbers[self.homes.is_home]
        starts = np.searchsorted(numbers, np.arange(len(self.sizes)))
        for key in np.unique(keys, axis=0):
            of_key = np.flatnonzero((keys == key).all(axis=1))
            yield int(key[0]), of_key, rows[starts[of_key][:, None] + np.arange(key[2])]

    def near(self, group: int, rows: np.ndarray) -> np.ndarray:
        """Return how many slots of each condition are near each focal time, (n_batches, n_times, n_conditions)."""
        window, focal = self.window, self.window.times_of(group)
        codes, n_conditions = window.condition_codes, window.shares.shape[1]
        counts = np.zeros((len(rows), len(focal), n_conditions), int)
        for slot in range(rows.shape[1]):
            hours = window.times[rows[:, slot]]
            is_near = np.abs(hours[:, None] - focal) <= window.hours + HOURS_TOLERANCE
            counts[np.arange(len(rows)), :, codes[rows[:, slot]]] += is_near
        return counts

    def candidates(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield group, batch numbers, possible focal times, and the likeliest one, of similar batches.

        A focal time is possible if enough slots of each condition that has rows in the window are in it. The likeliest
        has most slots in its window, and is nearest to their mean.
        """
        window = self.window
        for group, numbers, rows in self.blocks():
            focal, near = window.times_of(group), self.near(group, rows)
            codes = window.condition_codes
            slots = np.stack([(codes[rows] == c).sum(axis=1) for c in range(near.shape[2])], axis=1)
            own = factorize(window.groups)[0] == group
            has_rows = np.stack(
                [
                    (np.abs(window.times[own & (codes == c)][:, None] - focal) <= window.hours + HOURS_TOLERANCE).any(0)
                    for c in range(near.shape[2])
                ],
                axis=1,
            )
            least = window.least(slots, group, int(self.sizes[numbers[0]]))
            possible = ((near >= least[:, None]) | ~has_rows).all(axis=2)
            total = near.sum(axis=2)
            center = np.median(window.times[rows], axis=1)
            nearness = 1 / (2 + np.abs(focal - center[:, None]))
            yield group, numbers, possible, (total + nearness).argmax(axis=1)


def simulate(batches: WindowedBatches, rng: np.random.Generator, times: int = 2) -> list[list[int]]:
    """Draw batches by the rule, with the home groups and condition counts of given batches, and random focal times.

    Only home slots are drawn, so the results have no leak. Window slots are drawn without replacement, and then the
    global slots, from the rows that are left.

    Parameters
    ----------
    batches : WindowedBatches
        The batches to imitate.
    rng : numpy.random.Generator
        The source of randomness.
    times : int
        How often each batch is imitated.
    """
    window, codes = batches.window, batches.window.condition_codes
    groups = factorize(window.groups)[0]
    simulated: list[list[int]] = []
    for group, _, rows in batches.blocks():
        focal, n_conditions = window.times_of(group), window.shares.shape[1]
        strata = [np.flatnonzero((groups == group) & (codes == c)) for c in range(n_conditions)]
        strata = [stratum[np.argsort(window.times[stratum], kind="stable")] for stratum in strata]
        slots = np.stack([(codes[rows] == c).sum(axis=1) for c in range(n_conditions)], axis=1)
        slots = np.repeat(slots, times, axis=0)
        chosen = rng.permutation(np.resize(rng.permutation(len(focal)), len(slots)))
        ends = np.floor(np.cumsum(slots * (1 - window.global_fraction), axis=1) + rng.random((len(slots), 1)) + 1e-9)
        in_window = np.diff(ends, axis=1, prepend=0).astype(int).clip(0, slots)
        drawn: list[list[int]] = [[] for _ in slots]
        for c in range(n_conditions):
            keys = np.stack([chosen, slots[:, c], in_window[:, c]], axis=1)
            for (time, n, near), of_key in _by_row(keys):
                hours = window.times[strata[c]]
                start, stop = np.searchsorted(hours, focal[time] + np.array([-1, 1]) * (window.hours + HOURS_TOLERANCE))
                picks = _draw(rng, len(hours), int(start), int(stop), n, near if stop > start else 0, len(of_key))
                for number, pick in zip(of_key.tolist(), strata[c][picks].tolist(), strict=True):
                    drawn[number].extend(pick)
        simulated.extend(drawn)
    return simulated


def _by_row(keys: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield each distinct row, and the indexes of the rows that are equal to it."""
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    for key, of_key in zip(distinct, np.split(order, np.cumsum(np.bincount(inverse.ravel()))[:-1]), strict=True):
        yield tuple(key.tolist()), of_key


def _draw(
    rng: np.random.Generator, n_rows: int, start: int, stop: int, n: int, near: int, n_batches: int
) -> np.ndarray:
    """Draw `near` numbers from [start, stop) and the rest of `n` from the others of [0, n_rows), (n_batches, n)."""
    if n == 0:
        return np.zeros((n_batches, 0), int)
    keys = rng.random((n_batches, n_rows))
    first = np.resize(np.argsort(keys[:, start:stop], axis=1).T, (near, n_batches)).T + start if near else keys[:, :0]
    first = first.astype(int)
    keys = rng.random((n_batches, n_rows))
    if n <= n_rows:
        np.put_along_axis(keys, first, 2.0, axis=1)
    order = np.argsort(keys, axis=1)
    return np.concatenate([first, np.resize(order.T, (n - near, n_batches)).T], axis=1)
