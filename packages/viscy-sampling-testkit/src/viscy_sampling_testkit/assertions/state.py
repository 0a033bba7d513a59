"""State: where a sampler is in its sequence; saved, loaded, and gone to directly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail, fail_where_different
from viscy_sampling_testkit.simulate.ranks import interleave


def assert_resumes(make_sampler: Callable[[], Any], n_drawn: int) -> None:
    """Assert that a sampler stopped after some batches is continued by a fresh one that loads its state.

    The two together must equal an uninterrupted epoch, and what follows must be what follows an uninterrupted one. A
    state taken after the last batch must yield the next epoch in full. The first sampler draws one more batch before
    its state is copied, so that a state that changes with its sampler is found out.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with ``state_dict`` and ``load_state_dict``, of the same table and options each time.
    n_drawn : int
        Number of batches before the stop, from 0 to the length of the epoch.

    Raises
    ------
    AssertionError
        If a batch differs, is missing, or comes twice.
    ValueError
        If `n_drawn` is outside its range.
    """
    uninterrupted = make_sampler()
    epoch, following, third = (_drawn(uninterrupted) for _ in range(3))
    if not 0 <= n_drawn <= len(epoch):
        raise ValueError(f"n_drawn must be in [0, {len(epoch)}], the batches of an epoch, got {n_drawn!r}")
    drawn, state = _stopped(make_sampler(), n_drawn)
    resumed = make_sampler()
    resumed.load_state_dict(copy.deepcopy(state))
    rest = _drawn(resumed)
    if n_drawn == len(epoch):
        fail_where_different("a state of the epoch's end must resume with the next epoch", rest, following)
        fail_where_different("the epoch after the resumed one must follow", _drawn(resumed), third)
    else:
        rule = f"batches drawn before and after a stop at {n_drawn} must be the epoch's"
        fail_where_different(rule, drawn + rest, epoch)
        fail_where_different("the epoch after the resumed one must be the next", _drawn(resumed), following)


def assert_resumes_elastically(
    make_sampler: Callable[[int, int], Any], num_replicas: int, resumed_replicas: int, n_steps: int
) -> None:
    """Assert that a run stopped on some ranks goes on, on other ones, with the batches not yet used, none twice.

    The order is that of a single process, of which all ranks take turns. The state is that of rank 0, as it is what
    training frameworks save. Batches after the end of the epoch, with which ranks fill their last step, are not
    compared; there may be fewer of them than ranks.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns a new sampler with ``state_dict`` and
        ``load_state_dict``.
    num_replicas : int
        Ranks of the run that is stopped.
    resumed_replicas : int
        Ranks of the run that goes on.
    n_steps : int
        Steps before the stop, at least 0 and fewer than the epoch has.

    Raises
    ------
    AssertionError
        If a batch differs, is missing, or comes twice.
    ValueError
        If the epoch has no more than `n_steps` steps.
    """
    whole = _drawn(make_sampler(0, 1))
    if not 0 <= n_steps * num_replicas < len(whole):
        most = (len(whole) - 1) // num_replicas
        raise ValueError(f"n_steps must be in [0, {most}], so that batches are left, got {n_steps!r}")
    stopped = [_stopped(make_sampler(rank, num_replicas), n_steps) for rank in range(num_replicas)]
    used = interleave([drawn for drawn, _ in stopped])
    resumed = [make_sampler(rank, resumed_replicas) for rank in range(resumed_replicas)]
    for sampler in resumed:
        sampler.load_state_dict(copy.deepcopy(stopped[0][1]))
    together = used + interleave([_drawn(sampler) for sampler in resumed])
    rule = f"{n_steps} steps on {num_replicas} ranks and the rest on {resumed_replicas} must be the epoch's batches"
    fail_where_different(rule, together[: len(whole)], whole)
    if len(together) - len(whole) >= resumed_replicas:
        fail(
            f"{rule}, and no more than fill the last step",
            observed=f"{len(together)} batches",
            expected=f"{len(whole)} batches",
            bound=f"fewer than {resumed_replicas} more",
            n=f"{len(together)} batches",
            first_offending_batch=len(whole) + resumed_replicas - 1,
        )


def assert_replays(
    make_sampler: Callable[[], Any],
    positions: Iterable[int] | None = None,
    *,
    batch: Callable[[Any, int], Sequence[int]] | None = None,
) -> None:
    """Assert that each batch of an epoch can be had by its number, in any order, as a pure function of that number.

    A fresh sampler is asked for the batches from the last to the first, and then from the first to the last, before it
    is iterated; none of that may change the sequence.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler of the same table and options each time, in a single process.
    positions : iterable of int, optional
        Numbers of the batches to be asked for; by default all of the epoch.
    batch : callable, optional
        Called as ``batch(sampler, k)``; by default ``sampler.batch(k)``.

    Raises
    ------
    AssertionError
        If a batch is another than that of the sequence, or the sequence has changed.
    ValueError
        If a position is outside the epoch.
    """
    ask = batch or (lambda sampler, k: sampler.batch(k))
    epoch = _drawn(make_sampler())
    wanted = sorted(range(len(epoch)) if positions is None else positions)
    if wanted and not 0 <= wanted[0] <= wanted[-1] < len(epoch):
        raise ValueError(f"positions must be in [0, {len(epoch)}), the batches of an epoch, got {wanted}")
    sampler = make_sampler()
    for time, order in (("first", wanted[::-1]), ("second", wanted)):
        for k in order:
            got = list(ask(sampler, k))
            if got != epoch[k]:
                fail(
                    f"batch {k} asked for by its number must be that of the sequence",
                    observed=f"{got}, when asked the {time} time",
                    expected=epoch[k],
                    n=f"{len(wanted)} batches asked for, {len(epoch)} in the epoch",
                    first_offending_batch=k,
                )
    fail_where_different("the sequence must not change when batches are asked for", _drawn(sampler), epoch)


def _drawn(sampler: Any) -> list[list[int]]:
    return [list(batch) for batch in sampler]


def _stopped(sampler: Any, n_drawn: int) -> tuple[list[list[int]], Any]:
    """Draw some batches; return them and the state after them, which one more batch must not change."""
    drawing = iter(sampler)
    drawn = [list(batch) for batch in islice(drawing, n_drawn)]
    state = sampler.state_dict()
    next(drawing, None)
    return drawn, state
