"""Summary: what a run came to, in a few plain sentences, and what of it to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.run.metrics_csv import METRIC, steps_of

if TYPE_CHECKING:
    import pandas as pd

    from viscy_train.composition.check import TargetCheck
    from viscy_train.evaluation.embeddings import Probe
    from viscy_train.evaluation.retrieval import Retrieval

_MUCH_WAITING = 0.2
_OFTEN = 5.0
# Of a loss that has stopped falling, or rises again.
_CHANGE = 0.05


def said_in_short(
    made: list[TargetCheck], log: pd.DataFrame, found: list[Retrieval], probes: list[Probe], sought_is_new: bool
) -> list[str]:
    """Return whether batches held what was asked, and what the encoder learned.

    Parameters
    ----------
    made : list of TargetCheck
        What was asked of batches.
    log : pandas.DataFrame
        `step` and `loss`, and `val/loss` where there was a validation.
    found : list of Retrieval
        How often cells were found again.
    probes : list of Probe
        How well the condition can be told.
    sought_is_new : bool
        Whether the cells that were found again were not trained on.

    Returns
    -------
    list of str
        Sentences.
    """
    said = [_batches_in_short(made)]
    loss = log["loss"].to_numpy()
    if len(loss := loss[np.isfinite(loss)]):
        first, last = _ends(loss)
        validation = log["val/loss"].dropna().to_numpy() if "val/loss" in log else np.empty(0)
        held_out = f", on cells that were not trained on to {validation[-1]:.2f}" if len(validation) else ""
        went = "fell" if last < first else "went"
        said.append(f"The loss {went} from {first:.2f} to {last:.2f}{held_out}.")
    if found:
        one, new = found[0], " that was not trained on" * sought_is_new
        said.append(
            f"By its embedding a cell{new} is found again {one.hours:.1f} hours later, among those of its experiment, "
            f"in {one.trained:.0%} of the cases: {one.untrained:.0%} before training, {one.chance:.1%} by guessing."
        )
    if probes:
        parts = [f"{one.trained:.0%} at {one.from_hours:.1f} to {one.to_hours:.1f} hours" for one in probes]
        said.append(
            f"The condition of a cell is told rightly from its embedding in {' and in '.join(parts)} post infection, "
            f"by guessing in {probes[0].chance:.0%}."
        )
    return said


def look_at(
    made: list[TargetCheck], log: pd.DataFrame, lives: pd.DataFrame, found: list[Retrieval], draws: pd.Series
) -> list[str]:
    """Return what a person should look at.

    Parameters
    ----------
    made, log, found
        As in `said_in_short`.
    lives : pandas.DataFrame
        As from `viscy_train.run.attempts.read_attempts`.
    draws : pandas.Series
        How often an anchor was drawn in an epoch, by (experiment, condition).

    Returns
    -------
    list of str
        Sentences; none where all is well.
    """
    notes = [f"{promise.off:.1%} of the batches are not as asked: {promise.what}." for promise in made if promise.off]
    notes += _notes_on_loss(log)
    if any(one.trained < one.untrained for one in found):
        notes.append("Cells are found again less often than before training.")
    if METRIC in log and (share := log[METRIC].mean()) > _MUCH_WAITING:
        notes.append(f"A step waited for its batch {share:.0%} of its time: more loading workers would make it faster.")
    often = draws[draws >= _OFTEN].sort_values(ascending=False)
    notes += [
        f"Each anchor of condition {condition!r} of {experiment!r} was drawn about {count:.0f} times an epoch."
        for (experiment, condition), count in often.iloc[:3].items()
    ]
    if len(often) > 3:
        notes.append(f"{len(often) - 3} more combinations of experiment and condition are drawn that often.")
    if len(lives) > 1:
        steps = ", ".join(f"{step:,}" for step in lives["step"].iloc[1:][:6])
        more = f" and {len(lives) - 7} more" if len(lives) > 7 else ""
        notes.append(f"The run stopped and went on {_times(len(lives) - 1)}, at step {steps}{more}.")
    return notes


def _batches_in_short(made: list[TargetCheck]) -> str:
    if not made:
        return "Nothing was asked of the composition of the batches."
    if all(promise.kept for promise in made):
        return "Every batch held what was asked of it."
    broken = ", ".join(promise.what for promise in made if not promise.kept)
    return f"Not every batch held what was asked of it: {broken}."


def _ends(loss: np.ndarray) -> tuple[float, float]:
    """Return the mean of the first and of the last tenth."""
    tenth = max(1, len(loss) // 10)
    return float(loss[:tenth].mean()), float(loss[-tenth:].mean())


def _notes_on_loss(log: pd.DataFrame) -> list[str]:
    steps = steps_of(log)
    loss, notes = steps["loss"].to_numpy(), []
    if len(lost := steps["step"][~np.isfinite(loss)]):
        notes.append(
            f"The loss was no number in {len(lost):,} of {len(steps):,} logged steps, first in step {lost.iloc[0]:,}: "
            f"viscy-train replay --step {lost.iloc[0]} shows its batch."
        )
    elif len(loss) and (ends := _ends(loss))[1] > ends[0] * (1 - _CHANGE):
        notes.append("The loss hardly fell.")
    if "val/loss" not in log:
        return notes
    validation = log.dropna(subset="val/loss")
    if len(validation) > 1:
        lowest = validation.loc[validation["val/loss"].idxmin()]
        last = validation["val/loss"].iloc[-1]
        if last > lowest["val/loss"] * (1 + _CHANGE):
            notes.append(
                f"The validation loss was lowest, {lowest['val/loss']:.2f}, at step {lowest['step']:,.0f} and rose to "
                f"{last:.2f}: the encoder may have learned the cells it was trained on."
            )
    return notes


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
