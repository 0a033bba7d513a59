"""Summary: the results of a run and its problems, in a few sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.evaluation.representation import COLLAPSED_RANK
from viscy_train.loading.axes import HOURS
from viscy_train.report.learned_section import CHANCE
from viscy_train.run.metrics_csv import DATA_WAIT, EFFECTIVE_RANK, LOSS, steps_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from viscy_train.composition.check import TargetCheck
    from viscy_train.evaluation.embeddings import EncoderEvaluation, Probe
    from viscy_train.evaluation.retrieval import Recall

_LONG_DATA_WAIT = 0.2
_MANY_DRAWS = 5.0
# Relative change of a loss that counts as a decrease or an increase.
_CHANGE = 0.05
# With fewer, a probe that finds the condition may share its accuracy with several labelings, and p is about 0.05.
_FEW_ARRANGEMENTS = 100


def summarize_run(
    checks: list[TargetCheck],
    log: pd.DataFrame,
    evaluation: EncoderEvaluation,
    *,
    has_held_out_queries: bool,
    axes: Sequence[str] = ("experiment", "condition"),
    hours: str = HOURS,
) -> list[str]:
    """Return sentences on the composition of the batches and on what the encoder learned.

    Parameters
    ----------
    checks : list of TargetCheck
        Observed composition of the batches against the targets.
    log : pandas.DataFrame
        `step` and `train/loss`, and `val/loss` if there was validation.
    evaluation : EncoderEvaluation
        Recall@1 and linear probes.
    has_held_out_queries : bool
        Whether recall@1 was measured on cells that the encoder was not trained on.
    axes : sequence of str
        Names of what batches are grouped and balanced by.
    hours : str
        What the hours are called.

    Returns
    -------
    list of str
        Sentences.
    """
    sentences = [_summarize_checks(checks), *_summarize_loss(log)]
    if evaluation.recall:
        sentences.append(_summarize_recall(evaluation.recall[0], has_held_out_queries))
    if probes := [probe for probe in evaluation.probes if probe.is_conclusive]:
        what = "condition" if axes[1] == "condition" else "column condition"
        sentences += [_summarize_probe(probe, what, hours) for probe in probes]
    return sentences


def diagnose_run(checks: list[TargetCheck], log: pd.DataFrame, recall: list[Recall], draws: pd.Series) -> list[str]:
    """Return sentences on the problems of a run, each with what to do about it.

    Parameters
    ----------
    checks, log
        See `summarize_run`.
    recall : list of Recall
        Recall@1, if the encoder was trained for it.
    draws : pandas.Series
        Mean number of draws of an anchor, by (experiment, condition).

    Returns
    -------
    list of str
        Sentences; empty if there are no problems.
    """
    sentences = [
        f"{check.off_target:.1%} of the batches missed their target: {check.name}. Run `viscy-train inspect`, which "
        "says why, or change `data.sampler`."
        for check in checks
        if not check.matched
    ]
    sentences += [*_diagnose_loss(log, draws), *_diagnose_embeddings(log)]
    if any(one.is_lower for one in recall):
        sentences.append(
            "Recall@1 is lower than before training. Look at the pairs with `viscy-train replay`; a positive within "
            "fewer frames (`data.positive.max_frames`), weaker `data.augmentation` or more steps may help."
        )
    if DATA_WAIT in log and (share := log[DATA_WAIT].mean()) > _LONG_DATA_WAIT:
        sentences.append(
            f"Training spent {share:.0%} of its time waiting for data; more loader workers (`data.num_workers`) would "
            "make it faster, and so may a crop store (`viscy-train pack`)."
        )
    return sentences


def describe_draws(
    draws: pd.Series, period: str = "per epoch", axes: Sequence[str] = ("experiment", "condition")
) -> list[str]:
    """Return sentences on the strata whose anchors were drawn often, which is what a rare condition needs.

    Parameters
    ----------
    draws : pandas.Series
        Mean number of draws of an anchor, by (experiment, condition).
    period : str, default ``per epoch``
        The period of the draws.
    axes : sequence of str
        Names of what batches are grouped and balanced by.
    """
    often = draws[draws >= _MANY_DRAWS].sort_values(ascending=False)
    sentences = [
        f"Each anchor of {axes[1]} {condition!r} of {experiment!r} was drawn about {count:.0f} times {period}."
        for (experiment, condition), count in often.iloc[:3].items()
    ]
    if len(often) > 3:
        sentences.append(
            f"Anchors of {len(often) - 3} more combinations of {axes[0]} and {axes[1]} were drawn at least "
            f"{_MANY_DRAWS:.0f} times {period}."
        )
    return sentences


def _summarize_checks(checks: list[TargetCheck]) -> str:
    if not checks:
        return "No target composition was set for the batches."
    if all(check.matched for check in checks):
        return "Every batch matched its target."
    missed = ", ".join(check.name for check in checks if not check.matched)
    return f"Some batches missed their target: {missed}."


def _summarize_loss(log: pd.DataFrame) -> list[str]:
    loss = log[LOSS].to_numpy()
    if not len(loss := loss[np.isfinite(loss)]):
        return []
    first, last = _mean_of_ends(loss)
    verb = "fell" if last < first else "went"
    validation = log["val/loss"].dropna().to_numpy() if "val/loss" in log else np.empty(0)
    held_out = f"; the validation loss ended at {validation[-1]:.2f}" if len(validation) else ""
    return [f"The training loss {verb} from {first:.2f} to {last:.2f}{held_out}."]


def _summarize_recall(recall: Recall, has_held_out_queries: bool) -> str:
    queries = "cells that the encoder was not trained on" if has_held_out_queries else "embedded cells"
    interval, within = "", ""
    if recall.trained_interval is not None:
        low, high = recall.trained_interval
        interval = f" ({low:.0%} to {high:.0%} over {recall.n_units} {recall.unit}s)"
    if recall.chance_in_position is not None:
        within = f", {recall.chance_in_position:.1%} by chance within its position"
    return (
        f"For {recall.trained:.0%}{interval} of the {queries}, the nearest embedding {recall.time} later in the same "
        f"experiment is of the same track (recall@1; {recall.untrained:.0%} before training, {recall.chance:.1%} by "
        f"chance{within})."
    )


def _summarize_probe(probe: Probe, what: str, hours: str) -> str:
    """Return the accuracy with its interval and that of permuted labels; no finding unless it is above chance."""
    at = f"at {probe.from_hours:.1f} to {probe.to_hours:.1f} {hours}"
    over = f"in {probe.n_units} {probe.held_out}s that it was not fitted to"
    if probe.permuted is None:
        compared = f"chance {probe.chance:.0%}"
    else:
        compared = f"with permuted labels {probe.permuted}, p = {probe.permuted.p:.2g}"
        if probe.permuted.explains:
            return (
                f"The {what} {at} was not shown to be in the embeddings: the {probe.trained} balanced accuracy of a "
                f"linear probe, {over}, is {CHANCE} ({compared}{_few(probe)})."
            )
    return f"A linear probe predicts the {what} with {probe.trained} balanced accuracy {at}, {over} ({compared})."


def _few(probe: Probe) -> str:
    """Return that there are too few labelings for a small p, or an empty text."""
    if probe.permuted is None or probe.permuted.n_arrangements >= _FEW_ARRANGEMENTS:
        return ""
    return f"; so few {probe.held_out}s permit only {probe.permuted.n_arrangements:.0f} labelings, and more would tell"


def _mean_of_ends(loss: np.ndarray) -> tuple[float, float]:
    """Return the mean of the first tenth and of the last tenth."""
    tenth = max(1, len(loss) // 10)
    return float(loss[:tenth].mean()), float(loss[-tenth:].mean())


def _diagnose_loss(log: pd.DataFrame, draws: pd.Series) -> list[str]:
    steps = steps_of(log)
    loss, sentences = steps[LOSS].to_numpy(), []
    if len(invalid := steps["step"][~np.isfinite(loss)]):
        sentences.append(
            f"The loss was not finite at {len(invalid):,} of {len(steps):,} logged steps, first at step "
            f"{invalid.iloc[0]:,}; run `viscy-train replay --step {invalid.iloc[0]}` to see the batch."
        )
    elif len(loss) and (ends := _mean_of_ends(loss))[1] > ends[0] * (1 - _CHANGE):
        sentences.append(
            "The training loss hardly decreased. Train for longer (`trainer.max_epochs`), try another "
            "`model.optimizer.learning_rate`, and look at the pairs with `viscy-train replay`."
        )
    if "val/loss" not in log:
        return sentences
    validation = log.dropna(subset="val/loss")
    if len(validation) > 1:
        lowest = validation.loc[validation["val/loss"].idxmin()]
        last = validation["val/loss"].iloc[-1]
        if last > lowest["val/loss"] * (1 + _CHANGE):
            sentences.append(
                f"The validation loss was lowest ({lowest['val/loss']:.2f}) at step {lowest['step']:,.0f} and rose to "
                f"{last:.2f} by the end: the encoder may be overfitting. Stop earlier (`trainer.max_epochs`), or use "
                f"the best checkpoint (`--checkpoint best`) or stronger `data.augmentation`.{_advise_on_draws(draws)}"
            )
    return sentences


def _advise_on_draws(draws: pd.Series) -> str:
    """Return a sentence on the stratum whose anchors were drawn most often; none if none was drawn often."""
    often = draws[draws >= _MANY_DRAWS].sort_values(ascending=False)
    return "".join(
        f" Anchors of {condition!r} of {experiment!r} were drawn up to {most:.0f} times: "
        "`data.sampler.condition_ratio` or `experiment_weights: sqrt` would repeat them less."
        for (experiment, condition), most in often.iloc[:1].items()
    )


def _diagnose_embeddings(log: pd.DataFrame) -> list[str]:
    ranks = log.dropna(subset=EFFECTIVE_RANK) if EFFECTIVE_RANK in log else log.iloc[:0]
    if not len(ranks) or (last := ranks.iloc[-1])[EFFECTIVE_RANK] >= COLLAPSED_RANK:
        return []
    return [
        f"The embeddings have collapsed: the effective rank of the last validation, at step {last['step'] + 1:,.0f}, "
        f"is {last[EFFECTIVE_RANK]:.2f}. Lower `model.optimizer.learning_rate`, or start again with another "
        "`seed_everything`."
    ]
