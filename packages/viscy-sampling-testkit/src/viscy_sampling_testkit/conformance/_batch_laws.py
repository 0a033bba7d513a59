"""Laws of batches: how each claim about the contents of batches is checked with its assertion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._slots import Slots, factorize
from viscy_sampling_testkit.assertions.exact import (
    HOURS_TOLERANCE,
    assert_batch_sizes,
    assert_in_window,
    assert_leak,
    assert_one_group,
    assert_positions,
    assert_rounded,
    assert_shares,
)
from viscy_sampling_testkit.assertions.inclusion import assert_row_inclusion
from viscy_sampling_testkit.assertions.pools import (
    assert_distinct,
    assert_drawn_evenly,
    assert_drawn_in_rounds,
    assert_repeats_evenly,
)
from viscy_sampling_testkit.assertions.power import detectable_means, detectable_position, detectable_row_ratios
from viscy_sampling_testkit.assertions.statistical import (
    assert_exchangeable_slots,
    assert_mean_counts,
    assert_slot_classes,
)
from viscy_sampling_testkit.assertions.steps import join_slices
from viscy_sampling_testkit.conformance.trial import Sequences, Trial


def positions(trial: Trial) -> None:
    """Check that batches hold Python ints within the table."""
    _check_each(trial, lambda batches: assert_positions(batches, len(trial.promises.table)))


def batch_sizes(trial: Trial) -> None:
    """Check that all batches are full, except a short last batch of a single process if claimed."""
    size, n_anchors = trial.promises.batch_size, len(trial.promises.table)
    short = trial.promises.last_batch == "short"
    last = (n_anchors % size or size) if short else size
    for batches, example in _each(trial):
        # Samplers do not claim which rank has the short batch.
        if example["ranks"] == 1 or not short:
            with trial.example(**example):
                assert_batch_sizes(batches, size, last)


def distinct(trial: Trial) -> None:
    """Check that no anchor is repeated within a batch."""
    _check_each(trial, assert_distinct)


def even_repeats(trial: Trial) -> None:
    """Check that the rows of a stratum occur equally often in a batch."""
    strata = trial.promises.labels("group_by", "condition_by")
    _check_each(trial, lambda batches: assert_repeats_evenly(batches, strata))


def one_group(trial: Trial) -> None:
    """Check that every batch holds a single group."""
    groups = trial.promises.labels("group_by")
    _check_each(trial, lambda batches: assert_one_group(batches, groups))


def leak(trial: Trial) -> None:
    """Check that the leak of every batch is the floor or the ceiling of its quota."""
    claims: Any = trial.promises
    groups, leaky = claims.labels("group_by"), claims.leaky
    _check_each(trial, lambda batches: assert_leak(batches, groups, leaky))


def mean_leak(trial: Trial) -> None:
    """Check that the leak of full batches matches its quota on average."""
    claims: Any = trial.promises
    codes, names = factorize(claims.labels("group_by"))
    quota, false_alarm = claims.batch_size * claims.leaky, trial.false_alarm / len(trial.seeds)

    def assertion(batches: Sequences) -> None:
        slots = Slots.of(_full(trial, batches))
        foreign = slots.sizes - slots.counts(codes, len(names)).max(axis=1)
        assert_mean_counts(foreign, quota, false_alarm=false_alarm)

    _check_samples(trial, assertion)
    _note_mean(trial, quota, false_alarm)


def group_shares(trial: Trial) -> None:
    """Check that each group has its share of every epoch."""
    claims: Any = trial.promises
    groups = claims.labels("group_by")
    for epoch in range(trial.n_epochs):
        for seed in trial.seeds:
            with trial.example(ranks=1, epoch=epoch, seed=seed):
                assert_shares(trial.epoch(epoch, seed=seed), groups, claims.group_shares)


def condition_shares(trial: Trial) -> None:
    """Check that each condition has the floor or the ceiling of its quota in every batch."""
    claims: Any = trial.promises
    labels, shares, slack = claims.labels("condition_by"), claims.condition_shares, claims.condition_slack
    _check_each(trial, lambda batches: assert_rounded(batches, labels, shares, slack=slack))


def mean_condition_shares(trial: Trial) -> None:
    """Check that each condition matches its quota on average in full batches."""
    claims: Any = trial.promises
    codes, names = factorize(claims.labels("condition_by"))
    number = {name: code for code, name in enumerate(names)}
    quotas = {name: claims.batch_size * share for name, share in claims.condition_shares.items()}
    spread = 1 + 2 * claims.condition_slack if claims.condition_slack else None
    false_alarm = trial.false_alarm / (len(quotas) * len(trial.seeds))

    def assertion(batches: Sequences) -> None:
        counts = Slots.of(_full(trial, batches)).counts(codes, len(names))
        for name, quota in quotas.items():
            of_name = counts[:, number[name]] if name in number else np.zeros(len(counts))
            assert_mean_counts(of_name, quota, spread, false_alarm=false_alarm)

    _check_samples(trial, assertion)
    _note_mean(trial, max(quotas.values(), key=lambda quota: quota % 1 * (1 - quota % 1)), false_alarm)


def temporal_window(trial: Trial) -> None:
    """Check that every batch has enough slots in the window around one time of the table."""
    claims: Any = trial.promises
    hours, window = np.asarray(claims.labels("time_by"), float), claims.window_hours
    fraction = 1.0 if claims.window_fraction is None else claims.window_fraction
    focal = np.unique(hours)
    _check_each(trial, lambda batches: assert_in_window(batches, hours, window, fraction, focal))


def exchangeable_slots(trial: Trial) -> None:
    """Check that slots are in random order with respect to their rows, conditions, leak and temporal window."""
    false_alarm = _check_views(trial, assert_exchangeable_slots)
    n_batches = len(trial.sample(trial.seeds[0]))
    if n_batches >= 20:
        off = detectable_position(n_batches, trial.promises.batch_size, 0.5, false_alarm=false_alarm)
        trial.note = f"detects a label of half of the slots with a probability off by {off:.2g} at one slot position"


def slot_classes(trial: Trial) -> None:
    """Check that slots of even and odd index, and the first and the last, have the same labels."""
    _check_views(trial, assert_slot_classes)


def _check_views(trial: Trial, check: Callable[..., None]) -> float:
    """Check what slot positions must be independent of; return the false-alarm rate of each test."""
    views = _views(trial)
    false_alarm = trial.false_alarm / (len(views) * len(trial.seeds))
    n_tested, reasons = 0, []
    for view, labels in views:

        def assertion(batches: Sequences, labels: Any = labels) -> None:
            check(batches, labels, false_alarm=false_alarm)

        for seed in trial.seeds:
            try:
                trial.check(assertion, view(trial.sample(seed)), ranks=1, seed=seed)
                n_tested += 1
            except ValueError as error:
                reasons.append(str(error))
    if not n_tested:
        raise ValueError(reasons[0])
    return false_alarm


def coverage(trial: Trial) -> None:
    """Check that each epoch draws the rows of a stratum equally often, in slots of the batch's home group."""
    _check_home_slots(trial, assert_drawn_evenly)


def rounds(trial: Trial) -> None:
    """Check that no row is drawn again before its stratum was drawn, in slots of the batch's home group."""
    _check_home_slots(trial, assert_drawn_in_rounds)


def row_inclusion(trial: Trial) -> None:
    """Check that rows of a stratum (and time and value, if they are named) are drawn equally often on average."""
    strata = trial.promises.labels("group_by", "condition_by", "time_by", "distinct_by")
    n_anchors, false_alarm = len(trial.promises.table), trial.false_alarm / len(trial.seeds)
    _check_samples(trial, lambda batches: assert_row_inclusion(batches, strata, false_alarm=false_alarm))
    times = sum(map(len, trial.sample(trial.seeds[0]))) / n_anchors
    low, high = detectable_row_ratios(times, n_anchors, false_alarm=false_alarm)
    trial.note = f"detects a row drawn {max(low, 0):.2g} or {high:.2g} times as often as expected ({times:.0f} times)"


def _each(trial: Trial) -> Iterator[tuple[Sequences, dict[str, Any]]]:
    """Yield one epoch of every rank, fewest ranks first, and then its padding, together with its example."""
    if trial.promises.ranks == "split":
        yield from _each_step(trial)
        return
    for num_replicas in trial.replicas:
        for rank in range(num_replicas):
            for seed in trial.seeds:
                batches = trial.epoch(rank=rank, num_replicas=num_replicas, seed=seed)
                yield batches, {"ranks": num_replicas, "rank": rank if num_replicas > 1 else None, "seed": seed}
    for seed in trial.seeds if trial.promises.fresh_padding else ():
        most, padding = trial.padding(seed)
        if padding:
            yield padding, {"ranks": most, "part": "beyond the end", "seed": seed}


def _each_step(trial: Trial) -> Iterator[tuple[Sequences, dict[str, Any]]]:
    """Yield the batches of one epoch, each joined from the slices of all ranks, together with its example."""
    for num_replicas in trial.replicas:
        for seed in trial.seeds:
            yield join_slices(trial.ranks(num_replicas, seed)), {"ranks": num_replicas, "seed": seed}


def _check_each(trial: Trial, assertion: Callable[[Sequences], None]) -> None:
    for batches, example in _each(trial):
        trial.check(assertion, batches, **example)


def _check_samples(trial: Trial, assertion: Callable[[Sequences], None]) -> None:
    for seed in trial.seeds:
        trial.check(assertion, trial.sample(seed), ranks=1, seed=seed)


def _check_home_slots(trial: Trial, check: Callable[[Sequences, Any], None]) -> None:
    strata = trial.promises.labels("group_by", "condition_by")
    codes, _ = factorize(trial.promises.labels("group_by"))

    def assertion(batches: Sequences) -> None:
        own = [[row for row, home in zip(batch, _is_home(batch, codes), strict=True) if home == 1] for batch in batches]
        check(own if trial.promises.leaky else batches, strata)

    for number in range(trial.n_epochs):
        for seed in trial.seeds:
            batches = [batch for epoch in trial.round(number, seed) for batch in epoch]
            trial.check(assertion, batches, ranks=1, epoch=number * trial.promises.epochs_of_round or None, seed=seed)


def _full(trial: Trial, batches: Sequences) -> Sequences:
    return [batch for batch in batches if len(batch) == trial.promises.batch_size]


def _note_mean(trial: Trial, quota: float, false_alarm: float) -> None:
    """Note which deviation of a mean the assertion detects."""
    n_batches = len(_full(trial, trial.sample(trial.seeds[0])))
    if n_batches:
        low, high = detectable_means(n_batches, quota, false_alarm=false_alarm)
        if low < high:
            trial.note = f"detects a mean of at most {low:.3g} or at least {high:.3g} instead of {quota:.3g}"
        else:
            trial.note = f"detects any mean other than {quota:.3g}"


def _is_home(batch: list[int], codes: np.ndarray) -> np.ndarray:
    """Return for each slot whether it belongs to the group with the most slots, 0 or 1."""
    groups = codes[batch]
    return (groups == np.bincount(groups).argmax()).astype(int)


def _is_near(batch: list[int], hours: np.ndarray, window: float) -> np.ndarray:
    """Return for each slot whether it is in the window around the time with the most slots, 0 or 1."""
    is_near = np.abs(hours[batch][:, None] - np.unique(hours[batch])[None, :]) <= window + HOURS_TOLERANCE
    return is_near[:, is_near.sum(axis=0).argmax()].astype(int)


def _views(trial: Trial) -> list[tuple[Callable[[Sequences], Sequences], Any]]:
    """Return what slot positions must be independent of: a function of the batches, and the labels of its result."""
    claims: Any = trial.promises
    n_anchors = len(claims.table)
    views: list[tuple[Callable[[Sequences], Sequences], Any]] = [(list, np.arange(n_anchors) < n_anchors / 2)]
    if claims.condition_by is not None:
        views.append((list, claims.labels("condition_by")))
    if claims.leaky:
        codes, _ = factorize(claims.labels("group_by"))
        views.append((lambda batches: [_is_home(batch, codes).tolist() for batch in batches], ["leak", "home"]))
    if claims.window_hours is not None:
        hours, window = np.asarray(claims.labels("time_by"), float), claims.window_hours
        views.append((lambda batches: [_is_near(batch, hours, window).tolist() for batch in batches], ["far", "near"]))
    return views
