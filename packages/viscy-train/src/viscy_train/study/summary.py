"""Summary: what the runs of a study show, a row for each world, arm and measure, paired by unit with the baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from viscy_train.study.arms import BASELINE, REFERENCES
from viscy_train.study.measures import MEASURES
from viscy_train.study.results import SUMMARY_COLUMNS
from viscy_train.study.statistics import correct_for_arms, describe_differences, units_needed
from viscy_train.study.verdicts import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAIR = ["fold", "seed"]


@dataclass(frozen=True, kw_only=True)
class Units:
    """What a comparison is repeated on.

    Parameters
    ----------
    columns : sequence of str
        Columns of the runs that name a unit. Differences of the same unit are averaged.
    one, many : str
        Name of one unit, and of several.
    limit : int, optional
        How many there can be, if the data limit them.
    """

    columns: Sequence[str]
    one: str
    many: str
    limit: int | None = None

    @classmethod
    def of_study(cls) -> Units:
        """Return the units of made-up worlds: a seed makes another world of the kind, and other initial weights."""
        return cls(columns=("seed",), one="seed", many="seeds")

    @classmethod
    def of_folds(cls, hold_out: Literal["experiment", "position"], n_folds: int) -> Units:
        """Return the units of a project.

        Parameters
        ----------
        hold_out : str
            What a fold holds out. If it is an experiment, the fold is the unit, because seeds do not tell what another
            experiment would show. If it is positions, each fold and seed is a unit.
        n_folds : int
            Number of folds.
        """
        if hold_out == "experiment":
            return cls(columns=("fold",), one="held-out experiment", many="held-out experiments", limit=n_folds)
        return cls(columns=("fold", "seed"), one="pair of a fold and a seed", many="pairs of a fold and a seed")

    def count(self, number: int) -> str:
        """Return a number of units in words, such as ``10 seeds``."""
        return f"{number} {self.one if number == 1 else self.many}"


def summarize(runs: pd.DataFrame, units: Units) -> pd.DataFrame:
    """Compare each arm with the baseline.

    Parameters
    ----------
    runs : pandas.DataFrame
        Columns `viscy_train.study.results.RUN_COLUMNS`.
    units : Units
        What the comparison is repeated on.

    Returns
    -------
    pandas.DataFrame
        Columns `viscy_train.study.results.SUMMARY_COLUMNS`, a row for each world, arm or reference, and measure, in the
        order of the runs. `mean` is the arm's own. `n` counts the units, `missing` the pairs of runs that were dropped
        because the measure of one of them is not defined. The baseline has no difference, and references have no
        `p_holm`. Measures without a threshold have no verdict.
    """
    rows = [row for _, of_world in runs.groupby("world", sort=False) for row in _summarize_world(of_world, units)]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def paired_differences(
    runs: pd.DataFrame, units: Units, arm: str, measure: str, other: str = BASELINE
) -> tuple[pd.Series, int]:
    """Return the difference of two arms in each unit of a world.

    Parameters
    ----------
    runs : pandas.DataFrame
        The runs of a world.
    units : Units
        What the comparison is repeated on.
    arm, other : str
        The two arms; `other` is subtracted.
    measure : str
        The measure.

    Returns
    -------
    differences : pandas.Series
        By unit, in ascending order.
    missing : int
        Number of pairs of runs that were dropped because the measure of one of them is NaN.
    """
    first, second = (runs[runs["arm"] == name].set_index(_PAIR)[measure] for name in (arm, other))
    common = first.index.intersection(second.index)
    pairs = first.loc[common] - second.loc[common]
    kept = pairs.dropna()
    return kept.groupby(level=list(units.columns), sort=True).mean(), len(pairs) - len(kept)


def _summarize_world(runs: pd.DataFrame, units: Units) -> list[dict[str, Any]]:
    arms = runs["arm"].unique().tolist()
    rows = [row for measure in MEASURES for row in _summarize_measure(runs, units, arms, measure)]
    return sorted(rows, key=lambda row: arms.index(row["arm"]))


def _summarize_measure(runs: pd.DataFrame, units: Units, arms: list[str], measure: str) -> list[dict[str, Any]]:
    rows = [_describe(runs, units, arm, measure) for arm in arms]
    compared = [row for row in rows if row["arm"] not in (BASELINE, *REFERENCES)]
    for row, p in zip(compared, correct_for_arms([row["p"] for row in compared]), strict=True):
        row["p_holm"] = p
    threshold = MEASURES[measure].threshold
    if threshold is None:
        return rows
    n_arms = sum(not math.isnan(row["p"]) for row in compared)
    for row in compared:
        verdict = judge(row["difference"], row["low"], row["high"], row["p_holm"], threshold)
        row["verdict"] = verdict.value if row["n"] else ""
        if verdict is Verdict.CANNOT_TELL and row["n"]:
            differences, _ = paired_differences(runs, units, row["arm"], measure)
            row["units_needed"] = units_needed(differences.to_numpy(), threshold, n_arms)
    return rows


def _describe(runs: pd.DataFrame, units: Units, arm: str, measure: str) -> dict[str, Any]:
    own = runs[runs["arm"] == arm].set_index(_PAIR)[measure].dropna()
    own = own.groupby(level=list(units.columns), sort=True).mean()
    row = {"world": runs["world"].iloc[0], "arm": arm, "measure": measure, "mean": float(own.mean())}
    row |= dict.fromkeys(("difference", "low", "high", "p", "p_holm", "units_needed"), math.nan)
    if arm == BASELINE:
        return row | {"n": len(own), "missing": int(runs.loc[runs["arm"] == arm, measure].isna().sum()), "verdict": ""}
    differences, missing = paired_differences(runs, units, arm, measure)
    found = describe_differences(differences.to_numpy())
    row |= {"n": found.n, "missing": missing, "verdict": "", "difference": found.mean}
    return row | {"low": found.low, "high": found.high, "p": found.p}
