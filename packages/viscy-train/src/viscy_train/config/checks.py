"""Checks: rules for the values that a user writes into a file, each broken one a line that gives rule and value."""

import math
from numbers import Real
from typing import Any

from viscy_train.errors import UserError


def require(holds: bool, rule: str, value: object) -> None:
    """Refuse a value that breaks a rule."""
    if not holds:
        raise UserError(f"{rule}, got {'null' if value is None else repr(value)}")


def require_number(name: str, value: Any) -> None:
    """Refuse what is null, infinite or no number, before it is compared."""
    require(isinstance(value, Real) and not isinstance(value, bool), f"{name} must be a number", value)
    require(math.isfinite(value), f"{name} must be finite", value)


def require_at_least(name: str, value: Any, least: int) -> None:
    """Refuse what is no number or too small."""
    require_number(name, value)
    require(value >= least, f"{name} must be at least {least}", value)


def require_above_0(name: str, value: Any) -> None:
    """Refuse what is no number above 0."""
    require_number(name, value)
    require(value > 0, f"{name} must be above 0", value)


def require_name(what: str, name: Any) -> None:
    """Refuse what is no text, an empty one, or one with blanks around it, which cannot be seen."""
    require(isinstance(name, str) and name.strip() != "", f"{what} must be a text that is not empty", name)
    require(name == name.strip(), f"{what} must not begin or end with a blank", name)
