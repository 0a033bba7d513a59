"""The reference: a clear and slow batch sampler that satisfies every law of the testkit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.assertions.choice import choose_targets
from viscy_sampling_testkit.mutants._exchange import PrimarySlots

# The purpose of a stream of random numbers; no two streams share a key.
_PLAN, _SLOTS = range(2)
# How often all rows are gone through to find others for rows that share a value.
_MOST_PASSES = 50


@dataclass(frozen=True)
class Plan:
    """The composition of the batches of one block, before rows are drawn.

    A block has as many batches as an epoch; the first block of a short epoch has those of all epochs of its round.
    `homes` and `focal_hours` have shape (n_batches,). `conditions`, `leaks` and `elements` have shape (n_batches,
    batch_size), one column per slot. `conditions` is -1 in the slots that a short batch lacks. A primary slot takes the
    row ``permutations[stratum][element]``, where `elements` counts the primary slots of each stratum in order.
    """

    homes: np.ndarray
    focal_hours: np.ndarray
    conditions: np.ndarray
    leaks: np.ndarray
    elements: np.ndarray
    permutations: list[np.ndarray]


class ReferenceSampler:
    """Batches of one group, with an optional leak, balanced conditions and a temporal window.

    The global sequence of batches is endless and does not depend on ranks: rank ``r`` of ``R`` has its batches ``r``,
    ``r + R``, and so on, and fills its last step with batches beyond the end of the epoch. Rows of a stratum (group x
    condition) are the elements of a permutation that repeats; rows of the leak and of a temporal window are drawn
    independently for each batch.

    Parameters
    ----------
    table : pandas.DataFrame
        One anchor per row. Every group must have rows of every condition.
    batch_size : int, default 12
        Slots of a batch.
    group_by, condition_by, time_by : str, optional
        Columns of group, condition, and time in hours. An axis without a column is off.
    leaky : float, default 0.0
        Fraction of the slots from other groups.
    group_shares, condition_shares : mapping of label to float, optional
        Fraction of the batches for each group (by default proportional to its rows), and fraction of the slots for each
        condition (by default equal); each adds up to 1.
    window_hours : float, default 2.0
        Half-width of the temporal window, inclusive.
    global_fraction : float, default 0.25
        Fraction of the slots drawn from all times.
    drop_last : bool, default True
        If True, leave out the anchors that do not fill a batch; if False, the last batch is short.
    split_batches : bool, default False
        If True, a step is one batch, and each rank has its own equal part of the slots of every batch.
    anchors_per_condition : int, optional
        A batch holds as many conditions as have room for so many anchors each; see `choose_targets`.
    epoch_batches : int, optional
        An epoch has so many full batches, and as many epochs as hold all anchors are one round.
    distinct_by : str or sequence of str, optional
        Columns of which no two rows of a batch share a value, as long as there are others.
    locality : int, default 1
        Slots are filled by runs of so many rows that follow each other in the order of `place_by`.
    place_by : sequence of str
        Columns by which the rows of a stratum are sorted: first the time, then the columns of the place.
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
        split_batches: bool = False,
        anchors_per_condition: int | None = None,
        epoch_batches: int | None = None,
        distinct_by: str | Sequence[str] | None = None,
        locality: int = 1,
        place_by: Sequence[str] = (),
        rank: int = 0,
        num_replicas: int = 1,
        seed: int = 0,
    ) -> None:
        groups, group_names = _codes(table, group_by)
        conditions, condition_names = _codes(table, condition_by)
        n_conditions = len(condition_names)
        codes = groups * n_conditions + conditions
        self.sorted_rows = np.lexsort([np.arange(len(table)), *(table[name].to_numpy() for name in reversed(place_by))])
        ordered = codes[self.sorted_rows]
        self.strata = [self.sorted_rows[ordered == stratum] for stratum in range(len(group_names) * n_conditions)]
        if min(map(len, self.strata)) == 0:
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
        self.values = None if distinct_by is None else table.groupby(distinct_by, sort=False).ngroup().to_numpy()
        self.taken: set[int] = set()
        self.batch_size, self.leaky, self.drop_last = batch_size, leaky, drop_last
        self.window_hours, self.global_fraction = window_hours, global_fraction
        self.rank, self.num_replicas, self.seed = rank, num_replicas, seed
        self.split_batches, self.anchors_per_condition = split_batches, anchors_per_condition
        self.locality = locality
        of_table = len(table) // batch_size if drop_last else -(-len(table) // batch_size)
        # Batches of an epoch, and epochs of a round.
        self.total = epoch_batches or of_table
        self.round_epochs = -(-of_table // epoch_batches) if epoch_batches else 1
        self.is_short = epoch_batches is not None
        # Epoch and index in the global sequence: of the batch after the last one drawn, and of the next iteration.
        self.cursor = self.next = (0, 0)
        self.last_plan: tuple[tuple[int, int], Plan] | None = None

    def __len__(self) -> int:
        """Return the number of batches, or slices of batches, that each rank has in an epoch."""
        return -(-self.total // self.stride)

    @property
    def stride(self) -> int:
        """The number of batches of a step."""
        return 1 if self.split_batches else self.num_replicas

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's batches of the next epoch, starting from the cursor of a loaded state.

        The epoch is the one that is set when the first batch is drawn, because frameworks call ``iter()`` first.
        """
        epoch, start = self.cursor = self.next
        self.next = (epoch + 1, 0)
        yield from self.steps(epoch, start)

    def steps(self, epoch: int, start: int) -> Iterator[list[int]]:
        """Yield this rank's batches of an epoch; the cursor is already after the batch that is yielded."""
        for first in range(start, self.total, self.stride):
            self.cursor = self.advance(epoch, first)
            yield self.own_slice(first, epoch) if self.split_batches else self.batch(first + self.rank, epoch)

    def own_slice(self, k: int, epoch: int) -> list[int]:
        """Return this rank's slots of batch k."""
        size = self.batch_size // self.num_replicas
        return self.batch(k, epoch)[self.rank * size : (self.rank + 1) * size]

    def advance(self, epoch: int, first: int) -> tuple[int, int]:
        """Return the cursor after the step whose first batch, on rank 0, has index `first`."""
        position = first + self.stride
        return (epoch, position) if position < self.total else (epoch + 1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch; choosing the epoch of a loaded state keeps its cursor."""
        if epoch != self.next[0]:
            self.next = (epoch, 0)
        self.cursor = self.next

    def state_dict(self) -> dict[str, Any]:
        """Return the cursor in the global sequence, and the fingerprint."""
        return {"epoch": self.cursor[0], "position": self.cursor[1], "fingerprint": self.fingerprint()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to the cursor of a state; ValueError if it has the fingerprint of another sampler."""
        own = self.fingerprint()
        if state.get("fingerprint", own) != own:
            raise ValueError(
                f"the state must be of the same table and options, got {state['fingerprint']!r}, not {own!r}"
            )
        self.cursor = self.next = (state["epoch"], state["position"])

    def fingerprint(self) -> str:
        """Return a text that is equal for samplers with the same sequence: a digest of the labels, and the options."""
        hours = [] if self.hours is None else self.hours.tolist()
        labels = repr((self.groups.tolist(), self.conditions.tolist(), hours)).encode()
        options: list[Any] = [self.batch_size, self.leaky, self.drop_last, self.window_hours, self.global_fraction]
        options += [self.locality, zlib.crc32(self.sorted_rows.tobytes())]
        options += [self.seed, self.anchors_per_condition, self.round_epochs, self.total]
        options += [zlib.crc32(b"" if self.values is None else self.values.tobytes())]
        shares = self.group_shares.tolist(), self.condition_shares.tolist()
        return f"{zlib.crc32(labels):08x} {(*options, *shares)!r}"

    def batch(self, k: int, epoch: int | None = None) -> list[int]:
        """Return batch k of an epoch, by default the next one, as a function of seed, epoch and k only."""
        epoch = self.next[0] if epoch is None else epoch
        first, block, j = self.locate(k, epoch)
        plan = self.plan(first, block)
        rng = self.generator(first, block, _SLOTS, j)
        rows = np.empty(self.batch_size, np.int64)
        n_in_window = self.count_in_window(plan, j, rng)
        self.taken = set()
        for condition in range(len(self.condition_shares)):
            stratum = int(plan.homes[j]) * len(self.condition_shares) + condition
            primary = np.flatnonzero((plan.conditions[j] == condition) & ~plan.leaks[j])
            if self.hours is None:
                chosen = self.take(rng, plan.permutations[stratum], plan.elements[j, primary])
            else:
                rows_of_stratum, focal = self.strata[stratum], plan.focal_hours[j]
                chosen = self.draw_around(rng, rows_of_stratum, focal, len(primary), n_in_window[condition])
            # Shuffle, because rows of the window come first, and a short permutation repeats its order.
            rows[primary] = rng.permutation(chosen)
            self.take_values(chosen)
        for condition in range(len(self.condition_shares)):
            leaked = np.flatnonzero((plan.conditions[j] == condition) & plan.leaks[j])
            if len(leaked):
                drawn = self.draw(rng, self.leak_pool(int(plan.homes[j]), condition), len(leaked))
                rows[leaked] = drawn if self.locality == 1 else rng.permutation(drawn)
        return self.arrange(rows[plan.conditions[j] >= 0], plan, j)

    def locate(self, k: int, epoch: int) -> tuple[int, int, int]:
        """Return the first epoch of the round, the block, and the index in the block of batch k of an epoch.

        The batches of all epochs of a round are one block; batches beyond the end of an epoch are of other blocks.
        """
        block, j = divmod(k, self.total)
        number = epoch % self.round_epochs
        return (epoch - number, 0, number * self.total + j) if block == 0 else (epoch, block, j)

    def plan(self, epoch: int, block: int) -> Plan:
        """Return the plan of a block; the last one is cached."""
        if self.last_plan is None or self.last_plan[0] != (epoch, block):
            rng = self.generator(epoch, block, _PLAN)
            is_round = block == 0 and self.round_epochs > 1
            self.last_plan = (epoch, block), self.make_plan(rng, self.round_epochs) if is_round else self.make_plan(rng)
        return self.last_plan[1]

    def make_plan(self, rng: np.random.Generator, n_epochs: int = 1) -> Plan:
        """Choose the home group and the focal time of each batch, and the stratum and leak of each slot."""
        homes = self.choose_homes(rng, n_epochs)
        sizes = np.tile(self.sizes(), n_epochs)
        counts = (
            self.count_conditions(rng, sizes)
            if self.anchors_per_condition is None
            else self.count_chosen(rng, homes, sizes, self.anchors_per_condition)
        )
        conditions = self.shuffle_slots(rng, counts, sizes)
        order = rng.permuted(np.tile(np.arange(self.batch_size), (len(homes), 1)), axis=1)
        leaks = self.choose_leaks(order, sizes, self.count_leaks(rng, sizes))
        strata = homes[:, None] * len(self.condition_shares) + conditions
        strata[leaks | (conditions < 0)] = -1
        elements = _count_earlier(strata.ravel()).reshape(strata.shape)
        permutations = self.permute_strata(rng)
        if self.values is not None and self.hours is None:
            permutations = self.separate(rng, strata, elements, permutations)
        return Plan(homes, self.choose_focal_hours(rng, homes), conditions, leaks, elements, permutations)

    def choose_homes(self, rng: np.random.Generator, n_epochs: int) -> np.ndarray:
        """Return the home group of each batch; each group has its share of each epoch, and of all, to within one."""
        if n_epochs == 1:
            return rng.permutation(np.repeat(np.arange(len(self.group_shares)), self.count_batches(rng)))
        left, homes = _rounded(n_epochs * self.total * self.group_shares, rng.random()), []
        for n_left in range(n_epochs, 0, -1):
            counts = self.count_epoch(rng, left, n_left)
            homes.append(rng.permutation(np.repeat(np.arange(len(left)), counts)))
            left = left - counts
        return np.concatenate(homes)

    def count_epoch(self, rng: np.random.Generator, left: np.ndarray, n_left: int) -> np.ndarray:
        """Return how many of the remaining batches of each group are in the next of the remaining epochs."""
        return _round_in_random_order(rng, left / n_left)

    def generator(self, epoch: int, block: int, purpose: int, item: int = 0) -> np.random.Generator:
        """Return the generator for one purpose; distinct keys of equal length never give the same stream."""
        return np.random.default_rng([self.seed, epoch, block, purpose, item])

    def sizes(self) -> np.ndarray:
        """Return the number of slots of each batch, shape (n_batches,)."""
        sizes = np.full(self.total, self.batch_size)
        if not self.drop_last and len(self.groups) % self.batch_size and not self.is_short:
            sizes[-1] = len(self.groups) % self.batch_size
        return sizes

    def count_batches(self, rng: np.random.Generator) -> np.ndarray:
        """Return the number of batches of each group, shape (n_groups,)."""
        return _rounded(self.total * self.group_shares, rng.random())

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        """Return the number of slots of each condition, shape (n_batches, n_conditions)."""
        return _rounded(sizes[:, None] * self.condition_shares, rng.random((len(sizes), 1)))

    def count_chosen(
        self, rng: np.random.Generator, homes: np.ndarray, sizes: np.ndarray, anchors_per_condition: int
    ) -> np.ndarray:
        """Return the number of slots of each condition, if a batch holds only some, shape (n_batches, n_conditions)."""
        counts = np.zeros((len(homes), len(self.condition_shares)), np.int64)
        for home, size in sorted(set(zip(homes.tolist(), sizes.tolist(), strict=True))):
            numbers = np.flatnonzero((homes == home) & (sizes == size))
            targets = choose_targets(self.condition_shares, size, anchors_per_condition)
            chosen = self.choose_conditions(rng, targets.probabilities, len(numbers))
            for k, of_batch in zip(numbers, chosen, strict=True):
                counts[k] = self.fill_conditions(rng, np.where(of_batch, targets.parts, 0.0))
        return counts

    def choose_conditions(self, rng: np.random.Generator, probabilities: np.ndarray, n: int) -> np.ndarray:
        """Return whether each of n batches holds each condition; over all of them, each has its share to within one."""
        left = _round_in_random_order(rng, n * probabilities)
        chosen = np.zeros((n, len(probabilities)), np.int64)
        for k in range(n):
            chosen[k] = _round_in_random_order(rng, left / (n - k))
            left = left - chosen[k]
        return chosen > 0

    def fill_conditions(self, rng: np.random.Generator, parts: np.ndarray) -> np.ndarray:
        """Return the number of slots of each condition of a batch."""
        return _round_in_random_order(rng, parts)

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        """Return the number of leak slots of each batch, shape (n_batches,)."""
        return _rounded(sizes * self.leaky, rng.random())

    def shuffle_slots(self, rng: np.random.Generator, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return the condition of each slot, in random order, shape (n_batches, batch_size)."""
        slots = np.arange(self.batch_size)
        conditions = (slots[None, :, None] >= np.cumsum(counts, axis=1)[:, None, :]).sum(axis=2)
        # The slots that a short batch lacks stay at its end.
        keys = np.where(slots < sizes[:, None], rng.random(conditions.shape), 1 + slots)
        conditions = np.take_along_axis(conditions, np.argsort(keys, axis=1), axis=1)
        return np.where(slots < sizes[:, None], conditions, -1)

    def choose_leaks(self, order: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return which slots leak: the first ones in a random order of the slots that a batch has."""
        present = order < sizes[:, None]
        chosen = present & (np.cumsum(present, axis=1) <= counts[:, None])
        leaks = np.zeros(order.shape, bool)
        np.put_along_axis(leaks, order, chosen, axis=1)
        return leaks

    def choose_focal_hours(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        """Return the focal time of each batch, shape (n_batches,); the times of a group are used one after another."""
        focal = np.zeros(len(homes))
        if self.hours is not None:
            for group in np.unique(homes):
                of_group = np.flatnonzero(homes == group)
                focal[of_group] = np.resize(rng.permutation(np.unique(self.hours[self.groups == group])), len(of_group))
        return focal

    def permute_strata(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return an order of the rows of each stratum."""
        return [self.shuffle(rng, rows) for rows in self.strata]

    def shuffle(self, rng: np.random.Generator, pool: np.ndarray) -> np.ndarray:
        """Return the rows of a pool in random order, or in runs that are in random order.

        From a random row on and around the end of the pool, rows are cut into runs; what is left comes last. It uses as
        many random numbers as without locality.
        """
        order = rng.permutation(len(pool))
        if self.locality == 1:
            return pool[order]
        rng = np.random.default_rng(order[:8].tolist())
        n_runs, rows = len(pool) // self.locality, np.roll(pool, int(rng.integers(max(1, len(pool)))))
        runs = [rows[i * self.locality : (i + 1) * self.locality] for i in rng.permutation(n_runs)]
        return np.concatenate([*runs, rows[n_runs * self.locality :]])

    def take(self, rng: np.random.Generator, permutation: np.ndarray, elements: np.ndarray) -> np.ndarray:
        """Return elements of a permutation, and of its later rounds; this step uses no randomness of the batch."""
        rounds, indexes = np.divmod(elements, len(permutation))
        orders = self.order_rounds(permutation, int(rounds.max(initial=0)) + 1)
        return np.array([orders[r][i] for r, i in zip(rounds, indexes, strict=True)], np.int64)

    def order_rounds(self, permutation: np.ndarray, n: int) -> list[np.ndarray]:
        """Return the order of the rows in each of n rounds.

        The last rows of a round are not among the first ones of the next, because a batch can hold both. A stratum that
        is too small for that has the same order in each round, and so has one that is drawn in runs.
        """
        most = self.condition_shares.max() if self.anchors_per_condition is None else 1.0
        reach = int(np.ceil(self.batch_size * most))
        orders = [permutation]
        for number in range(1, n if len(permutation) >= 3 * reach and self.locality == 1 else 1):
            rng = np.random.default_rng([number, *permutation[:8].tolist()])
            last = orders[-1][-reach:]
            order = rng.permutation(permutation)
            early = np.flatnonzero(np.isin(order[:reach], last))
            late = reach + rng.permutation(np.flatnonzero(~np.isin(order[reach:], last)))[: len(early)]
            order[early], order[late] = order[late], order[early]
            orders.append(order)
        return orders + [permutation] * (n - len(orders))

    def separate(
        self, rng: np.random.Generator, strata: np.ndarray, elements: np.ndarray, permutations: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Return permutations, all rounds of each in one, in which no two rows of a batch share a value.

        A row that shares the value of another row in its batch changes places with a random row of the same round.
        """
        assert self.values is not None
        slots = PrimarySlots.of(strata, elements, permutations, self.order_rounds, self.values)
        for _ in range(_MOST_PASSES):
            if not sum([slots.exchange(rng, place) for place in slots.clashes()]):
                break
        for stratum, i in slots.clashes():
            slots.replace(rng, stratum, i, self.strata[stratum])
        return slots.orders

    def take_values(self, rows: np.ndarray) -> None:
        """Remember the values that the batch holds."""
        if self.values is not None:
            self.taken.update(self.values[rows].tolist())

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        """Return the rows from which the leak is drawn: those of all other groups with the same condition."""
        if self.locality == 1:
            return np.flatnonzero((self.groups != home) & (self.conditions == condition))
        of_condition = self.strata[condition :: len(self.condition_shares)]
        return np.concatenate([of_condition[0][:0], *of_condition[:home], *of_condition[home + 1 :]])

    def count_in_window(self, plan: Plan, j: int, rng: np.random.Generator) -> np.ndarray:
        """Return the number of primary slots of each condition drawn from the window, shape (n_conditions,)."""
        if self.hours is None:
            return np.zeros(len(self.condition_shares), np.int64)
        primary = plan.conditions[j][~plan.leaks[j] & (plan.conditions[j] >= 0)]
        counts = np.bincount(primary, minlength=len(self.condition_shares))
        return _rounded(counts * (1 - self.global_fraction), rng.random())

    def draw_around(
        self, rng: np.random.Generator, rows: np.ndarray, focal: float, n: int, n_in_window: int
    ) -> np.ndarray:
        """Draw rows of a stratum, some of them from the window; if the window is empty, all from all times."""
        window = rows[self.in_window(rows, focal)]
        near = self.draw(rng, window, n_in_window) if len(window) else window
        free = rows[~np.isin(rows, near)] if n <= len(rows) else rows
        return np.concatenate([near, self.draw(rng, free, n - len(near))])

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        """Return which rows are within the window, ends included."""
        assert self.hours is not None
        return np.abs(self.hours[rows] - focal) <= self.window_hours + 1e-9

    def draw(self, rng: np.random.Generator, pool: np.ndarray, n: int) -> np.ndarray:
        """Draw rows from a pool; no row is repeated until all rows have been drawn."""
        if self.values is not None:
            return self.draw_distinct(rng, pool, n)
        rounds = [self.shuffle(rng, pool) for _ in range(-(-n // max(1, len(pool))))]
        return np.concatenate([pool[:0], *rounds])[:n]

    def draw_distinct(self, rng: np.random.Generator, pool: np.ndarray, n: int) -> np.ndarray:
        """Draw rows with values that the batch does not hold yet; rows with other values come last."""
        assert self.values is not None
        fresh, others = [], []
        for row in rng.permutation(pool).tolist():
            value = int(self.values[row])
            is_taken = value in self.taken or len(fresh) == n
            (others if is_taken else fresh).append(row)
            self.taken.update([] if is_taken else [value])
        return np.resize(np.array(fresh + others, np.int64), n)

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        """Return the batch as a list; its slots are already in random order."""
        return rows.tolist()


def _codes(table: pd.DataFrame, column: str | None) -> tuple[np.ndarray, list[Any]]:
    """Return the label code of each row, and the labels; without a column all rows have the same label."""
    if column is None:
        return np.zeros(len(table), np.int64), [None]
    codes, labels = pd.factorize(table[column])
    return codes, list(labels)


def _count_earlier(codes: np.ndarray) -> np.ndarray:
    """Return how often the code of each element occurs before it, shape (n,)."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    numbers = np.empty(len(codes), np.int64)
    numbers[order] = np.arange(len(codes)) - starts
    return numbers


def _rounded(quotas: np.ndarray, offset: Any) -> np.ndarray:
    """Round quotas along the last axis to floors or ceilings with the same sum (systematic sampling; Madow, 1949).

    If the offset is uniform in [0, 1), the mean of each rounded quota is the quota.
    """
    ends = np.floor(np.round(np.cumsum(quotas, axis=-1), 9) + offset)
    return np.diff(ends, axis=-1, prepend=0).astype(np.int64)


def _round_in_random_order(rng: np.random.Generator, quotas: np.ndarray) -> np.ndarray:
    """Round quotas of shape (n,) as `_rounded` does, in random order, so that no two are always rounded alike."""
    order = rng.permutation(len(quotas))
    counts = np.empty(len(quotas), np.int64)
    counts[order] = _rounded(quotas[order], rng.random())
    return counts
