"""A cell index of VisCy at 4b62365c is joined as annotations."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from viscy_train.anchors.build import build_anchor_table
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.experiments.cell_index import is_cell_index
from viscy_train.tracks.tracks import Tracks

TEXT = [
    *("cell_id", "experiment", "store_path", "tracks_path", "fov", "well", "perturbation", "channel_name"),
    *("global_track_id", "lineage_id", "gene_name", "reporter", "sgRNA", "microscope", "marker", "organelle"),
]
INTEGERS = ["z", "t", "track_id", "parent_track_id", "T_shape", "C_shape", "Z_shape", "Y_shape", "X_shape"]
FLOATS = [
    *("y", "x", "hours_post_perturbation", "interval_minutes", "pixel_size_xy_um", "pixel_size_z_um", "z_focus_mean"),
    *(f"norm_{name}" for name in ("mean", "std", "median", "iqr", "max", "min")),
]
SCHEMA = pa.schema(
    [*((name, pa.string()) for name in TEXT), *((name, pa.int32()) for name in INTEGERS)]
    + [(name, pa.float32()) for name in FLOATS]
)


def rows_of(experiment, position, channel):
    """Return the rows of a position in a channel as VisCy writes them; what it does not know is missing."""
    well, _, fov = position.rpartition("/")
    rows = Tracks(experiment.tracks).of(position)[["track_id", "t", "y", "x"]].assign(z=0)
    track = f"{experiment.name}_{position}_" + rows["track_id"].astype(str)
    return rows.assign(
        cell_id=track + "_" + rows["t"].astype(str),
        global_track_id=track,
        lineage_id=track,
        experiment=experiment.name,
        store_path=str(experiment.plate),
        fov=fov,
        well=well,
        channel_name=channel,
        marker=channel.lower(),
        organelle="nucleus",
        perturbation=experiment.conditions[well],
        norm_mean={"Phase3D": 0.0, "Virus": 7.5}[channel],
        z_focus_mean=2.5,
        # The user's own, as VisCy's annotation tools add them.
        division=rows["t"] % 2 == 0,
    )


@pytest.fixture
def experiment(table, tmp_path):
    """An experiment with a cell index of its two positions in well A/1, in both channels."""
    experiment = replace(table.experiments[0], conditions={"A/1": "uninfected"}, metadata={"microscope": "mantis"})
    index = pd.concat(
        [rows_of(experiment, f"A/1/{n}", channel) for n in range(2) for channel in ("Phase3D", "Virus")]
        + [rows_of(replace(experiment, name="another"), "A/1/0", "Phase3D")]
    )
    schema = SCHEMA.append(pa.field("division", pa.bool_()))
    index = index.reindex(columns=schema.names)
    pq.write_table(pa.Table.from_pandas(index, schema, preserve_index=False), tmp_path / "cell_index.parquet")
    return replace(experiment, annotations=[tmp_path / "cell_index.parquet"])


@pytest.mark.parametrize("mode", ["all", "one"])
def test_its_columns_are_joined_by_position_track_and_frame(experiment, mode):
    table = build_anchor_table([experiment], PositiveConfig(), CropSettings(crop=16), channels_mode=mode)
    rows = table.observations
    assert (rows["division"] == (rows["t"] % 2 == 0)).all()
    assert set(rows["perturbation"]) == {"uninfected"}
    assert np.allclose(rows["z_focus_mean"], 2.5)
    assert len(rows) == (2 if mode == "one" else 1) * sum(
        len(Tracks(experiment.tracks).of(f"A/1/{n}")) for n in range(2)
    )


def test_what_differs_between_channels_or_is_known_otherwise_is_left_out(experiment):
    table = build_anchor_table([experiment], PositiveConfig(), CropSettings(crop=16))
    assert set(table.extra_columns) == {"microscope", "division", "perturbation", "z_focus_mean"}
    assert set(table.observations["microscope"]) == {"mantis"}


def test_what_differs_between_channels_is_joined_by_channel(experiment):
    table = build_anchor_table([experiment], PositiveConfig(), CropSettings(crop=16), channels_mode="one")
    rows = table.observations
    assert rows["channel"].nunique() == 2
    assert (rows["norm_mean"] == rows["channel"].astype(str).map({"Phase3D": 0.0, "Virus": 7.5})).all()


def test_statistics_of_another_channel_are_not_joined(experiment):
    index = pd.read_parquet(experiment.annotations[0])
    index[index["channel_name"] == "Virus"].to_parquet(experiment.annotations[0])
    table = build_anchor_table([experiment], PositiveConfig(), CropSettings(crop=16), channels_mode="one")
    rows = table.observations
    assert rows["division"].notna().all()
    assert (rows["norm_mean"].notna() == (rows["channel"] == "Virus")).all()


def test_all_columns_that_are_left_out_are_named_with_the_reason(experiment, capsys):
    index = pd.read_parquet(experiment.annotations[0]).assign(microscope="mantis", interval_minutes=30.0)
    index.set_index(np.arange(len(index)) + 7).to_parquet(experiment.annotations[0])
    build_anchor_table([experiment], PositiveConfig(), CropSettings(crop=16))
    (note,) = (line for line in capsys.readouterr().out.splitlines() if "annotations" in line)
    reasons = {}
    for part in note.partition("; not used: ")[2].removesuffix(")").split("); "):
        names, _, reason = part.partition(" (")
        reasons |= dict.fromkeys(names.split(", "), reason)
    assert reasons["norm_mean"] == "differs between channels, so `data.channels: one` would join it"
    assert reasons["microscope"] == "a key for `metadata` of the experiment"
    assert reasons["interval_minutes"] == "stated by experiments, plates and tracks"
    assert reasons["sgRNA"] == "without values"
    keys = {"well", "fov", "track_id", "t", "experiment", "channel_name"}
    assert set(reasons) == set(index) - keys - {"division", "perturbation", "z_focus_mean"}


def test_another_table_is_not_taken_for_a_cell_index():
    assert not is_cell_index(pd.DataFrame({"fov": ["0"], "well": ["A/1"], "track_id": [1], "t": [0], "marker": ["x"]}))
