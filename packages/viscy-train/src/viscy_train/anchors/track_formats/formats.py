"""Formats: the names by which a configuration states which program wrote the tracks, and how messages call them."""

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
    "geff": "GEFF",
    "ctc": "Cell Tracking Challenge",
    "labels": "label images",
    "detections": "cells without tracks",
}
"""What messages call each format, by its name in a configuration."""

AUTO = "auto"
POSITION_COLUMNS = ("position", "fov_name", "fov")
"""Columns of a file for several positions, one of which names the position of each row."""
