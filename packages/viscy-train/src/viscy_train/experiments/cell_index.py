"""Cell index of VisCy: a table with a row for each cell, frame and channel, as annotations of observations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

CHANNEL = "channel_name"
"""Column of the channel of a row."""
_RECOGNIZED_BY = ("cell_id", "store_path", CHANNEL, "global_track_id", "fov")
_STATED = (
    *("cell_id", "store_path", "tracks_path", "global_track_id", "lineage_id", "parent_track_id", "y", "x", "z"),
    *("marker", "hours_post_perturbation", "interval_minutes"),
    *("pixel_size_xy_um", "pixel_size_z_um", "T_shape", "C_shape", "Z_shape", "Y_shape", "X_shape"),
)
_OF_EXPERIMENTS = ("microscope", "organelle")
_OBSERVATION = ["well", "fov", "track_id", "t"]
_EXPERIMENT = "experiment"
# Statistics of the images of a channel.
_OF_CHANNEL = "norm_"


@dataclass(frozen=True, kw_only=True)
class CellIndex:
    """The annotations in a cell index.

    Parameters
    ----------
    observations : pandas.DataFrame
        A row for each observation, with its keys and the columns that are the same in all channels.
    channels : pandas.DataFrame, optional
        A row for each observation and channel, with its keys and the other columns, if there are any to be joined.
    left_out : dict of str to str
        Why other columns are not annotations.
    """

    observations: pd.DataFrame
    channels: pd.DataFrame | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def is_cell_index(table: pd.DataFrame) -> bool:
    """Return whether a table is a cell index of VisCy."""
    return all(name in table for name in (*_RECOGNIZED_BY, *_OBSERVATION))


def read_cell_index(table: pd.DataFrame, channels: list[str] | None) -> CellIndex:
    """Return the annotations in a cell index.

    Parameters
    ----------
    table : pandas.DataFrame
        The rows of an experiment.
    channels : list of str, optional
        Names of the channels of the experiment, if an observation is of one of them.

    Returns
    -------
    CellIndex
        The columns that experiments, plates and tracks do not have, as far as they have values. Columns that differ
        between the channels of a cell, such as the mean intensity, are joined by channel, or left out if an observation
        is of all channels.
    """
    left_out = {name: reason for name in table if (reason := _reason(table, name)) is not None}
    kept = [name for name in table if name not in left_out and name not in (*_OBSERVATION, _EXPERIMENT, CHANNEL)]
    of_channel = [name for name in kept if _differs(table, name) or (channels and name.startswith(_OF_CHANNEL))]
    own = table[table[CHANNEL].astype("str").isin(channels or [])]
    if not channels:
        left_out |= dict.fromkeys(of_channel, "differs between channels, so `data.channels: one` would join it")
    elif not len(own):
        left_out |= dict.fromkeys(of_channel, "of channels that the experiment does not use")
    observations = table[[*_OBSERVATION, *(name for name in kept if name not in of_channel)]]
    return CellIndex(
        observations=observations.drop_duplicates(_OBSERVATION),
        channels=own[[*_OBSERVATION, CHANNEL, *of_channel]] if of_channel and len(own) else None,
        left_out=left_out,
    )


def _reason(table: pd.DataFrame, name: str) -> str | None:
    """Return why a column is left out, whatever its values in other channels are."""
    if name in _STATED:
        return "stated by experiments, plates and tracks"
    if name in _OF_EXPERIMENTS:
        return "a key for `metadata` of the experiment"
    return None if table[name].notna().any() else "without values"


def _differs(table: pd.DataFrame, name: str) -> bool:
    """Return whether a column has several values for an observation."""
    return bool(table[[*_OBSERVATION, name]].drop_duplicates().duplicated(_OBSERVATION).any())
