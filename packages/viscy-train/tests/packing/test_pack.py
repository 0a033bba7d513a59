"""Packing: one decode of each frame, parts and processes that share a store, and stores that must not be replaced."""

import os
import re
import shutil
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import pytest

from viscy_train.crop_store import crop_array
from viscy_train.crop_store.crop_store import CropStore, missing_shards
from viscy_train.crop_store.header import SLOTS
from viscy_train.errors import UserError
from viscy_train.loading.plate_source import PlateSource
from viscy_train.output import claimed
from viscy_train.packing import pack as pack_module
from viscy_train.packing import shards as shards_module
from viscy_train.packing import space as space_module
from viscy_train.packing.pack import pack
from viscy_train.packing.plan import make_plan
from viscy_train.packing.shards import ShardPacker
from viscy_train.wording import format_bytes

# Only a hang takes this long.
DEADLINE = 600.0
CROP_BYTES = 2 * 8 * 8 * 2
DiskUsage = namedtuple("DiskUsage", "free")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Let shards have 7 of the 96 crops of the table of noise."""
    monkeypatch.setattr(crop_array, "_BYTES_PER_SHARD", 7 * CROP_BYTES + 1)


def files_of(path):
    """Return the content of all files, hidden ones too, by name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_each_frame_is_read_once_in_the_order_of_the_plates(noise, tmp_path, monkeypatch):
    table, _ = noise
    plan = make_plan(table)
    observations = table.observations.iloc[plan.rows]
    keys = [observations[name].to_numpy() for name in ("experiment", "position", "t")]
    frames = list(zip(*keys, strict=True))
    assert frames == sorted(frames)
    read = PlateSource.read
    requested = []
    monkeypatch.setattr(PlateSource, "read", lambda self, rows, draws=None: requested.append(rows) or read(self, rows))
    monkeypatch.setattr(pack_module, "estimate", lambda *_: space_module.Space(n_crops=1, decoded=1, encoded=1))
    pack(table, tmp_path / "crops.zarr", cache_mb=64)
    frame_of_row = table.observations[["experiment", "position", "t"]].apply(tuple, axis=1).to_numpy()
    reads = Counter(frame for rows in requested for frame in set(frame_of_row[rows]))
    n_borders = len(requested) - 1
    assert max(reads.values()) == 2  # where a shard ends within a frame
    assert sum(reads.values()) <= len(reads) + n_borders
    assert len(reads) == 24
    # Within a shard, no frame is split, and few are in memory together.
    assert all(len(set(frame_of_row[rows])) <= 4 for rows in requested)
    np.testing.assert_array_equal(np.concatenate(requested), plan.rows)


def test_parts_write_what_one_call_writes(noise, tmp_path, capsys):
    table, _ = noise
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    assert pack(table, whole, cache_mb=64) == 0
    assert [pack(table, parts, cache_mb=64, part=(number, 3)) for number in (2, 3, 1)] == [9, 5, 0]
    assert files_of(parts) == files_of(whole)
    output = capsys.readouterr().out
    assert "Packs 96 crops in 14 shards, about " in output
    assert "Packs 35 crops in 5 shards, about " in output


@pytest.mark.slow
def test_several_processes_write_what_one_process_writes(noise, tmp_path):
    table, _ = noise
    assert pack(table, tmp_path / "one.zarr", cache_mb=64) == 0
    assert pack(table, tmp_path / "two.zarr", cache_mb=64, processes=2) == 0
    assert files_of(tmp_path / "two.zarr") == files_of(tmp_path / "one.zarr")


def test_a_complete_store_is_not_written_again(noise, tmp_path, capsys):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    pack(table, path, cache_mb=64)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    capsys.readouterr()
    assert pack(table, path, cache_mb=64) == 0
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("deleted", ["0/c.3.0.0.0.0", "0/zarr.json", "zarr.json", SLOTS, "0"])
def test_missing_files_are_written_again(noise, tmp_path, deleted):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    pack(table, path, cache_mb=64)
    before = files_of(path)
    shutil.rmtree(path / deleted) if (path / deleted).is_dir() else (path / deleted).unlink()
    (path / "0").mkdir(exist_ok=True)
    (path / "0" / ".c.3.0.0.0.0.host.1.unfinished").write_text("of a killed process")
    (path / "0" / ".c.5.0.0.0.0.viscy-train.lock").write_text("of a killed process")
    assert pack(table, path, cache_mb=64) == 0
    assert files_of(path) == before


@pytest.mark.parametrize("n_bytes", [0, 100, -1])
@pytest.mark.parametrize("shard", [3, 13])
def test_a_shard_that_is_cut_off_is_written_again(noise, tmp_path, capsys, n_bytes, shard):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    pack(table, path, cache_mb=64)
    before, file = files_of(path), path / "0" / f"c.{shard}.0.0.0.0"
    file.write_bytes(file.read_bytes()[:n_bytes])
    capsys.readouterr()
    assert pack(table, path, cache_mb=64) == 0
    assert files_of(path) == before
    assert f"{file} is not complete, and is packed again" in capsys.readouterr().out


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a named pipe"), (os.mkdir, "a directory")])
def test_what_is_in_the_place_of_a_shard_is_refused_without_opening_it(noise, tmp_path, make, kind):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    pack(table, path, cache_mb=64)
    file = path / "0" / "c.3.0.0.0.0"
    file.unlink()
    make(file)
    with pytest.raises(UserError, match=f"a shard must be a regular file, got {kind}: .*; delete it, and run .* again"):
        pack(table, path, cache_mb=64)


def test_a_shard_that_another_process_packs_is_packed_last(noise, tmp_path, monkeypatch):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    pack(table, path, cache_mb=64, part=(1, 2))
    packer = ShardPacker(table, make_plan(table), path, cache_mb=64)
    shard = path / "0" / "c.1.0.0.0.0"
    said: SimpleQueue[str] = SimpleQueue()
    monkeypatch.setattr(pack_module, "say", said.put)
    with ThreadPoolExecutor(1) as thread, claimed(shard, shards_module._SHARD, "pack"):
        assert packer.pack(0, 1) is None
        result = thread.submit(pack, table, path, cache_mb=64)
        assert said.get(timeout=DEADLINE).startswith("Packs 47 crops in 7 shards")
        assert said.get(timeout=DEADLINE).startswith(f"{shard} is in use by `viscy-train pack`")
        assert missing_shards(path, packer.plan.header) == [(0, 1)]
    assert result.result() == 0
    CropStore(path, table.fingerprint)


def test_several_calls_at_once_share_the_work(noise, tmp_path, monkeypatch):
    table, _ = noise
    encode, encoded = shards_module.encode_shard, []
    monkeypatch.setattr(shards_module, "encode_shard", lambda *args: encoded.append(1) or encode(*args))
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(pack, table, tmp_path / "crops.zarr", cache_mb=64) for _ in range(3)]
        assert [call.result() for call in calls] == [0, 0, 0]
    assert len(encoded) == 14
    pack(table, tmp_path / "alone.zarr", cache_mb=64)
    assert files_of(tmp_path / "crops.zarr") == files_of(tmp_path / "alone.zarr")


def test_another_store_is_not_replaced(noise, tmp_path):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    pack(table, path, cache_mb=64)
    before = files_of(path)
    other = replace(table, crops=replace(table.crops, crop=10))
    with pytest.raises(UserError, match=r"has the crops of another anchor table \(crop was 8, is now 10\); delete it"):
        pack(other, path, cache_mb=64)
    assert files_of(path) == before


def test_images_of_another_type_are_not_mixed(table_of, tmp_path):
    path = tmp_path / "crops.zarr"
    pack(table_of()[0], path, cache_mb=64)
    for name in ("monday", "tuesday"):
        shutil.rmtree(tmp_path / f"{name}.zarr")
    table, _ = table_of(dtype="int16")
    with pytest.raises(UserError, match="has crops of images of other types or sizes; delete it"):
        pack(table, path, cache_mb=64)


def test_what_a_call_left_that_was_killed_at_its_begin_is_replaced(noise, tmp_path):
    (tmp_path / ".store.json.unfinished").write_text("half")
    (tmp_path / ".store.json.viscy-train.lock").touch()
    assert pack(noise[0], tmp_path, cache_mb=64) == 0


def test_a_link_stays_and_the_directory_that_it_names_is_created(noise, tmp_path):
    (tmp_path / "crops.zarr").symlink_to("scratch")
    assert pack(noise[0], tmp_path / "crops.zarr", cache_mb=64) == 0
    assert (tmp_path / "crops.zarr").is_symlink()
    assert not missing_shards(tmp_path / "scratch", make_plan(noise[0]).header)


def test_a_directory_of_something_else_is_kept(noise, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a crop store of viscy-train; choose another path"):
        pack(noise[0], tmp_path, cache_mb=64)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_disk_with_too_little_space_is_refused_before_packing(noise, tmp_path, monkeypatch):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    monkeypatch.setattr(space_module.shutil, "disk_usage", lambda _: DiskUsage(3000))
    with pytest.raises(UserError, match=r"needs about \S+ kB, but 3 kB are free at .*; free some space, or choose"):
        pack(table, path, cache_mb=64)
    assert len(missing_shards(path, make_plan(table).header)) == 14
    assert pack(table, path, cache_mb=64, part=(1, 14)) == 13  # what a part needs is there
    with pytest.raises(UserError, match="free some space"):
        pack(table, path, cache_mb=64)


def test_the_estimate_is_near_the_size_of_the_files(noise, tmp_path):
    table, _ = noise
    path = tmp_path / "crops.zarr"
    packer = ShardPacker(table, make_plan(table), path, cache_mb=64)
    space = space_module.estimate(packer, [(0, shard) for shard in range(14)])
    pack(table, path, cache_mb=64)
    size = sum(file.stat().st_size for file in (path / "0").glob("c.*"))
    assert (space.n_crops, space.decoded) == (96, 96 * CROP_BYTES)
    assert space.encoded == pytest.approx(size, rel=0.1)


def test_pixels_that_cannot_be_read_end_packing(table_of, tmp_path):
    table, _ = table_of()
    shutil.rmtree(tmp_path / "tuesday.zarr" / "B/1/0" / "0" / "c" / "5")
    path = tmp_path / "crops.zarr"
    with pytest.raises(UserError, match=r"cannot use pixels of .*'tuesday', .*position B/1/0, frame 5 .*--pixels all"):
        pack(table, path, cache_mb=64)
    assert not list(path.rglob("*.unfinished"))


def test_plates_that_change_while_crops_are_packed_are_refused(table_of, tmp_path):
    table, _ = table_of()
    packer = ShardPacker(table, make_plan(table), tmp_path, cache_mb=64)
    (array,) = packer.plan.header.arrays
    packer.plan.header.arrays[0] = replace(array, data_type="int8")
    with pytest.raises(UserError, match="plates must not change while crops are packed"):
        packer.read(0, np.arange(3))


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 bytes"), (999, "999 bytes"), (25_600, "25.6 kB"), (999_700, "1 MB"), (3e12, "3 TB")]
)
def test_bytes_have_a_unit(n, text):
    assert format_bytes(n) == text


def test_a_log_says_how_far_packing_is(noise, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("viscy_train.console._LOG_INTERVAL", 0.0)
    monkeypatch.setattr("viscy_train.console._LOG_SHARE", 0.0)
    pack(noise[0], tmp_path / "crops.zarr", cache_mb=64)
    lines = capsys.readouterr().out.splitlines()
    packed = [line for line in lines if "packing shards" in line]
    assert len(packed) == 13
    assert packed[0].startswith("  packing shards: 1 of 14 (7%), ")
    assert re.search(r"13 of 14 \(93%\), .*, about 0 s left, [\d.]+ [kM]B$", packed[-1])
