"""YAML problems: what a YAML parser says of a file that it cannot read, in words that name the mistake."""

from __future__ import annotations

import re
from typing import Any

_TAB = "indentation and separation must be spaces, got a tab"
_INDENTED = "a line must be indented like the others of its mapping or list; compare its spaces with those above"
_COLON = "a colon is where none can be; check the indentation, and put text that contains ': ' in quotes"
_ALIAS = "*{0} refers to no anchor &{0}; put text that begins with * in quotes"
_QUOTES = "text that begins with {0} must be in quotes"
_DOCUMENT = "a file must be one document; delete what is from the line `---` on, or that line"
_TAG = "{0} is a tag that is not supported; put text that begins with ! in quotes"
_OPEN = "the bracket of this line is not closed, or a comma is missing between its items"
_QUOTE = "the quote that begins in this line is not closed"
_NO_VALUE = "a value is missing here, or a bracket is not closed"
_NO_COLON = "a key must be followed by a colon and a space"
# By what the parser says: what is wrong, and whether it is where the parser began to read, rather than where it ended.
_WORDS: list[tuple[str, str, bool]] = [
    (r"found character '\\t' that cannot start any token", _TAB, False),
    (r"found character '(.)' that cannot start any token", _QUOTES, False),
    (r"mapping values are not allowed here", _COLON, False),
    (r"expected <block end>, but found .*", _INDENTED, False),
    (r"could not find expected ':'", _NO_COLON, True),
    (r"expected ',' or '[\]}]', but got .*", _OPEN, True),
    (r"expected the node content, but found .*", _NO_VALUE, False),
    (r"found unexpected end of stream", _QUOTE, True),
    (r"found undefined alias '?(.+?)'?", _ALIAS, False),
    (r"but found another document", _DOCUMENT, False),
    (r"could not determine a constructor for the tag '?(?:tag:yaml.org,2002:)?(.+?)'?", _TAG, False),
]


def explain_syntax(problem: str, mark: Any, context: str | None, context_mark: Any) -> tuple[int, str]:
    """Explain a mistake of syntax.

    Parameters
    ----------
    problem, context : str
        What the parser found, and what it was reading.
    mark, context_mark : object
        Where; with the attribute `line`, counted from 0.

    Returns
    -------
    tuple of (int, str)
        The line of the mistake, counted from 1, and what is wrong; in the parser's words if there are no others.
    """
    for pattern, words, where_it_began in _WORDS:
        if found := re.fullmatch(pattern, problem):
            is_before = where_it_began and context_mark is not None
            return (context_mark if is_before else mark).line + 1, words.format(*found.groups())
    return mark.line + 1, problem
