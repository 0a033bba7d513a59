"""Mutants with wrong focal times or windows: each is the reference with one mistake, which its docstring names."""

from __future__ import annotations

import numpy as np

from viscy_sampling_testkit.mutants.reference import Plan, ReferenceSampler


class _FocalTimes(ReferenceSampler):
    """Focal times are chosen group by group; subclasses say how."""

    def choose_focal_hours(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        assert self.hours is not None
        focal = np.zeros(len(homes))
        for group in np.unique(homes):
            of_group = np.flatnonzero(homes == group)
            hours = self.hours[self.groups == group]
            focal[of_group] = self.choose(rng, np.sort(hours), len(of_group))
        return focal

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        """Choose the focal times of the batches of a group whose rows have these sorted times."""
        raise NotImplementedError


class FocalTimeFixed(_FocalTimes):
    """The focal time of a group is always the same."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        return np.full(n, hours[len(hours) // 2])


class FocalTimeFixedInEpoch(_FocalTimes):
    """The focal time of a group is drawn once for the epoch."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        return np.full(n, rng.choice(np.unique(hours)))


class FocalTimesIndependent(_FocalTimes):
    """Focal times are drawn independently instead of taking turns."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        return rng.choice(np.unique(hours), n)


class FocalTimesByRows(_FocalTimes):
    """The focal time is that of a row drawn at random, so times with many rows are focal more often."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        return rng.choice(hours, n)


class FocalTimesEarly(_FocalTimes):
    """Only the times of the first half of a group are focal; these take turns."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        times = np.unique(hours)
        return np.resize(rng.permutation(times[: -(-len(times) // 2)]), n)


class FocalTimesWithoutLast(_FocalTimes):
    """The last time of a group is never focal."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        return np.resize(rng.permutation(np.unique(hours)[:-1]), n)


class FocalTimesStartEarly(_FocalTimes):
    """Focal times take turns from the first to the last, so an epoch with few batches has early ones only."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        return np.resize(np.unique(hours), n)


class FocalTimesAscending(_FocalTimes):
    """The focal times of an epoch ascend, although each is focal as often as it should be."""

    def choose(self, rng: np.random.Generator, hours: np.ndarray, n: int) -> np.ndarray:
        return np.sort(np.resize(rng.permutation(np.unique(hours)), n))


class FocalTimesOfTable(ReferenceSampler):
    """The focal times are those of the table instead of those of the group."""

    def choose_focal_hours(self, rng: np.random.Generator, homes: np.ndarray) -> np.ndarray:
        return np.resize(rng.permutation(np.unique(np.asarray(self.hours))), len(homes))


class WindowHalf(ReferenceSampler):
    """The temporal window is half as wide."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        assert self.hours is not None
        return np.abs(self.hours[rows] - focal) <= self.window_hours / 2 + 1e-9


class WindowWithoutEnds(ReferenceSampler):
    """The ends of the temporal window are not in it."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        assert self.hours is not None
        return np.abs(self.hours[rows] - focal) < self.window_hours - 1e-9


class WindowWithoutOneEnd(ReferenceSampler):
    """The end of the temporal window is not in it, its start is."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        assert self.hours is not None
        return super().in_window(rows, focal) & (self.hours[rows] - focal < self.window_hours - 1e-9)


class WindowForward(ReferenceSampler):
    """The temporal window starts at the focal time."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        assert self.hours is not None
        return super().in_window(rows, focal) & (self.hours[rows] >= focal)


class WindowShifted(ReferenceSampler):
    """The temporal window is shifted by half an hour."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        return super().in_window(rows, focal + 0.5)


class WindowInFrames(ReferenceSampler):
    """The temporal window counts times instead of hours, as many as there are hours for two frames an hour."""

    def in_window(self, rows: np.ndarray, focal: float) -> np.ndarray:
        times, frames = np.unique(np.asarray(self.hours), return_inverse=True)
        return np.abs(frames[rows] - np.searchsorted(times, focal)) <= 2 * self.window_hours


class GlobalFractionIgnored(ReferenceSampler):
    """All primary slots are drawn from the window."""

    def count_in_window(self, plan: Plan, j: int, rng: np.random.Generator) -> np.ndarray:
        primary = plan.conditions[j][~plan.leaks[j] & (plan.conditions[j] >= 0)]
        return np.bincount(primary, minlength=len(self.condition_shares))


class GlobalFractionHalved(ReferenceSampler):
    """Half as many slots as there should be are drawn from all times."""

    def count_in_window(self, plan: Plan, j: int, rng: np.random.Generator) -> np.ndarray:
        fraction, self.global_fraction = self.global_fraction, self.global_fraction / 2
        counts = super().count_in_window(plan, j, rng)
        self.global_fraction = fraction
        return counts


class GlobalOutsideWindow(ReferenceSampler):
    """The slots that should be drawn from all times are drawn from outside the window."""

    def draw_around(
        self, rng: np.random.Generator, rows: np.ndarray, focal: float, n: int, n_in_window: int
    ) -> np.ndarray:
        is_near = self.in_window(rows, focal)
        if is_near.all() or not is_near.any():
            return super().draw_around(rng, rows, focal, n, n_in_window)
        near = self.draw(rng, np.flatnonzero(is_near), n_in_window)
        return rows[np.concatenate([near, self.draw(rng, np.flatnonzero(~is_near), n - n_in_window)])]


class WindowSlotsRoundedUp(ReferenceSampler):
    """The number of slots drawn from the window is always rounded up."""

    def count_in_window(self, plan: Plan, j: int, rng: np.random.Generator) -> np.ndarray:
        primary = plan.conditions[j][~plan.leaks[j] & (plan.conditions[j] >= 0)]
        counts = np.bincount(primary, minlength=len(self.condition_shares))
        return np.ceil(counts * (1 - self.global_fraction)).astype(np.int64)


class WindowOverridesCondition(ReferenceSampler):
    """A condition without rows in the window gives its slots to the other conditions."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        own = self.groups == plan.homes[j]
        near = own & self.in_window(np.arange(len(own)), plan.focal_hours[j])
        absent = [c for c in range(len(self.condition_shares)) if not (near & (self.conditions == c)).any()]
        others = np.setdiff1d(np.flatnonzero(near), rows)
        lost = np.flatnonzero(np.isin(self.conditions[rows], absent))[: len(others)]
        return np.r_[np.delete(rows, lost), others[: len(lost)]].tolist()


class SortedByTime(ReferenceSampler):
    """Slots are sorted by time."""

    def arrange(self, rows: np.ndarray, plan: Plan, j: int) -> list[int]:
        return rows[np.argsort(np.asarray(self.hours)[rows], kind="stable")].tolist()
