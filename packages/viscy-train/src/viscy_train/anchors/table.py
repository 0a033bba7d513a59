"""Anchor table: every observation of a project, where to read it, and the settings it was built with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from viscy_train.anchors.experiments import Experiment
from viscy_train.atomic import atomic_write
from viscy_train.config.schema import PositiveConfig
from viscy_train.errors import UserError

_NAMES = ["experiment", "condition", "well", "position"]
_INTEGERS = ["track_id", "parent_track_id", "lineage_id", "t"]
_FLOATS = ["hours_post_infection", "y", "x"]
COLUMNS = [*_NAMES, *_INTEGERS, *_FLOATS, "has_positive"]
_METADATA_KEY = b"viscy_train"
_VERSION = 1
_BUILD = "build it with `viscy-train index --config FILE`"


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Observations of a stratum that cannot be anchors.

    Parameters
    ----------
    experiment, condition : str
        The stratum.
    reason : str
        Why they cannot be anchors.
    n_observations : int
        How many they are.
    """

    experiment: str
    condition: str
    reason: str
    n_observations: int


@dataclass(frozen=True, kw_only=True)
class AnchorTable:
    """The observations of a project: a row for each tracked cell in each frame. Those with a positive are anchors.

    Parameters
    ----------
    observations : pandas.DataFrame
        Sorted by experiment (in the order of `experiments`), position, track and frame, with a RangeIndex. Columns
        `COLUMNS`: experiment, condition, well and position are categoricals; `t` is the frame, from 0; `y` and `x` are
        in pixels; `lineage_id` is shared by a cell and all its descendants, and unique in the table; `has_positive`
        is True for anchors.
    experiments : list of Experiment
        Experiments that the table was built from.
    positive : PositiveConfig
        Which frames may be positives.
    crop : int
        Side of the square around a cell, in pixels.
    z_slices : int
        Number of slices in a crop, taken from the middle of the stack.
    intensity : dict of str to list
        For each experiment, mean and standard deviation of each channel, shape (n_channels, 2).
    excluded : list of Exclusion
        Observations that are not anchors, counted by stratum and reason.
    tracks : dict of str to dict of str to int
        For each experiment, checksums of its track files, see `viscy_train.anchors.tracks.checksums`.
    """

    observations: pd.DataFrame
    experiments: list[Experiment]
    positive: PositiveConfig
    crop: int
    z_slices: int
    intensity: dict[str, list[list[float]]]
    excluded: list[Exclusion]
    tracks: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def anchors(self) -> NDArray[np.int64]:
        """Rows of the observations that have a positive, ascending."""
        return np.flatnonzero(self.observations["has_positive"].to_numpy())

    def write(self, path: Path) -> None:
        """Write the table to a Parquet file; the write is atomic.

        Parameters
        ----------
        path : pathlib.Path
            File to create or replace. Missing parent directories are created.

        Raises
        ------
        UserError
            If the file cannot be written, for example because the disk is full.
        """
        table = pa.Table.from_pandas(self.observations[COLUMNS], preserve_index=False)
        metadata = {**(table.schema.metadata or {}), _METADATA_KEY: json.dumps(self._header())}
        table = table.replace_schema_metadata(metadata)
        with atomic_write(path) as unfinished:
            pq.write_table(table, unfinished)

    @classmethod
    def read(cls, path: Path) -> AnchorTable:
        """Read a table written by `write`.

        Parameters
        ----------
        path : pathlib.Path
            Parquet file.

        Returns
        -------
        AnchorTable
            The table.

        Raises
        ------
        UserError
            If the file does not exist, is damaged, or is not an anchor table of this version.
        """
        if not path.is_file():
            raise UserError(f"anchor table not found: {path}; {_BUILD}")
        try:
            table = pq.read_table(path)
            header = json.loads((table.schema.metadata or {})[_METADATA_KEY])
            version = header["version"]
            observations = table.to_pandas()[COLUMNS]
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{path} is not an anchor table, or is damaged; {_BUILD}") from error
        if version != _VERSION:
            raise UserError(f"{path} has format version {version}, expected {_VERSION}; re{_BUILD}")
        return cls(
            observations=observations,
            experiments=[Experiment(**experiment) for experiment in header["experiments"]],
            positive=PositiveConfig(**header["positive"]),
            crop=header["crop"],
            z_slices=header["z_slices"],
            intensity=header["brightness"],
            excluded=[_read_exclusion(**entry) for entry in header["dropped"]],
            tracks=header.get("tracks", {}),
        )

    def _header(self) -> dict[str, Any]:
        """Return everything but the observations; the keys are part of the file format."""
        experiments = [
            asdict(experiment) | {"plate": str(experiment.plate), "tracks": str(experiment.tracks)}
            for experiment in self.experiments
        ]
        return {
            "version": _VERSION,
            "experiments": experiments,
            "positive": asdict(self.positive),
            "crop": self.crop,
            "z_slices": self.z_slices,
            "brightness": self.intensity,
            "dropped": [
                {
                    "experiment": one.experiment,
                    "condition": one.condition,
                    "reason": one.reason,
                    "cells": one.n_observations,
                }
                for one in self.excluded
            ],
            "tracks": self.tracks,
        }


def _read_exclusion(experiment: str, condition: str, reason: str, cells: int) -> Exclusion:
    """Return an entry of the header as an `Exclusion`."""
    return Exclusion(experiment=experiment, condition=condition, reason=reason, n_observations=cells)
