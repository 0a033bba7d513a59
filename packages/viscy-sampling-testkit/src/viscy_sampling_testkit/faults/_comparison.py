"""A comparison of what a disturbed run has trained on with undisturbed runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, takewhile

from viscy_sampling_testkit.faults.command import TrainedBatch

Key = tuple[int, int]
"""Epoch, and index of the batch in the sequence of all ranks."""

# How many examples a message names.
_SHOWN = 3


def kept_batches(batches: Iterable[TrainedBatch]) -> list[TrainedBatch]:
    """Return the batches that count, by step and rank: a later attempt replaces all from its first step on."""
    listed = list(batches)
    first: dict[int, int] = {}
    for one in listed:
        first[one.attempt] = min(one.step, first.get(one.attempt, one.step))
    kept = [one for one in listed if all(one.step < first[later] for later in first if later > one.attempt)]
    return sorted(kept, key=lambda one: (one.step, one.rank))


def compare_batches(observed: Sequence[TrainedBatch], undisturbed: Mapping[int, Sequence[TrainedBatch]]) -> list[str]:
    """Return in which ways the batches of a run differ from those of undisturbed runs.

    Parameters
    ----------
    observed : sequence of TrainedBatch
        The batches of the run, as `kept_batches` returns them.
    undisturbed : mapping of int to sequence of TrainedBatch
        The batches of an undisturbed run for each number of ranks that the run had.

    Returns
    -------
    list of str
        A message for each way; empty if there is none.

    Notes
    -----
    Runs on several ranks may train on a few more batches, so that all ranks have as many in the last step of an epoch.
    So only batches that all undisturbed runs have must occur; of each epoch, fewer others than there are ranks may
    occur, after those.
    """
    expected = [{_key(one): one.rows for one in batches} for batches in undisturbed.values()]
    common = set.intersection(*(set(batches) for batches in expected))
    counts = Counter(map(_key, observed))
    most_fill = max(undisturbed) - 1
    return [
        *_problem("missing", sorted(common - set(counts))),
        *_problem("trained on more than once", sorted(key for key, count in counts.items() if count > 1)),
        *_problem("with other rows", sorted(_with_other_rows(observed, expected))),
        *_problem("not in the undisturbed run", sorted(_unexpected(set(counts), common, most_fill))),
        *_problem("not in order", [_key(after) for before, after in pairwise(observed) if _key(after) < _key(before)]),
    ]


def compare_losses(
    observed: Sequence[TrainedBatch],
    undisturbed: Mapping[int, Sequence[TrainedBatch]],
    tolerance: float,
    elastic_tolerance: float | None,
) -> list[str]:
    """Return in which ways the losses of a run differ from those of undisturbed runs on the same number of ranks.

    Parameters
    ----------
    observed, undisturbed
        As for `compare_batches`.
    tolerance : float
        Largest relative difference of steps before the number of ranks changed.
    elastic_tolerance : float, optional
        The same for later steps; None if they are not compared.

    Returns
    -------
    list of str
        A message for each way; empty if there is none.
    """
    ranks = Counter(one.step for one in observed)
    first = ranks[observed[0].step] if observed else 0
    before = list(takewhile(lambda one: ranks[one.step] == first, observed))
    after = observed[len(before) :]
    problems = _compare_losses(before, undisturbed.get(first, ()), tolerance)
    if elastic_tolerance is None:
        return problems
    for number in sorted({ranks[one.step] for one in after}):
        part = [one for one in after if ranks[one.step] == number]
        problems += _compare_losses(part, undisturbed.get(number, ()), elastic_tolerance)
    return problems


def count_missing(observed: Sequence[TrainedBatch], undisturbed: Mapping[int, Sequence[TrainedBatch]]) -> int:
    """Return how many batches that all undisturbed runs have are missing."""
    common = set.intersection(*(set(map(_key, batches)) for batches in undisturbed.values()))
    return len(common - set(map(_key, observed)))


def _key(one: TrainedBatch) -> Key:
    return one.epoch, one.batch


def _with_other_rows(observed: Sequence[TrainedBatch], expected: Sequence[Mapping[Key, tuple[int, ...]]]) -> set[Key]:
    return {_key(one) for one in observed for batches in expected if batches.get(_key(one), one.rows) != one.rows}


def _unexpected(keys: set[Key], common: set[Key], most_fill: int) -> set[Key]:
    """Return batches that are neither common to the undisturbed runs nor fill the last step of an epoch."""
    last: dict[int, int] = defaultdict(lambda: -1)
    for epoch, batch in common:
        last[epoch] = max(last[epoch], batch)
    return {(epoch, batch) for epoch, batch in keys - common if not last[epoch] < batch <= last[epoch] + most_fill}


def _compare_losses(observed: Sequence[TrainedBatch], expected: Sequence[TrainedBatch], tolerance: float) -> list[str]:
    losses = {_key(one): one.loss for one in expected if one.loss is not None}
    recorded = {_key(one): one.loss for one in observed if one.loss is not None}
    lost = [key for one in observed if (key := _key(one)) in losses and key not in recorded]
    different = [key for key, loss in recorded.items() if key in losses and not _is_close(loss, losses[key], tolerance)]

    def with_values(key: Key) -> str:
        return f"{_name(key)}: {recorded[key]!r} instead of {losses[key]!r}"

    return [
        *_problem("without a loss", sorted(set(lost))),
        *_problem(f"with another loss (tolerance {tolerance:g})", sorted(different), with_values),
    ]


def _is_close(observed: float, expected: float, tolerance: float) -> bool:
    if observed != observed or expected != expected:
        return observed != observed and expected != expected
    return observed == expected or abs(observed - expected) <= tolerance * abs(expected)


def _name(key: Key) -> str:
    return f"epoch {key[0]} batch {key[1]}"


def _problem(what: str, keys: Sequence[Key], show: Callable[[Key], str] = _name) -> list[str]:
    """Return a message about some batches in a list, or an empty list if there are none."""
    if not keys:
        return []
    shown = ", ".join(map(show, keys[:_SHOWN])) + (", ..." if len(keys) > _SHOWN else "")
    return [f"{len(keys)} batch{'es' if len(keys) > 1 else ''} {what}: {shown}"]
