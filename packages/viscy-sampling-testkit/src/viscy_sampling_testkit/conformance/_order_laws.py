"""Laws of order: how each claim about what batches say about each other, and about their index, is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions._slots import factorize
from viscy_sampling_testkit.assertions._windows import WindowedBatches
from viscy_sampling_testkit.assertions.independence import assert_independent_batches
from viscy_sampling_testkit.assertions.order import assert_random_order, assert_unbiased_rounding
from viscy_sampling_testkit.assertions.power import detectable_coincidences, detectable_means
from viscy_sampling_testkit.conformance._time_laws import window_of
from viscy_sampling_testkit.conformance.trial import Sequences, Trial

# Distances of batches in an epoch whose independence is tested; half of the epoch is another one.
_LAGS = (1, 2, 3, 4)
# Largest number of batches in an epoch with which each index is a class of its own.
_MOST_INDEXES = 200


def random_order(trial: Trial) -> None:
    """Check that the groups, and the early and late focal times, of each epoch are in random order."""
    claims: Any = trial.promises
    labels = [home_groups] if claims.group_by is not None else []
    labels += [early_or_late] if claims.global_fraction is not None else []
    if not labels:
        raise ValueError("batches must have groups or temporal windows for their order to be tested; give group_by")
    false_alarm = trial.false_alarm / (len(labels) * len(trial.seeds))
    for label in labels:
        is_group = label is home_groups
        for seed, other in _seeds_and_others(trial):
            others = label(trial, other) if is_group and other is not None else ()
            with trial.example(ranks=1, seed=seed):
                assert_random_order(label(trial, seed), others=others, runs=is_group, false_alarm=false_alarm)


def unbiased_rounding(trial: Trial) -> None:
    """Check that quotas are rounded up equally often at all indexes of an epoch and in all groups."""
    quotas = list(_quotas(trial))
    if not quotas:
        raise ValueError("a sampler must have quotas for their rounding to be tested; give condition_shares or leaky")
    epochs = [_full(trial, epoch) for seed in trial.seeds for epoch in trial.sample_epochs(seed)]
    classes = _classes(trial, epochs)
    false_alarm = trial.false_alarm / (len(quotas) * (len(classes) + 1))
    for name, quota, count in quotas:
        counts = [[count(batch) for batch in epoch] for epoch in epochs]
        for kind, of_batches in classes.items():
            with trial.example(ranks=1, quota=name, classes=kind):
                assert_unbiased_rounding(counts, quota, of_batches, false_alarm=false_alarm)
    _check_group_counts(trial, false_alarm)
    low, high = detectable_means(len(epochs), quotas[0][1], false_alarm=false_alarm / 2)
    trial.note = f"detects a mean of at most {low:.3g} or at least {high:.3g} instead of {quotas[0][1]:.3g} in a class"


def independent_batches(trial: Trial) -> None:
    """Check that batches a few indexes apart, and batches of different epochs and seeds, are independent."""
    claims: Any = trial.promises
    groups = claims.labels("group_by") if claims.group_by is not None else None
    conditions = claims.labels("condition_by") if claims.condition_by is not None else None
    window = window_of(trial) if claims.global_fraction is not None else None
    false_alarm = trial.false_alarm / len(trial.seeds)
    for seed, other_seed in _seeds_and_others(trial):
        epochs = trial.sample_epochs(seed)
        other = [] if other_seed is None else trial.sample_epochs(other_seed)
        pairs = _pairs([len(epoch) for epoch in epochs], [len(epoch) for epoch in other])
        batches = [batch for epoch in (*epochs, *other) for batch in epoch]
        with trial.example(ranks=1, seed=seed):
            assert_independent_batches(batches, pairs, groups, conditions, window, false_alarm=false_alarm)
    n_pairs, size = len(pairs["1 apart"]), claims.batch_size
    expected = n_pairs * size**2 / len(claims.table)
    tests = false_alarm / (4 * len(pairs))
    share = detectable_coincidences(n_pairs, expected, false_alarm=tests) / size
    trial.note = f"detects neighbors with {share:.0%} common rows"


def home_groups(trial: Trial, seed: int | None) -> list[list[Any]]:
    """Return the home group of each full batch of each epoch."""
    groups = trial.promises.labels("group_by")
    epochs = [_full(trial, epoch) for epoch in trial.sample_epochs(seed)]
    return [Homes(epoch, groups).of_batch.tolist() for epoch in epochs if epoch]


def early_or_late(trial: Trial, seed: int | None) -> list[list[Any]]:
    """Return whether the likeliest focal time of each full batch is in the second half of the times of its group."""
    window = window_of(trial)
    labels: list[list[Any]] = []
    for epoch in trial.sample_epochs(seed):
        batches = _full(trial, epoch)
        late = np.zeros(len(batches), int)
        for _, numbers, possible, likely in WindowedBatches(batches, window).candidates():
            late[numbers] = likely >= possible.shape[1] / 2
        labels.append(late.tolist())
    return labels


def _seeds_and_others(trial: Trial) -> Iterator[tuple[int | None, int | None]]:
    """Yield each seed, and another one to compare it with; None if the sampler is not seeded."""
    seeds = trial.seeds
    for number, seed in enumerate(seeds):
        yield seed, seeds[number - 1] if len(seeds) > 1 else None if seed is None else seed + 1


def _quotas(trial: Trial) -> Iterator[tuple[str, float, Any]]:
    """Yield the name of each quota of a batch, its size, and a function that counts its slots."""
    claims: Any = trial.promises
    if claims.condition_shares is not None and not claims.condition_slack and claims.anchors_per_condition is None:
        codes, names = factorize(claims.labels("condition_by"))
        for code, name in enumerate(names):
            quota = claims.batch_size * claims.condition_shares.get(name, 0.0)
            yield str(name), quota, lambda batch, code=code: int((codes[batch] == code).sum())
    if claims.leaky:
        groups, _ = factorize(claims.labels("group_by"))
        quota = claims.batch_size * claims.leaky
        yield "leak", quota, lambda batch: len(batch) - int(np.bincount(groups[batch]).max())


def _classes(trial: Trial, epochs: Sequence[Sequences]) -> dict[str, list[list[Any]]]:
    """Return the classes of the batches, by index and by group."""
    lengths = [len(epoch) for epoch in epochs]
    classes: dict[str, list[list[Any]]] = {
        "index modulo 2": [[k % 2 for k in range(n)] for n in lengths],
        "index modulo 3": [[k % 3 for k in range(n)] for n in lengths],
        "half": [[2 * k // n for k in range(n)] for n in lengths],
        "end": [["first" if k == 0 else "last" if k == n - 1 else "other" for k in range(n)] for n in lengths],
    }
    if max(lengths, default=0) <= _MOST_INDEXES:
        classes["index"] = [list(range(n)) for n in lengths]
    if trial.promises.group_by is not None:
        groups = trial.promises.labels("group_by")
        classes["group"] = [Homes(epoch, groups).of_batch.tolist() for epoch in epochs]
    return classes


def _check_group_counts(trial: Trial, false_alarm: float) -> None:
    """Check that each group has its share of the batches on average over epochs."""
    claims: Any = trial.promises
    epochs = [epoch for seed in trial.seeds for epoch in trial.sample_epochs(seed)]
    if claims.group_shares is None or any(len(epoch) != len(epochs[0]) for epoch in epochs):
        return
    _, names = factorize(claims.labels("group_by"))
    homes = [Homes(epoch, claims.labels("group_by")).of_batch for epoch in epochs]
    for code, name in enumerate(names):
        counts = [[float((of_epoch == code).sum())] for of_epoch in homes]
        quota = len(epochs[0]) * claims.group_shares.get(name, 0.0)
        with trial.example(ranks=1, group=name):
            assert_unbiased_rounding(counts, quota, false_alarm=false_alarm / len(names))


def _pairs(lengths: Sequence[int], others: Sequence[int]) -> dict[str, list[tuple[int, int]]]:
    """Return the pairs of batches to compare, by their numbers in all epochs and then all epochs of another seed."""
    starts = np.concatenate([[0], np.cumsum([*lengths, *others])]).astype(int).tolist()
    n = len(lengths)
    pairs: dict[str, list[tuple[int, int]]] = {
        f"{lag} apart": [
            (s + k, s + k + lag) for s, size in zip(starts, lengths, strict=False) for k in range(size - lag)
        ]
        for lag in _LAGS
    }
    pairs["half an epoch apart"] = [
        (s + k, s + k + size // 2)
        for s, size in zip(starts, lengths, strict=False)
        for k in range(size - size // 2)
        if size > 2 * max(_LAGS)
    ]
    for name, shift, count in (("of successive epochs", 1, n - 1), ("of two seeds", n, min(n, len(others)))):
        pairs[name] = [
            (starts[e] + k, starts[e + shift] + k)
            for e in range(count)
            for k in range(min(starts[e + 1] - starts[e], starts[e + shift + 1] - starts[e + shift]))
        ]
    return pairs


def _full(trial: Trial, batches: Sequences) -> Sequences:
    return [batch for batch in batches if len(batch) == trial.promises.batch_size]
