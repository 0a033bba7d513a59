"""Anchor table: every tracked cell at every time, where to read it, and what it was built from; one Parquet file."""

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
_KEY = b"viscy_train"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AnchorTable:
    """The cells of a project.

    Parameters
    ----------
    observations : pandas.DataFrame
        A row for each tracked cell in each frame, sorted by experiment as in `experiments`, position, track and frame;
        a plain RangeIndex. Columns `COLUMNS`: experiment, condition, well and position are categoricals; `t` counts
        frames from 0; `y` and `x` are pixels; `lineage_id` is the same for a cell and all that descend from it, and
        unique in the table; `has_positive` tells anchors, which have another time to be compared with, from the rest.
    experiments : list of Experiment
        What the table was built from.
    positive : PositiveConfig
        Which frames may be positives.
    crop : int
        Side of the square around a cell, in pixels.
    z_slices : int
        Slices of a crop, those in the middle of the stack.
    brightness : dict of str to list
        Of each experiment, mean and standard deviation of each of its channels, shape (n_channels, 2).
    dropped : list of dict
        What was left out: `experiment`, `condition`, `reason`, and `cells`, the number of rows.
    tracks : dict of str to dict of str to int
        Of each experiment, checksums of the files of its tracks, see `viscy_train.anchors.tracks.checksums`.
    """

    observations: pd.DataFrame
    experiments: list[Experiment]
    positive: PositiveConfig
    crop: int
    z_slices: int
    brightness: dict[str, list[list[float]]]
    dropped: list[dict[str, Any]]
    tracks: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def anchors(self) -> NDArray[np.int64]:
        """Rows of the cells that have a positive, ascending."""
        return np.flatnonzero(self.observations["has_positive"].to_numpy())

    def write(self, path: Path) -> None:
        """Write the table; a file is there only once it is whole.

        Parameters
        ----------
        path : pathlib.Path
            Parquet file to write, or to replace; its folder is made.

        Raises
        ------
        UserError
            If it cannot be written, as where the disk is full.
        """
        table = pa.Table.from_pandas(self.observations[COLUMNS], preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: json.dumps(self._header())})
        with atomic_write(path) as unfinished:
            pq.write_table(table, unfinished)

    @classmethod
    def read(cls, path: Path) -> AnchorTable:
        """Read a table that `write` wrote.

        Parameters
        ----------
        path : pathlib.Path
            Parquet file.

        Returns
        -------
        AnchorTable
            The same.

        Raises
        ------
        UserError
            If there is no such file, or it is no anchor table or a damaged one.
        """
        if not path.is_file():
            raise UserError(f"there is no anchor table {path}; build it with `viscy-train index --config FILE`")
        try:
            table = pq.read_table(path)
            header = json.loads((table.schema.metadata or {})[_KEY])
            if header.pop("version") != _VERSION:
                raise UserError(f"{path} is of another version; build it anew with `viscy-train index --config FILE`")
            cells = table.to_pandas()[COLUMNS]
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise UserError(
                f"{path} is no anchor table, or a damaged one; build it with `viscy-train index --config FILE`"
            ) from error
        return cls(
            observations=cells,
            experiments=[Experiment(**experiment) for experiment in header.pop("experiments")],
            positive=PositiveConfig(**header.pop("positive")),
            **header,
        )

    def _header(self) -> dict[str, Any]:
        header = {name: getattr(self, name) for name in ("crop", "z_slices", "brightness", "dropped", "tracks")}
        experiments = [
            asdict(experiment) | {"plate": str(experiment.plate), "tracks": str(experiment.tracks)}
            for experiment in self.experiments
        ]
        return {"version": _VERSION, "experiments": experiments, "positive": asdict(self.positive)} | header
