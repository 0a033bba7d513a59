"""Parser messages: what jsonargparse says of a value of another type, in the words of our own messages."""

from __future__ import annotations

import re

from viscy_train.config.suggestions import did_you_mean, one_of

_KEY = r'Parser key "(?P<key>[\w.]+)": '
_ONE = re.compile(_KEY + r"Expected a (?P<kind>.+?)\. Got value: (?P<value>.*)")
_SEVERAL = re.compile(
    _KEY + r"Does not validate against any of the Union subtypes Subtypes: \[(?P<kind>.*)\] Errors: .*"
    r"Given value type: .*? Given value: (?P<value>.*)"
)
# Of an option of a command.
_ABOVE_0 = re.compile(
    _KEY + r"Not of type PositiveInt: (?:invalid literal for int\(\) with base 10: )?"
    r"'?(?P<value>.*?)'?(?: does not conform to restriction v>0| not an? \w+)?"
)
_PATH = re.compile(_KEY + r"Not of type Path_\w+: .*")
_NO_FILE = re.compile(_KEY + r"File does not exist: '(?P<path>.*)'")
_NOT_TEXT = re.compile(r"Key must be a string, got: (?P<value>.*?)\.?")
_CHOICES = re.compile(r"(?:typing\.)?Literal\[(?P<choices>[^\[]*)\]")
_WORDS = {
    "<class 'bool'>": "true or false",
    "<class 'int'>": "an integer",
    "<class 'float'>": "a number",
    "<class 'str'>": "text",
    "<class 'list'>": "a list",
    "<class 'dict'>": "a mapping",
    "<class 'NoneType'>": "null",
    "list[str]": "a list of texts",
    "dict[str, float]": "a mapping of names to numbers",
}


def reword(message: str) -> str:
    """Return a message about a value of another type than its key needs as rule and value.

    Parameters
    ----------
    message : str
        A message on one line.

    Returns
    -------
    str
        Such as ``data.crop_um must be a number or null, got 8um``; other messages as they are.
    """
    if option := _ABOVE_0.fullmatch(message):
        return f"--{option['key']} must be an integer above 0, got {option['value']}"
    if path := _PATH.fullmatch(message):
        return f"{path['key']} must be a path, as text"
    if file := _NO_FILE.fullmatch(message):
        return f"file not found: {file['path']}"
    if key := _NOT_TEXT.fullmatch(message):
        return f"a key must be text, got {key['value']}; put it in quotes: '{key['value']}'"
    found = _SEVERAL.fullmatch(message) or _ONE.fullmatch(message)
    kinds = _in_words(found["kind"]) if found else None
    if found is None or kinds is None:
        return message
    meant = did_you_mean(found["value"], [choice for kind in _split(found["kind"]) for choice in _choices_in(kind)])
    return f"{found['key']} must be {kinds}, got {found['value']}{meant}"


def _split(kinds: str) -> list[str]:
    """Return the types of a list, whose own parameters are separated by commas, too."""
    return re.split(r", (?![^\[]*\])", kinds)


def _choices_in(kind: str) -> list[str]:
    choices = _CHOICES.fullmatch(kind)
    return [choice.strip().strip("'") for choice in choices["choices"].split(",")] if choices else []


def _in_words(kinds: str) -> str | None:
    """Return a type, or several separated by commas, in words; None if one of them has none."""
    words = [word for kind in _split(kinds) for word in (_choices_in(kind) or [_WORDS.get(kind)])]
    known = [word for word in words if word is not None]
    return one_of(list(dict.fromkeys(known))) if len(known) == len(words) else None
