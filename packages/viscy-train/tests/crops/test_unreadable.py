"""What cannot be read is excluded, whichever slices and pixels crops contain, and does not count as intensity."""

from dataclasses import replace

import numpy as np
import pytest
from zarr.codecs import ZstdCodec

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, NormalizationConfig, PositiveConfig
from viscy_train.errors import ProjectError, UserError
from viscy_train.loading.crops import CropReader

from ..plates.odd_plates import CHANNELS, WELLS, OddPlate, experiment_of, noise  # noqa: TID252

N_FRAMES, N_SLICES = 7, 3
SHAPE = (N_FRAMES, 2, N_SLICES, 40, 48)
BY_FRAME = NormalizationConfig(by="frame")


def write(folder, wells):
    """Write an experiment of noise in stacks of three slices, with tiles of 24 x 32 pixels."""
    plate = OddPlate(folder / "plate.zarr")
    plate.write_wells(wells)
    positions = [f"{well}/{name}" for well, names in wells.items() for name in names]
    for seed, position in enumerate(positions):
        options = {"chunks": (1, 1, 1, 24, 32), "compressors": ZstdCodec(), "config": {"write_empty_chunks": True}}
        plate.write_image(position, noise(seed, np.uint16, SHAPE), channels=CHANNELS, **options)
    return experiment_of(plate.path, n_frames=N_FRAMES, positions=positions)


@pytest.fixture
def experiment(tmp_path):
    """An experiment of noise, which the test may damage."""
    return write(tmp_path, {well: ["0"] for well in WELLS})


def build(experiment, pixels="sample", **crops):
    settings = CropSettings(**{"crop": 16} | crops)
    return build_anchor_table([experiment], PositiveConfig(min_frames=1, max_frames=7), settings, pixels=pixels)


def chunk(experiment, t, channel, z, row, column, position="A/1/0"):
    return experiment.plate / position / "0" / "c" / str(t) / str(channel) / str(z) / str(row) / str(column)


def rows_in(table, t, position="A/1/0"):
    observations = table.observations
    return np.flatnonzero((observations["position"] == position) & (observations["t"] == t))


def count_excluded(table):
    return sum(one.n_observations for one in table.excluded)


@pytest.mark.parametrize(
    ("settings", "is_needed"),
    [
        ({"z": "middle"}, {0: False, 1: True}),
        ({"z": "middle", "z_slices": 3}, {0: True, 1: True}),
        ({"z": "random"}, {0: True, 1: True}),
        ({"z": "maximum"}, {0: True, 1: True}),
        ({"z": "maximum", "depth_um": 1.0}, {0: False, 1: True}),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_slice_matters_where_crops_may_contain_it(experiment, settings, is_needed, damage):
    experiment = replace(experiment, micrometers_per_slice=1.0)
    for z, expected in is_needed.items():
        for row, column in np.ndindex(2, 2):
            path = chunk(experiment, 2 + z, 0, z, row, column)
            path.unlink() if damage == "missing" else path.write_bytes(b"x")
        table = build(experiment, "all", **settings)
        assert (len(rows_in(table, 2 + z)) == 0) == expected
        CropReader(table).read(np.arange(len(table.observations)))


def test_a_crop_of_a_physical_size_needs_the_pixels_that_it_covers(experiment):
    """In this image, twice as large crops reach into the last tile."""
    experiment = replace(experiment, micrometers_per_pixel=1.0)
    full = build(experiment)
    chunk(experiment, 2, 0, 1, 1, 1).unlink()
    plain, larger = build(experiment), build(experiment, crop_um=36.0)
    assert count_excluded(plain) < count_excluded(larger) == len(rows_in(full, 2))
    for table in (plain, larger):
        CropReader(table).read(np.arange(len(table.observations)))


def test_missing_chunks_do_not_count_for_the_frame(experiment):
    """They have the fill value, which would shift the center of the frame."""
    whole = build(experiment, normalization=BY_FRAME)
    # The last tile is in the crop of one cell, the other one in none.
    chunk(experiment, 2, 0, 1, 1, 1).unlink()
    chunk(experiment, 2, 0, 1, 0, 1).unlink()
    table = build(experiment, normalization=BY_FRAME)
    assert (len(rows_in(table, 2)), len(rows_in(whole, 2))) == (1, 2)
    for one, other in zip(*(t.local_intensity["monday"]["A/1/0"][2, 0] for t in (whole, table)), strict=True):
        assert one == pytest.approx(other, rel=0.1)


def test_a_frame_whose_intensities_are_unknown_is_excluded(experiment):
    # The crop of one cell has the last tile, that of the other one does not.
    chunk(experiment, 2, 0, 1, 1, 1).write_bytes(b"x")
    by_experiment, by_frame = (
        build(experiment, "all", normalization=NormalizationConfig(by=by)) for by in ("experiment", "frame")
    )
    n = len(rows_in(by_experiment, 2))
    assert n > 0
    assert count_excluded(by_frame) - count_excluded(by_experiment) == n
    assert np.isnan(by_frame.local_intensity["monday"]["A/1/0"][2]).all()


def test_an_invalid_pixel_in_any_frame_is_reported_if_all_are_counted(experiment):
    for row, column in np.ndindex(2, 2):
        chunk(experiment, 5, 1, 1, row, column).write_bytes(b"x")
    with pytest.raises(ProjectError, match=r"position A/1/0, frame 5 cannot be read"):
        build(experiment, normalization=BY_FRAME)


def test_a_position_without_readable_frames_may_be_in_the_table(tmp_path):
    """Nothing of it is left, so it needs no intensities."""
    experiment = write(tmp_path, {"A/1": ["0", "1"], "B/1": ["0"]})
    for t in range(N_FRAMES):
        for row, column in np.ndindex(2, 2):
            chunk(experiment, t, 0, 1, row, column).write_bytes(b"x")
    table = build(experiment, "all", normalization=BY_FRAME)
    table.write(tmp_path / "anchors.parquet")
    again = AnchorTable.read(tmp_path / "anchors.parquet")
    assert "A/1/0" not in set(again.observations["position"])
    assert np.isfinite(CropReader(again).read(np.arange(len(again.observations)))).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_intensity": {}}, "intensities by frame must be there for each experiment"),
        ({"scales": {"sunday": [[1.0, None, 1]]}}, "scales must belong to an experiment"),
        ({"scales": {"monday": [[0.0, None, 1]]}}, "scale of experiment 'monday' must be above 0"),
        ({"scales": {"monday": [[1.0, None, 0]]}}, "number of positions of experiment 'monday'"),
        ({"scales": {"monday": [[1.0, 1]]}}, "scales of experiment 'monday' must be of pixels and slices"),
    ],
)
def test_a_table_that_index_cannot_have_written_is_refused(experiment, tmp_path, changes, message):
    table = build(experiment, normalization=BY_FRAME)
    with pytest.raises(UserError, match=message):
        replace(table, **changes).write(tmp_path / "anchors.parquet")
