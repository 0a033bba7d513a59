"""Identity: batches that stay as they are, copies that equal their original, and draws that leave no trace."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch

from viscy_sampling_testkit.assertions._failure import fail, fail_where_different
from viscy_sampling_testkit.assertions.sequences import preserved_global_states, seed_global_generators


def assert_batches_stay(make_sampler: Callable[[], Any]) -> None:
    """Assert that a batch is an object of its own: it does not change later, and changing it changes no other batch.

    Data loaders keep batches while the next ones are drawn, and collate functions may change them. The second property
    is tested only if two samplers with the same arguments draw the same batches.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with the same table and options each time.

    Raises
    ------
    AssertionError
        If a batch has changed at the end of two epochs, or the batches depend on what was done to earlier ones.

    Examples
    --------
    >>> assert_batches_stay(lambda: iter([[0, 1], [2, 3]]))
    """
    sampler = make_sampler()
    drawn: list[Any] = []
    copies: list[list[int]] = []
    for _ in range(2):
        for batch in sampler:
            drawn.append(batch)
            copies.append(list(batch))
    fail_where_different("a batch must not change after it was yielded", [list(batch) for batch in drawn], copies)
    if _two_epochs(make_sampler()) != copies:
        return
    sampler = make_sampler()
    again: list[list[int]] = []
    for _ in range(2):
        for batch in sampler:
            again.append(list(batch))
            _spoil(batch)
    fail_where_different("changing a batch must not change the batches after it", again, copies)
    if hasattr(sampler, "batch") and copies:
        requested = [sampler.batch(0), sampler.batch(0)]
        first = list(requested[0])
        _spoil(requested[1])
        fail_where_different("changing a requested batch must not change others", [list(requested[0])], [first])
        fail_where_different("changing a requested batch must not change others", [list(sampler.batch(0))], [first])


def assert_copies(make_sampler: Callable[[], Any]) -> None:
    """Assert that a copy of a sampler, made by `copy.deepcopy` or `pickle`, is where the original is.

    Copies are made of a new sampler, of one after an epoch, and, if it has states, of one in the middle of an epoch and
    of one that has loaded a state. The copy must yield the batches that the original would have, and drawing from the
    one must not advance the other. A sampler whose class cannot be imported is copied by `copy.deepcopy` only.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler, with the same table and options each time.

    Raises
    ------
    AssertionError
        If a copy differs, or the sampler cannot be copied.

    Examples
    --------
    >>> assert_copies(lambda: [[0, 1], [2, 3]])
    """
    copiers: dict[str, Callable[[Any], Any]] = {"deepcopy": copy.deepcopy}
    if _can_be_imported(type(make_sampler())):
        copiers["pickle"] = lambda sampler: pickle.loads(pickle.dumps(sampler))
    for name, copier in copiers.items():
        for when, prepare in _PREPARATIONS.items():
            expected_from, original = make_sampler(), make_sampler()
            if not prepare(expected_from) or not prepare(original):
                continue
            copied = _copy(copier, original, name)
            expected = _two_epochs(expected_from)
            fail_where_different(
                f"a copy by {name} of a sampler {when} must be where it is", _two_epochs(copied), expected
            )
            rule = f"drawing from a copy by {name} must not change the original"
            fail_where_different(rule, _two_epochs(original), expected)


def assert_leaves_no_trace(make_sampler: Callable[[], Any]) -> None:
    """Assert that drawing does not change the global random generators of `random`, NumPy and torch.

    Augmentations and models use these generators; a sampler that changes them changes the run.

    Parameters
    ----------
    make_sampler : callable
        Returns a new sampler.

    Raises
    ------
    AssertionError
        If a generator has another state after two epochs.

    Examples
    --------
    >>> assert_leaves_no_trace(lambda: [[0, 1], [2, 3]])
    """
    with preserved_global_states():
        # An unusual state, which no sampler restores by seeding a generator.
        seed_global_generators(918_273_645)
        before = _global_states()
        _two_epochs(make_sampler())
        changed = [name for name, state in _global_states().items() if state != before[name]]
    if changed:
        fail(
            "drawing must not change the global random generators",
            observed=f"another state of {', '.join(changed)}",
            expected="the state before two epochs",
        )


def _spoil(batch: Any) -> None:
    """Change a batch in place, if that is possible."""
    for i in range(len(batch)):
        try:
            batch[i] = 0
        except (TypeError, ValueError):
            return


def _two_epochs(sampler: Any) -> list[list[int]]:
    return [list(batch) for _ in range(2) for batch in sampler]


def _new(sampler: Any) -> bool:
    return True


def _after_an_epoch(sampler: Any) -> bool:
    for _ in sampler:
        pass
    return True


def _in_an_epoch(sampler: Any) -> bool:
    """Draw two batches, and start again from the state after them, because iterators are not copied."""
    if not hasattr(sampler, "load_state_dict"):
        return False
    for _ in islice(sampler, 2):
        pass
    sampler.load_state_dict(copy.deepcopy(sampler.state_dict()))
    return True


_PREPARATIONS: dict[str, Callable[[Any], bool]] = {
    "that is new": _new,
    "after an epoch": _after_an_epoch,
    "that has loaded a state": _in_an_epoch,
}


def _copy(copier: Callable[[Any], Any], sampler: Any, name: str) -> Any:
    try:
        return copier(sampler)
    except Exception as error:
        fail(
            f"it must be possible to copy a sampler by {name}",
            observed=f"{type(error).__name__}: {error}",
            expected="a copy",
        )


def _can_be_imported(kind: type) -> bool:
    try:
        return pickle.loads(pickle.dumps(kind)) is kind
    except Exception:
        return False


def _global_states() -> dict[str, bytes]:
    return {
        "random": repr(random.getstate()).encode(),
        "NumPy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
