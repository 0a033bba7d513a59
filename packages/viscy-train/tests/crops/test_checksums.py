"""A table knows the pixels that it was built from: other images of the same shape in their place are refused."""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zarr

from viscy_train.anchors.staleness import check_plates
from viscy_train.anchors.table import AnchorTable
from viscy_train.crops.checksums import pixel_checksums
from viscy_train.errors import UserError


def with_plates(table, plates):
    """Return a table whose experiments have other plates."""
    experiments = [replace(one, plate=plate) for one, plate in zip(table.experiments, plates, strict=True)]
    return replace(table, experiments=experiments)


@pytest.fixture
def moved(table, tmp_path):
    """The table with its first plate moved, so that a test can change it."""
    first, second = (one.plate for one in table.experiments)
    return with_plates(table, [shutil.copytree(first, tmp_path / "moved.zarr"), second])


def change_images(table, change):
    """Replace the images of each position of the first plate by a function of them."""
    plate = zarr.open_group(table.experiments[0].plate, mode="r+")
    for position in table.observations["position"].unique():
        image: Any = plate[f"{position}/0"]
        image[:] = change(image[:])


def test_swapped_plates_are_refused(table):
    check_plates(table)
    swapped = with_plates(table, [one.plate for one in reversed(table.experiments)])
    with pytest.raises(UserError, match=r"monday.*has other pixels than when the anchor table was built"):
        check_plates(swapped)


@pytest.mark.parametrize(
    "change",
    [lambda image: image[..., ::-1, :], lambda image: image[:, ::-1], lambda image: np.roll(image, 1, axis=0)],
    ids=["flipped", "other channels", "other frames"],
)
def test_changed_images_of_the_same_statistics_are_refused(moved, change):
    check_plates(moved)
    change_images(moved, change)
    with pytest.raises(UserError, match="has other pixels"):
        check_plates(moved)


def test_a_plate_that_is_written_again_in_another_way_is_accepted(moved):
    plate = zarr.open_group(moved.experiments[0].plate, mode="r+")
    for position in moved.observations["position"].unique():
        image: Any = plate[f"{position}/0"]
        pixels, names = image[:], image.metadata.dimension_names
        options = {"dimension_names": names} if names else {}
        plate.create_array(
            f"{position}/0", data=pixels, chunks=(2, 1, 1, 96, 64), compressors=None, overwrite=True, **options
        )
    check_plates(moved)


def test_a_crop_that_cannot_be_read_is_one_line(moved):
    for chunk in (moved.experiments[0].plate / "A/1/0/0").rglob("c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot use pixels of position A/1/0 .*, frame \d+: "):
        check_plates(moved)


def test_a_table_of_an_earlier_version_is_not_checked(table, tmp_path):
    assert all(len(checksums) == 8 for checksums in table.pixels.values())
    earlier = replace(table, pixels={})
    earlier.write(tmp_path / "anchors.parquet")
    swapped = with_plates(
        AnchorTable.read(tmp_path / "anchors.parquet"), [one.plate for one in table.experiments][::-1]
    )
    check_plates(swapped)


def test_checksums_are_read_as_they_were_written(table, tmp_path):
    table.write(tmp_path / "anchors.parquet")
    assert AnchorTable.read(tmp_path / "anchors.parquet").pixels == table.pixels
    assert table.fingerprint != replace(table, pixels={}).fingerprint


def test_an_experiment_of_few_observations_has_few_checksums(table):
    assert len(pixel_checksums(table.experiments[0], table.observations.iloc[:3], table.crops)) == 3
    assert pixel_checksums(table.experiments[0], table.observations.iloc[:0], table.crops) == []
