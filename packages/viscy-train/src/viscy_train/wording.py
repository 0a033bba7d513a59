"""Wording: nouns in the singular or the plural, for messages that contain a number."""

from __future__ import annotations


def plural(number: float, noun: str) -> str:
    """Return a noun, in the plural unless the number is 1."""
    return noun if number == 1 else f"{noun}es" if noun.endswith(("tch", "s")) else f"{noun}s"


def count(number: float, noun: str) -> str:
    """Return a whole number with commas after the thousands, and its noun: ``1 row``, ``12,345 rows``."""
    return f"{number:,.0f} {plural(number, noun)}"


def are(number: float) -> str:
    """Return ``are``, or ``is`` if the number is 1."""
    return "is" if number == 1 else "are"
