"""Track options: what a configuration may state about files of tracks, and how messages call their formats."""

from __future__ import annotations

from typing import Any

FORMATS = {
    "table": "table of tracks",
    "trackmate_csv": "TrackMate CSV",
    "trackmate_xml": "TrackMate XML",
    "napari": "napari tracks",
    "ultrack": "ultrack table",
    "btrack": "btrack",
    "trackastra": "trackastra edges",
    "laptrack": "laptrack table",
    "trackpy": "trackpy table",
    "biotracks": "biotracks objects",
    "geff": "GEFF",
    "ctc": "Cell Tracking Challenge",
    "labels": "label images",
    "detections": "cells without tracks",
}
"""What messages call each format, by its name in a configuration."""

AUTO = "auto"
UNITS = (AUTO, "pixel", "micrometer")
"""Units of coordinates that a configuration may state."""
PIXEL_NAMES = ("pixel", "pixels", "px", "pix")
"""What files and configurations call the pixel, in lower case."""
MICROMETER_NAMES = (
    *("\u00b5m", "\u03bcm", "um", r"\u00b5m", "micron", "microns"),
    *("micrometer", "micrometers", "micrometre", "micrometres"),
)
"""What they call the micrometer."""
FIRST_FRAMES = (AUTO, 0, 1)
"""Numbers of the first frame that a configuration may state."""
POSITION_COLUMNS = ("position", "fov_name", "fov")
"""Columns of a file for several positions, one of which names the position of each row."""


def canonical(option: str, value: Any) -> Any:
    """Return a value of an option as it is compared: a format or a unit by its name, whatever a user calls it.

    Examples
    --------
    >>> canonical("tracks_unit", "um"), canonical("tracks_format", "TrackMate XML"), canonical("tracks_unit", "mile")
    ('micrometer', 'trackmate_xml', 'mile')
    """
    names = _NAMES.get(option, {})
    return names.get(value.strip().lower(), value) if isinstance(value, str) else value


_NAMES: dict[str, dict[str, str]] = {
    "tracks_unit": {
        AUTO: AUTO,
        **dict.fromkeys(PIXEL_NAMES, "pixel"),
        **dict.fromkeys(MICROMETER_NAMES, "micrometer"),
    },
    "tracks_format": {
        AUTO: AUTO,
        **{title.lower(): name for name, title in FORMATS.items()},
        **{name: name for name in FORMATS},
    },
}
