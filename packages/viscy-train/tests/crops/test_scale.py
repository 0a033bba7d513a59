"""Crops of one physical size: the same cells look the same at every scale of their images."""

import re
from dataclasses import replace

import numpy as np
import pytest

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_plates, check_settings
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, NormalizationConfig, PositiveConfig
from viscy_train.crops.scale import count_scales, describe_crops, odd_scale
from viscy_train.errors import ProjectError, UserError
from viscy_train.loading.crops import CropReader
from viscy_train.plates.ngff_scale import PhysicalScale
from viscy_train.plates.plate import open_plate

from .same_cells import COARSE, FINE, render, write_experiment

SETTINGS = CropSettings(crop=16, crop_um=12.0)
POSITIVE = PositiveConfig(min_frames=1, max_frames=3)


@pytest.fixture(scope="module")
def two_scales(tmp_path_factory):
    """Two experiments of the same cells with different pixels."""
    folder = tmp_path_factory.mktemp("scales")
    return [write_experiment(folder, "fine", FINE), write_experiment(folder, "coarse", COARSE)]


def build(experiments, crops=SETTINGS, **options):
    return build_anchor_table(experiments, POSITIVE, crops, **options)


def crops_of(table):
    """Return the crops of each experiment, in the order of positions, cells and frames."""
    crops = CropReader(table).read(np.arange(len(table.observations)))
    return [crops[(table.observations["experiment"] == one.name).to_numpy()] for one in table.experiments]


def difference(one, other):
    """Return the difference of crops, in standard deviations of their pixels."""
    return float(np.sqrt(np.mean((one - other) ** 2)) / one.std())


def test_the_same_cells_give_the_same_crops_at_two_scales(two_scales):
    fine, coarse = crops_of(build(two_scales))
    assert fine.shape == coarse.shape == (24, 1, 1, 16, 16)
    assert difference(fine, coarse) < 0.1
    # Without a physical size, a crop of the coarse images shows more than twice as much.
    assert difference(*crops_of(build(two_scales, CropSettings(crop=16)))) > 0.5


def test_normalization_is_that_of_the_resampled_pixels(two_scales):
    """Otherwise, noise that resampling removes would make cells of fine images darker."""
    table = build(two_scales)
    (fine, coarse) = (np.array(table.intensity[one.name]) for one in two_scales)
    np.testing.assert_allclose(fine, coarse, rtol=0.02)


def test_resampled_crops_do_not_depend_on_the_batch(two_scales):
    table = build(two_scales)
    rows = np.random.default_rng(0).permutation(len(table.observations))
    together = CropReader(table).read(rows)
    one_by_one = np.concatenate([CropReader(table).read(rows[i : i + 1]) for i in range(len(rows))])
    np.testing.assert_array_equal(together, one_by_one)


def test_the_experiments_file_overrides_the_metadata(tmp_path):
    unknown = write_experiment(tmp_path, "unknown", FINE, metadata=False)
    known = write_experiment(tmp_path, "known", FINE)
    stated = replace(unknown, micrometers_per_pixel=FINE)
    wrong = replace(known, name="wrong", micrometers_per_pixel=2 * FINE)
    expected, got = crops_of(build([known, stated]))
    np.testing.assert_array_equal(got, expected)
    assert difference(expected, crops_of(build([wrong]))[0]) > 0.3


@pytest.mark.parametrize(
    ("changes", "crops", "message"),
    [
        ({"metadata": False}, SETTINGS, "data.crop_um needs .*set micrometers_per_pixel of experiment 'one'"),
        ({}, replace(SETTINGS, depth_um=4.0), "data.depth_um needs .*set micrometers_per_slice of experiment 'one'"),
        ({}, replace(SETTINGS, crop_um=37.0), "data.crop_um must fit into the image, 60 x 60 pixels in .*got 37"),
        ({}, replace(SETTINGS, crop_um=0.5), "data.crop_um must be at least 4 pixels"),
        (
            {"per_slice": 2.0, "n_slices": 3},
            replace(SETTINGS, depth_um=9.0),
            "data.depth_um must fit into the stack, 3 slices of 2 micrometers in .*got 9",
        ),
    ],
)
def test_a_size_that_cannot_be_read_is_one_line(tmp_path, changes, crops, message):
    with pytest.raises(ProjectError, match=message) as error:
        build([write_experiment(tmp_path, "one", COARSE, **changes)], crops)
    assert "experiment 'one'" in str(error.value)


def test_positions_of_an_experiment_may_have_different_scales(tmp_path):
    experiment = write_experiment(tmp_path, "mixed", FINE)
    other = write_experiment(tmp_path, "other", COARSE)
    (experiment.plate / "B/1/0").rename(tmp_path / "replaced")
    (other.plate / "B/1/0").rename(experiment.plate / "B/1/0")
    (experiment.tracks / "B/1/0.csv").write_bytes((other.tracks / "B/1/0.csv").read_bytes())
    table = build([experiment])
    (crops,) = crops_of(table)
    assert difference(crops[:12], crops[12:]) < 0.1
    assert table.scales == {"mixed": [[FINE, None, 1], [COARSE, None, 1]]}


def test_the_depth_of_crops_is_the_same_in_micrometers(tmp_path):
    fine = write_experiment(tmp_path, "fine", COARSE, per_slice=1.0, n_slices=12)
    coarse = write_experiment(tmp_path, "coarse", COARSE, per_slice=2.0, n_slices=6)
    deep = replace(SETTINGS, depth_um=8.0, z_slices=4)
    one, other = crops_of(build([fine, coarse], deep))
    assert one.shape == other.shape == (24, 1, 4, 16, 16)
    assert difference(one, other) < 0.1
    assert difference(*crops_of(build([fine, coarse], replace(SETTINGS, z_slices=4)))) > 0.2


def off_center(crops):
    """Return how far the centers of round cells are from those of their crops, in pixels of the crops."""
    weight = crops[:, 0, 0].astype(np.float64)
    weight = np.clip(weight - weight.max(axis=(1, 2), keepdims=True) * 0.2, 0, None)
    place = np.arange(crops.shape[-1]) - (crops.shape[-1] - 1) / 2
    total = weight.sum(axis=(1, 2))
    return np.stack([weight.sum(axis=axis) @ place / total for axis in (2, 1)], axis=1)


@pytest.mark.parametrize("crop", [16, 20, 21, 24])
def test_a_cell_is_in_the_middle_of_its_crop_at_every_scale(two_scales, crop):
    """Pixels of 0.6 micrometers are those of crops of 20, and need no other size than theirs."""
    for crops in crops_of(build(two_scales, CropSettings(crop=crop, crop_um=12.0))):
        np.testing.assert_allclose(off_center(crops), 0, atol=0.1)


def test_a_crop_that_begins_at_a_pixel_has_the_pixels_of_the_image(tmp_path):
    experiment = write_experiment(tmp_path, "one", COARSE, per_slice=1.0, n_slices=12)
    table = build([experiment], CropSettings(crop=20, z_slices=4, crop_um=12.0, depth_um=4.0))
    plain = build([experiment], CropSettings(crop=20, z_slices=4))
    assert table.intensity == plain.intensity
    center = table.observations[["y", "x"]].to_numpy() + 0.5
    first = int(np.argmax((np.abs(center % 1) < 1e-9).all(axis=1)))
    y, x = center[first].round().astype(int)
    stack = render(COARSE, 1.0, 12)[table.observations["t"].iloc[first], 0, 4:8, y - 10 : y + 10, x - 10 : x + 10]
    mean, std = table.intensity["one"][0]
    np.testing.assert_allclose(
        CropReader(table).read(np.array([first]))[0, 0], (stack - mean) / std, rtol=1e-4, atol=1e-5
    )


def test_another_scale_than_at_the_time_of_the_index_is_refused(tmp_path):
    experiment = write_experiment(tmp_path, "one", FINE)
    table = build([experiment])
    check_plates(table)
    moved = write_experiment(tmp_path / "again", "one", COARSE)
    with pytest.raises(UserError, match=r"built when micrometers a pixel were 0.25, but position A/1/0 .* has 0.6"):
        check_plates(replace(table, experiments=[replace(experiment, plate=moved.plate)]))
    with pytest.raises(UserError, match=r"micrometers_per_pixel of 'one' was None, is now 0.5"):
        check_settings(table, [replace(experiment, micrometers_per_pixel=0.5)], POSITIVE, SETTINGS)
    with pytest.raises(UserError, match=r"data\.crop_um was 12.0, is now 13.0"):
        check_settings(table, [experiment], POSITIVE, replace(SETTINGS, crop_um=13.0))


def test_a_table_with_every_setting_is_read_as_it_was_written(two_scales, tmp_path):
    crops = replace(SETTINGS, normalization=NormalizationConfig(by="frame", method="percentiles"))
    table = build(two_scales, crops)
    table.write(tmp_path / "anchors.parquet")
    again = AnchorTable.read(tmp_path / "anchors.parquet")
    assert (again.crops, again.scales, again.fingerprint) == (crops, table.scales, table.fingerprint)
    for name, positions in table.local_intensity.items():
        for position, constants in positions.items():
            np.testing.assert_array_equal(again.local_intensity[name][position], constants)


def test_scales_are_counted(two_scales):
    assert count_scales([(0.5, None), (0.25, 2.0), (0.5, None)]) == [[0.25, 2.0, 1], [0.5, None, 2]]
    assert build(two_scales).scales == {"fine": [[FINE, None, 2]], "coarse": [[COARSE, None, 2]]}


def test_the_size_of_crops_is_said_for_each_experiment(two_scales):
    names = [one.name for one in two_scales]
    scales = {"fine": [[FINE, 1.0, 2]], "coarse": [[COARSE, 2.0, 1], [None, None, 1]]}
    physical = describe_crops(replace(SETTINGS, z_slices=2, depth_um=3.0), two_scales, scales)
    assert physical == [
        f"Crops of 16 x 16 pixels show 12 x 12 and a depth of 3 micrometers ({pixel} a pixel of the image) in {name}"
        for name, pixel in zip(names, (FINE, COARSE), strict=True)
    ]
    assert describe_crops(SETTINGS, two_scales, {}) == []
    only_fine = describe_crops(CropSettings(crop=16), two_scales, {"fine": scales["fine"]})
    assert only_fine == [
        "Crops of 16 x 16 pixels show 4 x 4 micrometers (0.25 a pixel of the image) in fine",
        "Crops of 16 x 16 pixels show an unknown size in coarse",
    ]


def test_different_scales_without_a_physical_size_are_a_warning(two_scales):
    scales = {"fine": [[FINE, 1.0, 2]], "coarse": [[COARSE, 2.0, 2]]}
    warnings = [line for line in describe_crops(CropSettings(crop=16), two_scales, scales) if "Warning" in line]
    assert warnings == [
        "Warning: a pixel has 0.25 micrometers in fine and 0.6 in coarse, so crops show different sizes; data.crop_um "
        "makes them equal"
    ]
    several = describe_crops(replace(SETTINGS, z_slices=3), two_scales, scales)
    assert "a slice has 1 micrometers in fine and 2 in coarse" in several[-1]
    assert not any("Warning" in line for line in describe_crops(SETTINGS, two_scales, scales))
    alike = {"fine": [[0.25, None, 2]], "coarse": [[0.2501, None, 2]]}
    assert not any("Warning" in line for line in describe_crops(CropSettings(crop=16), two_scales, alike))


def test_many_experiments_of_one_size_take_one_line(two_scales):
    experiments = [replace(two_scales[0], name=f"day{number}") for number in range(50)]
    scales = {one.name: [[0.5, None, 3]] for one in experiments}
    (line,) = describe_crops(CropSettings(crop=16), experiments, scales)
    assert line.endswith("in day0, day1, day2, day3, day4, day5, day6, day7 and 42 more experiments")


@pytest.mark.parametrize(
    ("metadata", "stated", "sentences"),
    [
        ({"y": 0.5, "x": 0.5, "z": 2.0}, {}, []),
        ({"y": 0.5, "x": 0.5}, {"micrometers_per_pixel": 0.51}, []),
        (
            {"y": 0.5, "x": 0.5, "z": 2.0},
            {"micrometers_per_pixel": 0.4, "micrometers_per_slice": 1.0},
            [
                "micrometers_per_pixel of the experiment, 0.4, overrules 0.5 in the metadata of the images",
                "micrometers_per_slice of the experiment, 1, overrules 2 in the metadata of the images",
            ],
        ),
        (
            {"y": 0.5, "x": 0.4},
            {},
            [
                "the size of a pixel counts as unknown, because the metadata give 0.5 x 0.4 micrometers "
                "(height x width), not a square; micrometers_per_pixel overrules them"
            ],
        ),
        (
            {"y": 0.5, "x": 0.4},
            {"micrometers_per_pixel": 0.5},
            ["micrometers_per_pixel of the experiment, 0.5, .* 0.4"],
        ),
        (
            {"x": 0.5, "ignored": {"y": "it is -0.5, not a number above 0"}},
            {},
            [
                "the scale of axis y in the metadata is ignored, because it is -0.5, not a number above 0; "
                "micrometers_per_pixel overrules it"
            ],
        ),
        (
            {"y": 5e5, "x": 5e5},
            {},
            ["a pixel has 500000 micrometers in the metadata, which is hardly possible; micrometers_per_pixel over"],
        ),
        ({"y": 5e5, "x": 5e5, "ignored": {"z": "it has no unit"}}, {"micrometers_per_pixel": 5e5}, []),
    ],
)
def test_an_odd_scale_is_described(two_scales, metadata, stated, sentences):
    image = replace(open_plate(two_scales[0].plate).image("A/1/0"), scale=PhysicalScale(**metadata))
    own = {"micrometers_per_pixel": None, "micrometers_per_slice": None} | stated
    found = odd_scale(image, replace(two_scales[0], **own))
    assert len(found) == len(sentences)
    for one, expected in zip(found, sentences, strict=True):
        assert re.match(expected.replace("(height x width)", r"\(height x width\)"), one), one


def test_the_command_says_where_the_experiment_overrules_the_plate(two_scales, capsys):
    build([replace(two_scales[0], micrometers_per_pixel=2 * FINE)], CropSettings(crop=16))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "overrules" in line]
    assert line.startswith(f"fine: micrometers_per_pixel of the experiment, {2 * FINE:g}, overrules {FINE:g} in the")
