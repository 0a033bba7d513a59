"""Diagnostics: problems of an epoch's batches that a user should know before training, as sentences with numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from viscy_train.composition.step import warn_of_missing_negatives, warn_of_missing_positives
from viscy_train.composition.targets import encode, group_shares, group_word
from viscy_train.composition.temporal import share_in_window
from viscy_train.wording import are, count, plural, shorten

if TYPE_CHECKING:
    from viscy_train.composition.result import DryRun

# Per kind, so that a problem of all experiments does not hide the others.
_MAX_OF_A_KIND = 5
_MANY_DRAWS = 5.0
_FEW_STEPS = 10
# A smaller share does not change what is learned.
_NEGLIGIBLE = 0.005
# More epochs draw the others; that is a problem only if most are left.
_MANY_NEVER_DRAWN = 0.5


def diagnose(dry_run: DryRun) -> list[str]:
    """Return the problems of a dry run.

    Parameters
    ----------
    dry_run : DryRun
        The batches of an epoch.

    Returns
    -------
    list of str
        Sentences without a final period: the sampler's warnings, then the other problems by severity.
    """
    kinds = [
        _missed_targets(dry_run),
        _mixed_negatives(dry_run),
        warn_of_missing_positives(dry_run.planned_step, dry_run.planned),
        warn_of_missing_negatives(dry_run.step, dry_run.planned),
        _unreachable_conditions(dry_run),
        _missing_conditions(dry_run),
        _frequent_draws(dry_run),
        _duplicate_slots(dry_run),
        _excluded_anchors(dry_run),
        _anchors_never_drawn(dry_run),
        _wide_windows(dry_run),
        _shared_lineages(dry_run),
        _steps(dry_run),
        _partial_counts(dry_run),
    ]
    shown = (shorten(kind, "... and {} more of this kind", _MAX_OF_A_KIND) for kind in kinds)
    return [*dry_run.sampler_warnings, *(sentence for kind in shown for sentence in kind)]


def _missed_targets(dry_run: DryRun) -> list[str]:
    return [
        f"{check.off_target:.1%} of the batches missed a target: {check.name}, target {check.target:.1%}, observed "
        f"{check.lowest:.1%} to {check.highest:.1%}"
        for check in dry_run.checks
        if not check.matched
    ]


def _mixed_negatives(dry_run: DryRun) -> list[str]:
    planned = dry_run.planned_step
    if not planned.mixes_experiments:
        return []
    return [
        f"{planned.from_others:.0%} of an anchor's negatives come from other {planned.group}s, because the loss "
        f"compares it with {planned.settings.n_compared} batches (model.loss.negatives=step): "
        f"{planned.from_others_in_batch:.0%} with data.sampler.split_batches"
    ]


def _anchors_by_condition(dry_run: DryRun) -> pd.DataFrame:
    """Count the anchors of each experiment that has batches, with a column for each condition of nonzero ratio."""
    counts = dry_run.strata.pivot_table(
        index="experiment", columns="condition", values="anchors", fill_value=0, aggfunc="sum", sort=False
    )
    ratio = dry_run.planned.options["condition_ratio"]
    return counts.loc[group_shares(dry_run.planned).index, [name for name in counts.columns if ratio[name] > 0]]


def _uses_both_axes(dry_run: DryRun) -> bool:
    return dry_run.planned.options["experiment_aware"] and dry_run.planned.options["condition_balanced"]


def _unreachable_conditions(dry_run: DryRun) -> list[str]:
    if not _uses_both_axes(dry_run):
        return []
    counts, groups = _anchors_by_condition(dry_run), group_shares(dry_run.planned)
    ratio = dry_run.planned.options["condition_ratio"]
    lacking = (counts == 0).mul(groups, axis=0).sum()
    return [
        f"most batches ({share:.0%}) cannot reach the target of {ratio[name]:.0%} for condition {name!r}: their "
        f"{group_word(dry_run.planned)}s do not have it"
        for name, share in lacking.items()
        if share > 0.5
    ]


def _missing_conditions(dry_run: DryRun) -> list[str]:
    if not _uses_both_axes(dry_run):
        return []
    sentences, word = [], group_word(dry_run.planned)
    for experiment, counts in _anchors_by_condition(dry_run).iterrows():
        has, lacks = counts.index[counts > 0].tolist(), counts.index[counts == 0].tolist()
        if lacks:
            only = "only " if len(has) == 1 else ""
            leak = " except through the leak" if dry_run.planned.options["leaky"] else ""
            conditions = f"{plural(len(has), 'condition')} {_join(has, 'and')}"
            sentences.append(
                f"{word} {experiment!r} has {only}{conditions}: its batches contain no {_join(lacks, 'or')}{leak}"
            )
    return sentences


def _frequent_draws(dry_run: DryRun) -> list[str]:
    often = dry_run.strata[dry_run.strata["draws"] >= _MANY_DRAWS].sort_values("draws", ascending=False)
    return [
        f"condition {condition!r} of {experiment!r} has only {count(row['anchors'], 'anchor')} for "
        f"{row['draws'] * row['anchors']:,.0f} draws per epoch: each is drawn about {row['draws']:,.0f} times"
        for (experiment, condition), row in zip(often.index, often.to_dict("records"), strict=True)
    ]


def _duplicate_slots(dry_run: DryRun) -> list[str]:
    size = dry_run.batch_size
    if dry_run.duplicate_slots < _NEGLIGIBLE * size:
        return []
    what = "conditions" if dry_run.planned.options["condition_balanced"] else f"{group_word(dry_run.planned)}s"
    where = " around some focal times" if dry_run.planned.options["temporal_enrichment"] else ""
    return [
        f"on average {dry_run.duplicate_slots:.1f} slots of a batch of {size} repeat an anchor of the same batch: some "
        f"{what} have fewer anchors{where} than slots"
    ]


def _excluded_anchors(dry_run: DryRun) -> list[str]:
    excluded = dry_run.strata[dry_run.strata["target"] == 0]["anchors"]
    word = group_word(dry_run.planned)
    by_experiment = excluded.groupby(level=0, sort=False).sum()
    return [
        f"{count(number, 'anchor')} of {experiment!r} {are(number)} excluded: the weight of the {word} or of their "
        "condition is 0"
        for experiment, number in by_experiment.items()
    ]


def _anchors_never_drawn(dry_run: DryRun) -> list[str]:
    if not dry_run.draws.covers_an_epoch or dry_run.draws.epochs < dry_run.epochs_per_round:
        return []
    included = dry_run.strata[dry_run.strata["target"] > 0]
    sums = included[["anchors", "never"]].groupby(level=0, sort=False).sum()
    share = (sums["never"] / sums["anchors"]).sort_values(ascending=False)
    epochs = "one epoch" if dry_run.draws.epochs == 1 else f"{dry_run.draws.epochs:g} epochs"
    return [
        f"{count(sums['never'][experiment], 'anchor')} of {experiment!r} ({part:.1%}) "
        f"{are(sums['never'][experiment])} not drawn in {epochs}; train for more epochs, or choose the "
        f"{group_word(dry_run.planned)} more often by data.sampler.experiment_weights, such as proportional"
        for experiment, part in share.items()
        if part >= _MANY_NEVER_DRAWN
    ]


def _wide_windows(dry_run: DryRun) -> list[str]:
    options = dry_run.planned.options
    if not options["temporal_enrichment"]:
        return []
    codes, names = encode(dry_run.anchors["experiment"])
    hours = dry_run.anchors["hours_post_infection"].to_numpy(dtype=float)
    half_width = options["temporal_window_hours"]
    sentences = []
    for group in group_shares(dry_run.planned).index:
        own = hours[codes == names.index(group)] if options["experiment_aware"] else hours
        owner = repr(group) if options["experiment_aware"] else f"all {group_word(dry_run.planned)}s"
        covered = share_in_window(own, half_width)
        window = f"the temporal window of ±{half_width:g} h covers"
        if covered > 0.999:
            sentences.append(f"{window} all times of {owner}: temporal enrichment has no effect there")
        elif covered > 0.8:
            sentences.append(
                f"{window} {covered:.0%} of the anchors of {owner} on average: temporal enrichment has little effect"
            )
    return sentences


def _shared_lineages(dry_run: DryRun) -> list[str]:
    size, positives = dry_run.batch_size, dry_run.step.settings.positives
    if dry_run.lineage_pairs < size / 20 or positives == "lineage":
        return []
    share = dry_run.lineage_pairs / (size * (size - 1) / 2)
    is_distinct = "lineage_id" in (dry_run.planned.options["distinct_by"] or ())
    remedy = "" if is_distinct else "; set data.sampler.distinct_by to lineage_id"
    return [
        f"on average {dry_run.lineage_pairs:,.0f} pairs of anchors of a batch of {size} ({share:.1%}) belong to the "
        f"same lineage, which the loss does not know (model.loss.positives={positives}){remedy}"
    ]


def _steps(dry_run: DryRun) -> list[str]:
    sentences, n_in_step = [], dry_run.planned_step.settings.n_batches
    if dry_run.steps_per_epoch < _FEW_STEPS:
        sentences.append(
            f"an epoch has only {count(dry_run.steps_per_epoch, 'step')} of {n_in_step} x {dry_run.batch_size} anchors"
        )
    n_batches = dry_run.batches_per_epoch
    n_extra = dry_run.steps_per_epoch * n_in_step - n_batches
    if n_extra > 0:
        sentences.append(
            f"{count(n_batches, 'batch')} {'does' if n_batches == 1 else 'do'} not divide evenly among "
            f"{dry_run.world_size} processes: "
            f"{count(n_extra, 'extra batch')} will complete the last step of each epoch"
        )
    return sentences


def _partial_counts(dry_run: DryRun) -> list[str]:
    if dry_run.draws.covers_an_epoch:
        return []
    n_counted = round(dry_run.draws.epochs * dry_run.batches_per_epoch)
    return [
        f"only the first {n_counted:,} of {dry_run.batches_per_epoch:,} batches of an epoch were drawn: draws of an "
        "epoch are those of the target, and anchors that are never drawn are unknown"
    ]


def _join(names: list[str], conjunction: str) -> str:
    shown = [repr(name) for name in names[:4]] + ([f"{len(names) - 4} more"] if len(names) > 4 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {conjunction} {shown[-1]}"
