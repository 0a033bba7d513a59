"""Crop stores: read by other software, and refused if they are unfinished, stale or damaged."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from viscy_train.config.schema import NormalizationConfig, PositiveConfig
from viscy_train.crop_store import crop_array
from viscy_train.crop_store.crop_array import crops_per_shard, encode_shard, metadata_of
from viscy_train.crop_store.crop_store import CropStore
from viscy_train.crop_store.header import HEADER, SLOTS, CropArray, StoreHeader, is_store
from viscy_train.errors import UserError
from viscy_train.packing.pack import pack
from viscy_train.packing.plan import make_plan

ROWS = np.arange(96)


@pytest.fixture
def store(noise, tmp_path, monkeypatch, capsys):
    """The path of a store of the table of noise, with 10 shards."""
    monkeypatch.setattr(crop_array, "_BYTES_PER_SHARD", 10 * 2 * 8 * 8 * 2)
    pack(noise[0], tmp_path / "crops.zarr", cache_mb=64)
    capsys.readouterr()
    return tmp_path / "crops.zarr"


def message(path, table, rows=ROWS):
    with pytest.raises(UserError) as raised:
        CropStore(path, table.fingerprint).read(rows)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int64", "float16", "float32", "float64"])
def test_zarr_python_reads_what_is_stored(tmp_path, dtype):
    array = CropArray(name="0", data_type=dtype, shape=(25, 2, 1, 16, 16), crops_per_shard=10, first_slot=0)
    pixels = (np.random.default_rng(0).random(array.shape) * 200).astype(dtype)
    pixels[3] = 0  # equal to the fill value
    (tmp_path / "zarr.json").write_text(json.dumps(metadata_of(array)))
    for shard in range(array.n_shards):
        part = pixels[shard * 10 : shard * 10 + 10]
        (tmp_path / array.shard_name(shard)).write_bytes(encode_shard(array, part))
    stored = zarr.open_array(tmp_path, mode="r")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored[:], pixels)
    assert stored.chunks == (1, 2, 1, 16, 16)
    assert array.n_shards == 3


def test_a_store_is_a_zarr_group_of_crops_in_the_order_of_the_plates(noise, store):
    table, images = noise
    group = zarr.open_group(store, mode="r")
    slots, pixels = np.load(store / SLOTS), np.asarray(group["0"][:])
    for row in (0, 50, 95):
        observation = table.observations.loc[row]
        image = images[observation["experiment"], observation["position"]]
        corner = [
            int(np.clip(round(observation[axis]) - 4, 0, size - 8)) for axis, size in zip("yx", (40, 48), strict=True)
        ]
        expected = image[observation["t"], :2, 1:2, corner[0] : corner[0] + 8, corner[1] : corner[1] + 8]
        np.testing.assert_array_equal(pixels[slots[row]], expected)


def test_a_shard_has_64_mb_but_not_too_many_crops():
    assert crops_per_shard(160 * 160 * 4) == 655
    assert crops_per_shard(10) == 4096
    assert crops_per_shard(10**9) == 1


def test_a_shard_has_the_same_bytes_each_time(noise, store):
    array = StoreHeader.read(store).arrays[0]
    pixels = np.asarray(zarr.open_array(store / "0", mode="r")[:10])
    assert encode_shard(array, pixels) == (store / "0" / array.shard_name(9 // array.crops_per_shard)).read_bytes()


def test_a_store_that_does_not_exist_is_refused(noise, tmp_path):
    assert message(tmp_path / "none", noise[0]) == (
        f"crop store not found: {tmp_path / 'none'}; pack it with `viscy-train pack --config FILE`, or remove "
        "data.store"
    )
    assert not is_store(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_something_else_is_not_a_crop_store(noise, tmp_path, make):
    make(tmp_path / "plate.zarr")
    assert message(tmp_path / "plate.zarr", noise[0]) == (
        f"{tmp_path / 'plate.zarr'} is not a crop store; correct data.store, or remove it to read from the plates"
    )


def test_an_unfinished_store_says_what_is_missing(noise, store):
    for number in (3, 7):
        (store / "0" / f"c.{number}.0.0.0.0").unlink()
    remedy = "run `viscy-train pack --config FILE` to pack what is missing"
    assert message(store, noise[0]) == f"crop store {store} is unfinished: 2 of 10 shards are missing; {remedy}"
    (store / "0" / "zarr.json").unlink()
    assert "10 of 10 shards are missing" in message(store, noise[0])


@pytest.mark.parametrize("content", ["{", '"uint16"', None])
def test_damaged_metadata_of_an_array_are_refused_and_written_again(noise, store, content):
    table, _ = noise
    file = store / "0" / "zarr.json"
    before = file.read_text()
    file.write_text(before.replace("uint16", "int16") if content is None else content)
    remedy = "run `viscy-train pack --config FILE` to write it again"
    assert message(store, table) == f"file {file} of the crop store is missing or damaged; {remedy}"
    pack(table, store, cache_mb=64)
    assert file.read_text() == before


def with_crops(table, **changes):
    return replace(table, crops=replace(table.crops, **changes))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda table: with_crops(table, crop=10), "crop was 8, is now 10"),
        (lambda table: with_crops(table, z_slices=2), "z_slices was 1, is now 2"),
        (lambda table: with_crops(table, z="maximum"), "data.z was its default, is now maximum"),
        (lambda table: with_crops(table, crop_um=3.0), "data.crop_um was its default, is now 3.0"),
        (lambda table: with_crops(table, depth_um=3.0), "data.depth_um was its default, is now 3.0"),
        (lambda table: replace(table, channels_mode="one"), "data.channels was its default, is now one"),
        (lambda table: replace(table, pixels={"monday": [["A/1/0", 0, 0, 0, 1]]}), "different pixels"),
        (
            lambda table: replace(table, observations=table.observations.iloc[:90]),
            "number of rows was 96, is now 90",
        ),
        (
            lambda table: replace(table, observations=table.observations.assign(x=table.observations["x"] + 1)),
            "different column 'x'",
        ),
        (
            lambda table: replace(table, observations=table.observations.assign(t=table.observations["t"][::-1].array)),
            "different column 't'",
        ),
        (
            lambda table: replace(
                table, experiments=[replace(table.experiments[0], channels=["Virus"]), table.experiments[1]]
            ),
            "channels was",
        ),
    ],
)
def test_a_store_of_other_crops_is_refused(noise, store, change, difference):
    other = message(store, change(noise[0]))
    assert other.startswith(f"crop store {store} has the crops of another anchor table ({difference}")
    assert other.endswith("; delete it, and pack again with `viscy-train pack --config FILE`")


def test_what_does_not_decide_pixels_may_change(noise, store):
    table, _ = noise
    table = with_crops(table, normalization=NormalizationConfig(by="frame", method="percentiles"))
    observations = table.observations.assign(
        has_positive=False, condition=table.observations["condition"].cat.rename_categories(["mock", "sick"])
    )
    other = replace(
        table,
        observations=observations,
        positive=PositiveConfig(max_frames=2, decay=1.0),
        intensity={name: [[5.0, 1.0], [6.0, 2.0]] for name in table.intensity},
    )
    assert other.fingerprint != noise[0].fingerprint
    assert len(CropStore(store, other.fingerprint).read(ROWS)[0].pixels) == 96


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "missing"])
def test_a_damaged_shard_is_named(noise, store, damage):
    opened = CropStore(store, noise[0].fingerprint)
    shard = store / "0" / "c.4.0.0.0.0"
    content = bytearray(shard.read_bytes())
    if damage == "changed":
        content[len(content) // 3] ^= 1
    elif damage == "truncated":
        content = content[:-100]
    shard.unlink() if damage == "missing" else shard.write_bytes(b"" if damage == "empty" else content)
    with pytest.raises(UserError) as raised:
        opened.read(ROWS)
    text = str(raised.value)
    assert text.startswith(f"crop store {store} is damaged, file {shard} (")
    assert text.endswith("); delete this file, and run `viscy-train pack --config FILE` to pack what is missing")
    assert "\n" not in text
    # Other shards can be read.
    plan = make_plan(noise[0])
    assert len(opened.read(plan.rows_of(0, 3))[0].pixels) == 10


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", "shorter", "other"])
def test_damaged_slots_are_written_again(noise, store, content):
    slots = np.load(store / SLOTS)
    if content is None:
        (store / SLOTS).unlink()
    elif isinstance(content, bytes):
        (store / SLOTS).write_bytes(content)
    else:
        np.save(store / SLOTS, slots[:-1] if content == "shorter" else slots[::-1])
    assert message(store, noise[0]).endswith("damaged; run `viscy-train pack --config FILE` to write it again")
    pack(noise[0], store, cache_mb=64)
    np.testing.assert_array_equal(np.load(store / SLOTS), slots)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace('"version": 1', '"version": 0'), "must be of version 1, got 0"),
        (lambda text: text.replace("crop store", "something"), "must be of version 1, got None"),
        (lambda text: text[:-20], "the header of crop store"),
        (lambda text: text.replace('"runs"', '"run"'), "the header of crop store"),
        (lambda text: text.replace('"data_type"', '"type"'), "the header of crop store"),
        (lambda text: "[]", "the header of crop store"),
    ],
)
def test_a_header_of_another_version_or_damaged_is_refused(noise, store, change, reason):
    (store / HEADER).write_text(change((store / HEADER).read_text()))
    text = message(store, noise[0])
    assert reason in text
    assert text.endswith("delete it, and pack again with `viscy-train pack --config FILE`")


def test_a_header_is_read_as_it_was_written(noise, store):
    header = make_plan(noise[0]).header
    assert StoreHeader.read(store) == header
    assert header.n_crops == 96
    assert is_store(store)


def test_a_large_store_opens_without_reading_crops(noise, store):
    before = os.stat(store / "0" / "c.0.0.0.0.0").st_atime_ns
    opened = CropStore(store, noise[0].fingerprint)
    assert isinstance(opened._slots, np.memmap)
    assert opened._open == {}
    assert os.stat(store / "0" / "c.0.0.0.0.0").st_atime_ns == before
