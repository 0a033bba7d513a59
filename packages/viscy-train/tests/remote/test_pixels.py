"""Pixels of plates at URLs: those of the same plate on disk, also if requests are disturbed."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from viscy_train.crops.checksums import pixel_checksums
from viscy_train.errors import UserError
from viscy_train.loading.crops import CropReader
from viscy_train.plates.access import kvstore_at, zarr_store
from viscy_train.plates.pixels import PixelReader, read_with_zarr
from viscy_train.plates.plate import open_plate
from viscy_train.plates.remote_store import RemoteStore
from viscy_train.plates.stored_chunks import StoredChunks
from viscy_train.remote.path import as_path, is_remote

from .servers import KEYS, Faults, proxy, upload, web_server

EVERYTHING = (slice(None), slice(None), slice(None), slice(None), slice(None))


@pytest.fixture(scope="session")
def plates(tmp_path_factory, store_address):
    """Plates of zarr 2, of zarr 3 and of shards, on disk and in the bucket ``plates``."""
    from iohub.ngff import open_ome_zarr

    folder = tmp_path_factory.mktemp("plates")
    rng = np.random.default_rng(0)
    for name, version, shards in (("two", "0.4", None), ("three", "0.5", None), ("shards", "0.5", (1, 1, 1, 2, 2))):
        path = folder / f"{name}.zarr"
        with open_ome_zarr(path, layout="hcs", mode="w-", channel_names=["Phase", "Virus"], version=version) as plate:
            image = rng.integers(1, 2**16, (2, 2, 1, 32, 48)).astype(np.uint16)
            image[1, 1, 0, :8, :12] = 0  # a chunk that writers leave out
            position = plate.create_position("A", "1", "0")
            position.create_image("0", image, chunks=(1, 1, 1, 8, 12), shards_ratio=shards)
    upload(folder, store_address, "plates")
    return folder


@pytest.fixture(params=["s3", "gs", "http"])
def root(request, plates, store_address, faults: Faults, monkeypatch, tmp_path):
    """The URL of the plates in an object store or on a web server."""
    if request.param == "http":
        with web_server(plates) as server, proxy(server, faults) as address:
            yield address
        return
    with proxy(store_address, faults, is_of_google=request.param == "gs") as address:
        if request.param == "s3":
            for name, value in {**KEYS, "AWS_ENDPOINT_URL": address}.items():
                monkeypatch.setenv(name, value)
        else:
            # Google's store answers the same requests as that of Amazon.
            account = '"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": true'
            (tmp_path / "account.json").write_text(f'{{"gcs_base_url": "{address}", {account}}}')
            monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
        yield f"{request.param}://plates"


@pytest.mark.parametrize(
    ("name", "fault"), [("two", None), ("three", None), ("shards", None), ("shards", "500"), ("shards", "cut")]
)
def test_pixels_at_a_url_are_those_on_disk(root, plates, faults, name, fault):
    local = open_plate(plates / f"{name}.zarr").image("A/1/0")
    faults.of = lambda path, n_before: fault if n_before == 0 else None
    image = open_plate(as_path(f"{root}/{name}.zarr")).image("A/1/0")
    assert (image.shape, image.channels, image.array.chunks) == (local.shape, local.channels, local.array.chunks)
    assert is_remote(image.array.stored.root)
    expected = np.asarray(read_with_zarr(local.array, EVERYTHING))
    fast = PixelReader(8).open(image.array, fill_missing=True)
    np.testing.assert_array_equal(np.asarray(fast.request(EVERYTHING).result()), expected)
    np.testing.assert_array_equal(np.asarray(read_with_zarr(image.array, EVERYTHING)), expected)


def test_names_of_plates_may_contain_any_character(root, plates, store_address):
    name = "100% of #1?.zarr"
    if not (plates / name).exists():
        shutil.copytree(plates / "three.zarr", plates / name)
        upload(plates / name, store_address, "plates", f"{name}/")
    local = open_plate(plates / name).image("A/1/0")
    image = open_plate(as_path(root) / name).image("A/1/0")
    pixels = PixelReader(8).open(image.array, fill_missing=True).request(EVERYTHING).result()
    np.testing.assert_array_equal(np.asarray(pixels), np.asarray(read_with_zarr(local.array, EVERYTHING)))


@pytest.mark.parametrize("name", ["two", "three"])
def test_a_web_server_may_deny_access_to_files_that_do_not_exist(plates, name):
    """Buckets that are public, but cannot be listed, do so; metadata of the other version of zarr do not exist."""
    faults = Faults()
    faults.of = lambda path, n_before: None if (plates / path.lstrip("/")).is_file() else "403"
    with web_server(plates) as server, proxy(server, faults) as address:
        image = open_plate(as_path(address) / f"{name}.zarr").image("A/1/0")
        assert image.shape == open_plate(plates / f"{name}.zarr").image("A/1/0").shape
        with pytest.raises(UserError, match=r"access denied to http.*/none\.zarr; name a URL that exists"):
            open_plate(as_path(address) / "none.zarr")
    assert faults.n_injected > 0


@pytest.mark.parametrize("name", ["two", "three", "shards"])
def test_stored_chunks_at_a_url_are_those_on_disk(root, plates, name):
    local, remote = (open_plate(one / f"{name}.zarr").image("A/1/0").array for one in (plates, as_path(root)))
    expected, found = StoredChunks(local), StoredChunks(remote)
    chunks = list(np.ndindex(2, 2, 1, 4, 4))
    assert [found.size(chunk) for chunk in chunks] == [expected.size(chunk) for chunk in chunks]
    assert found.are_known
    assert (1, 1, 0, 0, 0) not in found
    assert (1, 1, 0, 3, 3) in found


def test_tensorstore_reads_from_where_it_can_be_given_the_address(root):
    stored = open_plate(as_path(root) / "three.zarr").image("A/1/0").array.stored
    kvstore = kvstore_at(stored.directory)
    if root.startswith("gs"):
        assert kvstore is None  # the credentials and the address are those of obstore
    else:
        assert kvstore is not None
        assert kvstore["driver"] == root.partition(":")[0]


def test_keys_in_the_environment_are_not_searched_for_in_files(plates, root, tmp_path, monkeypatch, capfd):
    """The library would print the names of files that do not exist."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    image = open_plate(as_path(root) / "three.zarr").image("A/1/0")
    PixelReader(8).open(image.array, fill_missing=True).request(EVERYTHING).result()
    assert capfd.readouterr().err == ""


def test_a_lost_chunk_at_a_url_is_not_read_as_fill_values(root):
    image = open_plate(as_path(root) / "three.zarr").image("A/1/0")
    pixels = PixelReader(8).open(image.array, fill_missing=False)
    pixels.request((0, np.array([0]), *EVERYTHING[2:])).result()
    with pytest.raises(Exception, match=r"(?i)missing|not found"):
        pixels.request((1, np.array([1]), *EVERYTHING[2:])).result()


def test_a_store_at_a_url_is_equal_after_pickling(root):
    store = zarr_store(as_path(root) / "three.zarr")
    assert isinstance(store, RemoteStore)
    assert pickle.loads(pickle.dumps(store)) == store
    assert store != zarr_store(as_path(root) / "two.zarr")
    assert str(store) == f"{root}/three.zarr"
    if not root.startswith("http"):
        assert list(zarr.open_group(store, mode="r").group_keys()) == ["A"]


@pytest.mark.parametrize("fault", ["500", "403"])
def test_a_plate_that_cannot_be_reached_is_one_line(root, faults, fault):
    faults.of = lambda path, n_before: fault
    with pytest.raises(UserError, match=r"three\.zarr") as caught:
        open_plate(as_path(root) / "three.zarr").image("A/1/0")
    assert "\n" not in str(caught.value)
    assert ("access denied" in str(caught.value)) == (fault == "403")


def test_a_plate_that_is_not_there_is_not_found(root):
    with pytest.raises(UserError, match=r"plate not found: .*/none\.zarr; correct `plate` of its experiment"):
        open_plate(as_path(root) / "none.zarr")


def test_crops_and_their_checksums_do_not_depend_on_where_a_plate_is(noise, bucket, store_address):
    table, _ = noise
    folder = table.experiments[0].plate.parent
    upload(folder, store_address, "noise")
    moved = [replace(one, plate=f"s3://noise/{one.plate.name}") for one in table.experiments]
    there = replace(table, experiments=moved)
    assert there.fingerprint == table.fingerprint
    for one, other in zip(table.experiments, moved, strict=True):
        of_experiment = table.observations[table.observations["experiment"] == one.name]
        assert pixel_checksums(other, of_experiment, table.crops) == pixel_checksums(one, of_experiment, table.crops)
    rows = np.arange(0, len(table.observations), 3)
    expected = CropReader(table, cache_mb=8).read(rows)
    np.testing.assert_array_equal(CropReader(there, cache_mb=8).read(rows), expected)
