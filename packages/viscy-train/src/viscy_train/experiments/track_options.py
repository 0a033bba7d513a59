"""Track options: what a configuration may state about files of tracks, and how messages call their formats."""

from __future__ import annotations

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
FIRST_FRAMES = (AUTO, 0, 1)
"""Numbers of the first frame that a configuration may state."""
POSITION_COLUMNS = ("position", "fov_name", "fov")
"""Columns of a file for several positions, one of which names the position of each row."""
