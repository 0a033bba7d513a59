"""A failure: the AssertionError of an assertion, with the rule that is broken and the facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from scipy import special


def fail(rule: str, **facts: Any) -> NoReturn:
    """Raise an AssertionError that states the rule and then each fact that is not None, one per line."""
    lines = [f"  {name.replace('_', ' ')}: {fact}" for name, fact in facts.items() if fact is not None]
    raise AssertionError("\n".join([rule, *lines]))


def fail_where(rule: str, offending: np.ndarray, observed: Any, expected: Any, **facts: Any) -> None:
    """Fail if any batch breaks the rule, and name the first one.

    `offending` is a mask of shape (n_batches,); `observed` and `expected` are functions of the batch index.
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


def fail_where_different(rule: str, observed: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> None:
    """Fail if two sequences differ, at the first different batch or at the end of the shorter sequence."""
    pairs = enumerate(zip(observed, expected, strict=False))
    k = next((k for k, (a, b) in pairs if list(a) != list(b)), min(len(observed), len(expected)))
    if k == len(observed) == len(expected):
        return
    fail(
        rule,
        observed=list(map(int, observed[k])) if k < len(observed) else "no batch",
        expected=list(map(int, expected[k])) if k < len(expected) else "no batch",
        n=f"{len(observed)} batches observed, {len(expected)} expected",
        first_offending_batch=k,
    )


def judge(rule: str, p_value: float, false_alarm: float, **facts: object) -> None:
    """Fail if the p-value is below the false-alarm rate."""
    if p_value < false_alarm:
        fail(rule, **facts, p_value=f"{p_value:.3g}, less than the false-alarm rate {false_alarm:g}")


def judge_chi_square(
    rule: str, statistic: float, freedom: int, false_alarm: float, *, observed: Any, expected: Any = None, **facts: Any
) -> None:
    """Fail if a chi-square statistic is larger than chance makes it, at the false-alarm rate."""
    judge(
        rule,
        float(special.chdtrc(freedom, statistic)),
        false_alarm,
        observed=observed,
        expected=expected,
        statistic=f"chi-square = {statistic:.4g}",
        bound=f"{special.chdtri(freedom, false_alarm):.4g} ({freedom} degrees of freedom)",
        **facts,
    )


def judge_deviation(
    rule: str, deviation: float, false_alarm: float, *, observed: Any, expected: Any, **facts: Any
) -> None:
    """Fail if a standard normal deviation is larger, on either side, than chance makes it, at the false-alarm rate."""
    judge(
        rule,
        2 * float(special.ndtr(-abs(deviation))),
        false_alarm,
        observed=observed,
        expected=expected,
        statistic=f"z = {deviation:.4g}",
        bound=f"{-special.ndtri(false_alarm / 2):.4g} on either side",
        **facts,
    )


def check_false_alarm(false_alarm: float) -> None:
    """Raise a ValueError unless the false-alarm rate is in (0, 1)."""
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm must be in (0, 1), got {false_alarm!r}")
