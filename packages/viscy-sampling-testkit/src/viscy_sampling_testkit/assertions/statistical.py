"""A statistical law of batches: something that holds on average, tested with a stated rate of false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from viscy_sampling_testkit.assertions._failure import check_false_alarm, fail, judge
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize

# Sums with a smaller variance than this are too far from normal for the tails that are asked of them.
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

    The bound is Hoeffding's for a mean of bounded variables. It is no approximation: it holds for any number of batches
    that are independent or negatively associated, as are quotas rounded batch by batch, and parts dealt from one deck.
    Without `spread` it is the form with relative entropy, for counts that are the floor or the ceiling of `expected`.
    It has power against rounding that favours a part: at the default rate, a mean that is off by d is found in some
    ``30 p (1 - p) / d**2`` batches, p being the fractional part of the quota; `detectable_means` gives it exactly.

    Parameters
    ----------
    counts : sequence of int
        The count in each batch, shape (n_batches,).
    expected : float
        Its mean. Where it is a whole number and no spread is given, all counts must be equal to it.
    spread : float, optional
        Largest minus smallest value that a count can take. By default counts are the floor or the ceiling of
        `expected`, which is then asserted too.
    false_alarm : float, default 1e-6
        Largest probability of a failure where the law holds.
    seed : int, optional
        Seed of the sampler, to be named in the message.

    Raises
    ------
    AssertionError
        If the mean is off, or there are no counts.
    ValueError
        If counts differ by more than `spread`, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    values = _at_least_one(counts)
    n, mean = len(values), float(values.mean())
    if spread is None:
        low = math.floor(expected + 1e-9)
        fraction = max(0.0, expected - low)
        # Of a whole number floor and ceiling are one.
        high = low + (fraction > 1e-9)
        rate = _relative_entropy(mean - low, fraction) if low <= values.min() and values.max() <= high else math.inf
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

    Pearson's chi-square test, for independent draws and for draws more even than those. It has power against any fixed
    set of too frequent or too rare categories, most where a few are far off; `detectable_categories` says how far. It
    does not object to counts that are too even. Its distribution is approximate: at false alarm rates as low as the
    default, expected counts should be 20 or more, and fewer than 5 are refused.

    Parameters
    ----------
    counts : sequence of int
        How often each category came, shape (n_categories,).
    expected : sequence of float, optional
        Relative frequency of each category on any scale; equal by default.
    false_alarm : float, default 1e-6
        Largest probability, as far as the approximation goes, of a failure where the law holds.
    seed : int, optional
        Seed of the sampler, to be named in the message.

    Raises
    ------
    AssertionError
        If the counts deviate.
    ValueError
        If there are fewer than two categories, one is expected fewer than 5 times, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    values = np.asarray(counts, float)
    weights = np.ones(len(values)) if expected is None else np.asarray(expected, float)
    if len(values) < 2 or len(weights) != len(values):
        raise ValueError(
            f"counts must have 2 or more categories, and expected as many, got {len(values)}, {len(weights)}"
        )
    due = values.sum() * weights / weights.sum()
    if not (due >= _LEAST_EXPECTED).all():
        raise ValueError(
            f"each category must be expected {_LEAST_EXPECTED:g} times or more, got {due.min():g}; draw more"
        )
    statistic = float(((values - due) ** 2 / due).sum())
    worst = int(np.argmax(np.abs(values - due) / np.sqrt(due)))
    judge(
        "counts must be in their expected proportions",
        float(special.chdtrc(len(values) - 1, statistic)),
        false_alarm,
        observed=f"category {worst} {values[worst]:g} times",
        expected=f"{due[worst]:g} times",
        statistic=f"chi-square = {statistic:.4g}",
        bound=f"{special.chdtri(len(values) - 1, false_alarm):.4g} ({len(values) - 1} degrees of freedom)",
        n=f"{values.sum():g} in {len(values)} categories",
        seed=seed,
    )


def assert_exchangeable_slots(
    batches: Batches, labels: Labels, *, false_alarm: float = 1e-6, seed: int | None = None
) -> None:
    """Assert that the order of slots in a batch says nothing about their labels.

    Given how many slots of each label a batch has, all orders must be equally likely. Two tests share the false alarm
    rate; the moments they use are exact for permutations within batches, whatever the batches' composition.

    - *Place*: the number of slots of each label at each place, or range of places, summed over batches, against its
      mean, standardised by its covariance (chi-square). It has power against labels that prefer a part of the batch
      (`detectable_place`).
    - *Runs*: the number of runs of equal labels, summed over batches (the runs test of Wald and Wolfowitz for several
      labels, normal). It has power against labels that stand together, or alternate, wherever that may be.

    Both rest on sums over batches being nearly normal: give some tens of batches, better hundreds. Batches of another
    length than the most frequent one are left out.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size).
    labels : sequence, array, Series or DataFrame
        The label of each row, shape (n_anchors,).
    false_alarm : float, default 1e-6
        Largest probability, as far as the approximation goes, of a failure where the law holds.
    seed : int, optional
        Seed of the sampler, to be named in the message.

    Raises
    ------
    AssertionError
        If places or runs deviate.
    ValueError
        If labels vary too little within the batches for a test, or `false_alarm` is outside (0, 1).
    """
    check_false_alarm(false_alarm)
    codes, names = factorize(labels)
    Slots.of(batches).check_bounds(len(codes))
    size = np.bincount([len(batch) for batch in batches]).argmax()
    shown = codes[np.array([batch for batch in batches if len(batch) == size])]
    fractions = np.stack([(shown == code).mean(axis=1) for code in range(len(names))], axis=1)
    _judge_places(shown, fractions, false_alarm / 2, seed)
    _judge_runs(shown, fractions * size, false_alarm / 2, seed)


def assert_unrelated(
    a: Batches, b: Batches, n_anchors: int, *, false_alarm: float = 1e-6, seed: int | None = None
) -> None:
    """Assert that two sequences have no more in common than chance gives them.

    *Coincidences*, anchors that both have in their batch of the same number, are counted and compared with what is
    expected if the batches of one were paired with those of the other at random. (For batches without restriction that
    is the hypergeometric mean ``n_batches * batch_size**2 / n_anchors``; the general form allows for anchors that are
    drawn more often than others.) The bound is Chatterjee's (Probab. Theory Relat. Fields 138, 2007) for such pairings,
    no approximation. It has power against sequences that are equal, or have a good part of their batches in common,
    number for number; `detectable_share` gives that part. Besides, no batch of one may hold exactly the anchors of a
    batch of the other, whatever their numbers, where that is too unlikely.

    Parameters
    ----------
    a, b : sequence of sequence of int
        Shapes (n_batches, batch_size); compared as far as the shorter one goes.
    n_anchors : int
        Number of anchors that a batch can be drawn from; of the smallest pool, where batches are restricted to pools.
        It decides whether equal batches are too unlikely.
    false_alarm : float, default 1e-6
        Largest probability of a failure where the law holds.
    seed : int, optional
        Seed of the sampler, to be named in the message.

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
            "unrelated sequences must not hold the same batch",
            observed=f"{len(equal)} equal batches, batch {k} of one as batch {second.index(first[k])} of the other",
            expected="no equal batches",
            bound=f"false alarm rate {false_alarm:g}",
            p_value=f"at most {chance:.3g}",
            n=f"{length} batches",
            seed=seed,
            first_offending_batch=k,
        )


def _judge_coincidences(
    first: Sequence[frozenset[int]], second: Sequence[frozenset[int]], false_alarm: float, seed: int | None
) -> None:
    """Compare coincidences with their mean over random pairings of the batches."""
    ours, theirs = Slots.of([list(batch) for batch in first]), Slots.of([list(batch) for batch in second])
    n_positions = int(max(ours.positions.max(), theirs.positions.max())) + 1
    times = [np.bincount(slots.positions, minlength=n_positions).astype(float) for slots in (ours, theirs)]
    mean = float(times[0] @ times[1]) / len(first)
    common = np.array([len(x & y) for x, y in zip(first, second, strict=True)])
    # For terms in [0, 1] the bound is exp(-t**2 / (4 mean + 2 t)); these lie in [0, largest batch].
    unit = float(ours.sizes.max())
    log = math.log(1 / false_alarm)
    excess = (2 * unit * log + math.sqrt((2 * unit * log) ** 2 + 16 * unit * mean * log)) / 2
    above = max(0.0, float(common.sum()) - mean)
    judge(
        "unrelated sequences must coincide only by chance",
        math.exp(-(above**2) / (4 * unit * mean + 2 * unit * above)) if above else 1.0,
        false_alarm,
        observed=f"{common.sum()} coincidences",
        expected=f"{mean:.4g} coincidences",
        statistic=f"excess = {above:.4g}",
        bound=f"{excess:.4g} (Chatterjee)",
        n=f"{len(first)} batches",
        seed=seed,
        first_offending_batch=int(common.argmax()),
    )


def _judge_places(shown: np.ndarray, fractions: np.ndarray, false_alarm: float, seed: int | None) -> None:
    """Compare the labels at each range of places with their batch's fractions."""
    size = shown.shape[1]
    # Covariance of the labels of one slot given its batch, summed over batches, shape (n_labels, n_labels).
    covariance = np.diag(fractions.sum(axis=0)) - fractions.T @ fractions
    variances, directions = np.linalg.eigh(covariance)
    enough = variances * size / 2 >= _LEAST_VARIANCE
    if not enough.any():
        raise ValueError(
            "labels must vary within batches for their order to be tested; give more batches, or mixed ones"
        )
    variances, directions = variances[enough], directions[:, enough]
    n_ranges = int(np.clip(size * variances.min() // _LEAST_VARIANCE, 2, size))
    ranges = np.arange(size) * n_ranges // size
    widths = np.bincount(ranges)
    at_places = np.stack([(shown == code).sum(axis=0) for code in range(fractions.shape[1])])
    excess = directions.T @ (at_places - fractions.sum(axis=0)[:, None])
    in_ranges = np.stack([np.bincount(ranges, row) for row in excess])
    # Places of one batch without replacement: covariance n / (n - 1) * (diag(widths) - widths widths' / n), whose
    # pseudoinverse on vectors that add up to 0 is (n - 1) / n * diag(1 / widths).
    statistic = float((size - 1) / size * (in_ranges**2 / widths / variances[:, None]).sum())
    freedom = (n_ranges - 1) * len(variances)
    worst = int(np.argmax((in_ranges**2 / variances[:, None]).sum(axis=0) / widths))
    judge(
        "the place of a slot must say nothing about its label",
        float(special.chdtrc(freedom, statistic)),
        false_alarm,
        observed=f"labels deviate most at places {np.flatnonzero(ranges == worst).tolist()}",
        expected="at each place the labels of the whole batch",
        statistic=f"chi-square = {statistic:.4g}",
        bound=f"{special.chdtri(freedom, false_alarm):.4g} ({freedom} degrees of freedom)",
        n=f"{len(shown)} batches of {size}",
        seed=seed,
    )


def _judge_runs(shown: np.ndarray, counts: np.ndarray, false_alarm: float, seed: int | None) -> None:
    """Compare the number of runs of equal labels with its mean over orders of each batch."""
    n = shown.shape[1]
    runs = 1 + (shown[:, 1:] != shown[:, :-1]).sum(axis=1)
    squares, cubes = (counts**2).sum(axis=1), (counts**3).sum(axis=1)
    mean = (n * (n + 1) - squares) / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    if variance.sum() < _LEAST_VARIANCE:
        # Nearly all orders have equally many runs, as those of one slot against the rest: places tell all there is.
        return
    deviation = float((runs - mean).sum() / math.sqrt(variance.sum()))
    judge(
        "equal labels must stand together, or apart, only by chance",
        2 * float(special.ndtr(-abs(deviation))),
        false_alarm,
        observed=f"{runs.sum()} runs of equal labels",
        expected=f"{mean.sum():.6g} runs",
        statistic=f"z = {deviation:.4g}",
        bound=f"{-special.ndtri(false_alarm / 2):.4g} either way",
        n=f"{len(shown)} batches of {n}",
        seed=seed,
    )


def _relative_entropy(observed: float, expected: float) -> float:
    """Return the relative entropy of two probabilities, in nats; infinite where the observed one is impossible."""
    # Clipped: the mean of ones is 1 but for floating point noise.
    x, p = min(max(observed, 0.0), 1.0), min(max(expected, 0.0), 1.0)
    return float(special.rel_entr(x, p) + special.rel_entr(1 - x, 1 - p))


def _at_least_one(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    values = np.asarray(counts, float)
    if values.size == 0:
        fail("there must be counts to look at", observed="0 counts", expected="at least 1 count", n="0 batches")
    return values
