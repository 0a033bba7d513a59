"""States of long runs: saved often, loaded by used samplers in later epochs, again and again, or by other samplers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail, fail_where_different
from viscy_sampling_testkit.assertions.cost import _calls
from viscy_sampling_testkit.simulate.ranks import interleave

# A state is small if it has at most so many characters as JSON, and does not grow by more than so many.
_MOST_CHARACTERS, _MOST_GROWTH = 20_000, 16
# Largest ratio of function calls near the end of an epoch to those at its start.
_MOST_CALLS = 3.0


def assert_reloads(
    make_sampler: Callable[[], Any], n_drawn: int = 1, late: Sequence[int] = (11,), *, can_choose: bool = False
) -> None:
    """Assert that states can be saved after every batch, in any epoch, and loaded by samplers that were used before.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``state_dict`` and ``load_state_dict``, with the same table and options each time.
    n_drawn : int, default 1
        Number of batches before each stop, fewer than an epoch has.
    late : sequence of int, default (11,)
        Later epochs in which a run is stopped as well.
    can_choose : bool, default False
        Whether ``set_epoch`` chooses these epochs; otherwise all epochs before them are drawn.

    Raises
    ------
    AssertionError
        If saving changes the batches, a state of the third or a later epoch resumes elsewhere, a used sampler ignores a
        state, or a sampler depends on the loaded dict.
    """
    epochs = _epochs(make_sampler(), 4)
    saving, drawn = make_sampler(), []
    saving.state_dict()
    for _ in range(2):
        for batch in saving:
            drawn.append(list(batch))
            saving.state_dict()
    fail_where_different("saving a state must not change the batches", drawn, epochs[0] + epochs[1])
    stopped = make_sampler()
    _epochs(stopped, 2)
    state = _state_after(stopped, n_drawn)
    used = make_sampler()
    _epochs(used, 1)
    for _ in islice(used, n_drawn + 1):
        pass
    for name, resumed in (("new", make_sampler()), ("used", used)):
        given = copy.deepcopy(state)
        resumed.load_state_dict(given)
        if isinstance(given, dict):
            given.clear()
        rule = f"a {name} sampler must resume a state of the third epoch"
        fail_where_different(rule, _epochs(resumed, 1)[0], epochs[2][n_drawn:])
        fail_where_different(f"{rule} and continue with the fourth", _epochs(resumed, 1)[0], epochs[3])
    for epoch in late:
        _check_late_epoch(lambda e=epoch: _sampler_at(make_sampler, e, can_choose), make_sampler(), n_drawn, epoch)


def assert_resumes_repeatedly(make_sampler: Callable[[int, int], Any], replicas: Sequence[int]) -> None:
    """Assert that a run that is stopped again and again, on changing numbers of ranks, draws each batch once.

    Each attempt draws one step and is then stopped, by the state of its last rank. The last attempt draws the rest of
    the epoch and the next one. Batches beyond the end of an epoch, with which ranks complete their last step, are not
    compared.

    Parameters
    ----------
    make_sampler : callable
        Called as ``make_sampler(rank, num_replicas)``; returns a new sampler with ``state_dict`` and
        ``load_state_dict``. The ranks must interleave the batches of a single process.
    replicas : sequence of int
        Number of ranks of each attempt.

    Raises
    ------
    AssertionError
        If a batch differs, is missing, or is repeated.
    ValueError
        If the epoch is too short for all attempts.
    """
    epochs = _epochs(make_sampler(0, 1), 2)
    if sum(replicas[:-1]) >= len(epochs[0]):
        raise ValueError(f"an epoch must have more than {sum(replicas[:-1])} batches, got {len(epochs[0])}")
    used: list[list[int]] = []
    state: Any = None
    for number, n in enumerate(replicas):
        samplers = [make_sampler(rank, n) for rank in range(n)]
        for sampler in samplers if number else ():
            sampler.load_state_dict(copy.deepcopy(state))
        is_last = number == len(replicas) - 1
        iterators = [iter(sampler) for sampler in samplers]
        used += interleave([[list(b) for b in (it if is_last else islice(it, 1))] for it in iterators])
        state = samplers[-1].state_dict()
    rule = f"attempts of one step on {list(replicas[:-1])} ranks and the rest on {replicas[-1]} must be the epoch"
    fail_where_different(rule, used[: len(epochs[0])], epochs[0])
    following = interleave([_epochs(sampler, 1)[0] for sampler in samplers])[: len(epochs[1])]
    fail_where_different("the epoch after the resumed one must be the next", following, epochs[1])


def assert_plain_state(make_sampler: Callable[[], Any]) -> None:
    """Assert that a state is a small dict of plain values, which survives JSON and does not grow.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``state_dict`` and ``load_state_dict``, with the same table and options each time.

    Raises
    ------
    AssertionError
        If a state is not a dict, changes as JSON, is large, or grows with the batches drawn.
    """
    sampler = make_sampler()
    sizes = []
    iterator = iter(sampler)
    for n_drawn in range(20):
        if n_drawn and next(iterator, None) is None:
            break
        state = sampler.state_dict()
        try:
            text = json.dumps(state)
        except (TypeError, ValueError) as error:
            text = str(error)
        if type(state) is not dict or text[:1] != "{" or json.loads(text) != state:
            fail("a state must be a dict of plain values", observed=repr(state)[:200], expected="the same from JSON")
        sizes.append(len(text))
    if max(sizes) > _MOST_CHARACTERS or max(sizes[1:], default=0) - sizes[min(1, len(sizes) - 1)] > _MOST_GROWTH:
        fail(
            "a state must be small, however many batches were drawn",
            observed=f"{sizes[0]} characters at first, up to {max(sizes)} in {len(sizes) - 1} batches",
            expected=f"at most {_MOST_CHARACTERS} characters, at most {_MOST_GROWTH} more than after the first batch",
        )


def assert_refuses_state(make_sampler: Callable[[], Any], make_others: Sequence[Callable[[], Any]]) -> None:
    """Assert that a sampler refuses the states of samplers with other tables, options or seeds, by a ValueError.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler with ``state_dict`` and ``load_state_dict``.
    make_others : sequence of callable
        Functions that return other samplers.

    Raises
    ------
    AssertionError
        If a state of another sampler is accepted, or refused by another exception.
    """
    for number, make_other in enumerate(make_others):
        other = make_other()
        for _ in islice(other, 1):
            pass
        state = other.state_dict()
        try:
            make_sampler().load_state_dict(state)
            outcome = "no exception"
        except ValueError:
            continue
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        fail(
            "a state of another table, other options or another seed must be refused",
            observed=f"{outcome}, for sampler {number} of {len(make_others)} others",
            expected="a ValueError",
        )


def assert_direct_access(make_sampler: Callable[[], Any], n_batches: int, *, by_index: bool, by_state: bool) -> None:
    """Assert that a batch late in the epoch costs no more than an early one, whether requested or resumed.

    The cost is the number of function calls, which does not depend on the load of the machine; any amount of work
    inside one call counts as one.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with the same table and options each time, for a single process.
    n_batches : int
        Number of batches of an epoch, at least 8.
    by_index : bool
        Whether to request batches with ``batch``.
    by_state : bool
        Whether to resume with ``load_state_dict``.

    Raises
    ------
    AssertionError
        If the late batch needs more than three times as many calls.
    ValueError
        If the epoch is too short.
    """
    if n_batches < 8:
        raise ValueError(f"an epoch must have at least 8 batches, got {n_batches}; give more rows")
    ways: dict[str, Callable[[int], Callable[[], Any]]] = {}
    if by_index:
        ways["batch(k)"] = lambda k: partial(_request, make_sampler(), k)
    if by_state:
        ways["load_state_dict() and the first batch"] = lambda k: _resumption(make_sampler, k)
    for name, way in ways.items():
        for k in (1, n_batches - 2):
            way(k)()  # work that happens once per process
        early, late = (_calls(_Once(way(k))) for k in (1, n_batches - 2))
        if late > _MOST_CALLS * early:
            fail(
                f"{name} must cost the same wherever the batch is in the epoch",
                observed=f"{late} function calls for batch {n_batches - 2}",
                expected=f"{early} for batch 1",
                bound=f"{_MOST_CALLS:g} times as many",
                n=f"{n_batches} batches in the epoch",
            )


def _sampler_at(make_sampler: Callable[[], Any], epoch: int, can_choose: bool) -> Any:
    """Return a new sampler whose next epoch is the given one."""
    sampler = make_sampler()
    if can_choose:
        sampler.set_epoch(epoch)
    else:
        _epochs(sampler, epoch)
    return sampler


def _check_late_epoch(make_late: Callable[[], Any], resumed: Any, n_drawn: int, epoch: int) -> None:
    """Fail if a new sampler resumes a state of a late epoch elsewhere."""
    expected = _epochs(make_late(), 2)
    resumed.load_state_dict(_state_after(make_late(), n_drawn))
    rule = f"a new sampler must resume a state of epoch {epoch}"
    fail_where_different(rule, _epochs(resumed, 1)[0], expected[0][n_drawn:])
    fail_where_different(f"{rule} and continue with the next", _epochs(resumed, 1)[0], expected[1])


def _state_after(sampler: Any, n_drawn: int) -> Any:
    """Return the state of a sampler after some batches of its next epoch."""
    iterator = iter(sampler)
    for _ in islice(iterator, n_drawn):
        pass
    return copy.deepcopy(sampler.state_dict())


def _request(sampler: Any, k: int) -> Any:
    return sampler.batch(k)


class _Once:
    """An iterable that calls a function for its only element."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def __iter__(self) -> Any:
        yield self.function()


def _resumption(make_sampler: Callable[[], Any], k: int) -> Callable[[], Any]:
    """Return a function that resumes after k batches and draws the next one."""
    state, resumed = _state_after(make_sampler(), k), make_sampler()

    def resume() -> Any:
        resumed.load_state_dict(state)
        return next(iter(resumed))

    return resume


def _epochs(sampler: Any, n: int) -> list[list[list[int]]]:
    return [[list(batch) for batch in sampler] for _ in range(n)]
