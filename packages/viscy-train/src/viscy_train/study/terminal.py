"""Terminal: what a study found, as sentences and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.console import get_console, make_table
from viscy_train.study.measures import MEASURES
from viscy_train.study.outcome import JUDGED

if TYPE_CHECKING:
    from rich.console import Console

    from viscy_train.study.outcome import Outcome

_LEGEND = "Means, differences to plain, and verdicts; same: no difference that matters; ?: cannot tell."


def print_outcome(outcome: Outcome, console: Console | None = None) -> None:
    """Print, for each world, the recommendation, the warnings known before training and the table of judged measures.

    Parameters
    ----------
    outcome : Outcome
        What the study found.
    console : rich.console.Console, optional
        The console of this process by default.
    """
    console = console or get_console()
    for world in outcome.worlds:
        console.print()
        console.print(f"{world}, {outcome.units[world]}:", markup=False)
        for sentence in outcome.recommendations[world]:
            console.print(sentence, markup=False)
        if pitfalls := outcome.pitfalls.get(world):
            console.print("Known before any training:")
            for sentence in pitfalls:
                console.print(f"  - {sentence}", markup=False)
        table = make_table(["arm"], [MEASURES[name].label for name in JUDGED])
        for row in outcome.short_rows(world):
            table.add_row(*row)
        console.print(table)
    judged = tuple(f"{MEASURES[name].label}: " for name in JUDGED)
    for reason in outcome.reasons:
        if reason.startswith(judged):
            console.print(f"Not measured everywhere: {reason}", markup=False)
    console.print(_LEGEND)
