"""The order of the batches of an epoch: what the index of a batch may say about its group, counts and times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from viscy_sampling_testkit.assertions._bounds import hoeffding_p_value
from viscy_sampling_testkit.assertions._failure import check_false_alarm, judge, judge_deviation
from viscy_sampling_testkit.assertions._slots import factorize
from viscy_sampling_testkit.assertions.statistical import _judge_slot_positions

# Samplers may mix the groups more evenly than at random: completely in every stretch of so many batches.
_MIXED_WITHIN = 32
_LEAST_VARIANCE = 10.0


def assert_random_order(
    epochs: Sequence[Sequence[Hashable]],
    *,
    others: Sequence[Sequence[Hashable]] = (),
    runs: bool = True,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that the batches of each epoch are in random order with respect to a label, such as their group.

    Given how many batches of an epoch have each label, all orders must be equally likely. Four tests share the
    false-alarm rate; their moments are exact, their distributions nearly normal if there are several tens of batches.

    - *Single indexes*: how often each label occurs at each index, over all epochs (Hoeffding). It has power against a
      first batch that is always of the same label.
    - *Ranges*: the same for all indexes, or ranges of indexes, together (chi-square). It has power against an order
      that is the same in each epoch, and labels that prefer a part of the epoch.
      `detectable_position` quantifies the power, with an epoch for a batch and a batch for a slot.
    - *Neighbors*: how many neighbors have the same label (normal). It has power against labels in blocks, and labels
      that alternate. Labels may be mixed completely in every stretch of 32 batches, which is more even than a random
      order.
    - *Other sequences*: how often the batches of the same index in `others`, such as the epochs of another seed, have
      the same label (normal).

    Parameters
    ----------
    epochs : sequence of sequence of label
        The label of each batch, shape (n_epochs, n_batches).
    others : sequence of sequence of label, optional
        Sequences to compare `epochs` with, of the same shape.
    runs : bool, default True
        Whether to count neighbors; False for labels that may avoid neighbors, such as times that take turns.
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation, that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If the order deviates.
    ValueError
        If there are too few batches or labels to test anything, or `false_alarm` is outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> assert_random_order([rng.permutation(["a"] * 6 + ["b"] * 4).tolist() for _ in range(50)])
    """
    check_false_alarm(false_alarm)
    length = Counter(map(len, epochs)).most_common(1)[0][0] if len(epochs) else 0
    kept = [list(epoch) for epoch in epochs if len(epoch) == length]
    codes, names = factorize([label for epoch in kept for label in epoch])
    if len(names) < 2:
        raise ValueError("batches must have at least 2 labels for their order to be tested, got 1")
    table = codes.reshape(len(kept), length)
    _judge_single_indexes(table, names, false_alarm / 4, seed)
    _judge_ranges(table, len(names), false_alarm / 4, seed)
    if runs:
        _judge_neighbors(table, len(names), false_alarm / 4, seed)
    pairs = [(a, list(b)) for a, b in zip(kept, others, strict=False) if len(b) == length]
    if pairs:
        _judge_agreement(pairs, false_alarm / 4, seed)


def assert_unbiased_rounding(
    counts: Sequence[Sequence[float]],
    quota: float,
    classes: Sequence[Sequence[Hashable]] | None = None,
    *,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that a quota is rounded up equally often in all classes of batches, such as the even and the odd ones.

    Counts must be the floor or the ceiling of the quota. In each class their mean over epochs must be the quota. The
    counts within an epoch may depend on each other, so the test averages over each epoch first and then uses
    Hoeffding's bound for the means of epochs, which is exact. `detectable_means`, with the number of epochs for the
    number of batches, quantifies the power.

    Parameters
    ----------
    counts : sequence of sequence of float
        The count in each batch, shape (n_epochs, n_batches); epochs may differ in length.
    quota : float
        The quota.
    classes : sequence of sequence of label, optional
        The class of each batch, in the shape of `counts`; by default all batches are of one class.
    false_alarm : float, default 1e-6
        Largest probability that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If the mean of a class deviates.
    ValueError
        If a count is neither the floor nor the ceiling of the quota, or `false_alarm` is outside (0, 1).

    Examples
    --------
    >>> assert_unbiased_rounding([[2, 3, 2, 3], [3, 2, 3, 2]] * 20, 2.5, [[0, 1, 0, 1]] * 40)
    """
    check_false_alarm(false_alarm)
    low = math.floor(quota + 1e-9)
    values = [np.asarray(epoch, float) - low for epoch in counts]
    if any(value.size and not 0 <= value.min() <= value.max() <= 1 for value in values):
        raise ValueError(f"counts must be the floor or the ceiling of the quota, {quota:g}, to test how it is rounded")
    labels = [[None] * len(value) for value in values] if classes is None else classes
    names = sorted({name for epoch in labels for name in epoch}, key=repr)
    for name in names:
        masks = [np.array([label == name for label in epoch], bool) for epoch in labels]
        means = [float(v[m].mean()) for v, m in zip(values, masks, strict=True) if m.any()]
        judge(
            "a quota must be rounded without bias in all batches" + (f" of class {name!r}" if len(names) > 1 else ""),
            hoeffding_p_value(sum(means), len(means) * max(0.0, quota - low), len(means)),
            false_alarm / len(names),
            observed=f"mean {low + np.mean(means):.4g}",
            expected=f"mean {quota:.4g}",
            n=f"{len(means)} epochs",
            seed=seed,
        )


def _judge_single_indexes(table: np.ndarray, names: Sequence[Hashable], false_alarm: float, seed: int | None) -> None:
    """Compare how often each label occurs at each index with how often it occurs in the epochs."""
    n_epochs, length = table.shape
    for code, name in enumerate(names):
        expected = float((table == code).mean(axis=1).sum())
        counts = (table == code).sum(axis=0)
        for extreme in (int(counts.argmax()), int(counts.argmin())):
            judge(
                "a label must not be more or less frequent at one index of the epoch",
                hoeffding_p_value(float(counts[extreme]), expected, n_epochs),
                false_alarm / (len(names) * length),
                observed=f"batch {extreme} of {counts[extreme]} of {n_epochs} epochs is of '{name}'",
                expected=f"{expected:.4g} of them",
                bound="Hoeffding, for all labels and indexes",
                seed=seed,
            )


def _judge_ranges(table: np.ndarray, n_labels: int, false_alarm: float, seed: int | None) -> None:
    """Compare the labels at each index, or range of indexes, with those of the epochs."""
    fractions = np.stack([(table == code).mean(axis=1) for code in range(n_labels)], axis=1)
    try:
        _judge_slot_positions(table, fractions, false_alarm, seed)
    except AssertionError as error:
        message = str(error).replace("slot positions", "batch indexes").replace("slot", "batch")
        raise AssertionError(message.replace("position in the batch", "index in the epoch")) from None


def _judge_neighbors(table: np.ndarray, n_labels: int, false_alarm: float, seed: int | None) -> None:
    """Compare the number of equal neighbors with those in random order, and in stretches that are mixed completely."""
    length = table.shape[1]
    equal = float((table[:, 1:] == table[:, :-1]).sum())
    counts = np.stack([(table == code).sum(axis=1) for code in range(n_labels)], axis=1).astype(float)
    stretch = counts * min(1.0, _MIXED_WITHIN / length)
    most, fewest = (
        float(((length - 1) * (m * np.maximum(m - 1, 0)).sum(axis=1) / (m.sum(axis=1) * (m.sum(axis=1) - 1))).sum())
        for m in (counts, stretch)
    )
    squares, cubes = (counts**2).sum(axis=1), (counts**3).sum(axis=1)
    n = float(length)
    variance = ((squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))).sum()
    if variance < _LEAST_VARIANCE:
        return
    excess = equal - most if equal > most else min(0.0, equal - fewest)
    deviation = float(excess / math.sqrt(variance))
    judge_deviation(
        "batches with equal labels must follow each other only by chance",
        deviation,
        false_alarm,
        observed=f"{equal:g} equal neighbors",
        expected=f"{most:.4g} in random order",
        n=f"{len(table)} epochs of {length} batches",
        seed=seed,
    )


def _judge_agreement(
    pairs: Sequence[tuple[Sequence[Hashable], Sequence[Hashable]]], false_alarm: float, seed: int | None
) -> None:
    """Compare how often two sequences have the same label at the same index with its mean over all orders."""
    agreed, expected, variance = 0, 0.0, 0.0
    for first, second in pairs:
        n = len(first)
        names = sorted({*first, *second}, key=repr)
        a, b = (np.array([Counter(side)[name] for name in names], float) for side in (first, second))
        agreed += sum(x == y for x, y in zip(first, second, strict=True))
        expected += float(a @ b) / n
        centered = np.eye(len(names)) - b[:, None] / n - a[None] / n + float(a @ b) / n**2
        variance += float((a[:, None] * b[None] * centered**2).sum()) / (n - 1)
    if variance < _LEAST_VARIANCE:
        return
    deviation = (agreed - expected) / math.sqrt(variance)
    judge_deviation(
        "sequences must agree in the order of their batches only by chance",
        deviation,
        false_alarm,
        observed=f"{agreed} batches with the same label at the same index",
        expected=f"{expected:.4g}",
        n=f"{len(pairs)} pairs of epochs",
        seed=seed,
    )
