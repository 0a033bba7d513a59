import shutil
from itertools import product

import numpy as np
import pytest

from viscy_train.errors import UserError
from viscy_train.plates.plate import open_plate, write_plate

CHANNELS = ["Phase3D", "Virus"]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 1000, (3, 2, 1, 40, 50)).astype(np.uint16)


@pytest.fixture
def path(tmp_path, image):
    write_plate(tmp_path / "p.zarr", CHANNELS, {"A/1/0": image, "A/1/1": image + 1, "B/2/0": image + 2})
    return tmp_path / "p.zarr"


def test_a_plate_read_from_disk_equals_the_one_written(path, image):
    plate = open_plate(path)
    assert [plate.list_positions(well) for well in ("A/1", "B/2")] == [["A/1/0", "A/1/1"], ["B/2/0"]]
    read = plate.image("A/1/1")
    assert read.channels == CHANNELS
    np.testing.assert_array_equal(read.array.stored.opened[:], image + 1)


def test_an_unknown_well_is_refused(path):
    with pytest.raises(UserError, match="no well 'C/1'; it has A/1, B/2"):
        open_plate(path).list_positions("C/1")


def test_a_key_may_name_a_field_of_view(path):
    assert open_plate(path).list_positions("A/1/1") == ["A/1/1"]
    with pytest.raises(UserError, match=r"well A/1 of plate .* has no field of view '7'; it has 0, 1"):
        open_plate(path).list_positions("A/1/7")


def test_of_many_wells_the_first_are_named(tmp_path, image):
    wells = [f"{row}/{column}" for row in "ABCD" for column in range(1, 7)]
    write_plate(tmp_path / "p.zarr", CHANNELS, {f"{well}/0": image[:1, :, :, :8, :8] for well in wells})
    with pytest.raises(UserError, match=r"no well 'H/1'; it has A/1, A/2, .*, \.\.\. \(24 in all\)$"):
        open_plate(tmp_path / "p.zarr").list_positions("H/1")


def test_channel_indices_are_in_the_requested_order(path):
    image = open_plate(path).image("A/1/0")
    assert image.channel_indices(["Virus", "Phase3D"]) == [1, 0]
    with pytest.raises(UserError, match=r"position A/1/0 of plate .* has no channel 'GFP'; it has Phase3D, Virus"):
        image.channel_indices(["GFP"])


def test_a_folder_that_is_not_a_plate_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"plate not found: .*nowhere"):
        open_plate(tmp_path / "nowhere.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(UserError, match="is not an OME-Zarr plate, image or folder of images: it has no metadata"):
        open_plate(tmp_path / "empty.zarr")


def damage(path, how):
    if how == "no folder":
        shutil.rmtree(path)
    else:
        metadata = next(file for file in (path / ".zattrs", path / "zarr.json", path / ".zarray") if file.exists())
        metadata.write_text({"no json": "{", "other json": "{}"}[how])


def read_well(path):
    plate = open_plate(path)
    return [plate.image(position).channel_indices(CHANNELS) for position in plate.list_positions("A/1")]


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
