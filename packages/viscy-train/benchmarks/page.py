"""The page of results: BENCHMARKS.md, of which every benchmark writes a part of its own."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median


def write_part(path: Path, text: str) -> None:
    """Write a part of a page, in place of the part with the same heading, if any, else at the end.

    Parameters
    ----------
    path : pathlib.Path
        A Markdown file, which may not exist yet. Its parts begin with headings of the first level.
    text : str
        The part, which begins with such a heading.
    """
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = {part.splitlines()[0]: part.strip() for part in re.split(r"^(?=# )", page, flags=re.MULTILINE) if part}
    parts[text.splitlines()[0]] = text.strip()
    path.write_text("\n\n".join(parts.values()) + "\n", encoding="utf-8")


def format_median_and_range(numbers: list[float]) -> str:
    """Return the median of measurements, and in parentheses the smallest and the largest."""
    texts = [f"{n:.0f}" if n >= 100 else f"{n:.3g}" for n in (median(numbers), min(numbers), max(numbers))]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


def format_table(rows: list[list[str]]) -> str:
    """Return a table in Markdown, of which the first row is the heading."""
    heading, *others = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in [heading, ["---"] * len(heading), *others])
