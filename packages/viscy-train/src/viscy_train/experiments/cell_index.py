"""Cell index of VisCy: a table with a row for each cell, frame and channel, as annotations of observations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_RECOGNIZED_BY = ("cell_id", "store_path", "channel_name", "global_track_id", "fov")
# What experiments, plates and tracks say, or what is of a channel.
_KNOWN = (
    *("cell_id", "store_path", "tracks_path", "global_track_id", "lineage_id", "parent_track_id", "y", "x", "z"),
    *("channel_name", "marker", "organelle", "microscope", "hours_post_perturbation", "interval_minutes"),
    *("pixel_size_xy_um", "pixel_size_z_um", "T_shape", "C_shape", "Z_shape", "Y_shape", "X_shape"),
)
_OBSERVATION = ["well", "fov", "track_id", "t"]


def is_cell_index(table: pd.DataFrame) -> bool:
    """Return whether a table is a cell index of VisCy."""
    return all(name in table for name in (*_RECOGNIZED_BY, *_OBSERVATION))


def annotations_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the annotations in a cell index.

    Parameters
    ----------
    table : pandas.DataFrame
        The rows of an experiment.

    Returns
    -------
    pandas.DataFrame
        A row for each observation, with its keys and the columns that experiments, plates and tracks do not have. A
        column without values is left out, and so is one that differs between the channels of a cell, such as the mean
        intensity.
    """
    kept = [name for name in table if name not in _KNOWN and (name in _OBSERVATION or table[name].notna().any())]
    table = table[kept]
    if not table.duplicated(_OBSERVATION).any():
        return table
    others = [name for name in kept if name not in _OBSERVATION]
    of_channel = [
        name for name in others if table[[*_OBSERVATION, name]].drop_duplicates().duplicated(_OBSERVATION).any()
    ]
    return table.drop(columns=of_channel).drop_duplicates(_OBSERVATION).reset_index(drop=True)
