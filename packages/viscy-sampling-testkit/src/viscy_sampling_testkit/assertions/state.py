"""State: the cursor of a sampler (epoch and batch index), saved, loaded, and replaced by direct access to a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail, fail_where_different
from viscy_sampling_testkit.simulate.ranks import interleave


def assert_resumes(make_sampler: Callable[[], Any], n_drawn: int) -> None:
    """Assert that a new sampler that loads the state of a stopped one yields the remaining batches.

    Together the two samplers must yield an uninterrupted epoch, and then the same next epoch as an uninterrupted
    sampler. A state saved after the last batch must resume with the complete next epoch. The first sampler draws one
    more batch before its state is copied, which exposes a state that changes after it was saved.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``state_dict`` and ``load_state_dict``, with the same table and options each time.
    n_drawn : int
        Number of batches before the stop, from 0 to the length of the epoch.

    Raises
    ------
    AssertionError
        If a batch differs, is missing, or is repeated.
    ValueError
        If `n_drawn` is outside its range.
    """
    uninterrupted = make_sampler()
    epoch, next_epoch, third_epoch = (_draw_epoch(uninterrupted) for _ in range(3))
    if not 0 <= n_drawn <= len(epoch):
        raise ValueError(f"n_drawn must be in [0, {len(epoch)}], the batches of an epoch, got {n_drawn!r}")
    drawn, state = _draw_and_save(make_sampler(), n_drawn)
    resumed = make_sampler()
    resumed.load_state_dict(copy.deepcopy(state))
    rest = _draw_epoch(resumed)
    if n_drawn == len(epoch):
        fail_where_different("a state saved at the end of an epoch must resume with the next epoch", rest, next_epoch)
        fail_where_different("the second epoch after resuming must follow", _draw_epoch(resumed), third_epoch)
    else:
        rule = f"the batches before and after a stop at {n_drawn} must be those of the epoch"
        fail_where_different(rule, drawn + rest, epoch)
        fail_where_different("the epoch after the resumed one must be the next", _draw_epoch(resumed), next_epoch)


def assert_resumes_elastically(
    make_sampler: Callable[[int, int], Any], num_replicas: int, resumed_replicas: int, n_steps: int
) -> None:
    """Assert that a run stopped on one number of ranks resumes on another one with the unused batches.

    The ranks must interleave the batches of a single process, which is the order of comparison. The state is that of
    rank 0, because training frameworks save it. Batches beyond the end of the epoch, with which ranks fill their last
    step, are not compared; there must be fewer of them than ranks.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns a new sampler with ``state_dict`` and
        ``load_state_dict``.
    num_replicas : int
        Number of ranks of the stopped run.
    resumed_replicas : int
        Number of ranks of the resumed run.
    n_steps : int
        Steps before the stop, at least 0 and fewer than the epoch has.

    Raises
    ------
    AssertionError
        If a batch differs, is missing, or is repeated.
    ValueError
        If the epoch has no more than `n_steps` steps.
    """
    epoch = _draw_epoch(make_sampler(0, 1))
    if not 0 <= n_steps * num_replicas < len(epoch):
        most = (len(epoch) - 1) // num_replicas
        raise ValueError(f"n_steps must be in [0, {most}], so that batches remain, got {n_steps!r}")
    stopped = [_draw_and_save(make_sampler(rank, num_replicas), n_steps) for rank in range(num_replicas)]
    used = interleave([drawn for drawn, _ in stopped])
    resumed = [make_sampler(rank, resumed_replicas) for rank in range(resumed_replicas)]
    for sampler in resumed:
        sampler.load_state_dict(copy.deepcopy(stopped[0][1]))
    together = used + interleave([_draw_epoch(sampler) for sampler in resumed])
    rule = f"{n_steps} steps on {num_replicas} ranks and the rest on {resumed_replicas} must be the epoch's batches"
    fail_where_different(rule, together[: len(epoch)], epoch)
    if len(together) - len(epoch) >= resumed_replicas:
        fail(
            f"{rule}, and no more than fill the last step",
            observed=f"{len(together)} batches",
            expected=f"{len(epoch)} batches",
            bound=f"fewer than {resumed_replicas} more",
            n=f"{len(together)} batches",
            first_offending_batch=len(epoch) + resumed_replicas - 1,
        )


def assert_length_stays(make_sampler: Callable[[], Any]) -> None:
    """Assert that the length of a sampler does not depend on what it has drawn or loaded.

    Frameworks ask for the length once, and plan epochs and learning rates with it.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``__len__``, ``state_dict`` and ``load_state_dict``.

    Raises
    ------
    AssertionError
        If the length changes when batches are drawn, or when a state is loaded, or after the epoch that it resumes.
    """
    sampler = make_sampler()
    lengths = {"of a new sampler": len(sampler)}
    iterator = iter(sampler)
    next(iterator, None)
    lengths["after a batch"] = len(sampler)
    state = copy.deepcopy(sampler.state_dict())
    for _ in iterator:
        pass
    lengths["after an epoch"] = len(sampler)
    resumed = make_sampler()
    resumed.load_state_dict(state)
    lengths["after a state was loaded"] = len(resumed)
    for _ in resumed:
        pass
    lengths["after the resumed epoch"] = len(resumed)
    if len(set(lengths.values())) > 1:
        fail(
            "the length of a sampler must not change",
            observed=", ".join(f"{length} {when}" for when, length in lengths.items()),
            expected=f"{lengths['of a new sampler']} at all times",
        )


def assert_replays(
    make_sampler: Callable[[], Any],
    positions: Iterable[int] | None = None,
    *,
    batch: Callable[[Any, int], Sequence[int]] | None = None,
) -> None:
    """Assert that each batch of an epoch is a pure function of its index, accessible in any order.

    Batches are requested from a new sampler by index, from the last to the first and then from the first to the last,
    before the sampler is iterated. The requests must not change the sequence.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with the same table and options each time, for a single process.
    positions : iterable of int, optional
        Indexes of the batches to request; by default all of the epoch.
    batch : callable, optional
        Called as ``batch(sampler, k)``; by default ``sampler.batch(k)``.

    Raises
    ------
    AssertionError
        If a batch differs from that of the sequence, or the sequence has changed.
    ValueError
        If an index is outside the epoch.
    """
    get_batch = batch or (lambda sampler, k: sampler.batch(k))
    epoch = _draw_epoch(make_sampler())
    indexes = sorted(range(len(epoch)) if positions is None else positions)
    if indexes and not 0 <= indexes[0] <= indexes[-1] < len(epoch):
        raise ValueError(f"positions must be in [0, {len(epoch)}), the batches of an epoch, got {indexes}")
    sampler = make_sampler()
    for time, order in (("first", indexes[::-1]), ("second", indexes)):
        for k in order:
            got = list(get_batch(sampler, k))
            if got != epoch[k]:
                fail(
                    f"batch {k} requested by index must be batch {k} of the sequence",
                    observed=f"{got} at the {time} request",
                    expected=epoch[k],
                    n=f"{len(indexes)} batches requested, {len(epoch)} in the epoch",
                    first_offending_batch=k,
                )
    fail_where_different("requesting batches by index must not change the sequence", _draw_epoch(sampler), epoch)


def _draw_epoch(sampler: Any) -> list[list[int]]:
    return [list(batch) for batch in sampler]


def _draw_and_save(sampler: Any, n_drawn: int) -> tuple[list[list[int]], Any]:
    """Draw some batches; return them and the state after them, which drawing one more batch must not change."""
    drawing = iter(sampler)
    drawn = [list(batch) for batch in islice(drawing, n_drawn)]
    state = sampler.state_dict()
    next(drawing, None)
    return drawn, state
