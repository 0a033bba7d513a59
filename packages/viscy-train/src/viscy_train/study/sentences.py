"""Sentences: the verdicts of a study in words, for people who read no table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from viscy_train.study.arms import BASELINE, REFERENCES
from viscy_train.study.measures import MEASURES
from viscy_train.study.statistics import fewest_units
from viscy_train.study.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from viscy_train.study.summary import Units

_SMALLEST_P = 0.001


def sentences(summary: pd.DataFrame, units: Units) -> list[str]:
    """Return what a summary shows.

    Parameters
    ----------
    summary : pandas.DataFrame
        Columns `viscy_train.study.results.SUMMARY_COLUMNS`.
    units : Units
        What the comparison is repeated on.

    Returns
    -------
    list of str
        For each world: one on the number of units, if they cannot suffice; one for each arm that helps or hurts a
        judged measure; one for the arms that make no difference to a measure, and one for the arms of which nothing can
        be said. A measure that is not defined has none.
    """
    return [line for world, rows in summary.groupby("world", sort=False) for line in _of_world(str(world), rows, units)]


def describe_difference(row: Any, units: Units) -> str:
    """Return a row of a summary as text: ``condition AUROC +0.14 (0.11 to 0.17), p = 0.02 after Holm, 10 seeds``."""
    label, interval = MEASURES[row.measure].label, f"({number(row.low)} to {number(row.high)})"
    return f"{label} {signed(row.difference)} {interval}, {_p(row.p_holm)} after Holm, {units.count(row.n)}"


def number(value: float) -> str:
    """Return a number with two decimals, without a sign if it rounds to 0."""
    text = f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float) -> str:
    """Return a difference with two decimals and its sign, without a sign if it rounds to 0."""
    text = number(value)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def on_units(summary: pd.DataFrame, units: Units) -> list[str]:
    """Return, for each world with too few units for any verdict, the sentence of `sentences` that says so."""
    by_world = summary.groupby("world", sort=False)
    return [line for world, rows in by_world for line in _on_units(str(world), _judged(rows), units)]


def _p(p: float) -> str:
    return f"p < {_SMALLEST_P}" if p < _SMALLEST_P else f"p = {p:.2g}"


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["verdict"] != "") & ~rows["arm"].isin([BASELINE, *REFERENCES])]


def _of_world(world: str, rows: pd.DataFrame, units: Units) -> list[str]:
    judged = _judged(rows)
    lines = [*_on_units(world, judged, units)]
    for verdict, verb in ((Verdict.HELPS, "helps"), (Verdict.HURTS, "hurts")):
        lines += [
            f"On `{world}`, `{row.arm}` {verb}: {describe_difference(row, units)}."
            for row in _rows(judged[judged["verdict"] == verdict.value])
        ]
    for measure, of_measure in judged.groupby("measure", sort=False):
        lines += _no_difference(world, str(measure), of_measure[of_measure["verdict"] == Verdict.NO_DIFFERENCE.value])
        unknown = of_measure[of_measure["verdict"] == Verdict.CANNOT_TELL.value]
        lines += _cannot_tell(world, str(measure), unknown, units)
    return lines


def _on_units(world: str, judged: pd.DataFrame, units: Units) -> list[str]:
    """Return why no arm can help or hurt, if there are too few units for the smallest possible p."""
    if judged.empty:
        return []
    n, n_arms = int(judged["n"].max()), judged["arm"].nunique()
    least = fewest_units(n_arms)
    if n >= least:
        return []
    why = (
        f"On `{world}`, whether an arm helps or hurts cannot be decided from {units.count(n)}: with {n_arms} "
        f"{'arm' if n_arms == 1 else 'arms'}, at least {units.count(least)} are needed for p < 0.05 after Holm"
    )
    if units.limit is not None and units.limit < least:
        why += f", and the project has {units.limit}; add experiments, or hold out positions"
    else:
        why += "; add seeds"
    return [f"{why}."]


def _no_difference(world: str, measure: str, rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    verb = "makes" if len(rows) == 1 else "make"
    what = f"{MEASURES[measure].label} (within ± {MEASURES[measure].threshold})"
    return [f"On `{world}`, {_names(rows)} {verb} no difference to {what}."]


def _cannot_tell(world: str, measure: str, rows: pd.DataFrame, units: Units) -> list[str]:
    if rows.empty:
        return []
    arms = [f"`{row.arm}` {signed(row.difference)}, {_within(row)}, {int(row.units_needed)}" for row in _rows(rows)]
    there = "" if units.limit is None else f"; the project has {units.limit}"
    what = f"difference, 95 % interval, about how many {units.many} it takes{there}"
    return [f"On `{world}`, cannot tell for {MEASURES[measure].label} ({what}): {'; '.join(arms)}."]


def _within(row: Any) -> str:
    return "no interval" if math.isnan(row.low) else f"{number(row.low)} to {number(row.high)}"


def _names(rows: pd.DataFrame) -> str:
    *first, last = (f"`{arm}`" for arm in rows["arm"])
    return f"{', '.join(first)} and {last}" if first else last


def _rows(table: pd.DataFrame) -> Iterable[Any]:
    """Return rows as named tuples, whose columns a type checker does not know."""
    return table.itertuples()
