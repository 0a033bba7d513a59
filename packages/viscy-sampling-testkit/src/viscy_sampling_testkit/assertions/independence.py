"""Independence of batches: what two batches of a sequence have in common beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from viscy_sampling_testkit.assertions._bounds import poisson_p_value
from viscy_sampling_testkit.assertions._failure import check_false_alarm, judge
from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions._slots import Batches, Labels, Slots, factorize
from viscy_sampling_testkit.assertions._windows import Window, WindowedBatches

# Pairs of batches drawn at random, from which the variance of what two batches have in common is estimated.
_PAIRS_DRAWN = 4000


def assert_independent_batches(
    batches: Batches,
    pairs: Mapping[str, Sequence[tuple[int, int]]],
    groups: Labels | None = None,
    conditions: Labels | None = None,
    window: Window | None = None,
    *,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that pairs of batches, such as consecutive ones, have no more in common than expected by chance.

    Several features of the batches are compared: their rows; the rows of their leak; the condition of each slot; and
    the index of their rows in the temporal window, which batches share if they use the same random numbers for windows
    around other times. For each feature, the number of coincidences in all pairs is compared with its mean over random
    pairs of batches with the same home groups. The test uses Chernoff's bound for a sum of rare events, with the
    variance of random pairs. It looks for too many coincidences: batches that are drawn from a stratum without
    replacement have fewer. `detectable_coincidences` quantifies the power.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size); some hundreds.
    pairs : mapping of name to sequence of pairs of int
        The pairs of batches to compare, by their numbers in `batches`. A name, such as ``"1 apart"``, appears in the
        failure message.
    groups, conditions : sequence, array, Series or DataFrame, optional
        The group and the condition of each row.
    window : Window, optional
        The rule of the temporal window, as `make_window` returns it.
    false_alarm : float, default 1e-6
        Largest probability, up to the estimate of mean and variance, that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If the batches of some pairs have too much in common.
    ValueError
        If there are no pairs, or `false_alarm` is outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> batches = [rng.choice(100, 5, replace=False).tolist() for _ in range(200)]
    >>> assert_independent_batches(batches, {"consecutive": [(k, k + 1) for k in range(199)]})
    """
    check_false_alarm(false_alarm)
    if not any(map(len, pairs.values())):
        raise ValueError("pairs must name at least one pair of batches, got none")
    features = _features(batches, groups, conditions, window)
    homes = np.zeros(len(batches), int) if groups is None else Homes(batches, groups).of_batch
    tests = false_alarm / (len(features) * len(pairs))
    for feature, tokens in features.items():
        common = _Coincidences(tokens, homes)
        for name, numbers in pairs.items():
            if len(numbers):
                common.judge(f"the {feature} of batches {name} must coincide only by chance", numbers, tests, seed)


class _Coincidences:
    """The coincidences of batches, given the tokens of each: a sparse matrix of shape (n_batches, n_tokens)."""

    def __init__(self, tokens: sparse.csr_matrix, homes: np.ndarray) -> None:
        self.tokens, self.homes = tokens, homes
        of_group = sparse.csr_matrix((np.ones(len(homes)), (homes, np.arange(len(homes)))))
        sizes = np.bincount(homes)
        frequency = sparse.diags(1 / np.maximum(sizes, 1)) @ of_group @ tokens
        self.mean = np.asarray((frequency @ frequency.T).todense())
        first, second = np.random.default_rng(0).integers(len(homes), size=(2, _PAIRS_DRAWN))
        apart = np.abs(first - second) > 4
        first, second = first[apart], second[apart]
        excess = self.count(first, second) - self.mean[homes[first], homes[second]]
        expected = float(self.mean[homes[first], homes[second]].mean()) if len(first) else 0.0
        self.dispersion = max(1.0, float((excess**2).mean()) / expected) if expected > 0 else 1.0

    def count(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the number of tokens that the batches of each pair have in common, shape (n_pairs,)."""
        return np.asarray(self.tokens[first].multiply(self.tokens[second]).sum(axis=1)).ravel()

    def judge(self, rule: str, pairs: Sequence[tuple[int, int]], false_alarm: float, seed: int | None) -> None:
        """Compare the coincidences of some pairs with their mean."""
        first, second = np.asarray(pairs).T
        common = self.count(first, second)
        expected = float(self.mean[self.homes[first], self.homes[second]].sum())
        judge(
            rule,
            poisson_p_value(float(common.sum()), expected, self.dispersion),
            false_alarm,
            observed=f"{common.sum():g} coincidences",
            expected=f"{expected:.4g} coincidences",
            bound=f"Chernoff, variance {self.dispersion:.3g} times the mean",
            n=f"{len(pairs)} pairs of batches",
            seed=seed,
            first_offending_batch=int(first[common.argmax()]),
        )


def _features(
    batches: Batches, groups: Labels | None, conditions: Labels | None, window: Window | None
) -> dict[str, sparse.csr_matrix]:
    """Return the tokens of the batches for each feature that they have."""
    slots = Slots.of(batches)
    features = {"rows": _matrix(slots.numbers, slots.positions, len(batches))}
    if conditions is not None:
        codes, names = factorize(conditions)
        index = np.arange(len(slots.numbers)) - np.repeat(np.cumsum(slots.sizes) - slots.sizes, slots.sizes)
        layout = index * len(names) + codes[slots.positions]
        if len(names) > 1:
            features["conditions of the slots"] = _matrix(slots.numbers, layout, len(batches))
    if groups is not None:
        homes = Homes(batches, groups)
        leaks = np.flatnonzero(~homes.is_home)
        if leaks.size:
            leaked = slots.numbers[leaks], slots.positions[leaks]
            features["rows of the leak"] = _matrix(*leaked, len(batches))
    if window is not None:
        features["indexes in the window"] = _matrix(*_window_indexes(WindowedBatches(batches, window)), len(batches))
    return features


def _matrix(numbers: np.ndarray, tokens: np.ndarray, n_batches: int) -> sparse.csr_matrix:
    """Return how often each batch has each token; a token that a batch has twice counts once."""
    matrix = sparse.csr_matrix((np.ones(len(tokens)), (numbers, tokens)), shape=(n_batches, int(tokens.max()) + 1))
    matrix.data[:] = 1.0
    return matrix


def _window_indexes(batches: WindowedBatches) -> tuple[np.ndarray, np.ndarray]:
    """Return for each slot near the likeliest focal time its batch, and its condition, pool size and index in the pool.

    The pool has the rows of the home group and condition in the window, in the order of the table.
    """
    window, codes = batches.window, batches.window.condition_codes
    groups = factorize(window.groups)[0]
    n = len(groups) + 1
    numbers_of, tokens_of = [np.zeros(0, int)], [np.zeros(0, int)]
    for (group, numbers, _, likely), (_, _, rows) in zip(batches.candidates(), batches.blocks(), strict=True):
        focal = window.times_of(group)
        for time in np.unique(likely):
            chosen = np.flatnonzero(likely == time)
            is_near = (groups == group) & (np.abs(window.times - focal[time]) <= window.hours + 1e-6)
            token = np.full(len(groups), -1)
            for condition in np.unique(codes):
                pool = np.flatnonzero(is_near & (codes == condition))
                token[pool] = (condition * n + len(pool)) * n + np.arange(len(pool))
            of_slots = token[rows[chosen]]
            numbers_of.append(np.repeat(numbers[chosen], (of_slots >= 0).sum(axis=1)))
            tokens_of.append(of_slots[of_slots >= 0])
    return np.concatenate(numbers_of), np.unique(np.concatenate(tokens_of), return_inverse=True)[1]
