"""The temporal window: which times are focal, and how many slots are drawn from the window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

from viscy_sampling_testkit.assertions._failure import check_false_alarm, fail, judge_chi_square, judge_deviation
from viscy_sampling_testkit.assertions._slots import Batches, Labels
from viscy_sampling_testkit.assertions._windows import Window, WindowedBatches, simulate

_LEAST_EXPECTED = 10.0


def make_window(
    times: Sequence[float] | np.ndarray,
    hours: float,
    global_fraction: float,
    groups: Labels | None = None,
    conditions: Labels | None = None,
    leaky: float = 0.0,
    condition_shares: Mapping[Any, float] | None = None,
) -> Window:
    """Describe a temporal window, for `assert_focal_turns` and `assert_window_shares`.

    Parameters
    ----------
    times : sequence of float
        Time of each row in hours, shape (n_anchors,).
    hours : float
        Half-width of the window in hours, inclusive.
    global_fraction : float
        Fraction of the home slots of each condition that are drawn from all times, in [0, 1].
    groups, conditions : sequence, array, Series or DataFrame, optional
        The group and the condition of each row; by default all rows are of one.
    leaky : float, default 0.0
        Fraction of the slots from other groups, in [0, 0.5).
    condition_shares : mapping of label to float, optional
        Share of each condition among the slots; unknown by default.

    Returns
    -------
    Window
        The rule.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    for name, value, most in (("global_fraction", global_fraction, 1.0), ("leaky", leaky, 0.499)):
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be in [0, {most:g}], got {value!r}")
    if not hours >= 0:
        raise ValueError(f"hours must be at least 0, got {hours!r}")
    of_one = np.zeros(len(times), np.int64)
    return Window(
        times=np.asarray(times, float),
        hours=hours,
        global_fraction=global_fraction,
        groups=of_one if groups is None else groups,
        conditions=of_one if conditions is None else conditions,
        leaky=leaky,
        condition_shares=condition_shares,
    )


def assert_focal_turns(batches: Batches, window: Window) -> None:
    """Assert that the times of a group take turns as focal times: each equally often in an epoch, to within one.

    The focal time of a batch is not known, but only some times are possible: those with enough slots of each condition
    in their window. The batches of a group must have an assignment to possible focal times in which every time of the
    group has the floor or the ceiling of its share. Whether there is one is a matching problem (N. S. Mendelsohn and
    A. L. Dulmage, Can. J. Math. 10, 1958), so the assertion is exact. It has power if few times are possible for a
    batch: with many slots, and windows that are narrow relative to the range of times.

    Parameters
    ----------
    batches : sequence of sequence of int
        All batches of an epoch, shape (n_batches, batch_size).
    window : Window
        Result of `make_window`.

    Raises
    ------
    AssertionError
        If no time is possible for a batch, or the times of a group cannot have taken turns.

    Examples
    --------
    >>> window = make_window([0, 0, 1, 1, 2, 2], hours=0, global_fraction=0)
    >>> assert_focal_turns([[2, 3], [0, 1], [4, 5]], window)
    """
    names = WindowedBatches(batches, window).homes.names
    by_group: dict[int, list[tuple[int, np.ndarray]]] = {}
    for group, numbers, possible, _ in WindowedBatches(batches, window).candidates():
        by_group.setdefault(group, []).extend(zip(numbers.tolist(), possible, strict=True))
    for group, rows in by_group.items():
        possible = np.stack([row for _, row in sorted(rows, key=lambda row: row[0])])
        impossible = np.flatnonzero(~possible.any(axis=1))
        facts = {"n": f"{len(possible)} batches of group '{names[group]}', {possible.shape[1]} times"}
        if impossible.size:
            fail(
                "each batch must have a focal time with enough slots of each condition in its window",
                observed="no possible focal time",
                first_offending_batch=sorted(number for number, _ in rows)[impossible[0]],
                **facts,
            )
        turns, rest = divmod(*possible.shape)
        due = f"{turns} or {turns + 1}" if rest else str(turns)
        if not (_has_matching(possible, turns + (rest > 0), rows=True) and _has_matching(possible, turns, rows=False)):
            likely = np.bincount(possible.argmax(axis=1), minlength=possible.shape[1])
            fail(
                "the times of a group must take turns as focal times",
                observed=f"no such assignment; earliest possible focal time of a batch: {likely.tolist()} times",
                expected=f"each time {due} times",
                **facts,
            )


def assert_window_shares(
    batches: Batches,
    window: Window,
    *,
    false_alarm: float = 1e-6,
    seed: int | None = None,
    simulation_seed: int = 0,
) -> None:
    """Assert that window slots and global slots are distributed as the rule of the temporal window says.

    The batches are compared with batches simulated by the rule, two for each, with the same home groups and condition
    counts. Two kinds of tests share the false-alarm rate:

    - *Widths*: the largest number of home slots of a batch in an interval of time, for intervals of a half and of the
      whole window, of the window without its last step, and of one and a half windows: means, compared by a normal
      approximation. They have power against a window that is too narrow, too wide or one-sided, and a wrong global
      fraction. `detectable_window_shift` quantifies the power.
    - *Focal times*: how often each time is the likeliest focal time of a batch (chi-square of two samples). It has
      power against focal times that are not equally frequent over many epochs.

    Parameters
    ----------
    batches : sequence of sequence of int
        Batches of complete epochs, shape (n_batches, batch_size); some hundreds.
    window : Window
        Result of `make_window`.
    false_alarm : float, default 1e-6
        Largest probability, up to the approximations, that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.
    simulation_seed : int, default 0
        Seed of the simulation.

    Raises
    ------
    AssertionError
        If the numbers of slots or the focal times deviate.
    ValueError
        If `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    observed = WindowedBatches(batches, window)
    simulated = WindowedBatches(simulate(observed, np.random.default_rng(simulation_seed)), window)
    widths = _widths(window)
    for width in widths:
        ours, rule = (most_within(each, width) for each in (observed, simulated))
        error = math.sqrt(ours.var() / len(ours) + rule.var() / len(rule)) or 1e-9
        deviation = float((ours.mean() - rule.mean()) / error)
        judge_deviation(
            f"the largest number of home slots within {width:g} h must be that of the temporal window",
            deviation,
            false_alarm / 2 / len(widths),
            observed=f"mean {ours.mean():.4g}",
            expected=f"mean {rule.mean():.4g}",
            n=f"{len(ours)} batches, {len(rule)} simulated",
            seed=seed,
        )
    _judge_focal_times(observed, simulated, false_alarm / 2, seed)


def _has_matching(possible: np.ndarray, copies: int, *, rows: bool) -> bool:
    """Return whether batches and copies of the times can be matched so that all batches, or all copies, are matched."""
    if copies == 0:
        return not rows
    graph = sparse.csr_matrix(np.repeat(possible, copies, axis=1))
    matched = maximum_bipartite_matching(graph, perm_type="column")
    n_matched = int((matched >= 0).sum())
    return n_matched == (len(possible) if rows else possible.shape[1] * copies)


def _widths(window: Window) -> list[float]:
    """Return the widths of the intervals to test, without those that hold no or all times."""
    steps = np.diff(np.unique(window.times))
    step = float(steps.min()) if steps.size else 0.0
    hours = window.hours
    widths = {hours, 2 * hours, 2 * hours - step, 3 * hours, step}
    return sorted(round(width, 6) for width in widths if 0 <= width < np.ptp(window.times))


def most_within(batches: WindowedBatches, width: float) -> np.ndarray:
    """Return for each batch the largest number of home slots in an interval of time, shape (n_batches,)."""
    most = np.zeros(len(batches.sizes))
    for _, numbers, rows in batches.blocks():
        hours = np.sort(batches.window.times[rows], axis=1)
        best = np.ones(len(rows), int)
        for slot in range(hours.shape[1]):
            reach = hours[:, slot, None] + width + 1e-6
            best = np.maximum(best, (hours[:, slot:] <= reach).sum(axis=1))
        most[numbers] = best
    return most


def _judge_focal_times(
    observed: WindowedBatches, simulated: WindowedBatches, false_alarm: float, seed: int | None
) -> None:
    """Compare how often each time is the likeliest focal time of a batch."""
    counts: list[dict[int, np.ndarray]] = []
    for batches in (observed, simulated):
        counts.append({})
        for group, _, possible, likely in batches.candidates():
            times = np.bincount(likely, minlength=possible.shape[1])
            counts[-1][group] = counts[-1].get(group, 0) + times
    statistic, freedom, worst = 0.0, 0, (-1.0, "")
    for group, ours in counts[0].items():
        table = _merge_rare(np.stack([ours, counts[1][group]]).astype(float))
        due = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
        terms = ((table - due) ** 2 / due).sum(axis=0)
        statistic, freedom = statistic + float(terms.sum()), freedom + table.shape[1] - 1
        k = int(terms.argmax())
        text = f"times {k + 1} of {table.shape[1]} of group '{observed.homes.names[group]}' {table[0, k]:g} times"
        worst = max(worst, (float(terms[k]), f"{text}, {due[0, k]:.4g} expected"))
    if freedom:
        judge_chi_square(
            "each time of a group must be focal equally often",
            statistic,
            freedom,
            false_alarm,
            observed=worst[1],
            n=f"{len(observed.sizes)} batches, {len(simulated.sizes)} simulated",
            seed=seed,
        )


def _merge_rare(table: np.ndarray) -> np.ndarray:
    """Merge neighboring columns until each is expected often enough in both rows."""
    merged, share = [np.zeros(2)], table.sum(axis=1).min() / table.sum()
    for column in table.T:
        if merged[-1].sum() * share >= _LEAST_EXPECTED:
            merged.append(np.zeros(2))
        merged[-1] = merged[-1] + column
    if len(merged) > 1 and merged[-1].sum() * share < _LEAST_EXPECTED:
        merged[-2:] = [merged[-2] + merged[-1]]
    return np.stack(merged, axis=1)
