"""The choice of conditions: which conditions a batch holds, if each of them has several anchors in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._bounds import hoeffding_p_value
from viscy_sampling_testkit.assertions._failure import check_false_alarm, fail, fail_where, judge
from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions._slots import Batches, Labels, factorize, plain, rounded


@dataclass(frozen=True)
class ChoiceTargets:
    """How often each condition is to be chosen for a batch, and how many slots it then has.

    Attributes
    ----------
    n_chosen : int
        Number of conditions of a batch.
    probabilities : numpy.ndarray
        Probability of each condition, shape (n_conditions,); they add up to `n_chosen`.
    parts : numpy.ndarray
        Slots of each condition in a batch that holds it, shape (n_conditions,).
    least : int
        Fewest slots of a chosen condition.
    """

    n_chosen: int
    probabilities: np.ndarray
    parts: np.ndarray
    least: int


def choose_targets(shares: Sequence[float] | np.ndarray, n_slots: int, anchors_per_condition: int) -> ChoiceTargets:
    """Return how often each condition is to be chosen, and how many slots it then has.

    A batch holds ``P = min(max(1, n_slots // anchors_per_condition), number of shares above 0)`` conditions. Condition
    c is in a batch with probability ``min(1, scale * share)``, where the scale makes these add up to P. Conditions
    that are not in every batch have equal parts of the slots, the others in proportion to their shares, and all have at
    least `anchors_per_condition` slots if the batch is that large.

    Parameters
    ----------
    shares : sequence of float
        Fraction of the slots for each condition on average, shape (n_conditions,); they add up to 1.
    n_slots : int
        Slots of the batch.
    anchors_per_condition : int
        Fewest anchors of a chosen condition.

    Returns
    -------
    ChoiceTargets
        The targets.

    Examples
    --------
    Twelve slots and four anchors of a condition: three conditions, one of which is in every batch.

    >>> targets = choose_targets([0.5, 0.25, 0.125, 0.125], 12, 4)
    >>> targets.n_chosen, targets.probabilities.tolist(), targets.parts.tolist()
    (3, [1.0, 1.0, 0.5, 0.5], [4.0, 4.0, 4.0, 4.0])
    """
    given = np.asarray(shares, float) / np.sum(shares)
    n_chosen = min(max(1, n_slots // anchors_per_condition), int((given > 0).sum()))
    certain = np.zeros(len(given), bool)
    weights = given
    while certain.sum() < n_chosen:
        weights = given * (n_chosen - certain.sum()) / given[~certain].sum()
        more = ~certain & (weights >= 1 - 1e-9)
        if not more.any():
            break
        certain |= more
    probabilities = np.where(certain, 1.0, weights if certain.sum() < n_chosen else 0.0)
    # The conditions that are not in every batch share the rest of the slots equally, whichever are chosen.
    n_others = n_chosen - int(certain.sum())
    rest = given[~certain].sum() / n_others if n_others else 0.0
    least = min(anchors_per_condition, n_slots // n_chosen)
    due = np.where(certain, given, rest)
    parts = _raise_to(due, np.where(certain, 1, n_others / max(1, (~certain).sum())), n_slots, least)
    return ChoiceTargets(n_chosen, probabilities, np.where(probabilities > 0, parts, 0.0), least)


def assert_conditions_chosen(
    batches: Batches,
    conditions: Labels,
    anchors_per_condition: int,
    *,
    groups: Labels | None = None,
    shares: Mapping[Any, float] | None = None,
) -> None:
    """Assert that every batch holds the right number of conditions, each with enough anchors.

    A batch of n slots must hold ``n // anchors_per_condition`` conditions, or all that its home group has if there are
    fewer. Each must have the floor or the ceiling of its part of the slots, see `choose_targets`, leak slots included.
    The assertion is exact.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    conditions : sequence, array, Series or DataFrame
        The condition of each row, shape (n_anchors,).
    anchors_per_condition : int
        Fewest anchors of a chosen condition.
    groups : sequence, array, Series or DataFrame, optional
        The group of each row. A batch holds conditions of its home group, also in its leak.
    shares : mapping of condition to float, optional
        Fraction of the slots for each condition; by default equal.

    Raises
    ------
    AssertionError
        If a batch holds another number of conditions, one that its home group does not have, or a condition has too few
        or too many slots.

    Examples
    --------
    >>> assert_conditions_chosen([[0, 1, 4, 5], [2, 3, 6, 7]], ["a", "a", "b", "b", "c", "c", "d", "d"], 2)
    """
    choice = _Choice(batches, conditions, anchors_per_condition, groups, shares)
    n_chosen = np.array([targets.n_chosen for targets in choice.targets])
    held = (choice.counts > 0).sum(axis=1)
    fail_where(
        "a batch must hold as many conditions as have room for their anchors",
        held != n_chosen,
        lambda k: f"{held[k]} conditions: {choice.describe(k)}",
        lambda k: f"{n_chosen[k]} conditions",
    )
    low, high = (
        np.array(bounds) for bounds in zip(*(rounded(targets.parts) for targets in choice.targets), strict=True)
    )
    low = np.maximum(low, np.array([targets.least for targets in choice.targets])[:, None])
    wrong = (choice.counts > 0) & ((choice.counts < low) | (choice.counts > high))
    fail_where(
        "each chosen condition must have the floor or the ceiling of its part of the slots",
        wrong.any(axis=1),
        choice.describe,
        lambda k: _describe_part(
            choice.names[wrong[k].argmax()], low[k, wrong[k].argmax()], high[k, wrong[k].argmax()]
        ),
        bound=f"at least {anchors_per_condition} anchors of a condition",
    )


def assert_chosen_in_proportion(
    batches: Batches,
    conditions: Labels,
    anchors_per_condition: int,
    *,
    groups: Labels | None = None,
    shares: Mapping[Any, float] | None = None,
) -> None:
    """Assert that each condition is in its share of a group's batches, to within one.

    For the batches of an epoch, or of a round of short epochs. The assertion is exact. For the parameters see
    `assert_conditions_chosen`.

    Raises
    ------
    AssertionError
        If a condition is in too few or too many batches of a group.

    Examples
    --------
    >>> assert_chosen_in_proportion([[0, 1], [2, 3], [4, 5], [1, 0]], ["a", "a", "b", "b", "c", "c"], 2)
    """
    choice = _Choice(batches, conditions, anchors_per_condition, groups, shares)
    for group, numbers in choice.by_group():
        due = sum(choice.targets[k].probabilities for k in numbers)
        held = (choice.counts[numbers] > 0).sum(axis=0)
        low, high = rounded(np.asarray(due))
        # Batches of another size are rounded by themselves.
        slack = len(set(choice.counts[numbers].sum(axis=1).tolist())) - 1
        wrong = np.flatnonzero((held < low - slack) | (held > high + slack))
        if wrong.size:
            c = int(wrong[0])
            fail(
                "each condition must be chosen in proportion to its share, to within one batch",
                observed=f"{choice.names[c]!r} in {held[c]} of {len(numbers)} batches of group {group!r}",
                expected=f"{np.asarray(due)[c]:.4g}",
                bound="floor or ceiling",
                n=f"{len(choice.counts)} batches",
            )


def assert_choice_unbiased(
    epochs: Sequence[Batches],
    conditions: Labels,
    anchors_per_condition: int,
    *,
    groups: Labels | None = None,
    shares: Mapping[Any, float] | None = None,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that the choice of conditions, and their slots beyond the fewest, are rounded without preference.

    Two tests share the false-alarm rate. In how many batches of a group a condition is, rounded up or down in each
    epoch, must match its share on average over epochs. In the batches that hold a condition, the mean number of its
    slots must be its part. Both use Hoeffding's bound with one value for each epoch (and group), so slots may depend on
    each other within an epoch.

    Parameters
    ----------
    epochs : sequence of sequence of sequence of int
        The batches of independent epochs, or of rounds of short epochs.
    conditions, anchors_per_condition, groups, shares
        See `assert_conditions_chosen`.
    false_alarm : float, default 1e-6
        Largest probability that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If a condition is preferred.
    """
    check_false_alarm(false_alarm)
    choices = [_Choice(epoch, conditions, anchors_per_condition, groups, shares) for epoch in epochs]
    _judge_choice_rounding(choices, false_alarm / 2, seed)
    _judge_further_slots(choices, false_alarm / 2, seed)


def assert_pairs_chosen(
    epochs: Sequence[Batches],
    conditions: Labels,
    anchors_per_condition: int,
    *,
    groups: Labels | None = None,
    shares: Mapping[Any, float] | None = None,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that conditions with equal shares are together in a batch equally often, whichever pair they are.

    Over many epochs, the share of a group's batches that hold both conditions of a pair is compared with its mean over
    all pairs with equal shares (Hoeffding, with one value for each epoch and group; the choices of groups must be
    independent). It has power against conditions that are always chosen together, and against those that never are.

    Parameters
    ----------
    epochs : sequence of sequence of sequence of int
        The batches of independent epochs, or of rounds of short epochs; some tens of them.
    conditions, anchors_per_condition, groups, shares
        See `assert_conditions_chosen`.
    false_alarm : float, default 1e-6
        Largest probability that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If a pair is chosen too often or too rarely.
    ValueError
        If no three conditions of a group have equal shares, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    choices = [_Choice(epoch, conditions, anchors_per_condition, groups, shares) for epoch in epochs]
    pairs = [pair for choice in choices for pair in choice.shares_of_pairs()]
    if not pairs:
        raise ValueError(
            "at least 3 conditions of a group must have equal shares for their pairs to be tested, got none"
        )
    names, tested = choices[0].names, sorted({pair for pair, _, _ in pairs})
    for pair in tested:
        found = [(observed, due) for other, observed, due in pairs if other == pair]
        total, expected = np.sum(found, axis=0).tolist()
        judge(
            "conditions with equal shares must be in a batch together equally often",
            hoeffding_p_value(total, expected, len(found)),
            false_alarm / len(tested),
            observed=f"{names[pair[0]]!r} and {names[pair[1]]!r} in {total / len(found):.1%} of the batches",
            expected=f"{expected / len(found):.1%}",
            n=f"{len(found)} epochs of groups",
            seed=seed,
        )


class _Choice:
    """The conditions of each batch: their slots, shape (n_batches, n_conditions), and the targets of its home group."""

    def __init__(
        self,
        batches: Batches,
        conditions: Labels,
        anchors_per_condition: int,
        groups: Labels | None,
        shares: Mapping[Any, float] | None,
    ) -> None:
        codes, names = factorize(conditions)
        self.names = plain(names)
        homes = Homes(batches, np.zeros(len(codes), np.int64) if groups is None else groups)
        self.groups, self.of_batch = plain(homes.names), homes.of_batch
        self.counts = homes.slots.counts(codes, len(self.names))
        weights = np.array([1.0 if shares is None else shares.get(name, 0.0) for name in self.names])
        present = np.zeros((len(homes.names), len(self.names)))
        present[homes.codes, codes] = 1.0
        found: dict[tuple[int, int], ChoiceTargets] = {}
        for group, n in set(zip(self.of_batch.tolist(), homes.slots.sizes.tolist(), strict=True)):
            found[group, n] = choose_targets(weights * present[group], n, anchors_per_condition)
        self.targets = [found[pair] for pair in zip(self.of_batch.tolist(), homes.slots.sizes.tolist(), strict=True)]

    def describe(self, k: int) -> str:
        """Return the slots of each condition of a batch as text."""
        return repr({name: int(n) for name, n in zip(self.names, self.counts[k], strict=True) if n})

    def by_group(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield each group, and the numbers of its batches."""
        for group in np.unique(self.of_batch):
            yield self.groups[group], np.flatnonzero(self.of_batch == group)

    def shares_of_pairs(self) -> Iterator[tuple[tuple[int, int], float, float]]:
        """Yield each pair of conditions with equal probabilities below 1, and the share of batches that hold both.

        For each group, its observed share of the group's batches, and the mean over all pairs of such conditions.
        """
        for _, numbers in self.by_group():
            probabilities = self.targets[numbers[0]].probabilities.round(9)
            for value in np.unique(probabilities):
                members = np.flatnonzero(probabilities == value)
                if 0 < value < 1 and len(members) >= 3:
                    held = (self.counts[numbers][:, members] > 0).astype(float)
                    size, together = held.sum(axis=1), held.T @ held / len(held)
                    expected = float((size * (size - 1) / 2).mean()) / math.comb(len(members), 2)
                    for a, b in combinations(range(len(members)), 2):
                        yield (int(members[a]), int(members[b])), float(together[a, b]), expected


def _judge_choice_rounding(choices: Sequence[_Choice], false_alarm: float, seed: int | None) -> None:
    """Compare how often each condition is chosen in each group with its share, on average over epochs."""
    groups = sorted({group for choice in choices for group, _ in choice.by_group()}, key=repr)
    names = choices[0].names
    for group in groups:
        totals, expected, n = np.zeros(len(names)), np.zeros(len(names)), 0
        for choice in choices:
            numbers = dict(choice.by_group()).get(group, ())
            if len(numbers) and len({choice.targets[k].n_chosen for k in numbers}) == 1:
                due = len(numbers) * choice.targets[numbers[0]].probabilities
                low = rounded(due)[0]
                totals += np.clip((choice.counts[numbers] > 0).sum(axis=0) - low, 0, 1)
                expected, n = expected + np.maximum(due - low, 0), n + 1
        for c, name in enumerate(names):
            judge(
                "the choice of a condition must be rounded without preference",
                hoeffding_p_value(totals[c], expected[c], n),
                false_alarm / (len(groups) * len(names)),
                observed=f"{name!r} rounded up in {totals[c]:g} of {n} epochs of group {group!r}",
                expected=f"{expected[c]:.4g}",
                seed=seed,
            )


def _judge_further_slots(choices: Sequence[_Choice], false_alarm: float, seed: int | None) -> None:
    """Compare the slots of each condition, in the batches that hold it, with its part, on average over epochs."""
    found: dict[tuple[int, float], list[float]] = {}
    for choice in choices:
        for _, numbers in choice.by_group():
            full = choice.counts[numbers].sum(axis=1) == choice.counts.sum(axis=1).max()
            numbers, parts = numbers[full], choice.targets[numbers[full.argmax()]].parts
            for c in np.flatnonzero(choice.counts[numbers].any(axis=0)):
                counts = choice.counts[numbers, c]
                found.setdefault((int(c), round(float(parts[c]), 9)), []).append(float(counts[counts > 0].mean()))
    for (c, part), means in found.items():
        low = rounded(np.array([part]))[0][0]
        judge(
            "the slots of a chosen condition must be its part on average",
            hoeffding_p_value(sum(np.clip(np.array(means) - low, 0, 1)), len(means) * max(0.0, part - low), len(means)),
            false_alarm / len(found),
            observed=f"mean {np.mean(means):.4g} for {choices[0].names[c]!r}",
            expected=f"mean {part:.4g}",
            n=f"{len(means)} epochs of groups",
            seed=seed,
        )


def _raise_to(due: np.ndarray, weights: np.ndarray, total: float, least: float) -> np.ndarray:
    """Scale values, each raised to at least `least`, so that their weighted sum is `total`."""
    raised = np.zeros(len(due), bool)
    while True:
        free = (weights * due)[~raised].sum()
        scale = (total - least * weights[raised].sum()) / free if free > 0 else 0.0
        low = ~raised & (due * scale < least - 1e-9)
        if not low.any():
            return np.where(raised, least, due * scale)
        raised |= low


def _describe_part(name: Any, low: int, high: int) -> str:
    return f"{name!r}: " + " or ".join(str(bound) for bound in sorted({int(low), int(high)})) + " slots"
