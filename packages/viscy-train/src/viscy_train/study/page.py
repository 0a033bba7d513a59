"""Study page: what a study found, as one HTML file that loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.report.html import STUDY, data_uri, render, write_page
from viscy_train.study.measures import MEASURES
from viscy_train.study.outcome import judged_headings
from viscy_train.study.picture import plot_differences

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.study.outcome import Outcome


def write_study_page(path: Path, outcome: Outcome) -> None:
    """Write the page of a study.

    Parameters
    ----------
    path : pathlib.Path
        File to write, for example ``study.html``. Its directory is created if necessary.
    outcome : Outcome
        What the study found.

    Raises
    ------
    UserError
        If the file cannot be written, or exists and is not a page of a study.
    """
    page = render(
        "study.html.j2",
        outcome=outcome,
        measures=list(MEASURES.values()),
        judged_headings=judged_headings(),
        figure=data_uri(plot_differences(outcome.summary)),
        n_runs=len(outcome.runs),
        n_seeds=outcome.runs["seed"].nunique(),
    )
    write_page(path, page, STUDY)
