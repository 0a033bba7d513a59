"""Wording: nouns in the singular or the plural, numbers of bytes, and lists of sentences that are cut."""

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


def format_bytes(n: float) -> str:
    """Return a number of bytes with a unit: ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 999.5:  # rounded to three digits, larger ones are 1000
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def shorten(sentences: list[str], sentence_on_more: str, most: int = 10) -> list[str]:
    """Return the first sentences, and a sentence on the number of the others if they are many."""
    n_more = len(sentences) - most
    return [*sentences[:most], *([sentence_on_more.format(n_more)] if n_more > 0 else [])]
