"""Outcome: all that a study has measured and concludes, from which its page and its lines on a terminal are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.study.measures import MEASURES
from viscy_train.study.sentences import number as without_sign_of_0
from viscy_train.study.sentences import signed
from viscy_train.study.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

JUDGED = [name for name, measure in MEASURES.items() if measure.threshold is not None]
"""Measures of which a difference is judged."""
SHORT = {Verdict.HELPS: "helps", Verdict.HURTS: "hurts", Verdict.NO_DIFFERENCE: "same", Verdict.CANNOT_TELL: "?"}
"""Verdicts in few characters."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a study has found.

    Parameters
    ----------
    title : str
        What was compared, for the heading of the page.
    command : str
        The command that repeats the study.
    runs : pandas.DataFrame
        A row for each run, see `viscy_train.study.results`.
    summary : pandas.DataFrame
        A row for each world, arm and measure, see `viscy_train.study.summary`.
    recommendations, verdicts : dict of str to list of str
        Sentences for each world: which arm to use, and what each arm does.
    units : dict of str to str
        What each world was compared on, such as ``8 seeds``.
    pitfalls : dict of str to list of str
        What could be said of each world before any training.
    composition : pandas.DataFrame
        `world`, `arm`, `check`, `target`, `observed` and `off_target`: what the batches of an arm held.
    about : dict of str to str
        What an arm's batches have, by its name; the simplest first.
    caveats : list of str
        What the numbers cannot show.
    reasons : list of str
        Why some measures are missing.
    versions : dict of str to str
        Versions of the packages.
    """

    title: str
    command: str
    runs: pd.DataFrame
    summary: pd.DataFrame
    recommendations: Mapping[str, Sequence[str]]
    verdicts: Mapping[str, Sequence[str]]
    units: Mapping[str, str]
    pitfalls: Mapping[str, Sequence[str]]
    composition: pd.DataFrame
    about: Mapping[str, str]
    caveats: Sequence[str]
    reasons: Sequence[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def worlds(self) -> list[str]:
        """Names of the worlds, or of the project, in the order of the runs."""
        return list(dict.fromkeys(self.runs["world"]))

    def judged_rows(self, world: str) -> list[list[str]]:
        """Return a row for each arm and reference of a world: its name, the judged measures, and the verdicts.

        Parameters
        ----------
        world : str
            The world.

        Returns
        -------
        list of list of str
            Name; for each judged measure its mean, the paired difference with its 95 % interval, and the verdict.
        """
        return [[arm, *(cell for row in rows for cell in _judged_cells(row))] for arm, rows in self._judged(world)]

    def short_rows(self, world: str) -> list[list[str]]:
        """Return a row for each arm and reference of a world: its name, and the judged measures in few characters."""
        return [[arm, *map(_short_cell, rows)] for arm, rows in self._judged(world)]

    def _judged(self, world: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield each arm of a world with its rows of the summary, in the order of the judged measures."""
        rows = self.summary[self.summary["world"] == world]
        for arm, of_arm in rows.groupby("arm", sort=False):
            by_measure = {str(row["measure"]): row for row in of_arm.to_dict("records")}
            yield str(arm), [by_measure[name] for name in JUDGED]

    def mean_rows(self, world: str) -> list[list[str]]:
        """Return a row for each arm and reference of a world: its name, and the mean of every measure."""
        means = self.runs[self.runs["world"] == world].groupby("arm", sort=False)[list(MEASURES)].mean()
        return [
            [str(arm), *(number(value) for value in row)]
            for arm, row in zip(means.index, means.to_numpy(), strict=True)
        ]

    def composition_rows(self, world: str) -> list[list[str]]:
        """Return a row for each arm and target of its batches: arm, target, its value, and the observed mean."""
        rows = self.composition[self.composition["world"] == world]
        return [
            [row["arm"], row["check"], f"{row['target']:.1%}", f"{row['observed']:.1%}", f"{row['off_target']:.1%}"]
            for row in rows.to_dict("records")
        ]


def judged_headings() -> list[str]:
    """Return the headings of `Outcome.judged_rows`."""
    return ["arm", *(text for name in JUDGED for text in (MEASURES[name].label, "difference", "verdict"))]


def number(value: float) -> str:
    """Return a measure as text."""
    if np.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 10 else without_sign_of_0(value)


def _judged_cells(row: Mapping[str, Any]) -> list[str]:
    mean = number(row["mean"])
    if not row["verdict"]:
        return [mean, "", ""]
    interval = "" if np.isnan(row["low"]) else f" ({signed(row['low'])} to {signed(row['high'])})"
    return [mean, f"{signed(row['difference'])}{interval}", row["verdict"]]


def _short_cell(row: Mapping[str, Any]) -> str:
    mean = number(row["mean"])
    return f"{mean} {signed(row['difference']):>5} {SHORT[row['verdict']]:5}" if row["verdict"] else f"{mean} {'':11}"
