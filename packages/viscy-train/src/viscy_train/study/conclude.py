"""Conclude: from the finished trials of a study to its outcome and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.atomic import atomic_write
from viscy_train.composition.pitfalls import find_pitfalls
from viscy_train.report.style import png_of
from viscy_train.run.provenance import collect_versions
from viscy_train.study.arms import PIXELS
from viscy_train.study.measures import MEASURES
from viscy_train.study.outcome import Outcome
from viscy_train.study.page import write_study_page
from viscy_train.study.picture import plot_differences
from viscy_train.study.recommendation import recommend
from viscy_train.study.results import write_runs, write_summary
from viscy_train.study.sentences import on_units, sentences
from viscy_train.study.summary import summarize
from viscy_train.training.data_cli import make_data, make_data_parser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from viscy_train.loading.run_data import RunData
    from viscy_train.study.arms import Arm
    from viscy_train.study.study_folder import StudyFolder
    from viscy_train.study.summary import Units
    from viscy_train.study.trial import Trial

_DOTS_PER_INCH = 130
# All that an arm may turn on, so that what concerns any arm is found.
_ALL_AXES: dict[str, Any] = dict.fromkeys(("experiment_aware", "condition_balanced", "temporal_enrichment"), True)
RUNS, SUMMARY, COMPOSITION, PICTURE, PAGE = "runs.csv", "summary.csv", "composition.csv", "study.png", "study.html"
"""Files of a study."""
CAVEATS = (
    "Arms were trained for the same number of steps, and no option was tuned for any arm; with other options, an arm "
    "may do better or worse.",
    "A measure is a probe of the embeddings. What it does not find may still be in them, and what it finds may not be "
    "what you need.",
)
"""What holds for every study."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Trials that are repeated on the same kind of units.

    Parameters
    ----------
    trials : sequence of Trial
        Trials of one or several worlds, or of a project.
    units : Units
        What they are repeated on.
    """

    trials: Sequence[Trial]
    units: Units


def find_pitfalls_of(data: RunData, mixing: float | None = None) -> list[str]:
    """Return what could be said of the arms before any training, see `viscy_train.composition.pitfalls`."""
    return find_pitfalls(data.train_anchors(labeled=True), _ALL_AXES, mixing)


def conclude(
    folder: StudyFolder,
    comparisons: Sequence[Comparison],
    arms: Sequence[Arm],
    *,
    title: str,
    command: str,
    data_of: Mapping[str, RunData],
    caveats: Sequence[str] = (),
) -> Outcome:
    """Return what finished trials show.

    Parameters
    ----------
    folder : StudyFolder
        Where the results of all trials are.
    comparisons : sequence of Comparison
        The trials.
    arms : sequence of Arm
        The arms.
    title, command
        As for `Outcome`.
    data_of : mapping of str to RunData
        The data of each world, or of the project.
    caveats : sequence of str, optional
        What the numbers cannot show, beside what holds for every study.
    """
    simplest_first = [arm.name for arm in sorted(arms, key=lambda arm: arm.n_options)]
    trials = [trial for one in comparisons for trial in one.trials]
    runs, summaries = folder.runs(trials), []
    recommendations: dict[str, list[str]] = {}
    verdicts: dict[str, list[str]] = {}
    units: dict[str, str] = {}
    for one in comparisons:
        of_these = folder.runs(one.trials)
        summaries.append(summarize(of_these, one.units))
        for world, found in recommend(of_these, one.units, simplest_first).items():
            recommendations[world] = found.sentences
        for world, rows in summaries[-1].groupby("world", sort=False):
            undecided = on_units(rows, one.units)
            units[str(world)] = one.units.count(int(rows["n"].max()))
            recommendations[str(world)] = [*undecided, *recommendations[str(world)]]
            verdicts[str(world)] = [line for line in sentences(rows, one.units) if line not in undecided]
    mixing = runs[runs["arm"] == PIXELS].groupby("world")["mixing"].mean()
    return Outcome(
        title=title,
        command=command,
        runs=runs,
        summary=pd.concat(summaries, ignore_index=True),
        recommendations=recommendations,
        verdicts=verdicts,
        units=units,
        pitfalls={world: find_pitfalls_of(data, _known(mixing[world])) for world, data in data_of.items()},
        composition=_mean_composition(folder.composition(trials)),
        about={arm.name: arm.about for arm in arms},
        caveats=[*CAVEATS, *caveats],
        reasons=[f"{MEASURES[name].label}: {why}." for name, why in folder.reasons(trials).items()],
        versions=collect_versions(),
    )


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write the files of a study: runs, their summary and composition as CSV, the picture and the page.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    write_runs(folder / RUNS, outcome.runs)
    write_summary(folder / SUMMARY, outcome.summary)
    with atomic_write(folder / COMPOSITION) as unfinished:
        outcome.composition.to_csv(unfinished, index=False)
    with atomic_write(folder / PICTURE) as unfinished:
        unfinished.write_bytes(png_of(plot_differences(outcome.summary), _DOTS_PER_INCH))
    write_study_page(folder / PAGE, outcome)


def data_of_config(config: Path) -> RunData:
    """Return the data of a configuration file that has plain options only."""
    from viscy_train.loading.run_data import RunData

    return make_data(make_data_parser("viscy-train study", "", {}).parse_args(["--config", str(config)]), RunData)


def _known(mixing: float) -> float | None:
    return None if np.isnan(mixing) else float(mixing)


def _mean_composition(composition: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each check of an arm over its runs."""
    keys = ["world", "arm", "check"]
    return composition.groupby(keys, sort=False)[["target", "observed", "off_target"]].mean().reset_index()
