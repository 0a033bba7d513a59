"""Crops that are read from a store are those that are read from plates, bit for bit."""

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import zarr

from viscy_train.anchors.build import build_anchor_table
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.loading.crops import CropReader
from viscy_train.loading.plate_source import PlateSource
from viscy_train.loading.store_source import StoreSource
from viscy_train.packing.pack import pack


@pytest.fixture
def packed(tmp_path, capsys):
    """A function that packs a table, and returns the path of the store."""

    def write(table):
        path = tmp_path / "crops.zarr"
        assert pack(table, path, cache_mb=64) == 0
        capsys.readouterr()
        return path

    return write


def rows_and_draws(table):
    rng = np.random.default_rng(7)
    rows = rng.permutation(np.r_[np.arange(len(table.observations)), [0, 0, 5]])
    return rows, rng.random(len(rows))


def assert_equal_sources(table, path):
    """Compare all crops, before and after they are finished, and return the types of the pixels."""
    rows, draws = rows_and_draws(table)
    types = set()
    for drawn in (None, draws):
        by_slot = [{}, {}]
        for source, found in zip((PlateSource(table, cache_mb=64), StoreSource(table, path)), by_slot, strict=True):
            for part in source.read(rows, drawn):
                assert part.pixels.flags.c_contiguous
                assert part.pixels.flags.writeable
                types.add(part.pixels.dtype.str)
                assert part.pixels.dtype.isnative
                for number, slot in enumerate(part.slots.tolist()):
                    found[slot] = (part.pixels[number].tobytes(), part.pixels[number].shape, part.pixels.dtype)
        assert by_slot[0] == by_slot[1]
        assert len(by_slot[0]) == len(rows)
        assert (np.diff(part.slots) > 0).all()  # of the store, without a copy
        plates, store = (CropReader(table, store=one).read(rows, drawn) for one in (None, path))
        assert plates.tobytes() == store.tobytes()
    return types


def rewrite(folder, name, dtype=None, shape=None):
    """Write the images of an experiment in another type, or with fewer pixels."""
    for position in ("A/1/0", "B/1/0"):
        path = folder / f"{name}.zarr" / position / "0"
        old = zarr.open_array(path)
        version, chunks, pixels = old.metadata.zarr_format, old.chunks, np.asarray(old[:])
        pixels = pixels if shape is None else pixels[tuple(map(slice, shape))]
        new = zarr.create_array(
            path,
            shape=pixels.shape,
            dtype=pixels.dtype if dtype is None else dtype,
            chunks=chunks,
            zarr_format=version,
            overwrite=True,
            config={"write_empty_chunks": True},
            chunk_key_encoding={"name": "v2", "separator": "/"} if version == 2 else None,
        )
        new[:] = pixels.astype(new.dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int64", "float32", "float64", "float16"])
def test_crops_of_a_store_have_the_pixels_of_the_plates(table_of, packed, dtype):
    table, _ = table_of(dtype=dtype)
    assert assert_equal_sources(table, packed(table)) == {np.dtype(dtype).str}


def test_big_endian_pixels_are_stored_in_native_order(table_of, packed, tmp_path):
    table, _ = table_of(version="0.4")
    rewrite(tmp_path, "monday", ">u2")
    rewrite(tmp_path, "tuesday", ">u2")
    assert assert_equal_sources(table, packed(table)) == {"<u2"}


@pytest.mark.parametrize(
    "crops",
    [
        {"z_slices": 2},
        {"z": "maximum"},
        {"z": "random"},
        {"z": "random", "z_slices": 2},
        {"z": "sharpest"},
        {"crop_um": 3.0},
        {"crop_um": 3.0, "depth_um": 1.2, "z_slices": 2},
        {"crop_um": 3.0, "depth_um": 1.2, "z_slices": 2, "z": "random"},
        {"crop_um": 2.5, "depth_um": 1.2, "z": "maximum"},
        {"crop_um": 2.5, "depth_um": 0.9, "z": "sharpest"},
    ],
    ids=str,
)
def test_slices_and_scales_are_those_of_the_plates(table_of, packed, crops):
    table, _ = table_of(crops=CropSettings(crop=8, **crops))
    scales = [(0.25, 0.5), (0.3, 0.4)]
    experiments = [
        replace(one, micrometers_per_pixel=pixel, micrometers_per_slice=slice_)
        for one, (pixel, slice_) in zip(table.experiments, scales, strict=True)
    ]
    observations = table.observations
    if crops.get("z") == "sharpest":
        observations = observations.assign(**{Z_FOCUS: np.arange(len(observations)) % 3})
    table = replace(table, experiments=experiments, observations=observations)
    path = packed(table)
    assert_equal_sources(table, path)
    assert len(StoreSource(table, path)._store.header.arrays) == (2 if "crop_um" in crops else 1)


def test_experiments_of_different_types_and_sizes_share_a_store(table_of, packed, tmp_path):
    table, _ = table_of(names=("monday", "tuesday", "friday"), crops=CropSettings(crop=8, z="random"))
    rewrite(tmp_path, "tuesday", "float32")
    rewrite(tmp_path, "friday", shape=(6, 3, 2, 40, 46))  # fewer slices, and fewer columns
    path = packed(table)
    assert assert_equal_sources(table, path) == {"<u2", "<f4"}
    header = StoreSource(table, path)._store.header
    assert [(array.data_type, array.shape[2]) for array in header.arrays] == [
        ("uint16", 3),
        ("float32", 3),
        ("uint16", 2),
    ]
    assert len(header.windows) == 2


def test_rows_may_be_of_one_channel(table, packed):
    table = build_anchor_table(
        table.experiments,
        PositiveConfig(min_frames=1, max_frames=3),
        CropSettings(crop=16),
        channels_mode="one",
    )
    path = packed(table)
    assert_equal_sources(table, path)
    assert StoreSource(table, path)._store.header.arrays[0].shape[1] == 1


def test_infinite_and_invalid_pixels_are_stored_as_they_are(table_of, packed, tmp_path):
    table, _ = table_of(dtype="float32")
    array = zarr.open_array(tmp_path / "monday.zarr" / "A/1/0" / "0")
    array[:, :, 1, ::7, ::5] = np.nan
    array[:, :, 1, ::5, ::7] = -np.inf
    path, (rows, _) = packed(table), rows_and_draws(table)
    found = []
    for source in (PlateSource(table, cache_mb=64), StoreSource(table, path)):
        (part,) = source.read(rows)
        found.append(part.pixels[np.argsort(part.slots)].tobytes())
    assert found[0] == found[1]
    assert np.isnan(part.pixels).any()
    messages = []
    for store in (None, path):
        with pytest.raises(ValueError, match="some are NaN or infinite") as raised:
            CropReader(table, store=store).read(rows)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def test_other_processes_and_threads_read_the_same_crops(table_of, packed):
    table, _ = table_of()
    reader = CropReader(table, store=packed(table))
    rows, _ = rows_and_draws(table)
    expected = reader.read(rows).tobytes()
    assert pickle.loads(pickle.dumps(reader)).read(rows).tobytes() == expected
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: CropReader.read(reader, rows).tobytes(), range(8))) == {expected}
    with multiprocessing.get_context("fork").Pool(1) as forked:  # tensorstore cannot be used there
        assert forked.apply(reader.read, (rows,)).tobytes() == expected


def test_what_is_read_is_counted(table_of, packed):
    table, _ = table_of()
    source = StoreSource(table, packed(table))
    source.read(np.arange(10))
    source.read(np.array([], dtype=np.int64))
    n_bytes = 10 * 2 * 8 * 8 * 2
    counts = source.counts
    assert (counts.n_crops, counts.n_chunks, counts.n_decoded, counts.n_hits) == (10, 10, 10, 0)
    assert (counts.decoded_bytes, counts.used_bytes) == (n_bytes, n_bytes)
