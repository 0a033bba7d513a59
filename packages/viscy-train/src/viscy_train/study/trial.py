"""Trial: one run of a study, which is a case, an arm and a seed, and the result that it has when it is finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from viscy_train.study.arms import REFERENCES, Arm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.study.cases import Case


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An encoder to train and measure, or a reference to measure.

    Parameters
    ----------
    case : Case
        The data.
    arm : Arm or str
        The arm, or the name of a reference.
    seed : int
        Seed of the initial weights and of the batches.
    n_steps : int
        Number of steps of the optimizer.
    """

    case: Case
    arm: Arm | str
    seed: int
    n_steps: int

    @property
    def key(self) -> tuple[str, str, int, str]:
        """World, fold, seed and name of the arm, which no other trial of a study has."""
        return self.case.world, self.case.fold, self.seed, self.arm.name if isinstance(self.arm, Arm) else self.arm


def make_trials(cases: Sequence[Case], arms: Sequence[Arm], seeds: Sequence[int], n_steps: int) -> list[Trial]:
    """Return the trials of all cases with all seeds: first the references, then the arms."""
    return [
        Trial(case=case, arm=arm, seed=seed, n_steps=n_steps)
        for case in cases
        for seed in seeds
        for arm in (*REFERENCES, *arms)
    ]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a trial has measured.

    Parameters
    ----------
    row : dict of str to object
        A row of the table of runs: `world`, `fold`, `seed`, `arm`, `steps`, and the measures by name.
    reasons : dict of str to str
        Why a measure is not a number, by its name.
    composition : list of dict
        For an arm, the checks of the composition of its batches: `check`, `target`, `observed` and `off_target`, as in
        `viscy_train.composition.check.TargetCheck`.
    """

    row: dict[str, Any]
    reasons: dict[str, str]
    composition: list[dict[str, Any]]
