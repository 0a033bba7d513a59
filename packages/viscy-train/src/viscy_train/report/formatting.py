"""Formatting: numbers as text, the same on pages and on a terminal."""

from __future__ import annotations


def percent(share: float, digits: int = 0) -> str:
    """Format a share as a percentage, for example 0.125 as ``12.5%`` with one digit.

    With digits, a share that is smaller than the last one has one or two digits of its own: 0.00025 is ``0.025%``.
    """
    if digits and 0 < abs(share) < 10.0 ** -(digits + 2):
        return f"{100 * share:.2g}%" if abs(share) > 1e-12 else f"{0:.{digits}%}"
    return f"{share + 0.0:.{digits}%}"


def thousands(number: float) -> str:
    """Format a number without decimals and with a comma after the thousands, for example ``12,345``."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Format a duration of a few seconds or less, for example ``2.5 ms``."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"
