"""Track count: about how many anchors the tracks of experiments have, from as few files as necessary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.errors import UserError
from viscy_train.plates.plate import open_plate
from viscy_train.tracks.tracks import Tracks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from viscy_train.project_files.draft import Draft

ENOUGH = 1024
"""More anchors than this do not matter."""
# Larger files are not read; they have many tracks.
_LARGEST_FILE = 10 * 2**20


def count_anchors(drafts: Iterable[Draft]) -> int | None:
    """Return about how many anchors experiments have.

    Parameters
    ----------
    drafts : iterable of Draft
        The experiments.

    Returns
    -------
    int, optional
        Number of observations of tracks with several frames; `ENOUGH` or more if there are many, and None if the plate
        or the tracks of an experiment are missing or cannot be read.
    """
    n_anchors = 0
    for draft in drafts:
        if draft.plate is None or draft.tracks is None:
            return None
        try:
            positions = _positions_of(draft.plate, draft.conditions)
            n_anchors += _count(draft.tracks, positions, draft.minutes_per_frame)
        except UserError:  # `index` says so
            return None
        if n_anchors >= ENOUGH:
            break
    return n_anchors or None


def _positions_of(path: Path, keys: Iterable[str]) -> list[str]:
    plate = open_plate(path)
    return [position for key in keys for position in plate.list_positions(key)]


def _count(path: Path, positions: list[str], minutes_per_frame: float | None) -> int:
    if path.is_file() and path.stat().st_size > _LARGEST_FILE:
        return ENOUGH
    tracks, count = Tracks(path, minutes_per_frame=minutes_per_frame), 0
    for position in positions:
        found = tracks.of(position, is_only=len(positions) == 1)
        count += int(found["track_id"].duplicated(keep=False).sum())
        if count >= ENOUGH:
            break
    return count
