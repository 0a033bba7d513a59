"""The sharpest slice of a stack is found, stored for each observation, and used by everything that reads slices."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_plates
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.crops.focus import sharpest_slice, sharpness
from viscy_train.errors import UserError
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.crops import CropReader

from ..plates.odd_plates import CHANNELS, POSITIONS, WELLS, OddPlate, experiment_of  # noqa: TID252

N_FRAMES, N_SLICES, SIDE = 5, 7, 64
FOCUS = {"A/1/0": [3, 0, 6, 2, 4], "B/1/0": [1, 5, 3, 3, 0]}
SHARPEST = CropSettings(crop=16, z="sharpest")


def take_stack(rng, focus, *, photons=20.0, n_slices=N_SLICES):
    """Return a stack of round cells with structure, blurred by their distance from the focus, with shot noise."""
    scene = np.zeros((SIDE, SIDE))
    for y, x in rng.uniform(8, SIDE - 8, (6, 2)):
        distance = (np.arange(SIDE)[:, None] - y) ** 2 + (np.arange(SIDE)[None] - x) ** 2
        texture = 1 + ndimage.gaussian_filter(rng.normal(size=scene.shape), 1.5) * 3
        scene += 10 * np.exp(-distance / 50) * np.maximum(texture, 0)
    blurred = [ndimage.gaussian_filter(scene, 0.5 + 1.2 * abs(z - focus)) for z in range(n_slices)]
    return rng.poisson((np.stack(blurred) + 2) * photons).astype(np.uint16)


def write(folder, images, **options):
    plate = OddPlate(folder / "plate.zarr")
    plate.write_wells({well: ["0"] for well in WELLS})
    for position, image in images.items():
        chunks = {"chunks": (1, 1, 1, 32, 32), "config": {"write_empty_chunks": True}}
        plate.write_image(position, image, channels=CHANNELS, **(chunks | options))
    return experiment_of(plate.path, n_frames=N_FRAMES)


@pytest.fixture(scope="module")
def images():
    """Stacks whose focus differs from frame to frame; the second channel has its own."""
    rng = np.random.default_rng(0)
    return {
        position: np.stack([[take_stack(rng, z), take_stack(rng, N_SLICES - 1 - z)] for z in FOCUS[position]])
        for position in POSITIONS
    }


@pytest.fixture(scope="module")
def experiment(images, tmp_path_factory):
    """An experiment of the stacks, which tests must not change."""
    return write(tmp_path_factory.mktemp("focus"), images)


def build(experiment, crops=SHARPEST, **options):
    return build_anchor_table([experiment], PositiveConfig(min_frames=1, max_frames=5), crops, **options)


@pytest.mark.parametrize("photons", [0.5, 5.0, 100.0])
def test_the_sharpest_slice_is_found_in_noise(photons):
    rng = np.random.default_rng(1)
    found = [sharpest_slice(list(take_stack(rng, z, photons=photons))) for z in range(N_SLICES)]
    assert np.abs(np.array(found) - np.arange(N_SLICES)).max() <= 1
    assert sum(z == focus for z, focus in enumerate(found)) >= N_SLICES - 1


def test_uneven_and_brighter_light_is_not_focus():
    rng = np.random.default_rng(2)
    stack = take_stack(rng, 3).astype(float)
    stack += np.linspace(0, 500, SIDE) * np.arange(N_SLICES)[:, None, None]
    assert sharpest_slice(list(stack)) == 3


def test_a_slice_that_cannot_be_judged_is_not_the_sharpest():
    stack = list(take_stack(np.random.default_rng(3), 3).astype(float))
    assert sharpest_slice([None if z == 3 else image for z, image in enumerate(stack)]) in (2, 4)
    assert sharpest_slice([None] * 5) == 2
    assert sharpness(np.full((16, 16), 7.0)) == sharpness(np.full((16, 16), np.nan)) == -1


def test_invalid_pixels_do_not_decide_the_focus():
    stack = take_stack(np.random.default_rng(4), 3).astype(float)
    stack[:, 5, 5] = np.nan
    stack[:, 9, 9] = np.inf
    assert sharpest_slice(list(stack)) == 3


def test_each_observation_has_the_sharpest_slice_of_its_frame(experiment, tmp_path):
    table = build(experiment)
    for position, focus in FOCUS.items():
        observations = table.observations[table.observations["position"] == position]
        np.testing.assert_array_equal(observations[Z_FOCUS], np.array(focus)[observations["t"]])
    table.write(tmp_path / "anchors.parquet")
    again = AnchorTable.read(tmp_path / "anchors.parquet")
    np.testing.assert_array_equal(again.observations[Z_FOCUS], table.observations[Z_FOCUS])
    assert again.crops == SHARPEST


@pytest.mark.parametrize("z_slices", [1, 2, 3])
def test_crops_have_the_slices_around_the_sharpest_moved_inside(experiment, images, z_slices):
    table = build(experiment, replace(SHARPEST, z_slices=z_slices))
    rows = np.arange(len(table.observations))
    crops = CropReader(table).read(rows)
    center, spread = np.array(table.intensity["monday"]).T[..., None, None, None]
    for row in rows.tolist():
        position, t, y, x = table.observations.loc[row, ["position", "t", "y", "x"]]
        first = min(max(FOCUS[position][t] - z_slices // 2, 0), N_SLICES - z_slices)
        top, left = (int(np.clip(np.rint(one) - 8, 0, SIDE - 16)) for one in (y, x))
        stack = images[position][t, :, first : first + z_slices, top : top + 16, left : left + 16]
        np.testing.assert_allclose(crops[row], (stack - center) / spread, rtol=1e-4, atol=1e-4)


def test_only_the_slices_of_crops_are_checked(images, tmp_path):
    """A lost slice matters to the frames whose crops contain it, in the statistics as in the rows."""
    damaged = {position: image.copy() for position, image in images.items()}
    damaged["A/1/0"][0, 0, 0] = 0  # focus 3
    damaged["A/1/0"][1, 1, 1] = 65535  # focus 0
    experiment = write(tmp_path, damaged)
    assert not build(experiment).excluded
    excluded = build(experiment, replace(SHARPEST, z_slices=3)).excluded
    assert [(one.n_observations, "one value" in one.reason) for one in excluded] == [(2, True)]


def test_a_slice_with_missing_chunks_is_not_the_sharpest(images, tmp_path):
    """Its fill value would make an edge."""
    experiment = write(tmp_path, images)
    chunks = experiment.plate / "A/1/0/0/c/0/0/3"
    for chunk in (chunks / "0" / "0", chunks / "1" / "1"):
        chunk.unlink()
    table = build(experiment)
    of_frame = table.observations[(table.observations["position"] == "A/1/0") & (table.observations["t"] == 0)]
    assert set(of_frame[Z_FOCUS]) in ({2}, {4})


def test_a_slice_that_cannot_be_decoded_is_not_the_sharpest(images, tmp_path):
    experiment = write(tmp_path, images)
    (experiment.plate / "A/1/0/0/c/0/0/3/0/0").write_bytes(b"x")
    table = build(experiment)
    of_frame = table.observations[(table.observations["position"] == "A/1/0") & (table.observations["t"] == 0)]
    assert set(of_frame[Z_FOCUS]) in ({2}, {4})


def test_other_pixels_in_the_sharpest_slice_are_noticed(images, tmp_path):
    experiment = write(tmp_path / "before", images)
    table = build(experiment)
    check_plates(table)
    changed = {position: image.copy() for position, image in images.items()}
    for frame, focus in enumerate(FOCUS["B/1/0"]):
        changed["B/1/0"][frame, :, focus] += 1
    other = write(tmp_path / "after", changed)
    with pytest.raises(UserError, match="has other pixels than when the anchor table was built"):
        check_plates(replace(table, experiments=[other]))


def test_a_table_without_the_sharpest_slices_is_refused(experiment, tmp_path):
    table = build(experiment, CropSettings(crop=16))
    replace(table, crops=SHARPEST, pixels={}).write(tmp_path / "anchors.parquet")
    with pytest.raises(UserError, match=r"column 'z_focus' must be there if data\.z is sharpest"):
        AnchorTable.read(tmp_path / "anchors.parquet")


def test_a_stack_of_one_slice_is_not_searched(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    images = {position: take_stack(rng, 0)[None, :2].repeat(N_FRAMES, 0)[:, :, None] for position in POSITIONS}
    monkeypatch.setattr("viscy_train.crops.focus.sharpness", None)
    assert set(build(write(tmp_path, images)).observations[Z_FOCUS]) == {0}
