"""Intensity statistics: percentiles, and where intensities jump."""

import re

import numpy as np
import pytest

from viscy_train.anchors.build import build_anchor_table
from viscy_train.config.schema import CropSettings, NormalizationConfig, PositiveConfig
from viscy_train.crops.image_intensity import CountedFrame, ExperimentIntensity, decode, encode
from viscy_train.crops.intensity import IntensityPercentiles, IntensityStatistics, sample_of
from viscy_train.crops.intensity_jumps import describe_jumps
from viscy_train.errors import UserError
from viscy_train.wording import shorten

from ..plates.odd_plates import CHANNELS, POSITIONS, WELLS, OddPlate, experiment_of  # noqa: TID252
from ..plates.odd_plates import noise as noise_of_plate  # noqa: TID252


def noise(rng, *, center=100.0, spread=10.0, n_channels=1, side=100):
    return rng.normal(center, spread, (n_channels, 1, side, side)).astype(np.float32)


def count_in(statistics, frame):
    """Count a frame, and return center and spread of the frame alone."""
    sample = statistics.sample(frame)
    statistics.merge(sample)
    return sample.of_frame


def test_percentiles_of_a_normal_distribution_are_mean_and_standard_deviation():
    rng = np.random.default_rng(0)
    percentiles, moments = IntensityPercentiles(2, 4), IntensityStatistics(2)
    for _ in range(4):
        frame = noise(rng, n_channels=2, side=300)
        frame[1] *= 3
        for statistics in (percentiles, moments):
            of_frame = count_in(statistics, frame)
            np.testing.assert_allclose(of_frame, [[100, 10], [300, 30]], rtol=0.03)
    np.testing.assert_allclose(percentiles.center_and_spread(), moments.center_and_spread(), rtol=0.01)


def test_percentiles_ignore_the_brightest_pixels():
    rng = np.random.default_rng(1)
    frame = noise(rng)
    frame[0, 0, 0, :20] = 60000.0
    percentiles = IntensityPercentiles(1, 1)
    np.testing.assert_allclose(count_in(percentiles, frame), [[100, 10]], rtol=0.05)
    assert count_in(IntensityStatistics(1), frame)[0, 1] > 1000


def test_pixels_that_are_not_finite_do_not_count():
    frame = noise(np.random.default_rng(2), n_channels=2)
    frame[0, 0, ::3] = np.nan
    frame[1] = np.inf
    for statistics in (IntensityPercentiles(2, 1), IntensityStatistics(2)):
        of_frame = count_in(statistics, frame)
        np.testing.assert_allclose(of_frame[0], [100, 10], rtol=0.05)
        assert np.isnan(of_frame[1]).all()
        assert statistics.center_and_spread()[1] == [0.0, 0.0]


@pytest.mark.parametrize("width", [256, 300, 511])
def test_the_sampled_pixels_of_a_large_frame_are_in_all_columns(width):
    frame = np.broadcast_to(np.arange(width, dtype=np.float32), (1, 1, 4096, width))
    center, spread = count_in(IntensityPercentiles(1, 1), frame)[0]
    assert center == pytest.approx((width - 1) / 2, abs=2)
    assert spread == pytest.approx(0.98 * width / 4.652, rel=0.02)


def count(config, frames):
    """Return the intensity of an experiment with one channel, given the frames of each position."""
    intensity = ExperimentIntensity(config, 1, 8)
    for name, images in frames.items():
        position = intensity.add_position(name, len(images))
        for number, image in enumerate(images):
            if image is not None:
                sample = sample_of(config, image)
                position.merge(CountedFrame(frame=number, is_sampled=number % 2 == 0, sample=sample))
    return intensity


def test_position_and_frame_have_center_and_spread_of_their_own():
    rng = np.random.default_rng(3)
    frames = {
        name: [noise(rng, center=level + 10 * t, spread=spread) for t in range(3)]
        for name, level, spread in (("A/1/0", 100, 10), ("B/1/0", 500, 40))
    }
    by_position = count(NormalizationConfig(by="position"), frames).by_position()
    assert {name: one.shape for name, one in by_position.items()} == {"A/1/0": (1, 1, 2), "B/1/0": (1, 1, 2)}
    np.testing.assert_allclose([one[0, 0, 0] for one in by_position.values()], [110, 510], atol=1)
    by_frame = count(NormalizationConfig(by="frame", method="percentiles"), frames).by_position()
    np.testing.assert_allclose(by_frame["B/1/0"][:, 0], [[500, 40], [510, 40], [520, 40]], rtol=0.05)
    assert count(NormalizationConfig(), frames).by_position() == {}


def test_frames_that_are_not_sampled_do_not_count_for_the_experiment():
    rng = np.random.default_rng(4)
    frames = {"A/1/0": [noise(rng), noise(rng, center=9000), noise(rng)]}
    intensity = count(NormalizationConfig(by="frame"), frames)
    np.testing.assert_allclose(intensity.center_and_spread(), [[100, 10]], rtol=0.05)
    np.testing.assert_allclose(intensity.by_position()["A/1/0"][1, 0, 0], 9000, rtol=0.01)


def test_a_position_without_spread_has_that_of_the_experiment():
    rng = np.random.default_rng(5)
    empty = np.full((1, 1, 100, 100), 7.0, dtype=np.float32)
    empty[0, 0, 0, :20] = 50.0
    config = NormalizationConfig(by="position", method="percentiles")
    by_position = count(config, {"A/1/0": [noise(rng)], "B/1/0": [empty]}).by_position()
    assert by_position["B/1/0"][0, 0, 0] == 7.0
    assert by_position["B/1/0"][0, 0, 1] > 0


def test_constants_of_positions_survive_the_file():
    constants = {"monday": {"A/1/0": np.array([[[1.5, 2.0]], [[np.nan, np.nan]]], dtype=np.float32)}}
    again = decode(encode(constants), {"monday": 1})
    np.testing.assert_array_equal(again["monday"]["A/1/0"], constants["monday"]["A/1/0"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (7, "must be pairs of numbers in base64"),
        ("AAAA!", "must be pairs of numbers in base64"),
        ("AAAAAAAA", "must be pairs of numbers in base64"),
        ("", "must be pairs of numbers in base64"),
        (encode({"e": {"p": np.array([[[1.0, -2.0]]])}})["e"]["p"], "spreads of .* must be above 0"),
        (encode({"e": {"p": np.array([[[1.0, 0.0]]])}})["e"]["p"], "spreads of .* must be above 0"),
    ],
)
def test_damaged_constants_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        decode({"monday": {"A/1/0": text}}, {"monday": 1})


def steady(rng, *, n_positions=6, n_frames=12):
    """Return center and spread of frames that differ only a little."""
    names = [f"A/{number}/0" for number in range(n_positions)]
    return {name: rng.normal([[100, 10]], [0.5, 0.05], (n_frames, 1, 2)) for name in names}


def jumps(frames, **options):
    return describe_jumps("monday", ["GFP"], frames, NormalizationConfig(**options))


def test_steady_intensities_do_not_jump():
    for seed in range(20):
        assert jumps(steady(np.random.default_rng(seed))) == []


def test_a_slow_change_is_not_a_jump():
    frames = steady(np.random.default_rng(0), n_frames=30)
    for values in frames.values():
        values[:, 0, 0] -= np.arange(30) * 2.0
    assert jumps(frames) == []


@pytest.mark.parametrize(
    ("change", "size"),
    [((40, 0), r"by \+[34]\.\d standard deviations"), ((0, 20), r"with 3(\.\d)? times the contrast")],
)
def test_a_position_that_stands_out_is_named_in_one_line(change, size):
    frames = steady(np.random.default_rng(1))
    frames["A/4/0"] += change
    (sentence,) = jumps(frames)
    assert re.search(rf"'GFP' in experiment 'monday' jump at 1 of 6 positions \(most at A/4/0, {size}\)", sentence)
    assert "normalization.by: position would remove" in sentence


def test_a_jump_in_time_is_named_with_its_frames():
    frames = steady(np.random.default_rng(2))
    frames["A/2/0"][7:] += (30, 0)
    (sentence,) = jumps(frames)
    assert "in time at 1 of 66 steps (most between frames 6 and 7 of A/2/0, by +2.9 " in sentence
    assert "normalization.by: frame would remove" in sentence
    assert "those in time" in jumps(frames, by="position")[0]


@pytest.mark.parametrize(
    ("by", "in_time", "is_removed"),
    [
        ("experiment", True, False),
        ("experiment", False, False),
        ("position", True, False),
        ("position", False, True),
        ("frame", True, True),
        ("frame", False, True),
    ],
)
def test_a_jump_is_a_note_if_the_normalization_removes_it_and_otherwise_a_warning(by, in_time, is_removed):
    frames = steady(np.random.default_rng(2))
    frames["A/2/0"][7 * in_time :] += (60, 0)
    (line,) = jumps(frames, by=by)
    assert line.startswith("Note: " if is_removed else "Warning: ")
    assert line.endswith(f", which data.normalization.by: {by}, as set, removes") == is_removed
    assert ("would remove" in line) != is_removed


def test_frames_that_were_not_counted_are_skipped():
    frames = steady(np.random.default_rng(3))
    frames["A/2/0"][7:] += (30, 0)
    for values in frames.values():
        values[1::2] = np.nan
    (sentence,) = jumps(frames)
    assert "between frames 6 and 8 of A/2/0" in sentence


def test_differences_that_do_not_matter_are_not_jumps():
    """They may be many deviations of very steady intensities, but little of what crops contain."""
    frames = steady(np.random.default_rng(4))
    for values in frames.values():
        values[:] = [[100, 10]]
    frames["A/1/0"] += (2, 0)
    assert jumps(frames) == []


def test_few_positions_are_not_compared():
    frames = steady(np.random.default_rng(5), n_positions=3)
    frames["A/0/0"] += (100, 0)
    assert jumps(frames) == []


def test_many_channels_take_few_lines():
    lines = shorten([f"channel {number}" for number in range(500)], "intensities of {} more channels jump")
    assert len(lines) == 11
    assert lines[-1] == "intensities of 490 more channels jump"
    assert shorten(["one"], "{} more") == ["one"]


def test_index_says_where_intensities_jump(tmp_path, capsys):
    images = {position: noise_of_plate(seed, np.uint16, (7, 2, 1, 40, 48)) for seed, position in enumerate(POSITIONS)}
    assert warnings_of_index(tmp_path / "steady", images, capsys) == []
    (line,) = warnings_of_index(tmp_path / "jump", brighter_from(images, "B/1/0", 4), capsys)
    assert line.startswith("Warning: intensities of channel 'Virus' in experiment 'monday' jump in time at 1 of 12 ")
    assert "between frames 3 and 4 of B/1/0" in line


def warnings_of_index(folder, images, capsys):
    experiment = write(folder, images)
    build_anchor_table([experiment], PositiveConfig(min_frames=1, max_frames=7), CropSettings(crop=16))
    return [line for line in capsys.readouterr().out.splitlines() if "Warning" in line]


def brighter_from(images, position, frame):
    """Return the images with a brighter second channel in one position from a frame on."""
    changed = {name: image.copy() for name, image in images.items()}
    changed[position][frame:, 1] += 500
    return changed


def write(folder, images):
    plate = OddPlate(folder / "plate.zarr")
    plate.write_wells({well: ["0"] for well in WELLS})
    for position, image in images.items():
        plate.write_image(position, image, channels=CHANNELS)
    return experiment_of(plate.path, n_frames=7)
