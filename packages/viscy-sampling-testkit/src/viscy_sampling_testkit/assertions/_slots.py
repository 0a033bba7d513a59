"""The slots of a sequence of batches as flat arrays, and the labels of the rows that fill them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from viscy_sampling_testkit.assertions._failure import fail, fail_where

Batches = Sequence[Sequence[int]]
Labels = Any  # a sequence, array, Series or Index with one label per row, or a DataFrame whose rows are the labels


@dataclass(frozen=True)
class Slots:
    """All slots of some batches: `positions` and `numbers` have shape (n_slots,), `sizes` (n_batches,)."""

    positions: np.ndarray
    numbers: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, batches: Batches) -> Slots:
        """Flatten batches; fail if there are no batches or an empty one, because there is nothing to check then."""
        if len(batches) == 0:
            fail("there must be batches to check", observed="0 batches", expected="at least 1 batch", n="0 batches")
        sizes = np.fromiter(map(len, batches), np.int64, len(batches))
        fail_where("a batch must have slots", sizes == 0, lambda _: "an empty batch", lambda _: "at least 1 slot")
        positions = np.fromiter(chain.from_iterable(batches), np.int64, int(sizes.sum()))
        return cls(positions, np.repeat(np.arange(len(sizes)), sizes), sizes)

    def any_in_batch(self, of_slots: np.ndarray) -> np.ndarray:
        """Return for each batch whether a mask of slots is true anywhere in it, shape (n_batches,)."""
        return np.bincount(self.numbers, of_slots, len(self.sizes)) > 0

    def check_bounds(self, n_anchors: int) -> None:
        """Fail if a position lies outside the table."""
        outside = (self.positions < 0) | (self.positions >= n_anchors)
        fail_where(
            f"positions must be in [0, {n_anchors})",
            self.any_in_batch(outside),
            lambda k: self.positions[outside & (self.numbers == k)].tolist(),
            lambda _: f"positions from 0 to {n_anchors - 1}",
        )

    def counts(self, codes: np.ndarray, n_labels: int) -> np.ndarray:
        """Count each label in each batch, shape (n_batches, n_labels); `codes` has the label code of each row."""
        self.check_bounds(len(codes))
        pairs = self.numbers * n_labels + codes[self.positions]
        return np.bincount(pairs, minlength=len(self.sizes) * n_labels).reshape(-1, n_labels)


def factorize(labels: Labels) -> tuple[np.ndarray, list[Any]]:
    """Return the label code of each row, shape (n_anchors,), and the list of distinct labels."""
    if isinstance(labels, pd.DataFrame):
        labels = list(labels.itertuples(index=False, name=None))
    if not isinstance(labels, (pd.Series, pd.Index, np.ndarray, pd.api.extensions.ExtensionArray)):
        labels = np.fromiter(labels, object, len(labels))
    codes, uniques = pd.factorize(labels, use_na_sentinel=False)
    return codes, list(uniques)


def codes_by_slot(batches: Batches, labels: Labels) -> tuple[np.ndarray, list[Any]]:
    """Return the label code of each slot, shape (n_batches, batch_size), and the list of distinct labels.

    Batches that do not have the most frequent length are left out.
    """
    codes, names = factorize(labels)
    Slots.of(batches).check_bounds(len(codes))
    size = np.bincount([len(batch) for batch in batches]).argmax()
    return codes[np.array([batch for batch in batches if len(batch) == size])], names


def plain(labels: Sequence[Any]) -> list[Any]:
    """Return labels with NumPy scalars converted to Python's, as they should appear in a message."""
    return [label.item() if isinstance(label, np.generic) else label for label in labels]


def rounded(quotas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return floor and ceiling of quotas; quotas within floating-point error of an integer count as that integer."""
    return np.floor(quotas + 1e-9).astype(int), np.ceil(quotas - 1e-9).astype(int)


def count_within(times: np.ndarray, centers: np.ndarray, reach: float) -> np.ndarray:
    """Return how many of the times are at most `reach` away from each center, shape (n_centers,)."""
    times = np.sort(times)
    return np.searchsorted(times, centers + reach, "right") - np.searchsorted(times, centers - reach, "left")
