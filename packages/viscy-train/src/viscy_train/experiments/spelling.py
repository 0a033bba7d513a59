"""Spelling: names that look alike, of which one is a mistake, because they would count as different."""

from __future__ import annotations

import difflib
import unicodedata
from typing import TYPE_CHECKING

from viscy_train.config.checks import require

if TYPE_CHECKING:
    from collections.abc import Iterable

# Names are alike if this part of their letters is the same and in the same order.
_ALIKE = 0.85


def spellings(names: Iterable[str]) -> dict[str, str]:
    """Return the last of each of the names that look alike, for `check_spelling`."""
    return {_folded(name): name for name in names}


def check_spelling(what: str, name: str, known: dict[str, str]) -> None:
    """Refuse a name that differs from a known one only in case or in the characters that make up its letters.

    Parameters
    ----------
    what : str
        What has the names, for error messages.
    name : str
        A name.
    known : dict of str to str
        See `spellings`.
    """
    other = known.get(_folded(name), name)
    if other.lower() == name.lower():
        require(other == name, f"{what} must not differ only in upper and lower case", [name, other])
    if other != name:  # they look the same
        rule = f"{what} must not differ only in the Unicode characters that make up a letter"
        require(False, f"{rule}; write {name!r} with the same ones everywhere", [ascii(name), ascii(other)])


def meant_by(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a name is probably a misspelling of, or None.

    Examples
    --------
    >>> meant_by("intervall_minutes", ["start_hpi", "interval_minutes"]), meant_by("microscope", ["marker"])
    ('interval_minutes', None)
    """
    close = difflib.get_close_matches(_folded(name), list(known), n=1, cutoff=_ALIKE)
    return close[0] if close and close[0] != name else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
