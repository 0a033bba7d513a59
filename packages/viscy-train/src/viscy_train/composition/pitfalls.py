"""Pitfalls: what a composition may do to the embeddings, as far as the table of anchors shows before any training.

They follow from one rule, which the study of `viscy_train.study` measures: what varies within a batch, and is constant
over the two crops of a pair, is encoded; what is constant in a batch distinguishes none of its cells, and may be
ignored.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.wording import plural, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

RULE = (
    "what varies within a batch and is constant over the two crops of a pair is encoded; what a batch holds constant "
    "may be ignored"
)
"""Why a composition changes what is learned."""
HOURS = "hours_post_infection"
# A condition with this part of an equal share is not rare.
_NOT_RARE = 0.7
# Conditions that have less of their anchors in the hours of the other are apart in time.
_APART = 0.1
# Experiments of which this share of the neighbors that chance gives are of another one mix.
ALREADY_MIXED = 0.8
_MAX_OF_A_KIND = 3


def find_pitfalls(anchors: pd.DataFrame, options: Mapping[str, Any], mixing: float | None = None) -> list[str]:
    """Return what a composition may do to the embeddings.

    Parameters
    ----------
    anchors : pandas.DataFrame
        The anchors for training: `experiment`, `condition`, and `hours_post_infection` if they have times.
    options : mapping
        Options of the sampler: `experiment_aware`, `condition_balanced` and `temporal_enrichment`.
    mixing : float, optional
        How much the experiments mix before training, 1 for chance, if crops have been looked at.

    Returns
    -------
    list of str
        Sentences without a final period; the last is the rule that they follow from. Empty if there are none.
    """
    counts = pd.crosstab(anchors["experiment"], anchors["condition"])
    kinds = [
        _one_condition(counts, options),
        _already_mixed(options, mixing),
        _not_rare(counts, options),
        _constant_hours(options),
        _hours_apart(anchors),
    ]
    shown = [shorten(kind, "... and {} more of this kind", _MAX_OF_A_KIND) for kind in kinds]
    sentences = [sentence for kind in shown for sentence in kind]
    return [*sentences, f"the rule behind this: {RULE}"] if sentences else []


def _one_condition(counts: pd.DataFrame, options: Mapping[str, Any]) -> list[str]:
    """Return a sentence if batches of some experiments hold one condition only."""
    names = [repr(name) for name in counts.index[(counts > 0).sum(axis=1) == 1]]
    if not options["experiment_aware"] or counts.shape[1] < 2 or not names:
        return []
    which = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    both = "experiment_aware with condition_balanced" if options["condition_balanced"] else "experiment_aware"
    return [
        f"the batches of {plural(len(names), 'experiment')} {which} have one condition only, which therefore does not "
        f"distinguish their cells: {both} may hurt; compare with experiment_aware: false"
    ]


def _already_mixed(options: Mapping[str, Any], mixing: float | None) -> list[str]:
    if mixing is None or mixing < ALREADY_MIXED or not options["experiment_aware"]:
        return []
    return [
        f"the experiments already mix in their pixels (mixing {mixing:.2f}, 1 is chance): experiment_aware can add "
        "little to that, but may keep training from separating them"
    ]


def _not_rare(counts: pd.DataFrame, options: Mapping[str, Any]) -> list[str]:
    """Return a sentence if the rarest condition is not rare."""
    shares = counts.sum() / counts.to_numpy().sum()
    if not options["condition_balanced"] or len(shares) < 2 or shares.min() * len(shares) < _NOT_RARE:
        return []
    return [
        f"no condition is rare (the rarest, {shares.idxmin()!r}, has {shares.min():.0%} of the anchors): "
        "condition_balanced has little to gain"
    ]


def _constant_hours(options: Mapping[str, Any]) -> list[str]:
    if not options["temporal_enrichment"]:
        return []
    return ["hours vary little within a batch with temporal_enrichment, so the embeddings may say less about them"]


def _hours_apart(anchors: pd.DataFrame) -> list[str]:
    """Return a sentence for each two conditions that hardly share hours."""
    if HOURS not in anchors:
        return []
    hours = {name: part[HOURS].dropna().to_numpy(float) for name, part in anchors.groupby("condition", observed=True)}
    present = [name for name, of_condition in hours.items() if len(of_condition)]
    return [
        f"conditions {one!r} ({_range(hours[one])}) and {other!r} ({_range(hours[other])}) hardly share hours: the "
        "difference between them may be time alone"
        for one, other in combinations(present, 2)
        if max(_share_within(hours[one], hours[other]), _share_within(hours[other], hours[one])) < _APART
    ]


def _share_within(hours: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return which part of some hours lies in the range of others."""
    return float(np.mean((hours >= others.min()) & (hours <= others.max())))


def _range(hours: NDArray[np.float64]) -> str:
    return f"{hours.min():.3g} to {hours.max():.3g} h"
