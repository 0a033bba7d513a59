"""Crops as the settings say: their slices, and the intensities by which they are normalized."""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zarr

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, NormalizationConfig, PositiveConfig
from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch
from viscy_train.loading.crops import CropReader
from viscy_train.loading.datasets import PairDataset, finish_batch
from viscy_train.positives.lineages import Lineages

POSITIVE = PositiveConfig(min_frames=1, max_frames=3)


@pytest.fixture(scope="module")
def stacks(noise):
    """A table of noise in stacks of three slices, and the images."""
    return noise


def images_of(table, images, row):
    """Return the stack around an observation, of the channels of its experiment."""
    experiment, position, t, y, x = table.observations.loc[row, ["experiment", "position", "t", "y", "x"]]
    image = images[experiment, position]
    side = table.crops.crop
    top, left = (
        int(np.clip(np.rint(one) - side // 2, 0, n - side)) for one, n in zip((y, x), image.shape[3:], strict=True)
    )
    return image[t, :2, :, top : top + side, left : left + side].astype(np.float32)


def normalized(table, row, stack):
    mean, std = np.array(table.intensity[table.observations.loc[row, "experiment"]]).T[..., None, None, None]
    return (stack - mean) / std


def with_crops(table, **changes):
    return replace(table, crops=replace(table.crops, **changes))


def test_the_maximum_of_all_slices_is_one_slice(stacks):
    table, images = stacks
    table = with_crops(table, z="maximum")
    crops = CropReader(table).read(np.arange(20))
    for row in range(20):
        expected = normalized(table, row, images_of(table, images, row).max(axis=1, keepdims=True))
        np.testing.assert_allclose(crops[row], expected, rtol=1e-5, atol=1e-5)


def test_the_maximum_must_be_a_single_slice():
    with pytest.raises(UserError, match=r"data\.z_slices must be 1 if data\.z is maximum, got 3"):
        CropSettings(z="maximum", z_slices=3)


@pytest.mark.parametrize(
    "changes",
    [{"z": "lowest"}, {"crop_um": 0.0}, {"crop_um": -1.0}, {"depth_um": float("nan")}, {"crop_um": float("inf")}],
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(UserError, match=r"data\."):
        CropSettings(**changes)
    with pytest.raises(UserError, match=r"data\.normalization\.by"):
        NormalizationConfig(by="well")
    with pytest.raises(UserError, match=r"data\.normalization\.method"):
        NormalizationConfig(method="minmax")


def test_a_random_number_chooses_the_slices(stacks):
    table, images = stacks
    table = with_crops(table, z="random", z_slices=2)
    rows, draws = np.array([4, 4, 9, 30]), np.array([0.0, 0.999999, 0.49, 0.51])
    crops = CropReader(table).read(rows, draws)
    for crop, row, first in zip(crops, rows.tolist(), (0, 1, 0, 1), strict=True):
        expected = normalized(table, row, images_of(table, images, row)[:, first : first + 2])
        np.testing.assert_allclose(crop, expected, rtol=1e-5, atol=1e-5)
    # Without random numbers, as in validation and prediction, those in the middle.
    middle = CropReader(with_crops(table, z="middle")).read(rows)
    np.testing.assert_array_equal(CropReader(table).read(rows), middle)


def pairs_of(table, **changes):
    table = with_crops(table, **changes)
    return PairDataset(table, Lineages.of(table.observations, POSITIVE), 7)


def load(pairs, batch):
    """Return a batch of pairs with its crops."""
    return finish_batch(pairs.__getitems__(batch))


def test_random_slices_are_those_of_seed_epoch_batch_and_slot(stacks):
    table, _ = stacks
    pairs = pairs_of(table, z="random")
    rows = np.arange(40)
    whole = load(pairs, Batch(rows, 2, 5))
    for first_slot in (0, 10, 30):  # a part of the batch, as on a rank that shares it
        part = load(pairs, Batch(rows[first_slot : first_slot + 10], 2, 5, first_slot))
        for name in ("anchor", "positive"):
            np.testing.assert_array_equal(part[name], whole[name][first_slot : first_slot + 10])
    for other in (Batch(rows, 3, 5), Batch(rows, 2, 6)):
        assert not np.array_equal(load(pairs, other)["anchor"], whole["anchor"])


def test_random_slices_are_equally_likely_and_independent_of_the_partner(stacks):
    table, _ = stacks
    pairs = pairs_of(table, z="random")
    draws = np.stack([pairs._draw_slices(Batch(np.arange(50), 0, k)) for k in range(40)])
    anchors, positives = draws[:, :50].ravel(), draws[:, 50:].ravel()
    for part in (anchors, positives):
        counts = np.bincount((part * 3).astype(int), minlength=3)
        assert np.abs(counts / len(part) - 1 / 3).max() < 0.05
    assert abs(np.corrcoef(anchors, positives)[0, 1]) < 0.08


def test_pairs_for_validation_have_the_middle_of_the_stack(stacks):
    table, _ = stacks
    batch = Batch(np.arange(40), 0, 0)
    middle = load(pairs_of(table, z="random").in_the_middle(), batch)
    expected = load(pairs_of(table), batch)
    np.testing.assert_array_equal(middle["anchor"], expected["anchor"])
    np.testing.assert_array_equal(middle["positive"], expected["positive"])
    assert pairs_of(table)._draw_slices(batch) is None


@pytest.fixture(scope="module")
def built(table):
    """A function that builds the table of the two experiments with other settings."""

    def build(**changes):
        return build_anchor_table(table.experiments, POSITIVE, CropSettings(crop=16, **changes))

    return build


@pytest.mark.parametrize("method", ["mean_std", "percentiles"])
@pytest.mark.parametrize("by", ["experiment", "position", "frame"])
def test_intensities_are_normalized_by_what_is_named(built, table, tmp_path, by, method):
    """Crops are those of the default, moved from its center and spread to others."""
    normalization = NormalizationConfig(by=by, method=method)
    other = built(normalization=normalization)
    other.write(tmp_path / "anchors.parquet")
    other = AnchorTable.read(tmp_path / "anchors.parquet")
    rows = np.random.default_rng(0).permutation(len(table.observations))[:60]
    crops, default = CropReader(other).read(rows), CropReader(table).read(rows)
    for row, crop, plain in zip(rows.tolist(), crops, default, strict=True):
        experiment, position, t = table.observations.loc[row, ["experiment", "position", "t"]]
        constants = np.array(other.intensity[experiment])
        if by != "experiment":
            constants = other.local_intensity[experiment][position][t if by == "frame" else 0]
        center, spread = constants.T[..., None, None, None]
        mean, std = np.array(table.intensity[experiment]).T[..., None, None, None]
        np.testing.assert_allclose(crop, (plain * std + mean - center) / spread, rtol=1e-3, atol=1e-3)


def test_normalization_by_frame_removes_a_change_of_the_lamp(table, tmp_path):
    """By experiment, the same cell would be brighter in every other frame."""
    experiments = table.experiments[:1]
    plate = shutil.copytree(experiments[0].plate, tmp_path / "flicker.zarr")
    for position in ("A/1/0", "A/1/1", "B/1/0", "B/1/1"):
        image: Any = zarr.open_array(plate / position / "0", mode="r+")
        image[::2] = image[::2] * 2 + 50
    flicker = [replace(experiments[0], plate=plate)]
    crops = CropSettings(crop=16, normalization=NormalizationConfig(by="frame"))
    rows = np.arange(40)
    steady = CropReader(build_anchor_table(experiments, POSITIVE, crops)).read(rows)
    np.testing.assert_allclose(CropReader(build_anchor_table(flicker, POSITIVE, crops)).read(rows), steady, atol=1e-3)


def test_settings_change_the_fingerprint_and_defaults_do_not(table, built):
    assert built().fingerprint == table.fingerprint
    for changes in ({"z": "random"}, {"normalization": NormalizationConfig(by="position")}):
        assert built(**changes).fingerprint != table.fingerprint
