"""Draft of an experiment: an item of `experiments.yaml`, as far as it is known, and its comments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(kw_only=True)
class Draft:
    """An experiment that is about to be written. A value of None is written as an open place, for the user to fill in.

    Parameters
    ----------
    name : str
        Name of the experiment.
    plate, tracks : pathlib.Path, optional
        Its plate and its tracks.
    channels : list of str, or dict of str to str
        Channels, or the marker of each.
    conditions : dict of str to str or None
        The condition of each well, field of view or image.
    minutes_per_frame : float, optional
        Minutes between consecutive frames.
    hour_of_infection : float
        Hours from the first frame to the infection.
    micrometers_per_pixel, micrometers_per_slice : float, optional
        Physical scale, if it is not that of the plate's metadata.
    metadata : dict
        Values for keys of any name.
    wells : dict of str to dict
        The same for wells and fields of view.
    notes : list of str
        Comments before the experiment.
    comments : dict of str to str
        Comments before some of its keys.
    """

    name: str
    plate: Path | None
    tracks: Path | None
    channels: list[str] | dict[str, str]
    conditions: dict[str, str | None]
    minutes_per_frame: float | None
    hour_of_infection: float = 0.0
    micrometers_per_pixel: float | None = None
    micrometers_per_slice: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    wells: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)


def unique_names(names: Iterable[str]) -> list[str]:
    """Return names with a number after those that occurred before."""
    taken: set[str] = set()
    result = []
    for name in names:
        unique, number = name, 2
        while unique.casefold() in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique.casefold())
        result.append(unique)
    return result
