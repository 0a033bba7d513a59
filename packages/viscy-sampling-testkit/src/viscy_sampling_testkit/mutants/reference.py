"""The reference: a batch sampler that keeps every law of the testkit, clear and slow, to hold assertions to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

# What a stream of random numbers is for; no two streams share a key.
_PLAN, _SLOTS = range(2)


@dataclass(frozen=True)
class Plan:
    """What the batches of one block hold, before rows are drawn: a block is as many batches as an epoch has.

    `homes` and `focal_hours` have shape (n_batches,), the others (n_batches, batch_size), one column a slot.
    `conditions` is -1 in the slots that a short batch lacks; `ordinals` numbers the primary slots of each cell in the
    order in which they are dealt, from the decks, one for each cell.
    """

    homes: np.ndarray
    focal_hours: np.ndarray
    conditions: np.ndarray
    leaks: np.ndarray
    ordinals: np.ndarray
    decks: list[np.ndarray]


class ReferenceSampler:
    """Batches of one group, with a leak, balanced over conditions, and around a focal time, as far as these are asked.

    The sequence of batches goes on without end and does not depend on ranks: rank ``r`` of ``R`` has its batches
    ``r``, ``r + R``, and so on, and fills its last step with batches after the epoch's end. Rows of a cell (group and
    condition) are dealt like a deck that goes round; those of the leak, and around a focal time, are drawn for each
    batch anew.

    Parameters
    ----------
    table : pandas.DataFrame
        One anchor a row. Every group must have rows of every condition.
    batch_size : int, default 12
        Slots of a batch.
    group_by, condition_by, time_by : str, optional
        Columns of group, condition, and time in hours. An axis without a column is off.
    leaky : float, default 0.0
        Fraction of the slots that comes from other groups.
    group_shares, condition_shares : mapping of label to float, optional
        Fractions that add up to 1: of the batches (by default, in proportion to rows), and of the slots (equal).
    window_hours : float, default 2.0
        Half-width of the focal window, inclusive.
    global_fraction : float, default 0.25
        Fraction of the slots drawn from all times.
    drop_last : bool, default True
        Whether to leave out the anchors that do not fill a batch. False makes a short last batch of them.
    rank, num_replicas, seed : int
        This rank, the number of ranks, and the seed.

    Raises
    ------
    ValueError
        If a group has no row of a condition.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        batch_size: int = 12,
        *,
        group_by: str | None = None,
        leaky: float = 0.0,
        group_shares: Mapping[Any, float] | None = None,
        condition_by: str | None = None,
        condition_shares: Mapping[Any, float] | None = None,
        time_by: str | None = None,
        window_hours: float = 2.0,
        global_fraction: float = 0.25,
        drop_last: bool = True,
        rank: int = 0,
        num_replicas: int = 1,
        seed: int = 0,
    ) -> None:
        groups, group_names = _codes(table, group_by)
        conditions, condition_names = _codes(table, condition_by)
        n_conditions = len(condition_names)
        self.cells = [
            np.flatnonzero(groups * n_conditions + conditions == c) for c in range(len(group_names) * n_conditions)
        ]
        if min(map(len, self.cells)) == 0:
            raise ValueError(f"every group must have rows of every condition of {condition_names}; leave one axis off")
        self.groups, self.conditions = groups, conditions
        self.group_shares = (
            np.bincount(groups) / len(table)
            if group_shares is None
            else np.array([group_shares[name] for name in group_names])
        )
        self.condition_shares = (
            np.full(n_conditions, 1 / n_conditions)
            if condition_shares is None
            else np.array([condition_shares[name] for name in condition_names])
        )
        self.hours = None if time_by is None else table[time_by].to_numpy()
        self.batch_size, self.leaky, self.drop_last = batch_size, leaky, drop_last
        self.window_hours, self.global_fraction = window_hours, global_fraction
        self.rank, self.num_replicas, self.seed = rank, num_replicas, seed
        self.total = len(table) // batch_size if drop_last else -(-len(table) // batch_size)
        # Epoch and position, in the sequence of all ranks, of the batch after the last one, and of the next epoch.
        self.at = self.next = (0, 0)
        self.planned: tuple[tuple[int, int], Plan] | None = None

    def __len__(self) -> int:
        """Return the number of batches that each rank has in an epoch."""
        return -(-self.total // self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's batches of the epoch that is next, from where a loaded state left it."""
        epoch, start = self.at = self.next
        self.next = (epoch + 1, 0)
        return self.steps(epoch, start)

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        """Yield this rank's batches of an epoch, the state being that after the batch that is yielded."""
        for first in range(start, self.total, self.num_replicas):
            position = first + self.num_replicas
            self.at = (epoch, position) if position < self.total else (epoch + 1, 0)
            yield self.batch(first + self.rank, epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is next; that of a loaded state keeps its position."""
        if epoch != self.next[0]:
            self.next = (epoch, 0)

    def state_dict(self) -> dict[str, int]:
        """Return where the sequence of all ranks is."""
        return {"epoch": self.at[0], "position": self.at[1]}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there."""
        self.at = self.next = (state["epoch"], state["position"])

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        """Return batch k of an epoch, by default of the one that is next, as a function of seed, epoch and k alone."""
        epoch = self.next[0] if epoch is None else epoch
        block, j = divmod(k, self.total)
        plan = self.plan(epoch, block)
        rng = self.generator(epoch, block, _SLOTS, j)
        rows = np.empty(self.batch_size, np.int64)
        around = self.count_around(plan, j, rng)
        for condition in range(len(self.condition_shares)):
            cell = int(plan.homes[j]) * len(self.condition_shares) + condition
            primary, leaked = (
                np.flatnonzero((plan.conditions[j] == condition) & (plan.leaks[j] == leaks)) for leaks in (False, True)
            )
            if len(leaked):
                rows[leaked] = self.draw(rng, self.leak_pool(int(plan.homes[j]), condition), len(leaked))
            if self.hours is None:
                chosen = self.deal(rng, plan.decks[cell], plan.ordinals[j, primary])
            else:
                chosen = self.gather(rng, self.cells[cell], plan.focal_hours[j], len(primary), around[condition])
            # Those of the window come first, and a small deck shows its order: neither may be seen.
            rows[primary] = rng.permutation(chosen)
        return self.arrange(rows[plan.conditions[j] >= 0], plan, j)

    def plan(self, epoch: int, block: int) -> Plan:
        """Decide what the batches of a block hold."""
        if self.planned is None or self.planned[0] != (epoch, block):
            self.planned = (epoch, block), self.make_plan(self.generator(epoch, block, _PLAN))
        return self.planned[1]

    def make_plan(self, rng: np.random.Generator) -> Plan:
        """Decide for each batch its home, its focal time, and what each slot is for."""
        homes = rng.permutation(np.repeat(np.arange(len(self.group_shares)), self.count_batches(rng)))
        sizes = self.sizes()
        conditions = self.shuffle_slots(rng, self.count_conditions(rng, sizes), sizes)
        order = rng.permuted(np.tile(np.arange(self.batch_size), (self.total, 1)), axis=1)
        leaks = self.choose_leaks(order, sizes, self.count_leaks(rng, sizes))
        cells = homes[:, None] * len(self.condition_shares) + conditions
        cells[leaks | (conditions < 0)] = -1
        ordinals = _numbered(cells.ravel()).reshape(cells.shape)
        return Plan(homes, self.choose_focal_hours(rng, homes), conditions, leaks, ordinals, self.shuffle_decks(rng))

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        """Return the generator of one purpose; keys of the same length never give the same stream."""
        return np.random.default_rng([self.seed, epoch, block, purpose, item])

    def sizes(self) -> np.ndarray:
        """Return how many slots each batch has, shape (n_batches,)."""
        sizes = np.full(self.total, self.batch_size)
        if not self.drop_last and len(self.groups) % self.batch_size:
            sizes[-1] = len(self.groups) % self.batch_size
        return sizes

    def count_batches(self, rng: np.random.Generator) -> np.ndarray:
        """Return how many batches each group has, shape (n_groups,)."""
        return _rounded(self.total * self.group_shares, rng.random())

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        """Return how many slots each condition has, shape (n_batches, n_conditions)."""
        return _rounded(sizes[:, None] * self.condition_shares, rng.random((len(sizes), 1)))

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        """Return how many slots leak in each batch, shape (n_batches,)."""
        return _rounded(sizes * self.leaky, rng.random())

    def shuffle_slots(self, rng: np.random.Generator, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return the condition of each slot, in random order, shape (n_batches, batch_size)."""
        slots = np.arange(self.batch_size)
        conditions = (slots[None, :, None] >= np.cumsum(counts, axis=1)[:, None, :]).sum(axis=2)
        # Slots that a short batch lacks keep their places, at its end.
        keys = np.where(slots < sizes[:, None], rng.random(conditions.shape), 1 + slots)
        conditions = np.take_along_axis(conditions, np.argsort(keys, axis=1), axis=1)
        return np.where(slots < sizes[:, None], conditions, -1)

    def choose_leaks(self, order: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return which slots leak: of those that a batch has, the first ones in a random order."""
        present = order < sizes[:, None]
        chosen = present & (np.cumsum(present, axis=1) <= counts[:, None])
        leaks = np.zeros(order.shape, bool)
        np.put_along_axis(leaks, order, chosen, axis=1)
        return leaks

    def choose_focal_hours(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        """Return the focal time of each batch: within a group its times take turns, shape (n_batches,)."""
        focal = np.zeros(len(homes))
        if self.hours is not None:
            for group in np.unique(homes):
                of_group = np.flatnonzero(homes == group)
                focal[of_group] = np.resize(rng.permutation(np.unique(self.hours[self.groups == group])), len(of_group))
        return focal

    def shuffle_decks(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the rows of each cell in the order in which they are dealt."""
        return [rng.permutation(cell) for cell in self.cells]

    def deal(self, rng: np.random.Generator, deck: np.ndarray, ordinals: np.ndarray) -> np.ndarray:
        """Return rows of a deck, which goes round; nothing about it is random."""
        return deck[ordinals % len(deck)]

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        """Return the rows from which the leak is drawn: those of all other groups."""
        return np.flatnonzero((self.groups != home) & (self.conditions == condition))

    def count_around(self, plan: Plan, j: int, rng: np.random.Generator) -> np.ndarray:
        """Return how many primary slots of each condition come from the window, shape (n_conditions,)."""
        if self.hours is None:
            return np.zeros(len(self.condition_shares), np.int64)
        primary = plan.conditions[j][~plan.leaks[j] & (plan.conditions[j] >= 0)]
        counts = np.bincount(primary, minlength=len(self.condition_shares))
        return _rounded(counts * (1 - self.global_fraction), rng.random())

    def gather(self, rng: np.random.Generator, cell: np.ndarray, focal: float, n: int, n_around: int) -> np.ndarray:
        """Draw rows of a cell, some of them from the window; without a row there, all from all times."""
        window = np.flatnonzero(self.in_window(cell, focal))
        near = self.draw(rng, window, n_around) if len(window) else window
        free = np.ones(len(cell), bool)
        free[near if n <= len(cell) else []] = False
        return cell[np.concatenate([near, self.draw(rng, np.flatnonzero(free), n - len(near))])]

    def in_window(self, cell: np.ndarray, focal: float) -> np.ndarray:
        """Return which rows of a cell lie within the window, ends included."""
        assert self.hours is not None
        return np.abs(self.hours[cell] - focal) <= self.window_hours + 1e-9

    def draw(self, rng: np.random.Generator, pool: np.ndarray, n: int) -> np.ndarray:
        """Draw rows of a pool, none twice before all have come."""
        rounds = [rng.permutation(pool) for _ in range(-(-n // max(1, len(pool))))]
        return np.concatenate([pool[:0], *rounds])[:n]

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        """Hand out a batch: its slots are in random order already."""
        return rows.tolist()


def _codes(table: pd.DataFrame, column: str | None) -> tuple[np.ndarray, list[Any]]:
    """Return the label number of each row and the labels; without a column all rows are alike."""
    if column is None:
        return np.zeros(len(table), np.int64), [None]
    codes, labels = pd.factorize(table[column])
    return codes, list(labels)


def _numbered(codes: np.ndarray) -> np.ndarray:
    """Return how often the code of each element came before it, shape (n,)."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    numbers = np.empty(len(codes), np.int64)
    numbers[order] = np.arange(len(codes)) - starts
    return numbers


def _rounded(quotas: np.ndarray, offset: Any) -> np.ndarray:
    """Round quotas along the last axis to floors or ceilings that add up alike (systematic sampling; Madow, 1949).

    With an offset that is uniform in [0, 1) each quota is met on average.
    """
    ends = np.floor(np.round(np.cumsum(quotas, axis=-1), 9) + offset)
    return np.diff(ends, axis=-1, prepend=0).astype(np.int64)
