"""Open places: keys of an experiments file that are there, but empty, as `init` writes them for the user to fill in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viscy_train.config.yaml_source import line_of
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REQUIRED = ("name", "plate", "tracks", "channels", "conditions", "minutes_per_frame")
_MAX_SHOWN = 8


def check_filled_in(path: Path, experiments: list[dict[str, Any]]) -> None:
    """Refuse experiments with empty values, all in one message.

    Parameters
    ----------
    path : pathlib.Path
        The experiments file.
    experiments : list of dict
        Its experiments, as read.

    Raises
    ------
    UserError
        If a key that every experiment needs, or the condition of a well, is empty. The message names the lines.
    """
    places = [
        f"line {line_of(path, ('experiments', str(number), *keys))}: {' of '.join(reversed(keys))}"
        for number, values in enumerate(experiments)
        for keys in _empty_keys(values)
    ]
    if places:
        more = f", and {len(places) - _MAX_SHOWN} more" if len(places) > _MAX_SHOWN else ""
        what = "an empty value" if len(places) == 1 else f"{len(places)} empty values"
        raise UserError(f"{path} has {what}; fill in {', '.join(places[:_MAX_SHOWN])}{more}")


def _empty_keys(values: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key in _REQUIRED:
        if key in values and values[key] is None:
            yield (key,)
    conditions = values.get("conditions")
    for well, condition in conditions.items() if isinstance(conditions, dict) else ():
        if condition is None:
            yield ("conditions", str(well))
