import shutil
from itertools import product

import numpy as np
import pytest

from viscy_train.anchors.plates import channel_indices, list_positions, open_plate, position_image, write_plate
from viscy_train.errors import UserError

CHANNELS = ["Phase3D", "Virus"]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 1000, (3, 2, 1, 40, 50)).astype(np.uint16)


@pytest.fixture
def path(tmp_path, image):
    write_plate(tmp_path / "p.zarr", CHANNELS, {"A/1/0": image, "A/1/1": image + 1, "B/2/0": image + 2})
    return tmp_path / "p.zarr"


def test_a_plate_read_from_disk_equals_the_one_written(path, image):
    with open_plate(path) as plate:
        assert plate.channel_names == CHANNELS
        assert sorted(name for name, _ in plate.positions()) == ["A/1/0", "A/1/1", "B/2/0"]
        np.testing.assert_array_equal(plate["A/1/1"]["0"][:], image + 1)


def test_the_positions_of_a_well_are_listed(path):
    with open_plate(path) as plate:
        assert list_positions(plate, "A/1", path) == ["A/1/0", "A/1/1"]
        with pytest.raises(UserError, match="no well 'C/1'; it has A/1, B/2"):
            list_positions(plate, "C/1", path)


def test_channel_indices_are_in_the_requested_order(path):
    with open_plate(path) as plate:
        assert channel_indices(plate, ["Virus", "Phase3D"], path) == [1, 0]
        with pytest.raises(UserError, match="no channel 'GFP'; it has Phase3D, Virus"):
            channel_indices(plate, ["GFP"], path)


def test_a_folder_that_is_not_a_plate_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"plate not found: .*nowhere"):
        open_plate(tmp_path / "nowhere.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(UserError, match="is not an HCS OME-Zarr plate"):
        open_plate(tmp_path / "empty.zarr")


def damage(path, how):
    if how == "no folder":
        shutil.rmtree(path)
    else:
        metadata = next(file for file in (path / ".zattrs", path / "zarr.json", path / ".zarray") if file.exists())
        metadata.write_text({"no json": "{", "other json": "{}"}[how])


def read_well(path):
    with open_plate(path) as plate:
        channel_indices(plate, CHANNELS, path)
        return [position_image(plate, position, path) for position in list_positions(plate, "A/1", path)]


@pytest.mark.parametrize(
    ("where", "how"),
    [("A", "no folder"), *product(["A/1", "A/1/0", "A/1/0/0"], ["no folder", "no json", "other json"])],
)
def test_the_error_for_a_damaged_plate_names_the_plate(path, where, how):
    damage(path / where, how)
    with pytest.raises(UserError, match=r"p\.zarr"):
        read_well(path)


@pytest.mark.parametrize("name", ["null\0byte", "n" * 300])
def test_an_impossible_path_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="plate"):
        open_plate(tmp_path / name)
