"""All ways to read crops from plates give the same pixels, share chunks, and count what they decode."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import zarr

from viscy_train.config.schema import CropSettings
from viscy_train.crops.geometry import middle_slices
from viscy_train.errors import UserError
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.plate_source import PlateSource
from viscy_train.plates import pixels as pixels_module

N_SLICES = 5


def store_uncompressed(table, images, chunks):
    """Write the images of a table again, in chunks that are stored as they lie in memory."""
    for (experiment, position), image in images.items():
        plate = next(one.plate for one in table.experiments if one.name == experiment)
        group = zarr.open_group(plate / position)
        array = group.create_array(
            "0", shape=image.shape, chunks=chunks, dtype=image.dtype, compressors=None, overwrite=True
        )
        array[...] = image


def expected_pixels(table, images, row, draw):
    """Cut the crop of a row from its image in memory."""
    observation = table.observations.loc[row]
    experiment = next(one for one in table.experiments if one.name == observation["experiment"])
    image = images[observation["experiment"], observation["position"]]
    channels = [["Phase3D", "Virus", "Nuclei"].index(name) for name in experiment.channels]
    side, n = table.crops.crop, table.crops.z_slices
    top, left = (
        int(np.clip(np.rint(observation[axis]) - side // 2, 0, length - side))
        for axis, length in zip("yx", image.shape[3:], strict=True)
    )
    n_slices = image.shape[2]
    first = {
        "middle": middle_slices(n_slices, n).start,
        "sharpest": int(np.clip(observation.get(Z_FOCUS, 0) - n // 2, 0, n_slices - n)),
        "random": int(draw * (n_slices - n + 1)),
        "maximum": 0,
    }[table.crops.z]
    slices = slice(first, n_slices if table.crops.z == "maximum" else first + n)
    crop = image[observation["t"], channels, slices, top : top + side, left : left + side]
    return crop.max(axis=1, keepdims=True) if table.crops.z == "maximum" else crop


@pytest.fixture
def layout_of(table_of):
    """A function that makes a table of plates of noise with random chunks, type and crops."""

    def make_layout(seed, way, z):
        rng = np.random.default_rng(seed)
        shape = (3, 3, N_SLICES, *rng.integers(24, 50, 2).tolist())
        chunks = tuple(rng.integers((1, 1, 2, 14, 14), (3, 4, N_SLICES + 1, 40, 40)).tolist())
        z_slices = 1 if z == "maximum" else int(rng.integers(1, N_SLICES + 1))
        table, images = table_of(
            names=("monday",),
            shape=shape,
            chunks=chunks,
            shards_ratio=tuple(rng.integers(1, 3, 5).tolist()) if way == "shards" else None,
            dtype=str(rng.choice(["uint8", "uint16", "int16", "float32"])),
            channels=[("Phase3D", "Virus"), ("Nuclei", "Phase3D"), ("Virus",)][seed % 3],
            crops=CropSettings(crop=int(rng.integers(8, 24)), z=z, z_slices=z_slices),
        )
        focus = rng.integers(0, N_SLICES, len(table.observations))
        table = replace(table, observations=table.observations.assign(**{Z_FOCUS: focus}))
        if way == "rows":
            store_uncompressed(table, images, chunks)
        return table, images, rng

    return make_layout


@pytest.mark.slow
@pytest.mark.parametrize("z", ["middle", "sharpest", "random", "maximum"])
@pytest.mark.parametrize("way", ["chunks", "shards", "rows", "zarr-python"])
@pytest.mark.parametrize("seed", range(2))
def test_all_ways_give_the_pixels_of_the_image(layout_of, monkeypatch, seed, way, z):
    if way == "zarr-python":
        monkeypatch.setattr(pixels_module, "may_use_tensorstore", lambda: False)
    table, images, rng = layout_of(seed, way, z)
    source = PlateSource(table, cache_mb=1)
    # The first read decodes, the second fills the cache, and the others read from it, partly.
    for _ in range(4):
        rows = rng.integers(0, len(table.observations), 20)
        draws = rng.random(len(rows))
        seen = np.zeros(len(rows), dtype=int)
        for part in source.read(rows, draws):
            seen[part.slots] += 1
            assert (np.diff(part.slots) > 0).all()
            for slot, pixels in zip(part.slots.tolist(), part.pixels, strict=True):
                np.testing.assert_array_equal(pixels, expected_pixels(table, images, rows[slot], draws[slot]))
        assert (seen == 1).all()


@pytest.fixture
def frames(table_of):
    """A table whose crops have one chunk each, two channels, and the rows of the first position in order of frame."""
    table, _ = table_of(names=("monday",), shape=(6, 3, 3, 40, 48), chunks=(1, 1, 1, 40, 48))
    first = (table.observations["position"] == "A/1/0") & (table.observations["track_id"] == 1)
    return table, np.flatnonzero(first)


CHUNK_BYTES = 40 * 48 * 2


def test_what_is_decoded_is_counted(frames):
    table, rows = frames
    source = PlateSource(table, cache_mb=1)
    counts = [source.counts]
    for some in (rows[:4], rows[:4], rows[:4], np.repeat(rows[4:], 3)):
        source.read(some)
        counts.append(source.counts)
    read = [after - before for before, after in pairwise(counts)]
    assert [one.n_crops for one in read] == [4, 4, 4, 6]
    assert [one.n_chunks for one in read] == [8, 8, 8, 4]
    assert [one.n_hits for one in read] == [0, 0, 8, 0]
    assert [one.n_decoded for one in read] == [8, 8, 0, 4]
    assert [one.decoded_bytes for one in read] == [one.n_decoded * CHUNK_BYTES for one in read]
    assert [one.used_bytes for one in read] == [one.n_crops * 2 * 8 * 8 * 2 for one in read]


def test_what_is_read_by_rows_is_counted(table_of):
    table, images = table_of(names=("monday",))
    store_uncompressed(table, images, (1, 1, 1, 40, 48))
    source = PlateSource(table, cache_mb=1)
    source.read(np.arange(4))
    counts = source.counts
    assert (counts.n_crops, counts.n_chunks, counts.n_hits, counts.n_decoded) == (4, 8, 0, 8)
    assert counts.decoded_bytes == 8 * 8 * 48 * 2


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_crops_of_a_batch_share_chunks_however_small_the_cache(frames, monkeypatch, cache_mb):
    monkeypatch.setattr(pixels_module, "may_use_tensorstore", lambda: False)
    table, rows = frames
    n_reads = []
    read = zarr.Array.oindex
    monkeypatch.setattr(zarr.Array, "oindex", property(lambda self: n_reads.append(1) or read.fget(self)))
    source = PlateSource(table, cache_mb=cache_mb)
    source.read(np.repeat(rows[:3], 10))
    assert len(n_reads) == 3
    assert source.counts.n_decoded == 6


def test_threads_share_the_cache_and_read_the_same_pixels(frames):
    table, rows = frames
    source, expected = PlateSource(table, cache_mb=1), PlateSource(table, cache_mb=0)
    batches = [np.random.default_rng(seed).choice(rows, 20) for seed in range(40)]
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(source.read, batches))
    for batch, (part,) in zip(batches, read, strict=True):
        (alone,) = expected.read(batch)
        np.testing.assert_array_equal(part.pixels, alone.pixels)
        np.testing.assert_array_equal(part.slots, alone.slots)
    assert source.counts.n_crops == 800
    # Each of six frames is decoded when it is first needed and when it enters the cache, by whichever thread.
    assert source.counts.n_decoded == 2 * 2 * len(rows)
    assert source.counts.n_hits + source.counts.n_decoded == source.counts.n_chunks


@pytest.mark.parametrize("by_zarr", [False, True])
def test_a_chunk_that_could_not_be_read_is_read_once_it_is_restored(frames, monkeypatch, by_zarr):
    if by_zarr:
        monkeypatch.setattr(pixels_module, "may_use_tensorstore", lambda: False)
    table, rows = frames
    chunk = table.experiments[0].plate / "A/1/0/0/c/3/1/1/0/0"
    content = chunk.read_bytes()
    source, expected = PlateSource(table, cache_mb=1), PlateSource(table, cache_mb=0).read(rows)[0].pixels
    chunk.write_bytes(content[:20])
    for _ in range(3):
        with pytest.raises(UserError, match="frame 3"):
            source.read(rows)
    chunk.write_bytes(content)
    for _ in range(3):
        np.testing.assert_array_equal(source.read(rows)[0].pixels, expected)


def test_images_that_differ_in_type_are_read_into_several_parts(table_of, tmp_path):
    table, images = table_of(names=("monday", "tuesday"), chunks=(1, 1, 1, 40, 48))
    tuesday = {key: image.astype(np.float32) for key, image in images.items() if key[0] == "tuesday"}
    store_uncompressed(table, tuesday, (1, 1, 1, 16, 16))
    rows = np.random.default_rng(0).permutation(len(table.observations))
    parts = PlateSource(table, cache_mb=1).read(rows)
    assert {part.pixels.dtype.name for part in parts} == {"uint16", "float32"}
    assert sorted(np.concatenate([part.slots for part in parts]).tolist()) == list(range(len(rows)))
    for part in parts:
        for slot, pixels in zip(part.slots.tolist(), part.pixels, strict=True):
            np.testing.assert_array_equal(pixels, expected_pixels(table, images | tuesday, rows[slot], 0.0))
