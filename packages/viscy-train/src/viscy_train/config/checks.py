"""Checks: rules for values in the user's files. A broken rule is a one-line error with the rule and the value."""

import math
import unicodedata
from collections.abc import Sequence
from numbers import Real
from typing import Any

from viscy_train.config.suggestions import did_you_mean
from viscy_train.errors import UserError

# Unicode categories of characters that move the cursor or begin a line.
_CONTROL = ("Cc", "Zl", "Zp")


def require(holds: bool, rule: str, value: object) -> None:
    """Raise a `UserError` with the rule and the value unless the rule holds."""
    if not holds:
        raise UserError(f"{rule}, got {'null' if value is None else repr(value)}")


def require_one_of(rule: str, value: Any, choices: Sequence[Any]) -> None:
    """Require one of some values, and suggest the one that was probably meant."""
    if isinstance(value, bool) or value not in choices:
        meant = did_you_mean(value, [str(choice) for choice in choices]) if isinstance(value, str) else ""
        raise UserError(f"{rule}, got {'null' if value is None else repr(value)}{meant}")


def require_number(name: str, value: Any) -> None:
    """Require a finite number."""
    require(isinstance(value, Real) and not isinstance(value, bool), f"{name} must be a number", value)
    require(math.isfinite(value), f"{name} must be finite", value)


def require_at_least(name: str, value: Any, minimum: int) -> None:
    """Require a finite number that is not below a minimum."""
    require_number(name, value)
    require(value >= minimum, f"{name} must be at least {minimum}", value)


def require_integer(name: str, value: Any, minimum: int) -> None:
    """Require an integer that is not below a minimum."""
    rule = f"{name} must be an integer of at least {minimum}"
    require(isinstance(value, int) and not isinstance(value, bool) and value >= minimum, rule, value)


def require_above_0(name: str, value: Any) -> None:
    """Require a finite number above 0."""
    require_number(name, value)
    require(value > 0, f"{name} must be above 0", value)


def require_name(what: str, name: Any) -> None:
    """Require text of one line that is not empty and has no spaces around it, which are hard to see."""
    require(isinstance(name, str) and name.strip() != "", f"{what} must be non-empty text", name)
    require(name == name.strip(), f"{what} must not begin or end with a space", name)
    is_printed = not any(unicodedata.category(character) in _CONTROL for character in name)
    require(is_printed, f"{what} must have no line breaks or other control characters", name)
