"""The crops of a sheet are those of training, although they are finished without torch."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from viscy_train.config.schema import CropSettings
from viscy_train.contact_sheet.crop_pixels import CropPixels
from viscy_train.errors import UserError
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.crops import CropReader
from viscy_train.loading.observed_positions import ObservedPositions

ROWS = np.array([0, 5, 40, 7, 95])


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 8},
        {"crop": 12, "z_slices": 3},
        {"crop": 8, "z": "maximum"},
        {"crop": 8, "z": "random"},
        {"crop": 8, "z": "sharpest"},
        {"crop": 8, "crop_um": 9.3, "depth_um": 2.2, "z_slices": 2},
        {"crop": 20, "crop_um": 5.5, "z": "maximum", "depth_um": 2.0},
    ],
)
def test_crops_have_the_pixels_of_training(noise, options):
    table, _ = noise
    scaled = [replace(one, micrometers_per_pixel=0.65, micrometers_per_slice=1.0) for one in table.experiments]
    observations = table.observations.assign(**{Z_FOCUS: table.observations["t"] % 3})
    table = replace(table, crops=CropSettings(**options), experiments=scaled, observations=observations)
    first, second = CropPixels(table, ObservedPositions(table)).read([ROWS[:2], ROWS[2:]])
    np.testing.assert_array_equal(np.concatenate([first, second]), CropReader(table).read(ROWS))


def test_what_cannot_be_read_does_not_keep_the_rest_from_being_read(table_of):
    table, _ = table_of()
    expected = CropReader(table).read(ROWS[:2])
    shutil.rmtree(table.experiments[1].plate)
    lost = np.flatnonzero(table.observations["experiment"] == "tuesday")[:3]
    read, error = CropPixels(table, ObservedPositions(table)).read([ROWS[:2], lost])
    np.testing.assert_array_equal(read, expected)
    assert isinstance(error, UserError)
    assert "tuesday" in str(error)
