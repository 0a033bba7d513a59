"""Metadata: what an experiment, its wells and its fields of view are described by, under keys of the user's choice."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from viscy_train.config.checks import require, require_name
from viscy_train.errors import at_key
from viscy_train.experiments.columns import RESERVED, is_reserved
from viscy_train.experiments.spelling import check_spelling, spellings

if TYPE_CHECKING:
    from collections.abc import Mapping

type Value = str | float | int | bool
"""Value of a key."""

CONDITION = "condition"
"""The only column of every table that the keys of a well may give."""
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d+)?")


def check_keys(values: Any, what: str) -> None:
    """Refuse metadata that is not a mapping of names of new columns to values.

    Parameters
    ----------
    values : mapping of str to value
        Keys and values.
    what : str
        What they describe, for error messages: ``metadata of experiment 'plate1'``.

    Raises
    ------
    UserError
        If a key is the name of another column, or a value is neither text, nor a finite number, nor a boolean.
    """
    require(isinstance(values, dict), f"{what} must be a mapping of keys to values", values)
    known = spellings(key for key in values if isinstance(key, str))
    for key, value in values.items():
        with at_key(str(key)):
            check_key(key, what)
            check_spelling(f"keys in {what}", key, known)
            check_value(value, f"{key!r} in {what}")


def check_key(key: Any, what: str) -> None:
    """Refuse a key that cannot be the name of a column of metadata."""
    require_name(f"a key in {what}", key)
    rule = f"a key in {what} must not be a column of every anchor table or of embeddings ({', '.join(RESERVED)})"
    require(not is_reserved(key), rule, key)


def check_value(value: Any, what: str) -> None:
    """Refuse a value that is neither text, nor a finite number, nor a boolean."""
    if isinstance(value, str):
        require_name(what, value)
        return
    require(isinstance(value, (bool, int, float)), f"{what} must be text, a number or a boolean", value)
    require(math.isfinite(value), f"{what} must be finite", value)


def check_wells(wells: Any, what: str) -> None:
    """Refuse metadata of wells and fields of view that is not a mapping of their names to keys and values.

    Parameters
    ----------
    wells : mapping of str to mapping
        Keys and values of each well and each field of view.
    what : str
        What they belong to, for error messages: ``of experiment 'plate1'``.

    Raises
    ------
    UserError
        If the keys or values of one are invalid, see `check_keys`; `condition` is a key like any other.
    """
    require(isinstance(wells, dict), f"wells {what} must be a mapping of wells to their keys", wells)
    for well, values in wells.items():
        with at_key(str(well)):
            require_name(f"a name in wells {what}", well)
            require(isinstance(values, dict), f"well {well!r} {what} must be a mapping of keys to values", values)
            check_keys(without_condition(values), f"well {well!r} {what}")
        if CONDITION in values:
            with at_key(str(well), CONDITION):
                require_name(f"condition of well {well!r} {what}", values[CONDITION])


def read_value(value: Any, text: Any) -> Any:
    """Return a value of a YAML file as the user meant it.

    Parameters
    ----------
    value : object
        The value as YAML 1.1 reads it.
    text : object
        Its text in the file.

    Returns
    -------
    object
        A number only if it is written in decimals and without leading zeros, a boolean only if it is ``true`` or
        ``false``, and the text itself for all others that YAML 1.1 takes for numbers, booleans or dates: names such as
        ``2024_10_09``, ``12:30``, ``0123`` and ``off``.
    """
    is_number = isinstance(value, (bool, int, float)) and math.isfinite(value)
    if not is_number or not isinstance(text, str):
        return value
    is_plain = text.lower() in ("true", "false") if isinstance(value, bool) else _NUMBER.fullmatch(text) is not None
    return value if is_plain else text


def without_condition(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return keys and values except the condition."""
    return {key: value for key, value in values.items() if key != CONDITION}


def well_of(position: str) -> str:
    """Return the well of a field of view: ``A/1`` of ``A/1/0``; that of an image without wells is its folder or itself.

    Examples
    --------
    >>> well_of("A/1/0"), well_of("image"), well_of("treated/image")
    ('A/1', 'image', 'treated')
    """
    return position.rpartition("/")[0] or position
