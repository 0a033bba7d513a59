"""Findings: what of an epoch's batches a person should look at before training, in words and with numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from viscy_train.composition.targets import WHOLE_TABLE, encode, group_shares
from viscy_train.composition.temporal import is_enriched, share_in_window

if TYPE_CHECKING:
    from viscy_train.composition.result import DryRun

# Of each kind, so that one that all experiments share does not hide the others.
_MOST_OF_A_KIND = 5
_OFTEN = 5.0
_FEW_STEPS = 10
# Shares that are too small to change what is learned.
_SMALL = 0.005


def diagnose(inspection: DryRun) -> list[str]:
    """Return everything worth a look.

    Parameters
    ----------
    inspection : DryRun
        Of the batches.

    Returns
    -------
    list of str
        Sentences without a full stop, the gravest kinds first.
    """
    kinds = [
        _not_as_asked(inspection),
        _out_of_reach(inspection),
        _lacking(inspection),
        _repeated(inspection),
        _doubled(inspection),
        _excluded(inspection),
        _never_drawn(inspection),
        _wide_windows(inspection),
        _lineages(inspection),
        _steps(inspection),
        _partly_counted(inspection),
    ]
    return [sentence for kind in kinds for sentence in _some(kind)]


def _some(sentences: list[str]) -> list[str]:
    more = len(sentences) - _MOST_OF_A_KIND
    return [*sentences[:_MOST_OF_A_KIND], f"... and {more} more of this kind"] if more > 0 else sentences


def _not_as_asked(inspection: DryRun) -> list[str]:
    return [
        f"{promise.off:.1%} of the batches are not as asked: {promise.what}, {promise.asked:.1%} asked for, "
        f"{promise.lowest:.1%} to {promise.highest:.1%} drawn"
        for promise in inspection.checks
        if not promise.kept
    ]


def _conditions(inspection: DryRun) -> pd.DataFrame:
    """Return the anchors of each experiment that gets batches, a column for each condition that is asked for."""
    counts = inspection.strata.pivot_table(
        index="experiment", columns="condition", values="anchors", fill_value=0, aggfunc="sum", sort=False
    )
    ratio = inspection.options.condition_ratio or dict.fromkeys(counts.columns, 1.0)
    groups = group_shares(inspection.anchors, inspection.options)
    return counts.loc[groups.index, [name for name in counts.columns if ratio[name] > 0]]


def _is_split(inspection: DryRun) -> bool:
    return inspection.options.experiment_aware and inspection.options.condition_balanced


def _out_of_reach(inspection: DryRun) -> list[str]:
    if not _is_split(inspection):
        return []
    counts, groups = _conditions(inspection), group_shares(inspection.anchors, inspection.options)
    ratio = inspection.options.condition_ratio or dict.fromkeys(counts.columns, 1.0)
    total = sum(ratio[name] for name in counts.columns)
    without = {name: float(groups[counts[name] == 0].sum()) for name in counts.columns}
    return [
        f"most batches, {share:.0%}, cannot hold condition {name!r} at the {ratio[name] / total:.0%} asked for: they "
        "are of experiments without it"
        for name, share in without.items()
        if share > 0.5
    ]


def _lacking(inspection: DryRun) -> list[str]:
    if not _is_split(inspection):
        return []
    found = []
    for experiment, counts in _conditions(inspection).iterrows():
        has, lacks = counts.index[counts > 0].tolist(), counts.index[counts == 0].tolist()
        if lacks:
            only = " only" if len(has) == 1 else ""
            leak = " but for what leaks in" if inspection.options.leaky else ""
            found.append(
                f"experiment {experiment!r} has {_named('condition', has)}{only}: its batches have no "
                f"{_listed(lacks, 'or')}{leak}"
            )
    return found


def _repeated(inspection: DryRun) -> list[str]:
    often = inspection.strata[inspection.strata["draws"] >= _OFTEN].sort_values("draws", ascending=False)
    return [
        f"condition {condition!r} of {experiment!r} has {_count(row['anchors'], 'anchor')} and is drawn "
        f"{row['draws'] * row['anchors']:,.0f} times an epoch: each about {row['draws']:,.0f} times"
        for (experiment, condition), row in zip(often.index, often.to_dict("records"), strict=True)
    ]


def _doubled(inspection: DryRun) -> list[str]:
    size = inspection.options.batch_size
    if inspection.doubled < _SMALL * size:
        return []
    what = "conditions" if inspection.options.condition_balanced else "experiments"
    where = " around some times" if is_enriched(inspection.options) else ""
    return [
        f"a batch of {size} has on average {inspection.doubled:.1f} slots with an anchor that it holds already: some "
        f"{what} have fewer anchors{where} than slots to fill"
    ]


def _excluded(inspection: DryRun) -> list[str]:
    unasked = inspection.strata[inspection.strata["asked"] == 0]["anchors"]
    by_experiment = unasked.groupby(level=0, sort=False).sum()
    return [
        f"{count:,} anchors of {experiment!r} are never drawn, as its weight or that of their condition is 0"
        for experiment, count in by_experiment.items()
    ]


def _never_drawn(inspection: DryRun) -> list[str]:
    if not inspection.draws.is_whole:
        return []
    asked = inspection.strata[inspection.strata["asked"] > 0]
    sums = asked[["anchors", "never"]].groupby(level=0, sort=False).sum()
    share = (sums["never"] / sums["anchors"]).sort_values(ascending=False)
    epochs = "an epoch" if inspection.epochs == 1 else f"{inspection.draws.epochs:g} epochs"
    return [
        f"{sums['never'][experiment]:,.0f} anchors of {experiment!r}, {part:.1%}, are not drawn in {epochs}"
        for experiment, part in share.items()
        if part >= _SMALL
    ]


def _wide_windows(inspection: DryRun) -> list[str]:
    options = inspection.options
    if not is_enriched(options):
        return []
    codes, names = encode(inspection.anchors["experiment"])
    hours = inspection.anchors["hours_post_infection"].to_numpy(dtype=float)
    found = []
    for group in group_shares(inspection.anchors, options).index:
        own = hours if group == WHOLE_TABLE else hours[codes == names.index(group)]
        of = "all experiments" if group == WHOLE_TABLE else repr(group)
        covered = share_in_window(own, options.temporal_window_hours)
        if covered > 0.999:
            found.append(f"the focal window of {options.temporal_window_hours:g} h holds all times of {of}")
        elif covered > 0.8:
            found.append(
                f"the focal window of {options.temporal_window_hours:g} h holds on average {covered:.0%} of the "
                f"anchors of {of}: the enrichment changes little"
            )
    return found


def _lineages(inspection: DryRun) -> list[str]:
    size = inspection.options.batch_size
    if inspection.lineage_pairs < size / 20:
        return []
    share = inspection.lineage_pairs / (size * (size - 1) / 2)
    return [
        f"a batch of {size} has on average {inspection.lineage_pairs:,.0f} pairs of anchors of the same lineage, "
        f"{share:.1%} of its pairs: to a loss that is not told of lineages they are different cells"
    ]


def _steps(inspection: DryRun) -> list[str]:
    found = []
    if inspection.steps < _FEW_STEPS:
        found.append(
            f"an epoch has {_count(inspection.steps, 'step')} only, of {inspection.world_size} x "
            f"{inspection.options.batch_size} anchors"
        )
    if (filled := inspection.steps * inspection.world_size - inspection.batches_of_epoch) > 0:
        found.append(
            f"{inspection.batches_of_epoch:,} batches on {inspection.world_size} processes: the last step of an epoch "
            f"is filled up with {_count(filled, 'batch', 'batches')} more"
        )
    return found


def _partly_counted(inspection: DryRun) -> list[str]:
    if inspection.draws.is_whole:
        return []
    counted = round(inspection.draws.epochs * inspection.batches_of_epoch)
    return [
        f"an epoch has {inspection.batches_of_epoch:,} batches, of which the first {counted:,} were drawn: what is "
        "never drawn is not known"
    ]


def _count(number: float, one: str, many: str | None = None) -> str:
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}"


def _named(what: str, names: list[str]) -> str:
    return f"{what if len(names) == 1 else what + 's'} {_listed(names, 'and')}"


def _listed(names: list[str], last: str) -> str:
    shown = [repr(name) for name in names[:4]] + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"
