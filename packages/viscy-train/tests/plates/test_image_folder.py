"""Plates without wells: single images, collections and folders of images."""

import os
import shutil

import numpy as np
import pytest

from viscy_train.anchors.table import AnchorTable
from viscy_train.errors import UserError
from viscy_train.plates.plate import open_plate

from .odd_plates import CHANNELS, CHUNKS, OddPlate, experiment_of, noise, write_collection, write_image
from .test_odd_plates import assert_read_as_written, edit_attributes

NAMES = ("control", "drug 10 nM")


def images_of(names=NAMES):
    return {name: noise(seed) for seed, name in enumerate(names)}


def write_folder(path, images, suffix=".zarr", **options):
    """Write each image as a store of its own below a directory; a name may begin with that of a folder."""
    for name, image in images.items():
        target = path / f"{name}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, image, **options)
    return path


def assert_plate_is_read(path, images, conditions=None):
    """Build the table of a plate, compare the pixels that `fit` reads, and write and read the table."""
    conditions = conditions or dict(zip(images, ("mock", "infected"), strict=True))
    table = assert_read_as_written(experiment_of(path, positions=images, conditions=conditions), images)
    table.write(path.parent / "anchors.parquet")
    assert AnchorTable.read(path.parent / "anchors.parquet").observations["position"].nunique() == len(images)


def open_images(folder, key):
    plate = open_plate(folder)
    return [plate.image(position) for position in plate.list_positions(key)]


@pytest.mark.parametrize(("suffix", "zarr_format"), [(".zarr", 2), (".ome.zarr", 3), (".ngff", 3), ("", 2)])
def test_each_image_of_a_folder_is_a_position_with_the_name_of_its_store(tmp_path, suffix, zarr_format):
    images = images_of()
    folder = write_folder(tmp_path / "images", images, suffix, zarr_format=zarr_format)
    assert open_plate(folder).list_keys() == list(NAMES)
    assert_plate_is_read(folder, images)


def test_a_key_may_name_a_folder_of_images_or_one_of_its_images(tmp_path):
    images = images_of(("treated/1", "treated/2", "mock"))
    folder = write_folder(tmp_path / "images", images)
    plate = open_plate(folder)
    assert plate.list_keys() == ["mock", "treated"]
    assert plate.list_positions("treated") == ["treated/1", "treated/2"]
    assert plate.list_positions("treated/2") == ["treated/2"]
    assert_plate_is_read(folder, images, {"treated": "drug", "mock": "mock"})


def test_a_group_of_zarr_without_metadata_is_a_folder_of_its_images(tmp_path):
    images = images_of()
    plate = OddPlate(tmp_path / "all.zarr")
    for name, image in images.items():
        plate.write_image(name, image, channels=CHANNELS)
    assert_plate_is_read(plate.path, images)


@pytest.mark.parametrize("name", ["image.zarr", "image.ome.zarr", "image", "image.v1.zarr"])
def test_a_single_image_is_a_position_with_the_name_of_its_store(tmp_path, name):
    path = write_image(tmp_path / name, noise(0))
    (key,) = open_plate(path).list_keys()
    assert key == name.removesuffix(".zarr").removesuffix(".ome")
    assert_plate_is_read(path, {key: noise(0)}, {key: "mock"})


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("lists_series", [True, False])
def test_the_images_of_a_collection_are_called_by_their_numbers(tmp_path, zarr_format, lists_series):
    images = images_of(("0", "1"))
    path = write_collection(tmp_path / "a.zarr", images, zarr_format=zarr_format, lists_series=lists_series)
    assert open_plate(path).list_keys() == ["0", "1"]
    assert_plate_is_read(path, images)


def test_a_collection_without_images_is_refused(tmp_path):
    write_collection(tmp_path / "a.zarr", {})
    with pytest.raises(UserError, match=r"collection .*a\.zarr must have images, got none"):
        open_plate(tmp_path / "a.zarr")


def test_a_collection_in_a_folder_is_its_only_image_or_its_images_by_number(tmp_path):
    images = images_of(("one", "two/0", "two/1"))
    write_collection(tmp_path / "images" / "one.zarr", {"0": images["one"]})
    write_collection(tmp_path / "images" / "two.zarr", {"0": images["two/0"], "1": images["two/1"]})
    plate = open_plate(tmp_path / "images")
    assert [plate.list_positions(key) for key in ("one", "two", "two/1")] == [["one"], ["two/0", "two/1"], ["two/1"]]
    assert_plate_is_read(tmp_path / "images", images, {"one": "mock", "two/0": "mock", "two/1": "infected"})


OTHERS = {
    "damaged": lambda path: (path / "zarr.json").write_text("{"),
    "empty": lambda path: (path / "zarr.json").unlink(),
    "a named pipe": lambda path: ((path / "zarr.json").unlink(), os.mkfifo(path / "zarr.json")),
    "later version": lambda path: edit_attributes(path, lambda ome: ome.update(version="0.6.dev3")),
    "a plate": lambda path: edit_attributes(path, lambda ome: (ome.clear(), ome.update(plate={}))),
    "a table": lambda path: (shutil.rmtree(path), path.with_suffix(".csv").write_text("a,b")),
}


@pytest.mark.parametrize("other", OTHERS)
def test_an_image_that_no_condition_names_does_not_matter(tmp_path, other):
    images = images_of()
    folder = write_folder(tmp_path / "images", images | {"other": noise(5)})
    OTHERS[other](folder / "other.zarr")
    for name, image in images.items():
        (found,) = open_images(folder, name)
        np.testing.assert_array_equal(found.array.stored.opened[...], image)


# For each: how to change a folder of images, the key of `conditions`, and what the message says.
REFUSED = {
    "unknown image": (lambda folder: None, "x", r"has no image or folder 'x'; it has control, drug 10 nM"),
    "path outside": (lambda folder: None, "../images/control", r"has no image or folder '\.\./images/control'"),
    "two of one name": (
        lambda folder: shutil.copytree(folder / "control.zarr", folder / "control.ome.zarr"),
        "control",
        r"images must have different names, got control\.zarr and control\.ome\.zarr",
    ),
    "empty folder": (lambda folder: (folder / "empty").mkdir(), "empty", "has no OME-Zarr images; remove it from"),
    "damaged": (lambda folder: OTHERS["damaged"](folder / "control.zarr"), "control", "damaged or incomplete: cannot"),
    "a plate": (lambda folder: OTHERS["a plate"](folder / "control.zarr"), "control", "HCS plate; give it as the"),
    "later version": (
        lambda folder: OTHERS["later version"](folder / "control.zarr"),
        "control",
        r"position control of plate .* has version 0\.6\.dev3 of OME-NGFF, .* ngff-zarr .* --ome-zarr-version 0\.5",
    ),
    "TIFF": (lambda folder: (folder / "a.ome.tif").touch(), "a", r"; convert a\.ome\.tif to OME-Zarr: uvx .*ngff-zarr"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_a_key_that_names_no_image_is_refused_in_one_line(tmp_path, refused):
    folder = write_folder(tmp_path / "images", images_of())
    change, key, message = REFUSED[refused]
    change(folder)
    with pytest.raises(UserError, match=message) as error:
        open_images(folder, key)
    assert "\n" not in str(error.value)


def test_a_folder_without_images_is_refused_with_the_command_that_converts_a_file(tmp_path):
    (tmp_path / "a.czi").touch()
    with pytest.raises(UserError, match=r"no OME-Zarr image in it; convert a\.czi to OME-Zarr: uvx .*bioio-convert"):
        open_plate(tmp_path)


def test_images_of_a_folder_may_lack_different_axes(tmp_path):
    full, flat = noise(0, shape=(3, 2, 1, 40, 48)), noise(1, shape=(3, 2, 40, 48))
    write_image(tmp_path / "images" / "full.zarr", full)
    chunks = (1, 1, *CHUNKS[3:])
    write_image(tmp_path / "images" / "flat.zarr", flat, axes="tcyx", chunks=chunks, dataset="scale0/image")
    assert_plate_is_read(tmp_path / "images", {"full": full, "flat": flat[:, :, np.newaxis]})
