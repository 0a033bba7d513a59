"""A failure: what an assertion says when a sampler does not keep a rule."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np


def fail(rule: str, **facts: Any) -> NoReturn:
    """Raise an AssertionError that states the rule and then each fact that is not None, one a line."""
    lines = [f"  {name.replace('_', ' ')}: {fact}" for name, fact in facts.items() if fact is not None]
    raise AssertionError("\n".join([rule, *lines]))


def fail_where(rule: str, offending: np.ndarray, observed: Any, expected: Any, **facts: Any) -> None:
    """Fail if any batch offends, naming the first.

    `offending` is a mask of shape (n_batches,); `observed` and `expected` are functions of the batch number.
    """
    if offending.any():
        first = int(offending.argmax())
        fail(
            rule,
            observed=observed(first),
            expected=expected(first),
            **facts,
            n=f"{len(offending)} batches, {int(offending.sum())} of them offending",
            first_offending_batch=first,
        )
