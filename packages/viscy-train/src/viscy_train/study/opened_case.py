"""Opened case: the table, crops and evaluation rows of a case, read once for all arms."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from viscy_train.loading.array_source import ArraySource, shape_of_crops
from viscy_train.loading.axes import add_labels, columns_of
from viscy_train.loading.crops import CropReader
from viscy_train.positives.rule import make_positives
from viscy_train.study.cases import held_out_rows, make_files
from viscy_train.study.evaluation_rows import evaluation_rows
from viscy_train.study.joined_batches import StudyPairs
from viscy_train.training.data_cli import make_data, make_data_parser

if TYPE_CHECKING:
    import pandas as pd
    from jsonargparse import Namespace
    from numpy.typing import NDArray
    from torch import Tensor

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.config.schema import PositiveConfig
    from viscy_train.loading.crop_source import CropSource
    from viscy_train.positives.rule import Positives
    from viscy_train.study.arms import Arm
    from viscy_train.study.cases import Case

# Probes and neighbors take about as long as the training of a small encoder.
_MAX_ROWS = 4000
# Their crops stay in the memory of each process, in float32.
_MIN_ROWS, _MAX_BYTES = 500, 2**29


class OpenedCase:
    """What the runs of a case have in common.

    Parameters
    ----------
    case : Case
        The case; its files are written if they do not exist.

    Raises
    ------
    UserError
        If the configuration is invalid, or does not match its files.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        make_files(case)
        self.parser = make_data_parser("viscy-train study", "", {})
        self.config: Namespace = self.parser.parse_args(["--config", str(case.config)])
        self._data = make_data(self.config, StudyPairs)
        self._positives: dict[str, tuple[AnchorTable, Positives]] = {}

    @property
    def table(self) -> AnchorTable:
        """The anchor table, with the positives of the configuration."""
        return self._data.table

    @cached_property
    def is_held_out(self) -> NDArray[np.bool_]:
        """Whether each observation is held out of training, shape (n_observations,)."""
        held_out = self.case.held_out
        return self._data.is_kept if held_out is None else held_out_rows(self.table, held_out)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the table that are measured, ascending: those without a condition are not."""
        bytes_per_row = 4 * prod(shape_of_crops(self.table)[1:])
        n_rows = min(_MAX_ROWS, max(_MIN_ROWS, _MAX_BYTES // bytes_per_row))
        labeled = replace(self.table, observations=self._labeled)
        rows = evaluation_rows(labeled, self.is_held_out, n_rows)
        conditions = self.table.observations[columns_of(self._data.options.condition_by)].iloc[rows]
        return rows[conditions.notna().all(axis=1).to_numpy()]

    @property
    def is_trained(self) -> NDArray[np.bool_]:
        """Whether each measured row is of an experiment or position that is trained on, shape (n_rows,)."""
        return ~self.is_held_out[self.rows]

    @property
    def observations(self) -> pd.DataFrame:
        """The observations that are measured; their condition is what batches can balance, ``condition_by``."""
        return self._labeled.iloc[self.rows].reset_index(drop=True)

    @cached_property
    def _labeled(self) -> pd.DataFrame:
        labels = add_labels(self.table.observations, self._data.options)
        return self.table.observations.assign(condition=labels["condition"])

    @cached_property
    def crops(self) -> Tensor:
        """The crops that are measured, normalized, shape (n_rows, n_channels, z_slices, side, side)."""
        data = self._data
        reader = CropReader(self.table, cache_mb=data.cache_mb, store=data.store, source=self._source)
        return reader.read_native(self.rows).finish()

    @cached_property
    def _source(self) -> CropSource | None:
        return None if self.case.crops is None else ArraySource(self.table, self.case.crops)

    def data(self, arm: Arm, seed: int) -> tuple[StudyPairs, Namespace]:
        """Return the data of a run and its configuration.

        Raises
        ------
        UserError
            If the arm is invalid on top of the configuration.
        """
        config = arm.apply(self.config, self.parser)
        config.data.seed = seed
        if self._source is not None:  # which needs no threads to read
            config.data.num_workers, config.data.workers, config.data.start_method = 0, "threads", None
        config.trainer.devices = arm.n_processes
        data = make_data(config, StudyPairs)
        data.table, positives = self._with_positives(data.positive)
        data.is_kept, data.source = self.is_held_out, self._source
        data.positives = positives
        return data, config

    def _with_positives(self, positive: PositiveConfig) -> tuple[AnchorTable, Positives]:
        """Return the table whose anchors have positives by a rule, and these positives."""
        key = repr(positive)
        if key not in self._positives:
            table = self.table
            part = self.is_held_out.astype(np.int64) if positive.match else None
            positives = make_positives(table.observations, table.experiments, positive, part)
            if positive.resolved() != table.positive.resolved():
                observations = table.observations.assign(has_positive=positives.has_positive())
                table = replace(table, observations=observations, positive=positive)
            self._positives[key] = table, positives
        return self._positives[key]
