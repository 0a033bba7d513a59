"""The large table: an anchor table of any number of rows, written an experiment at a time, without plates or tracks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from viscy_train.anchors.header import format_header
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.experiments.columns import COLUMNS
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.positives.lineages import lineage_ids
from viscy_train.positives.rule import make_positives

from .large_project import CHANNELS, CROP, N_PERTURBATIONS, ROWS_PER_POSITION, make_config, make_tracks

if TYPE_CHECKING:
    from viscy_train.experiments.experiments_file import Experiment

_WELLS = [f"{row}/{column}" for row in "AB" for column in range(1, 6)]
POSITIONS_PER_WELL = 10
_POSITIVE = PositiveConfig(min_frames=1, max_frames=4)
_METADATA_KEY = b"viscy_train"


def write_large_table(folder: Path, n_rows: int, *, positions_per_well: int = POSITIONS_PER_WELL) -> tuple[Path, int]:
    """Write a configuration, its experiments and its anchor table.

    Parameters
    ----------
    folder : pathlib.Path
        New directory.
    n_rows : int
        About how many rows; there are at least two experiments.
    positions_per_well : int, default 10
        Positions in each of the ten wells of an experiment, of about 10,000 rows each.

    Returns
    -------
    config : pathlib.Path
        The configuration of a run that trains a small encoder.
    n_rows : int
        Number of rows.
    """
    folder.mkdir(parents=True)
    first = _observations(positions_per_well)
    n_experiments = max(round(n_rows / len(first)), 2)
    specified = [_experiment(number) for number in range(n_experiments)]
    (folder / "experiments.yaml").write_text(yaml.safe_dump({"experiments": specified}), encoding="utf-8")
    experiments = load_experiments(folder / "experiments.yaml")
    first["has_positive"] = make_positives(first, experiments, _POSITIVE).has_positive()
    _write_rows(folder / "anchors.parquet", first, experiments)
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            make_config(
                max_steps=1000,
                positive={"min_frames": _POSITIVE.min_frames, "max_frames": _POSITIVE.max_frames},
                sampler={},
                split={"by": "position", "fraction": 0.1},
            )
        ),
        encoding="utf-8",
    )
    return config, n_experiments * len(first)


def _experiment(number: int) -> dict[str, Any]:
    name = f"experiment {number:02d}"
    conditions = {well: _condition(number, index) for index, well in enumerate(_WELLS)}
    files = {"plate": f"plates/{name}.zarr", "tracks": f"tracks/{name}"}
    return {"name": name, **files, "channels": CHANNELS, "conditions": conditions, "minutes_per_frame": 30}


def _condition(number: int, well: int) -> str:
    return f"perturbation {(number * len(_WELLS) + well) % N_PERTURBATIONS:04d}"


def _observations(positions_per_well: int) -> pd.DataFrame:
    """Return the observations of the first experiment; the others have the same ones."""
    rng = np.random.default_rng(0)
    positions = [(well, f"{well}/{number}") for well in _WELLS for number in range(positions_per_well)]
    tracks = [
        make_tracks(rng, position, ROWS_PER_POSITION // 17).assign(
            experiment="experiment 00", well=well, condition=_condition(0, _WELLS.index(well))
        )
        for well, position in positions
    ]
    observations = pd.concat(tracks, ignore_index=True)
    for name in ("experiment", "condition", "well", "position"):
        observations[name] = observations[name].astype("category")
    observations["hours_post_infection"] = observations["t"] * 0.5
    observations["lineage_id"] = lineage_ids(observations)
    return observations


def _write_rows(path: Path, first: pd.DataFrame, experiments: list[Experiment]) -> None:
    """Write the rows of each experiment, those of the first with other names."""
    names = [experiment.name for experiment in experiments]
    conditions = sorted({name for experiment in experiments for name in experiment.conditions.values()})
    n_lineages, writer = int(first["lineage_id"].max()) + 1, None
    try:
        for number in range(len(names)):
            of_well = {well: _condition(number, index) for index, well in enumerate(_WELLS)}
            rows = first.assign(
                experiment=pd.Categorical.from_codes(np.full(len(first), number), categories=names),
                condition=pd.Categorical(first["well"].astype(object).map(of_well), categories=conditions),
                lineage_id=first["lineage_id"] + number * n_lineages,
            )[COLUMNS]
            table = pa.Table.from_pandas(rows, preserve_index=False)
            if writer is None:
                header = _header(experiments)
                schema = table.schema.with_metadata({_METADATA_KEY: header.encode()})
                writer = pq.ParquetWriter(path, schema, write_page_checksum=True)
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
    finally:
        if writer is not None:
            writer.close()


def _header(experiments: list[Experiment]) -> str:
    return format_header(
        experiments=experiments,
        positive=_POSITIVE,
        crops=CropSettings(crop=CROP),
        intensity={experiment.name: [[0.0, 1.0]] * len(CHANNELS) for experiment in experiments},
        excluded=[],
        tracks={},
        pixels={},
        channels_mode="all",
        annotations={},
        local_intensity={},
        scales={},
        extra_columns=[],
    )
