"""Frames with a constant channel are excluded and counted, however they are stored."""

import io

import numpy as np
import pytest
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec, numcodecs

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.summary import print_summary
from viscy_train.anchors.table import Exclusion
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.console import make_console
from viscy_train.crops.constant_frames import find_constant_frames, screened_array
from viscy_train.errors import ProjectError
from viscy_train.plates import pixels as pixels_module
from viscy_train.plates.image_array import ImageArray
from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.stored_array import StoredArray
from viscy_train.plates.stored_chunks import StoredChunks

from ..plates.odd_plates import CHANNELS, POSITIONS, WELLS, OddPlate, experiment_of, noise  # noqa: TID252

N_FRAMES = 7
SHAPE = (N_FRAMES, 2, 3, 40, 48)
REASON = "excluded: a channel of the frame has one value in all pixels (blank or saturated)"
MISSING = "excluded: a chunk of the frame is missing from the plate (blank or lost)"
WRITE_ALL = {"config": {"write_empty_chunks": True}}


def write(folder, images, **options):
    plate = OddPlate(folder / "plate.zarr", zarr_format=options.pop("zarr_format", 3))
    plate.write_wells({well: ["0"] for well in WELLS})
    for position, image in images.items():
        plate.write_image(position, image, channels=CHANNELS, **({"chunks": (1, 1, 1, 24, 32)} | WRITE_ALL | options))
    return experiment_of(plate.path, n_frames=N_FRAMES)


def build(experiment, z_slices=1, **options):
    return build_anchor_table(
        [experiment], PositiveConfig(min_frames=1, max_frames=7), CropSettings(crop=16, z_slices=z_slices), **options
    )


def make_images(dtype=np.uint16):
    """Return images of noise, from which frames can be erased."""
    return {position: noise(seed, dtype, SHAPE) for seed, position in enumerate(POSITIONS)}


def excluded_frames(table):
    """Return the frames of each position that the table lacks."""
    frames = table.observations.groupby("position", observed=False)["t"].agg(set)
    return {position: sorted(set(range(N_FRAMES)) - frames[position]) for position in POSITIONS}


LAYOUTS = {
    "tiles": {},
    "v2": {"zarr_format": 2},
    "without compression": {"compressors": None},
    "zstd": {"compressors": ZstdCodec()},
    "gzip": {"compressors": GzipCodec()},
    "blosc": {"compressors": BloscCodec(typesize=2)},
    "all channels": {"chunks": (1, 2, 1, 40, 48)},
    "stacks": {"chunks": (1, 1, 3, 40, 48)},
    "several frames": {"chunks": (3, 1, 1, 40, 48)},
    "one chunk": {"chunks": SHAPE},
    "larger than the image": {"chunks": (1, 1, 1, 64, 64)},
    "sharded": {"chunks": (1, 1, 1, 20, 16), "shards": (2, 2, 3, 40, 48)},
    "sharded, index first": {
        "chunks": (2, 2, 3, 40, 48),
        "compressors": None,
        "serializer": ShardingCodec(chunk_shape=(1, 1, 1, 20, 16), index_location="start"),
    },
    "sharded, transposed": {
        "chunks": (2, 2, 3, 40, 48),
        "compressors": None,
        "filters": TransposeCodec(order=(0, 1, 2, 4, 3)),
        "serializer": ShardingCodec(chunk_shape=(1, 1, 3, 8, 8)),
    },
    "another fill value": {"fill_value": 7},
    "numcodecs": {"compressors": numcodecs.LZMA(preset=0)},
}


@pytest.mark.parametrize("pixels", ["sample", "all"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_constant_frames_are_excluded_in_every_layout(tmp_path, layout, pixels):
    images = make_images()
    images["A/1/0"][1] = 0
    images["A/1/0"][3] = 65535
    images["A/1/0"][4, 1] = 500
    images["B/1/0"][6, 0, 1] = 9  # the slice of the crops, within other slices that are not constant
    images["B/1/0"][2, :, 2] = 0  # a slice outside all crops
    images["B/1/0"][5, 0, :, 0, :] = 0  # a row
    table = build(write(tmp_path, images, **LAYOUTS[layout]), pixels=pixels)
    assert excluded_frames(table) == {"A/1/0": [1, 3, 4], "B/1/0": [6]}
    assert table.excluded == [
        Exclusion(experiment="monday", condition=condition, reason=REASON, n_observations=n)
        for condition, n in (("infected", 2), ("mock", 6))
    ]
    kept = np.concatenate([np.delete(images["A/1/0"], [1, 3, 4], axis=0), np.delete(images["B/1/0"], 6, axis=0)])
    expected = [[kept[:, channel, 1].mean(), kept[:, channel, 1].std()] for channel in range(2)]
    np.testing.assert_allclose(table.intensity["monday"], expected, rtol=1e-5)


@pytest.mark.parametrize("value", [0, -3, 65504, np.nan, np.inf])
def test_a_frame_of_any_single_value_is_excluded(tmp_path, value):
    images = make_images(np.float16)
    images["A/1/0"][2] = value
    images["B/1/0"][4, 1] = value
    table = build(write(tmp_path, images))
    assert excluded_frames(table) == {"A/1/0": [2], "B/1/0": [4]}
    assert {one.reason for one in table.excluded} == {REASON}
    assert np.isfinite(table.intensity["monday"]).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fill_value", [0, 7])
def test_stored_and_missing_blank_frames_give_the_same_table(tmp_path, zarr_format, fill_value):
    images = make_images()
    for frame, position in ((1, "A/1/0"), (6, "A/1/0"), (3, "B/1/0")):
        images[position][frame] = fill_value
    options = {"zarr_format": zarr_format, "fill_value": fill_value}
    stored = build(write(tmp_path / "stored", images, **options))
    missing = build(write(tmp_path / "missing", images, config={"write_empty_chunks": False}, **options))
    np.testing.assert_array_equal(stored.observations["t"], missing.observations["t"])
    assert stored.intensity == missing.intensity
    assert [one.n_observations for one in stored.excluded] == [one.n_observations for one in missing.excluded] == [2, 4]
    assert ({one.reason for one in stored.excluded}, {one.reason for one in missing.excluded}) == ({REASON}, {MISSING})


def test_a_blank_frame_of_which_only_some_chunks_are_stored_is_excluded(tmp_path):
    images = make_images()
    images["A/1/0"][2] = 0
    experiment = write(tmp_path, images)
    # Only the chunk in the last row and column, which both channels of the first cell do not need.
    for channel in range(2):
        (experiment.plate / f"A/1/0/0/c/2/{channel}/1/0/0").unlink()
    table = build(experiment)
    assert excluded_frames(table) == {"A/1/0": [2], "B/1/0": []}
    assert {(one.reason, one.n_observations) for one in table.excluded} == {(REASON, 1), (MISSING, 1)}


def test_a_masked_image_is_not_blank(tmp_path):
    """Its background is constant, and so is a crop; its frames are not."""
    images = make_images()
    for image in images.values():
        image[..., 20:, :] = 0
        image[..., :, 20:] = 0
    for name, chunks in (("tiles", (3, 1, 1, 24, 24)), ("frames", (1, 2, 3, 40, 48))):
        table = build(write(tmp_path / name, images, chunks=chunks))
        assert excluded_frames(table) == {"A/1/0": [], "B/1/0": []}
        assert not table.excluded


def test_a_slice_of_a_large_stack_is_searched_when_all_pixels_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr("viscy_train.crops.constant_frames._MAX_BYTES", 0)
    images = make_images()
    images["A/1/0"][4, 0] = 0
    images["B/1/0"][3, 1, 1] = 0
    experiment = write(tmp_path, images, chunks=(1, 1, 3, 40, 48))
    assert excluded_frames(build(experiment)) == {"A/1/0": [4], "B/1/0": []}
    assert excluded_frames(build(experiment, pixels="all")) == {"A/1/0": [4], "B/1/0": [3]}


def test_any_constant_slice_of_the_crops_counts(tmp_path):
    images = make_images()
    images["A/1/0"][5, 1, 0] = 0
    table = build(write(tmp_path, images), z_slices=3)
    assert excluded_frames(table) == {"A/1/0": [5], "B/1/0": []}


def test_a_channel_that_is_not_used_may_be_constant(tmp_path):
    images = make_images()
    images["A/1/0"][:, 1] = 0
    plate = write(tmp_path, images).plate
    assert not build(experiment_of(plate, channels=CHANNELS[:1], n_frames=N_FRAMES)).excluded


def test_a_channel_that_is_constant_in_all_frames_is_refused(tmp_path):
    images = make_images()
    images["B/1/0"][:, 0] = 0
    with pytest.raises(ProjectError, match=r"'infected' has no anchors \(14 observations excluded: a channel of the"):
        build(write(tmp_path, images))


def test_the_summary_shows_how_many_observations_are_in_constant_frames(tmp_path):
    images = make_images()
    images["A/1/0"][5] = 0
    text = io.StringIO()
    print_summary(build(write(tmp_path, images)), make_console(width=200, file=text))
    assert any(REASON in row and row.split()[-1] == "2" for row in text.getvalue().splitlines())


@pytest.mark.parametrize("by_zarr", [False, True])
def test_an_unreadable_chunk_is_reported_in_any_frame(tmp_path, monkeypatch, by_zarr):
    if by_zarr:
        monkeypatch.setattr(pixels_module, "may_use_tensorstore", lambda: False)
    monkeypatch.setattr("viscy_train.anchors.positions._SAMPLED_FRAMES", 1)
    experiment = write(tmp_path, make_images(), compressors=ZstdCodec())
    for frame in (5, 6):
        # The chunk of the first cell, and one that no cell needs.
        (experiment.plate / f"A/1/0/0/c/{frame}/0/1/{int(frame == 6)}/0").write_bytes(b"x")
    with pytest.raises(ProjectError, match=r"position A/1/0, frame 5 cannot be read \(.*--pixels all"):
        build(experiment)
    assert [one.n_observations for one in build(experiment, pixels="all").excluded] == [1]


def test_a_frame_that_is_constant_where_it_can_be_read_is_excluded(tmp_path):
    images = make_images()
    images["A/1/0"][2] = 0
    experiment = write(tmp_path, images, compressors=ZstdCodec())
    (experiment.plate / "A/1/0/0/c/2/0/1/1/0").write_bytes(b"x")
    assert excluded_frames(build(experiment)) == {"A/1/0": [2], "B/1/0": []}


def screen(path, shape=(6, 1, 1, 512, 512), **options):
    """Return the constant frames of an array whose frame 4 is blank, and how many chunks were read."""
    image = np.random.default_rng(0).normal(1000, 30, shape).astype(np.uint16)
    image[4] = 0
    options = {"chunks": (1, 1, 1, 128, 128)} | WRITE_ALL | options
    array = ImageArray(StoredArray.of(OddPlate(path).write_image("A/1/0", image, **options)))
    requests = []

    class Counted:
        def __init__(self, pixels):
            self._pixels = pixels

        def request(self, region):
            requests.append(region)
            return self._pixels.request(region)

    pixels = Counted(PixelReader(1).open(array, fill_missing=True))
    screened = screened_array(array, pixels, StoredChunks(array), thorough=False)
    constant, damaged = find_constant_frames(screened, np.arange(shape[0]), list(range(shape[1])), slice(0, shape[2]))
    assert (sorted(constant), damaged) == ([4], set())
    return len(requests)


def test_frames_that_are_not_constant_are_hardly_read(tmp_path):
    # All chunks of the blank frame, and none of the others, whose chunks are too large to be constant.
    assert screen(tmp_path / "compressed.zarr") == 16
    assert screen(tmp_path / "v2.zarr", compressors="auto") == 16
    # Without compression, all chunks have one size: one more read for each of the other frames.
    assert screen(tmp_path / "raw.zarr", compressors=None) == 16 + 5
    assert screen(tmp_path / "shards.zarr", shards=(2, 1, 1, 512, 512)) == 16
    # A chunk of two frames is read, because only one of them may be constant.
    assert screen(tmp_path / "pairs.zarr", chunks=(2, 1, 1, 128, 128)) == 16 + 2
