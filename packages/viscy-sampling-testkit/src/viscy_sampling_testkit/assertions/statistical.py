"""A statistical law of batches: a property of their distribution, tested at a stated false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from viscy_sampling_testkit.assertions._bounds import chatterjee_excess, chatterjee_p_value, relative_entropy
from viscy_sampling_testkit.assertions._failure import check_false_alarm, fail, judge, judge_chi_square, judge_deviation
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, codes_by_slot

# A sum with a smaller variance is too far from normal in the tails that small false-alarm rates need.
_LEAST_VARIANCE = 10.0
_LEAST_EXPECTED = 5.0


def assert_mean_counts(
    counts: Sequence[int] | np.ndarray,
    expected: float,
    spread: float | None = None,
    *,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that a count has the expected mean over batches.

    The test uses Hoeffding's bound for a mean of bounded variables. The bound is exact, not an approximation: it holds
    for any number of batches that are independent or negatively associated, such as quotas rounded batch by batch, or
    parts of a keyed permutation. Without `spread` it has the form with relative entropy, for counts that are the floor
    or the ceiling of `expected`. It has power against rounding that favors one side: at the default rate, a mean that
    is off by d is detected in about ``30 p (1 - p) / d**2`` batches, where p is the fractional part of the quota;
    `detectable_means` quantifies the power.

    Parameters
    ----------
    counts : sequence of int
        The count in each batch, shape (n_batches,).
    expected : float
        Expected mean. If it is an integer and `spread` is not given, all counts must be equal to it.
    spread : float, optional
        Largest minus smallest value that a count can take. By default counts must be the floor or the ceiling of
        `expected`, which is then asserted too.
    false_alarm : float, default 1e-6
        Largest probability that a sampler that satisfies the law fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If the mean deviates, or there are no counts.
    ValueError
        If counts differ by more than `spread`, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    values = _at_least_one(counts)
    n, mean = len(values), float(values.mean())
    if spread is None:
        low = math.floor(expected + 1e-9)
        fraction = max(0.0, expected - low)
        # The floor and the ceiling of an integer are equal.
        high = low if fraction <= 1e-9 else low + 1
        rate = relative_entropy(mean - low, fraction) if low <= values.min() and values.max() <= high else math.inf
    elif np.ptp(values) > spread:
        raise ValueError(f"spread must be at least the range of the counts, {np.ptp(values):g}, got {spread:g}")
    else:
        rate = 2 * ((mean - expected) / spread) ** 2
    judge(
        "a count must have its expected mean",
        min(1.0, 2 * math.exp(-n * rate)),
        false_alarm,
        observed=f"mean {mean:g}, from {values.min():g} to {values.max():g}",
        expected=f"mean {expected:g}",
        statistic=f"n * rate = {n * rate:.4g}",
        bound=f"{math.log(2 / false_alarm):.4g} (Hoeffding)",
        n=f"{n} batches",
        seed=seed,
    )


def assert_uniform(
    counts: Sequence[int] | np.ndarray,
    expected: Sequence[float] | np.ndarray | None = None,
    *,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that counts over categories are uniform, or in given proportions.

    Pearson's chi-square test, for draws that are independent or more even than independent draws. It has power against
    any fixed set of too frequent or too rare categories, most if a few categories deviate strongly;
    `detectable_categories` quantifies the power. It accepts counts that are too even. Its distribution is approximate:
    at false-alarm rates as low as the default, expected counts should be 20 or more; expected counts below 5 raise an
    error.

    Parameters
    ----------
    counts : sequence of int
        Count of each category, shape (n_categories,).
    expected : sequence of float, optional
        Relative frequency of each category on any scale; equal by default.
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation, that a sampler that satisfies the law fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If the counts deviate.
    ValueError
        If there are fewer than two categories, an expected count is below 5, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    values = np.asarray(counts, float)
    weights = np.ones(len(values)) if expected is None else np.asarray(expected, float)
    if len(values) < 2 or len(weights) != len(values):
        raise ValueError(
            f"counts must have at least 2 categories, and expected as many, got {len(values)} and {len(weights)}"
        )
    due = values.sum() * weights / weights.sum()
    if not (due >= _LEAST_EXPECTED).all():
        raise ValueError(f"expected counts must be at least {_LEAST_EXPECTED:g}, got {due.min():g}; give more draws")
    statistic = float(((values - due) ** 2 / due).sum())
    worst = int(np.argmax(np.abs(values - due) / np.sqrt(due)))
    judge_chi_square(
        "counts must have their expected proportions",
        statistic,
        len(values) - 1,
        false_alarm,
        observed=f"category {worst} {values[worst]:g} times",
        expected=f"{due[worst]:g} times",
        n=f"{values.sum():g} in {len(values)} categories",
        seed=seed,
    )


def assert_exchangeable_slots(
    batches: Batches, labels: Labels, *, false_alarm: float = 1e-6, seed: int | None = None
) -> None:
    """Assert that the position of a slot in its batch is independent of its label.

    Given the number of slots of each label in a batch, all orders must be equally likely. Two tests share the
    false-alarm rate. The moments that they use are exact for permutations within batches of any composition.

    - *Slot positions*: the number of slots of each label at each slot position, or range of slot positions, summed over
      batches, is compared with its mean and standardized by its covariance (chi-square). It has power against labels
      that prefer a part of the batch (`detectable_position`).
    - *Runs*: the number of runs of equal labels, summed over batches, is compared with its mean (the runs test of Wald
      and Wolfowitz for several labels, normal). It has power against labels that cluster or alternate anywhere in the
      batch.

    Both assume that sums over batches are nearly normal: use several tens of batches, or better hundreds. Batches that
    do not have the most frequent length are left out.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    labels : sequence, array, Series or DataFrame
        The label of each row, shape (n_anchors,).
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation, that a sampler that satisfies the law fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If slot positions or runs deviate.
    ValueError
        If labels vary too little within the batches for a test, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    slot_codes, names = codes_by_slot(batches, labels)
    fractions = np.stack([(slot_codes == code).mean(axis=1) for code in range(len(names))], axis=1)
    _judge_slot_positions(slot_codes, fractions, false_alarm / 2, seed)
    _judge_runs(slot_codes, fractions * slot_codes.shape[1], false_alarm / 2, seed)


def assert_slot_classes(
    batches: Batches, labels: Labels, *, false_alarm: float = 1e-6, seed: int | None = None
) -> None:
    """Assert that labels are as frequent in even slots as in odd ones, and in the first and the last as in the others.

    Two chi-square tests share the false-alarm rate: one of the slot index modulo 2, one of the first slot, the last and
    those between. They have more power against such labels than `assert_exchangeable_slots`, whose ranges are wider.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size); some hundreds. Batches that do not have the most frequent length are left out.
    labels : sequence, array, Series or DataFrame
        The label of each row, shape (n_anchors,).
    false_alarm : float, default 1e-6
        Largest probability, up to the approximation, that a sampler that satisfies the law fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If a class of slots deviates.
    ValueError
        If labels vary too little within the batches for a test, or `false_alarm` is outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> assert_slot_classes([rng.permutation(40)[:8].tolist() for _ in range(200)], [0] * 20 + [1] * 20)
    """
    check_false_alarm(false_alarm)
    slot_codes, names = codes_by_slot(batches, labels)
    size = slot_codes.shape[1]
    index = np.arange(size)
    classes = {"slots of even index": index % 2}
    # A test of single slots needs labels that vary enough in one slot.
    if size > 2 and _variances_of(slot_codes, len(names))[0].max() >= _LEAST_VARIANCE:
        classes["slots between the first and the last"] = (index == 0) + 2 * (index == size - 1)
    for name, of_slots in classes.items():
        _judge_slot_ranges(
            "the label of a slot must not depend on the class of its index",
            slot_codes,
            len(names),
            of_slots,
            false_alarm / len(classes),
            observed=lambda worst, name=name: f"labels deviate most in class {worst}; class 0 is {name}",
            expected="the label fractions of the batch in each class",
            seed=seed,
        )


def assert_unrelated(
    a: Batches, b: Batches, n_anchors: int, *, false_alarm: float = 1e-6, seed: int | None = None
) -> None:
    """Assert that two sequences have no more in common than expected by chance.

    *Coincidences* are anchors that both sequences have in the batch of the same index. Their number is compared with
    its mean when the batches of one sequence are paired with those of the other at random. (For batches drawn without
    restriction that is the hypergeometric mean ``n_batches * batch_size**2 / n_anchors``; the general form allows for
    anchors that are drawn more often than others.) The test uses Chatterjee's bound for such pairings (Probab. Theory
    Relat. Fields 138, 2007), which is exact, not an approximation. It has power against sequences that are equal, or
    that share a good part of their batches at the same indexes; `detectable_share` quantifies the power. In addition,
    no batch of one sequence may hold exactly the anchors of a batch of the other, at any index, if that is too
    unlikely.

    Parameters
    ----------
    a, b : sequence of sequence of int
        Shapes (n_batches, batch_size); compared up to the length of the shorter one.
    n_anchors : int
        Number of anchors that a batch can be drawn from, or the size of the smallest pool if batches are restricted to
        pools. It decides whether equal batches are too unlikely.
    false_alarm : float, default 1e-6
        Largest probability that a sampler that satisfies the law fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If the sequences have too much in common.
    ValueError
        If `n_anchors` is smaller than a batch, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    length = min(len(a), len(b))
    first, second = ([frozenset(batch) for batch in batches[:length]] for batches in (a, b))
    sizes = np.array([len(batch) for batch in (*first, *second)])
    if n_anchors < sizes.max():
        raise ValueError(f"n_anchors must be at least the batch size, {sizes.max()}, got {n_anchors}")
    _judge_coincidences(first, second, false_alarm / 2, seed)
    chance = length**2 / math.comb(n_anchors, int(sizes.min()))
    if chance <= false_alarm / 2 and (equal := set(first) & set(second)):
        k = next(k for k, batch in enumerate(first) if batch in equal)
        fail(
            "unrelated sequences must not share a batch",
            observed=f"{len(equal)} equal batches; batch {k} of one is batch {second.index(first[k])} of the other",
            expected="no equal batches",
            bound=f"false-alarm rate {false_alarm:g}",
            p_value=f"at most {chance:.3g}",
            n=f"{length} batches",
            seed=seed,
            first_offending_batch=k,
        )


def _judge_coincidences(
    first: Sequence[frozenset[int]], second: Sequence[frozenset[int]], false_alarm: float, seed: int | None
) -> None:
    """Compare the coincidences with their mean over random pairings of the batches."""
    ours, theirs = Slots.of([list(batch) for batch in first]), Slots.of([list(batch) for batch in second])
    n_positions = int(max(ours.positions.max(), theirs.positions.max())) + 1
    times = [np.bincount(slots.positions, minlength=n_positions).astype(float) for slots in (ours, theirs)]
    mean = float(times[0] @ times[1]) / len(first)
    common = np.array([len(x & y) for x, y in zip(first, second, strict=True)])
    # Each term of the sum is the number of anchors that two batches share, which is at most the largest batch size.
    unit = float(ours.sizes.max())
    excess = max(0.0, float(common.sum()) - mean)
    judge(
        "unrelated sequences must coincide only by chance",
        chatterjee_p_value(excess, mean, unit),
        false_alarm,
        observed=f"{common.sum()} coincidences",
        expected=f"{mean:.4g} coincidences",
        statistic=f"excess = {excess:.4g}",
        bound=f"{chatterjee_excess(mean, unit, math.log(1 / false_alarm)):.4g} (Chatterjee)",
        n=f"{len(first)} batches",
        seed=seed,
        first_offending_batch=int(common.argmax()),
    )


def _judge_slot_positions(slot_codes: np.ndarray, fractions: np.ndarray, false_alarm: float, seed: int | None) -> None:
    """Compare the labels in each range of slot positions with the fractions of their batch."""
    size = slot_codes.shape[1]
    variances = _label_variances(slot_codes, fractions.shape[1], size / 2)[0]
    n_ranges = int(np.clip(size * variances.min() // _LEAST_VARIANCE, 2, size))
    ranges = np.arange(size) * n_ranges // size
    _judge_slot_ranges(
        "the label of a slot must not depend on its position in the batch",
        slot_codes,
        fractions.shape[1],
        ranges,
        false_alarm,
        observed=lambda worst: f"labels deviate most at slot positions {np.flatnonzero(ranges == worst).tolist()}",
        expected="the label fractions of the batch at each slot position",
        seed=seed,
        n_slots=size / 2,
    )


def _judge_slot_ranges(
    rule: str,
    slot_codes: np.ndarray,
    n_labels: int,
    ranges: np.ndarray,
    false_alarm: float,
    *,
    observed: Callable[[int], str],
    expected: str,
    seed: int | None,
    n_slots: float | None = None,
) -> None:
    """Compare the labels in each range of slots with those of their batch; `ranges` has the range of each slot."""
    size = slot_codes.shape[1]
    fractions = np.stack([(slot_codes == code).mean(axis=1) for code in range(n_labels)], axis=1)
    widths = np.bincount(ranges)
    variances, directions = _label_variances(slot_codes, n_labels, n_slots or float(widths.min()))
    by_position = np.stack([(slot_codes == code).sum(axis=0) for code in range(n_labels)])
    excess = directions.T @ (by_position - fractions.sum(axis=0)[:, None])
    in_ranges = np.stack([np.bincount(ranges, row) for row in excess])
    # Labels are assigned to the slots of a batch without replacement, so the counts in the ranges have the covariance
    # n / (n - 1) * (diag(widths) - widths widths' / n). Its pseudoinverse on vectors that add up to 0 is
    # (n - 1) / n * diag(1 / widths).
    statistic = float((size - 1) / size * (in_ranges**2 / widths / variances[:, None]).sum())
    judge_chi_square(
        rule,
        statistic,
        (len(widths) - 1) * len(variances),
        false_alarm,
        observed=observed(int(np.argmax((in_ranges**2 / variances[:, None]).sum(axis=0) / widths))),
        expected=expected,
        n=f"{len(slot_codes)} batches of {size}",
        seed=seed,
    )


def _label_variances(slot_codes: np.ndarray, n_labels: int, n_slots: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions in which the labels of so many slots vary enough, and the variances of one slot in them."""
    variances, directions = _variances_of(slot_codes, n_labels)
    enough = variances * n_slots >= _LEAST_VARIANCE
    if not enough.any():
        raise ValueError(
            "labels must vary within batches for their order to be tested; give more batches, or mixed ones"
        )
    return variances[enough], directions[:, enough]


def _variances_of(slot_codes: np.ndarray, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonalize the covariance of the labels of one slot given its batch, summed over batches."""
    fractions = np.stack([(slot_codes == code).mean(axis=1) for code in range(n_labels)], axis=1)
    return np.linalg.eigh(np.diag(fractions.sum(axis=0)) - fractions.T @ fractions)


def _judge_runs(slot_codes: np.ndarray, counts: np.ndarray, false_alarm: float, seed: int | None) -> None:
    """Compare the number of runs of equal labels with its mean over all orders of each batch."""
    n = slot_codes.shape[1]
    runs = 1 + (slot_codes[:, 1:] != slot_codes[:, :-1]).sum(axis=1)
    squares, cubes = (counts**2).sum(axis=1), (counts**3).sum(axis=1)
    mean = (n * (n + 1) - squares) / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    if variance.sum() < _LEAST_VARIANCE:
        # Nearly all orders have the same number of runs (for example, if one slot differs from the rest). Then the slot
        # positions contain all the information.
        return
    deviation = float((runs - mean).sum() / math.sqrt(variance.sum()))
    judge_deviation(
        "equal labels must cluster or alternate only by chance",
        deviation,
        false_alarm,
        observed=f"{runs.sum()} runs of equal labels",
        expected=f"{mean.sum():.6g} runs",
        n=f"{len(slot_codes)} batches of {n}",
        seed=seed,
    )


def _at_least_one(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    values = np.asarray(counts, float)
    if values.size == 0:
        fail("there must be counts to check", observed="0 counts", expected="at least 1 count", n="0 batches")
    return values
