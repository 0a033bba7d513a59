"""The leak: the slots of a batch that are drawn from other groups than its home group."""

from __future__ import annotations

import numpy as np

from viscy_sampling_testkit.assertions._bounds import hoeffding_p_value
from viscy_sampling_testkit.assertions._failure import check_false_alarm, judge, judge_chi_square
from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions._slots import Batches, Labels, factorize
from viscy_sampling_testkit.assertions.inclusion import assert_row_inclusion

_LEAST_EXPECTED = 5.0
# Number of blocks, by the number of a row in its group and by time, that are compared.
_BLOCKS = 4


def assert_uniform_leak(
    batches: Batches,
    groups: Labels,
    conditions: Labels | None = None,
    times: np.ndarray | None = None,
    *,
    excluded: tuple[object, ...] = (),
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that leak slots are drawn uniformly from the rows of all groups but the batch's home group.

    Given the home group of each batch and the condition of each leak slot, six tests share the false-alarm rate:

    - *Groups*: for each home group, how often each other group leaks is compared with its number of rows (chi-square).
    - *Groups in runs*: the same, summed over runs of batches that are long enough for an expected count of 5. It has
      power against groups that leak too often for a part of the batches.
    - *Rows*: no row leaks too often or too rarely (`assert_row_inclusion`).
    - *Blocks*: the rows are cut into quarters, by their number in their group, and by time. Each leaks in proportion to
      its rows (chi-square).
    - *Pairs*: in batches with two or more leak slots, how often the first two are of the same group (Hoeffding).
    - *Times*: how often the first leak slot is between the quartiles of the times of its batch's home slots
      (Hoeffding). It has power against a leak from the temporal window.

    `detectable_leak` quantifies the power against a group that leaks too often.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    groups : sequence, array, Series or DataFrame
        The group of each row, shape (n_anchors,).
    conditions : sequence, array, Series or DataFrame, optional
        The condition of each row. With it, the leak slots of a condition are drawn from the rows of that condition.
    times : numpy.ndarray, optional
        The time of each row in hours, shape (n_anchors,).
    excluded : tuple
        Groups that must not leak.
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation of the chi-square tests, that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If groups, rows or times deviate.
    ValueError
        If there are no leak slots, or `false_alarm` is outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> batches = [[*rng.choice(10, 4, replace=False), 10 + rng.integers(20)] for _ in range(200)]
    >>> assert_uniform_leak(batches, ["a"] * 10 + ["b"] * 10 + ["c"] * 10)
    """
    check_false_alarm(false_alarm)
    leak = _Leak(batches, groups, conditions, excluded)
    facts: dict[str, object] = {"seed": seed, "n": f"{len(leak.row)} leak slots in {len(batches)} batches"}
    tests = false_alarm / 6
    _judge_groups(leak, False, tests, facts)
    _judge_groups(leak, True, tests, facts)
    assert_row_inclusion(leak.batches, expected=leak.expected_rows() / len(leak.batches), false_alarm=tests, seed=seed)
    _judge_blocks(leak, times, tests, facts)
    _judge_pairs(leak, tests, facts)
    if times is not None:
        _judge_times(leak, Homes(batches, groups), np.asarray(times, float), tests, facts)


class _Leak:
    """The leak slots of batches: their rows, and the pools from which they should have been drawn.

    `row`, `batch` and `pool` have shape (n_leak_slots,). A pool is a home group and a condition; `share` has the
    probability of each group in each pool, shape (n_pools, n_groups).
    """

    def __init__(
        self, batches: Batches, groups: Labels, conditions: Labels | None, excluded: tuple[object, ...]
    ) -> None:
        homes = Homes(batches, groups)
        codes, names = (
            factorize(conditions) if conditions is not None else (np.zeros(len(homes.codes), np.int64), [None])
        )
        leaks = np.flatnonzero(~homes.is_home)
        if not leaks.size:
            raise ValueError("batches must have leak slots for their rows to be tested, got none")
        self.groups, self.conditions, self.names = homes.codes, codes, homes.names
        self.row, self.batch = homes.slots.positions[leaks], homes.slots.numbers[leaks]
        self.home = homes.of_batch[self.batch]
        self.pool = self.home * len(names) + codes[self.row]
        self.batches = [part for part in homes.part(False) if part]
        may_leak = ~np.isin(np.arange(len(self.names)), [k for k, name in enumerate(self.names) if name in excluded])
        rows = np.zeros((len(names), len(self.names)))
        np.add.at(rows, (codes, self.groups), 1.0)
        others = rows[None] * may_leak * ~np.eye(len(self.names), dtype=bool)[:, None]
        self.n_rows = others.sum(axis=2).ravel()
        self.share = others.reshape(-1, len(self.names)) / np.maximum(self.n_rows, 1)[:, None]
        self.rows_of = rows

    def expected_rows(self) -> np.ndarray:
        """Return how often each row should leak, given the pools of the leak slots, shape (n_anchors,)."""
        slots = np.bincount(self.pool, minlength=len(self.n_rows)) / np.maximum(self.n_rows, 1)
        by_group = (slots[:, None] * (self.share > 0)).reshape(len(self.names), -1, len(self.names)).sum(axis=0)
        return by_group[self.conditions, self.groups]


def _judge_groups(leak: _Leak, in_runs: bool, false_alarm: float, facts: dict[str, object]) -> None:
    """Compare how often the groups leak into each home group, in all or in runs of batches with enough leak slots."""
    statistic, freedom, worst = 0.0, 0, (0.0, "")
    for home in np.unique(leak.home):
        of_home = np.flatnonzero(leak.home == home)
        expected = np.cumsum(leak.share[leak.pool[of_home]], axis=0)
        possible = expected[-1] > 0
        if possible.sum() < 2:
            continue
        observed = np.cumsum(np.eye(len(leak.names))[leak.groups[leak.row[of_home]]], axis=0)
        ends = _ends_of_runs(expected[:, possible]) if in_runs else [len(expected) - 1]
        runs = [np.diff(counts[ends][:, possible], axis=0, prepend=0.0) for counts in (observed, expected)]
        terms = (runs[0] - runs[1]) ** 2 / runs[1]
        statistic, freedom = statistic + float(terms.sum()), freedom + len(ends) * (int(possible.sum()) - 1)
        source = int(np.flatnonzero(possible)[terms.sum(axis=0).argmax()])
        text = f"{observed[-1, source]:g} leak slots of '{leak.names[source]}' into '{leak.names[home]}'"
        worst = max(worst, (float(terms.sum()), f"{text}, {expected[-1, source]:.4g} expected"))
    if freedom:
        judge_chi_square(
            "groups must leak in proportion to their rows",
            statistic,
            freedom,
            false_alarm,
            observed=worst[1],
            **facts,
        )


def _ends_of_runs(expected: np.ndarray) -> list[int]:
    """Return the last slot of each run of slots in which every category is expected often enough; at least one run."""
    ends, base = [], np.zeros(expected.shape[1])
    for i, so_far in enumerate(expected):
        if (so_far - base).min() >= _LEAST_EXPECTED:
            ends.append(i)
            base = so_far
    return [*ends[:-1], len(expected) - 1]


def _judge_blocks(leak: _Leak, times: np.ndarray | None, false_alarm: float, facts: dict[str, object]) -> None:
    """Compare how often blocks of rows leak: a quarter of the rows each, by row number and by time."""
    expected, counts = leak.expected_rows(), np.bincount(leak.row, minlength=len(leak.groups))
    rank = np.empty(len(counts))
    for group in np.unique(leak.groups):
        of_group = np.flatnonzero(leak.groups == group)
        rank[of_group] = np.arange(len(of_group)) / len(of_group)
    orders = {"number in their group": np.argsort(rank, kind="stable")}
    if times is not None:
        orders["time"] = np.argsort(np.asarray(times, float), kind="stable")
    for name, order in orders.items():
        blocks = np.array_split(order, _BLOCKS)
        due = np.array([expected[block].sum() for block in blocks])
        seen = np.array([counts[block].sum() for block in blocks])
        if due.min() >= _LEAST_EXPECTED:
            statistic = float(((seen - due) ** 2 / due).sum())
            judge_chi_square(
                f"rows must leak equally often, whatever their {name}",
                statistic,
                _BLOCKS - 1,
                false_alarm / len(orders),
                observed=f"{seen.tolist()} leak slots in quarters of the rows by {name}",
                expected=np.round(due, 1).tolist(),
                **facts,
            )


def _judge_pairs(leak: _Leak, false_alarm: float, facts: dict[str, object]) -> None:
    """Compare how often the first two leak slots of a batch are of the same group."""
    second = 1 + np.flatnonzero(leak.batch[1:] == leak.batch[:-1])
    second = second[np.unique(leak.batch[second], return_index=True)[1]]
    if not second.size:
        return
    first = second - 1
    both = leak.share[leak.pool[first]] * leak.share[leak.pool[second]]
    # Two slots of a condition are drawn without replacement.
    n = leak.n_rows[leak.pool[first]][:, None]
    without = leak.share[leak.pool[first]] * (leak.share[leak.pool[first]] * n - 1) / np.maximum(n - 1, 1)
    both = np.where((leak.pool[first] == leak.pool[second])[:, None] & (n > 1), without, both)
    same = int((leak.groups[leak.row[first]] == leak.groups[leak.row[second]]).sum())
    expected = float(both.clip(0).sum())
    judge(
        "two leak slots of a batch must be of the same group only by chance",
        hoeffding_p_value(same, expected, len(second)),
        false_alarm,
        observed=f"{same} of {len(second)} batches with two leak slots of one group",
        expected=f"{expected:.4g}",
        **facts,
    )


def _judge_times(leak: _Leak, homes: Homes, times: np.ndarray, false_alarm: float, facts: dict[str, object]) -> None:
    """Compare how often the first leak slot of a batch is in the middle of the times of the home slots."""
    home = homes.part(True)
    first = np.unique(leak.batch, return_index=True)[1]
    near, chance = 0, 0.0
    for slot in first:
        low, high = np.quantile(times[home[leak.batch[slot]]], [0.25, 0.75])
        may = (leak.conditions == leak.conditions[leak.row[slot]]) & (leak.share[leak.pool[slot]] > 0)[leak.groups]
        near += int(low <= times[leak.row[slot]] <= high)
        chance += float(((times >= low) & (times <= high))[may].mean())
    judge(
        "the time of a leak slot must not depend on the times of its batch",
        hoeffding_p_value(near, chance, len(first)),
        false_alarm,
        observed=f"{near} of {len(first)} leak slots between the quartiles of the times of their batch",
        expected=f"{chance:.4g}",
        **facts,
    )
