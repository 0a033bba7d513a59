"""Observation parts: the observations of a large table, checked some positions at a time, which takes little memory.

All rules but a few are about the rows of a position. Where a part breaks a rule, the whole table is checked again, so
that the message is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.anchors.observations import check_experiments, check_observations, check_order
from viscy_train.crops.channel_groups import ChannelsMode, row_order
from viscy_train.errors import UserError
from viscy_train.experiments.position_metadata import check_metadata, metadata_keys
from viscy_train.positives.lineage_parts import whole_positions
from viscy_train.row_slices import mapped_arrays, release

if TYPE_CHECKING:
    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment


def check_in_parts(
    observations: pd.DataFrame,
    experiments: list[Experiment],
    positive: PositiveConfig,
    *,
    channels_mode: ChannelsMode = "all",
) -> None:
    """Check observations as `check_observations` does, with less memory.

    Parameters
    ----------
    observations, experiments, positive, channels_mode
        As for `check_observations`. Observations with the same metadata can be anywhere in the table, so those that
        are positives of each other are not checked in parts.

    Raises
    ------
    UserError
        If a rule is broken.
    """
    try:
        is_valid = not positive.match and _are_valid(observations, experiments, positive, channels_mode)
    except UserError:
        is_valid = False
    if not is_valid:
        check_observations(observations, experiments, positive, channels_mode=channels_mode)


def _are_valid(
    observations: pd.DataFrame, experiments: list[Experiment], positive: PositiveConfig, channels_mode: ChannelsMode
) -> bool:
    """Return whether the parts obey the rules together; raise UserError if one does not."""
    keys = metadata_keys(experiments)
    borders, lineages, metadata = [], [], []
    arrays = mapped_arrays(observations)
    for rows in whole_positions(observations):
        part = _part(observations, rows)
        check_observations(part, experiments, positive, channels_mode=channels_mode, with_metadata=False)
        borders += [rows.start, rows.stop - 1]
        lineages.append((part["lineage_id"].min(), part["lineage_id"].max()))
        if set(keys) <= set(part):
            of_positions = observations[["experiment", "position", "well", *keys]].iloc[rows]
            metadata.append(of_positions.drop_duplicates())
        release(*arrays)
    first_and_last = observations.iloc[np.unique(borders)]
    check_order(first_and_last, check_experiments(first_and_last, experiments), row_order(channels_mode))
    if keys:
        check_metadata(pd.concat(metadata, ignore_index=True) if metadata else observations.iloc[:0], experiments)
    smallest, largest = np.array(sorted(lineages)).T
    return bool((smallest[1:] > largest[:-1]).all())  # else, a lineage may be in several positions


def _part(observations: pd.DataFrame, rows: slice) -> pd.DataFrame:
    """Return some rows of a table, without the categories that they do not have."""
    part = observations.iloc[rows].reset_index(drop=True)
    columns: dict[str, Any] = {name: part[name] for name in part}
    return part.assign(
        **{
            name: values.cat.remove_unused_categories()
            for name, values in columns.items()
            if isinstance(values.dtype, pd.CategoricalDtype)
        }
    )
