"""Formatting: numbers as text, the same on pages and on a terminal."""

from __future__ import annotations


def percent(share: float, digits: int = 0) -> str:
    """Format a share as a percentage, for example 0.125 as ``12.5%`` with one digit."""
    return f"{share:.{digits}%}"


def thousands(number: float) -> str:
    """Format a number without decimals and with a comma after the thousands, for example ``12,345``."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Format a duration of a few seconds or less, for example ``2.5 ms``."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"
