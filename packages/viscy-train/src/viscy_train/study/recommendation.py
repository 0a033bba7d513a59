"""Recommendation: the simplest arm that predicts the condition about as well as the best, and hurts nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.study.arms import BASELINE, REFERENCES
from viscy_train.study.measures import MEASURES
from viscy_train.study.sentences import signed
from viscy_train.study.statistics import ALPHA, correct_for_arms, interval, sign_flip_p
from viscy_train.study.summary import paired_differences
from viscy_train.study.verdicts import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.study.summary import Units

_MEASURE = "condition"
_MIN_NESTED = 4
_JUDGED = [name for name, one in MEASURES.items() if one.threshold is not None]


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The arm to use in a world or project.

    Parameters
    ----------
    arm : str, optional
        Its name; None if fewer than two units have the condition measured.
    best : str, optional
        The arm with the highest mean, of those that hurt nothing.
    gain : float
        Mean paired difference of the condition between the recommended arm and the baseline; NaN without an arm. As the
        arm was picked by the same runs, this is optimistic.
    nested : float
        The same, with each unit measured by the arm that the other units recommend; NaN with fewer than four units.
    beats_references : tuple of str
        Arms whose condition is better than that of every reference, by intervals above 0.
    sentences : list of str
        All of this for readers. If no arm beats the references, the first one says so.
    """

    arm: str | None
    best: str | None
    gain: float
    nested: float
    beats_references: tuple[str, ...]
    sentences: list[str]


def recommend(runs: pd.DataFrame, units: Units, arms: Sequence[str]) -> dict[str, Recommendation]:
    """Return the recommendation of each world.

    Parameters
    ----------
    runs : pandas.DataFrame
        Columns `viscy_train.study.results.RUN_COLUMNS`.
    units : Units
        What the comparison is repeated on.
    arms : sequence of str
        Names of the arms, the simplest first, with the baseline.

    Returns
    -------
    dict of str to Recommendation
        By world, in the order of the runs.

    Notes
    -----
    Of the arms that hurt no judged measure, the best has the highest mean of the condition over the units. Recommended
    is the first arm whose mean difference from the best is at most the standard error of that paired difference. This
    is the one-standard-error rule of Breiman et al. (1984), with paired differences.
    """
    return {str(world): _recommend(of_world, units, arms) for world, of_world in runs.groupby("world", sort=False)}


def _recommend(runs: pd.DataFrame, units: Units, arms: Sequence[str]) -> Recommendation:
    world, beats = str(runs["world"].iloc[0]), _beats_references(runs, units, arms)
    present = [arm for arm in arms if (runs["arm"] == arm).any()]
    gains = {measure: _gains(runs, units, present, measure) for measure in _JUDGED}
    arm, best, hurting = _pick(gains)
    gain = float(gains[_MEASURE][arm].mean()) if arm else math.nan
    nested, picks = _nest(gains)
    lines = _on_references(world, runs, beats)
    if arm is None or best is None:
        n = int(gains[_MEASURE].count().max()) if present else 0
        lines.append(
            f"On `{world}`, no arm is recommended: {MEASURES[_MEASURE].label} must be measured in two {units.many} at "
            f"least, got {n}."
        )
    else:
        is_shown = arm == BASELINE or _does(Verdict.HELPS, arm, gains)
        lines += _on_arm(world, units, arm, best, gain, hurting, is_shown=is_shown)
    if not math.isnan(nested):
        lines += _on_nested(units, nested, picks)
    return Recommendation(
        arm=arm, best=best, gain=gain, nested=nested, beats_references=tuple(beats or ()), sentences=lines
    )


def _gains(runs: pd.DataFrame, units: Units, arms: Sequence[str], measure: str) -> pd.DataFrame:
    """Return the difference of each arm from the baseline in each unit, shape (n_units, n_arms)."""
    return pd.DataFrame({arm: paired_differences(runs, units, arm, measure)[0] for arm in arms})


def _pick(gains: dict[str, pd.DataFrame]) -> tuple[str | None, str | None, list[str]]:
    """Return the recommended arm, the best one, and the arms that hurt a judged measure."""
    of_arms = gains[_MEASURE].loc[:, gains[_MEASURE].count() > 1]
    hurting = [arm for arm in gains[_MEASURE] if _does(Verdict.HURTS, arm, gains)]
    harmless = [arm for arm in of_arms if arm not in hurting]
    if not harmless:
        return None, None, hurting
    # The first of equal arms is the simplest.
    best = max(harmless, key=lambda arm: of_arms[arm].mean())
    for arm in harmless:
        behind = (of_arms[best] - of_arms[arm]).dropna()
        if behind.mean() <= behind.std(ddof=1) / math.sqrt(max(len(behind), 1)):
            return arm, best, hurting
    return best, best, hurting


def _does(verdict: Verdict, arm: str, gains: dict[str, pd.DataFrame]) -> bool:
    """Return whether an arm helps, or hurts, any judged measure."""
    return any(_is_judged(verdict, arm, of_measure, name) for name, of_measure in gains.items())


def _is_judged(verdict: Verdict, arm: str, gains: pd.DataFrame, measure: str) -> bool:
    threshold, mean = MEASURES[measure].threshold, gains[arm].mean()
    better = mean if verdict is Verdict.HELPS else -mean
    if threshold is None or not better >= threshold:
        return False
    compared = [name for name in gains if name != BASELINE and gains[name].notna().any()]
    ps = correct_for_arms([sign_flip_p(gains[name].dropna().to_numpy()) for name in compared])
    p = ps[compared.index(arm)]
    if p >= ALPHA:  # spares the interval
        return False
    return judge(mean, *interval(gains[arm].dropna().to_numpy()), p, threshold) is verdict


def _nest(gains: dict[str, pd.DataFrame]) -> tuple[float, list[str]]:
    """Return the mean gain in each unit of the arm that the other units recommend, and these arms."""
    found, picks = [], []
    for unit in gains[_MEASURE].index:
        arm, _, _ = _pick({name: table.drop(index=unit, errors="ignore") for name, table in gains.items()})
        if arm is not None and not math.isnan(gain := float(gains[_MEASURE].loc[[unit], arm].iloc[0])):
            found.append(gain)
            picks.append(arm)
    return (float(np.mean(found)), picks) if len(found) >= _MIN_NESTED else (math.nan, [])


def _beats_references(runs: pd.DataFrame, units: Units, arms: Sequence[str]) -> list[str] | None:
    """Return the arms that predict the condition better than every reference; None if no reference was measured."""
    measured = runs[runs[_MEASURE].notna()]
    references = [name for name in REFERENCES if (measured["arm"] == name).any()]
    if not references:
        return None

    def beats(arm: str, reference: str) -> bool:
        differences, _ = paired_differences(runs, units, arm, _MEASURE, other=reference)
        return len(differences) > 1 and interval(differences.to_numpy())[0] > 0

    return [arm for arm in arms if all(beats(arm, reference) for reference in references)]


def _on_references(world: str, runs: pd.DataFrame, beats: list[str] | None) -> list[str]:
    if beats is None or beats:
        return []
    means = runs.groupby("arm")[_MEASURE].mean()
    names = " and ".join(f"{name} ({means[name]:.2f})" for name in REFERENCES if name in means.index)
    return [
        f"On `{world}`, no arm is shown to predict the condition better than {names}: nothing shows that training "
        "gains anything here."
    ]


def _on_arm(
    world: str, units: Units, arm: str, best: str, gain: float, hurting: list[str], *, is_shown: bool
) -> list[str]:
    label = MEASURES[_MEASURE].label
    why = "no simpler arm is within one standard error of it"
    if arm != best:
        why = f"the simplest arm within one standard error of the best, `{best}`"
    lines = [f"On `{world}`, `{arm}` is recommended: {why}."]
    if not is_shown:
        lines = [
            f"On `{world}`, `{arm}` is the one to try first: {why}. It is not shown to be better than `{BASELINE}`."
        ]
    if arm == BASELINE:
        lines = [f"On `{world}`, `{arm}` is recommended: no arm predicts the condition better by a standard error."]
    else:
        lines.append(
            f"Its {label} is {signed(gain)} from `{BASELINE}`; picking the best arm by the same {units.many} makes "
            "this number optimistic."
        )
    if hurting:
        names = ", ".join(f"`{name}`" for name in hurting)
        lines.append(f"Left out because they hurt a judged measure: {names}.")
    return lines


def _on_nested(units: Units, nested: float, picks: list[str]) -> list[str]:
    names = {arm: picks.count(arm) for arm in picks}
    chosen = ", ".join(f"`{arm}` {count} times" if count > 1 else f"`{arm}` once" for arm, count in names.items())
    return [
        f"If the arm is picked without the {units.one} on which it is measured, {MEASURES[_MEASURE].label} is "
        f"{signed(nested)} from `{BASELINE}` (picked: {chosen})."
    ]
