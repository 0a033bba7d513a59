"""Anchor table: every observation of a project, where to read it, and the settings it was built with."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from viscy_train.anchors.fingerprint import fingerprint_of
from viscy_train.anchors.header import Exclusion, format_header, parse_header
from viscy_train.anchors.observation_parts import check_in_parts
from viscy_train.anchors.shared_table import (
    decode_and_share,
    forget_columns,
    is_shared,
    open_columns,
    share_columns,
    store_of,
)
from viscy_train.atomic import atomic_write
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.crops.focus import check_focus
from viscy_train.crops.image_intensity import LocalIntensity
from viscy_train.errors import UserError
from viscy_train.experiments.columns import COLUMNS
from viscy_train.experiments.experiments_file import Experiment
from viscy_train.output import OutputKind, one_at_a_time, require_replaceable

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ANCHOR_TABLE", "COLUMNS", "AnchorTable", "Exclusion"]

_METADATA_KEY = b"viscy_train"
_BUILD = "build it with `viscy-train index --config FILE`"


def _is_anchor_table(path: Path) -> bool:
    try:
        return _METADATA_KEY in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


ANCHOR_TABLE = OutputKind("an anchor table of viscy-train", _is_anchor_table)


@dataclass(frozen=True, kw_only=True)
class AnchorTable:
    """The observations of a project: a row for each tracked cell in each frame. Those with a positive are anchors.

    Parameters
    ----------
    observations : pandas.DataFrame
        Sorted by experiment (in the order of `experiments`), position, track and frame, with a RangeIndex. Columns
        `COLUMNS`: experiment, condition, well and position are categoricals; `t` is the frame, from 0; `y` and `x` are
        in pixels; `lineage_id` is shared by a cell and all its descendants, and unique in the table; `has_positive`
        is True for anchors. They are followed by `extra_columns`: text (categorical), float64, int64 or bool. Text and
        float64 may have missing values.
    experiments : list of Experiment
        Experiments that the table was built from.
    positive : PositiveConfig
        Which frames may be positives.
    crops : CropSettings
        What the crop around a cell contains.
    intensity : dict of str to list
        For each experiment, center and spread of each channel, shape (n_channels, 2), see `NormalizationConfig`.
    excluded : list of Exclusion
        Observations that are not anchors, counted by stratum and reason.
    tracks : dict of str to dict of str to int
        For each experiment, checksums of its track files, see `viscy_train.tracks.tracks.checksums`.
    pixels : dict of str to list of list
        For each experiment, checksums of a few crops, see `viscy_train.crops.checksums`; empty in a table of an
        earlier version.
    channels_mode : {"all", "one"}, default "all"
        Whether a row is a cell at a time in all channels, or in one: there are then the columns `channel` and `marker`,
        and rows are sorted by experiment, position, channel, track and frame.
    annotations : dict of str to dict of str to int
        For each experiment, checksums of its tables of annotations.
    local_intensity : dict of str to dict of str to numpy.ndarray
        Center and spread by experiment and position, see `viscy_train.crops.image_intensity`, if intensities are
        normalized by position or by frame.
    scales : dict of str to list of list
        For each experiment, micrometers a pixel, micrometers a slice (None if unknown) and number of positions, once
        for each scale, see `viscy_train.crops.scale.count_scales`.
    warnings : list of str
        What ``viscy-train index`` warned of when it built the table, a sentence each; none in a table of an earlier
        version.
    """

    observations: pd.DataFrame
    experiments: list[Experiment]
    positive: PositiveConfig
    crops: CropSettings
    intensity: dict[str, list[list[float]]]
    excluded: list[Exclusion]
    tracks: dict[str, dict[str, int]] = field(default_factory=dict)
    pixels: dict[str, list[list[str | int]]] = field(default_factory=dict)
    channels_mode: Literal["all", "one"] = "all"
    annotations: dict[str, dict[str, int]] = field(default_factory=dict)
    local_intensity: LocalIntensity = field(default_factory=dict)
    scales: dict[str, list[list[Any]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def extra_columns(self) -> list[str]:
        """Columns of channels, metadata and annotations, in order."""
        return [name for name in self.observations.columns if name not in COLUMNS]

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
            If the file cannot be written, for example because the disk is full, if it exists and is not an anchor
            table, or if `read` would refuse the settings and statistics.
        """
        require_replaceable(path, ANCHOR_TABLE)
        table = pa.Table.from_pandas(self.observations[[*COLUMNS, *self.extra_columns]], preserve_index=False)
        header = format_header(
            experiments=self.experiments,
            positive=self.positive,
            crops=self.crops,
            intensity=self.intensity,
            excluded=self.excluded,
            tracks=self.tracks,
            pixels=self.pixels,
            channels_mode=self.channels_mode,
            annotations=self.annotations,
            local_intensity=self.local_intensity,
            scales=self.scales,
            warnings=self.warnings,
            extra_columns=self.extra_columns,
        )
        try:
            parse_header(header.encode())
        except UserError as error:
            raise UserError(
                f"the anchor table would be unusable: {error}; correct the images or the experiments"
            ) from error
        metadata = {**(table.schema.metadata or {}), _METADATA_KEY: header}
        table = table.replace_schema_metadata(metadata)
        with atomic_write(path) as unfinished:
            pq.write_table(table, unfinished, write_page_checksum=True)
        forget_columns(path)

    @classmethod
    def read(cls, path: Path) -> AnchorTable:
        """Read a table written by `write`.

        The columns of a large table are shared by all processes of a machine, see `viscy_train.anchors.shared_table`.
        One of them decodes and checks the table, and the others wait for it.

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
            If the file does not exist, is damaged, or contains a value that ``viscy-train index`` does not write.
        """
        if not path.is_file():
            raise UserError(f"anchor table not found: {path}; {_BUILD}")
        observations = open_columns(path)
        if observations is not None:
            return cls(observations=observations, **_settings_of(path)[0])
        with _reading(path):
            is_large = is_shared(path)
        with one_at_a_time(store_of(path).directory) if is_large else nullcontext():
            observations = open_columns(path)  # another process may have just shared them
            settings, extra_columns = _settings_of(path)
            if observations is None:
                observations = _decoded(path, extra_columns, settings)
            return cls(observations=observations, **settings)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Checksums of what decides a pixel, a positive or a label, see `viscy_train.anchors.fingerprint`."""
        return fingerprint_of(
            self.observations,
            self.experiments,
            self.positive,
            self.crops,
            self.intensity,
            self.pixels,
            channels_mode=self.channels_mode,
            local_intensity=self.local_intensity,
            scales=self.scales,
        )


@contextmanager
def _reading(path: Path) -> Generator[None]:
    """Say that a file cannot be read, or what it contains that ``viscy-train index`` does not write."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} is not as `viscy-train index` writes it: {error}; re{_BUILD}") from error
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} is not an anchor table, or is damaged; {_BUILD}") from error


def _settings_of(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings and statistics of a table, and its further columns."""
    with _reading(path):
        settings = parse_header((pq.read_schema(path).metadata or {})[_METADATA_KEY])
        return settings, settings.pop("extra_columns")


def _decoded(path: Path, extra_columns: list[str], settings: dict[str, Any]) -> pd.DataFrame:
    """Return the observations of a table, checked, and shared if they are many."""

    def check(observations: pd.DataFrame) -> None:
        experiments, positive, mode = (settings[name] for name in ("experiments", "positive", "channels_mode"))
        check_in_parts(observations, experiments, positive, channels_mode=mode)
        check_focus(observations, settings["crops"])

    with _reading(path):
        observations = decode_and_share(path, [*COLUMNS, *extra_columns], check)
    if observations is None:
        with _reading(path):
            table = pq.read_table(path, page_checksum_verification=True)
            observations = _observations_of(table, extra_columns)
            check(observations)
            observations = share_columns(path, observations)
    return observations


def _observations_of(table: pa.Table, extra_columns: list[str]) -> pd.DataFrame:
    names = table.schema.names
    for column in (columns := [*COLUMNS, *extra_columns]):
        if names.count(column) != 1:
            raise UserError(f"it must have the column {column!r} once, got {', '.join(names)}")
    try:
        # Without the metadata of pandas, which other programs may have damaged.
        return table.select(columns).replace_schema_metadata(None).to_pandas()
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(f"its columns must be readable, got {' '.join(str(error).split())}") from error
