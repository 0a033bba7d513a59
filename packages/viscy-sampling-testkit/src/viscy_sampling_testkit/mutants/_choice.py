"""Mutants that choose conditions wrongly: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

import numpy as np

from viscy_sampling_testkit.mutants.reference import ReferenceSampler, _rounded


class ConditionShort(ReferenceSampler):
    """One of the conditions of a batch has fewer anchors than claimed."""

    def fill_conditions(self, rng: np.random.Generator, parts: np.ndarray) -> np.ndarray:
        counts = super().fill_conditions(rng, parts)
        chosen = np.flatnonzero(counts)
        counts[chosen[0]] -= 1
        counts[chosen[-1]] += 1
        return counts


class _OtherNumber(ReferenceSampler):
    """A batch holds another number of conditions; subclasses say how many more."""

    more = 0

    def count_chosen(
        self, rng: np.random.Generator, homes: np.ndarray, sizes: np.ndarray, anchors_per_condition: int
    ) -> np.ndarray:
        n_conditions = self.batch_size // anchors_per_condition + self.more
        return super().count_chosen(rng, homes, sizes, self.batch_size // n_conditions)


class OneConditionFewer(_OtherNumber):
    """A batch holds one condition fewer than have room."""

    more = -1


class OneConditionMore(_OtherNumber):
    """A batch holds one condition more than have room."""

    more = 1


class LeakToOtherConditions(ReferenceSampler):
    """The leak is of any condition, whichever were chosen."""

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        return np.flatnonzero(self.groups != home)


class ChoicePrefersOne(ReferenceSampler):
    """The first condition is chosen more often, and the others less often."""

    def choose_conditions(self, rng: np.random.Generator, probabilities: np.ndarray, n: int) -> np.ndarray:
        preferred = probabilities * (probabilities.sum() - 1) / (probabilities.sum() - probabilities[0])
        preferred[0] = 1.0
        return super().choose_conditions(rng, preferred, n)


class ChoiceOfAnEpoch(ReferenceSampler):
    """All batches of a group hold the same conditions in an epoch."""

    def choose_conditions(self, rng: np.random.Generator, probabilities: np.ndarray, n: int) -> np.ndarray:
        return np.tile(super().choose_conditions(rng, probabilities, n)[:1], (n, 1))


class FurtherSlotsToFirst(ReferenceSampler):
    """Of the conditions of a batch, the first ones in order have the slots that remain."""

    def fill_conditions(self, rng: np.random.Generator, parts: np.ndarray) -> np.ndarray:
        return _rounded(parts, 0.999)


class ChoiceRoundedTheSameWay(ReferenceSampler):
    """The same conditions are rounded up in each epoch."""

    def choose_conditions(self, rng: np.random.Generator, probabilities: np.ndarray, n: int) -> np.ndarray:
        whole = _rounded(n * probabilities, 0.5)
        return super().choose_conditions(rng, whole / n, n)


class ChoiceInOrder(ReferenceSampler):
    """Conditions that follow each other are never in a batch together."""

    def choose_conditions(self, rng: np.random.Generator, probabilities: np.ndarray, n: int) -> np.ndarray:
        left, chosen = _rounded(n * probabilities, rng.random()), []
        for k in range(n):
            chosen.append(_rounded(left / (n - k), rng.random()))
            left = left - chosen[-1]
        return np.array(chosen) > 0


class ChoiceInBlocks(ReferenceSampler):
    """The conditions of a batch follow each other, and those of the next batch follow them."""

    def choose_conditions(self, rng: np.random.Generator, probabilities: np.ndarray, n: int) -> np.ndarray:
        n_conditions, n_chosen = len(probabilities), round(probabilities.sum())
        start = rng.integers(n_conditions)
        chosen = np.zeros((n, n_conditions), bool)
        for k in range(n):
            chosen[k, (start + n_chosen * k + np.arange(n_chosen)) % n_conditions] = True
        return chosen
