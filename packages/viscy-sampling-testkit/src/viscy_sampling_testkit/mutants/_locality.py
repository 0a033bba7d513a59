"""Mutants with wrong locality: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

from typing import Any

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler, _rounded


class _OtherOrder(ReferenceSampler):
    """Rows are sorted by other columns; subclasses name them."""

    columns: tuple[str, ...] = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        by = options.pop("place_by", ())
        super().__init__(*args, **options, place_by=self.columns if by else ())


class LocalityIgnored(ReferenceSampler):
    """Rows are drawn one by one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.locality = 1


class RunsOfTwo(ReferenceSampler):
    """A run has two rows."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.locality = min(2, self.locality)


class RunsIgnorePlaces(_OtherOrder):
    """Rows are sorted by time, but not by place."""

    columns = ("hours",)


class RunsIgnoreTimes(_OtherOrder):
    """Rows are sorted by place, but not by time."""

    columns = ("fov",)


class RunsSkipRows(ReferenceSampler):
    """The rows of a run are three rows apart."""

    def shuffle(self, rng: np.random.Generator, pool: np.ndarray) -> np.ndarray:
        return super().shuffle(rng, np.concatenate([pool[i::3] for i in range(3)]))


class LeakWithoutRuns(ReferenceSampler):
    """The leak is drawn row by row."""

    def leak_pool(self, home: int, condition: int) -> np.ndarray:
        return np.random.default_rng(0).permutation(super().leak_pool(home, condition))


class GlobalSlotsWithoutRuns(ReferenceSampler):
    """The slots of a temporal window are runs, and those of all times are drawn row by row."""

    def draw_around(
        self, rng: np.random.Generator, rows: np.ndarray, focal: float, n: int, n_in_window: int
    ) -> np.ndarray:
        near = self.draw(rng, rows[self.in_window(rows, focal)], n_in_window)
        others = rng.permutation(rows[~np.isin(rows, near)])
        return np.concatenate([near, others[: n - len(near)]])


class CountsOfCompleteRuns(ReferenceSampler):
    """The remainder of the slots goes to conditions as runs do, so counts are rounded otherwise with locality."""

    def count_conditions(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        offset = rng.random((len(sizes), 1))
        return _rounded(sizes[:, None] * self.condition_shares, offset if self.locality == 1 else 1 - offset)


class LeakOfCompleteRuns(ReferenceSampler):
    """The leak is rounded otherwise with locality."""

    def count_leaks(self, rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
        offset = rng.random()
        return _rounded(sizes * self.leaky, offset if self.locality == 1 else 1 - offset)


class FocalTimesOfRuns(ReferenceSampler):
    """Focal times have another order with locality."""

    def choose_focal_hours(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        focal = super().choose_focal_hours(rng, homes)
        return focal if self.locality == 1 else focal[::-1]


class _UnevenRuns(ReferenceSampler):
    """The rows of a stratum are drawn in runs that start anywhere, for each batch; subclasses say where."""

    def starts(self, rng: np.random.Generator, size: int, n: int) -> np.ndarray:
        raise NotImplementedError

    def take(self, rng: np.random.Generator, permutation: np.ndarray, elements: np.ndarray) -> np.ndarray:
        rows = self.strata[
            int(self.groups[permutation[0]]) * len(self.condition_shares) + int(self.conditions[permutation[0]])
        ]
        chosen: list[int] = []
        for start in self.starts(rng, len(rows), 20 * len(elements)).tolist():
            run = rows[start : start + self.locality].tolist()
            chosen.extend(row for row in run if row not in chosen)
        return np.array(chosen[: len(elements)], np.int64)


class RunsStopAtTheEnd(_UnevenRuns):
    """No run goes around the end of a stratum, so rows near its ends are rarer."""

    def starts(self, rng: np.random.Generator, size: int, n: int) -> np.ndarray:
        return rng.integers(size - self.locality + 1, size=n)


class RunsPreferFirstRows(_UnevenRuns):
    """Runs start a little more often in the first half of a stratum."""

    def starts(self, rng: np.random.Generator, size: int, n: int) -> np.ndarray:
        return np.minimum(rng.integers(size, size=n), rng.integers(size * 4, size=n)) // self.locality * self.locality


class FirstRunNeverDrawn(ReferenceSampler):
    """The first rows of a stratum are replaced by those that follow them."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        first, following = (np.concatenate([rows[a:b] for rows in self.strata]) for a, b in ((0, 2), (2, 4)))
        other = dict(zip(first.tolist(), following.tolist(), strict=True))
        return [other.get(row, row) for row in rows.tolist()]
