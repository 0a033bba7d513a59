import pickle
from dataclasses import replace

import numpy as np
import pytest
import tensorstore

from viscy_train.config.schema import CropSettings
from viscy_train.crops.geometry import middle_slices
from viscy_train.errors import UserError
from viscy_train.loading.crop_source import ReadCounter, ReadCounts
from viscy_train.loading.crops import CropReader
from viscy_train.loading.plate_source import PlateSource
from viscy_train.plates import pixels as pixels_module


def expected_crops(table, images, rows):
    """Cut crops from the images in memory and normalize them, one by one."""
    crops = []
    for row in rows:
        observation = table.observations.loc[row]
        experiment = next(entry for entry in table.experiments if entry.name == observation["experiment"])
        image = images[observation["experiment"], observation["position"]]
        channels = [["Phase3D", "Virus", "Nuclei"].index(name) for name in experiment.channels]
        _, _, n_slices, height, width = image.shape
        side = table.crops.crop
        top = int(np.clip(round(observation["y"]) - side // 2, 0, height - side))
        left = int(np.clip(round(observation["x"]) - side // 2, 0, width - side))
        stack = image[
            observation["t"], :, middle_slices(n_slices, table.crops.z_slices), top : top + side, left : left + side
        ]
        mean, std = np.array(table.intensity[experiment.name]).T[..., None, None, None]
        crops.append((stack[channels].astype(np.float32) - mean) / std)
    return np.stack(crops).astype(np.float32)


def use_zarr(monkeypatch):
    """Make readers use zarr-python, as in a child forked from a process that has used tensorstore."""
    monkeypatch.setattr(pixels_module, "may_use_tensorstore", lambda: False)


def chunk_path(table, row, name="0"):
    """Return the file of the first chunk of an observation's frame, in the middle slice of the first channel."""
    observation = table.observations.loc[row]
    array = table.experiments[0].plate / observation["position"] / name
    inner = array / "c" if (array / "zarr.json").exists() else array
    return inner / str(observation["t"]) / "0" / "1" / "0" / "0"


def move_to_corner(table):
    """Return a table whose first observation in frame 2 is in the corner of the first chunk, and its row."""
    row = int(np.flatnonzero(table.observations["t"] == 2)[0])
    observations = table.observations.copy()
    observations.loc[row, ["y", "x"]] = 3.0
    return replace(table, observations=observations), row


BY = pytest.mark.parametrize("by_zarr", [False, True], ids=["tensorstore", "zarr"])


@pytest.mark.slow
@BY
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "int32", "float32", "float64"])
def test_crops_contain_the_normalized_pixels_of_the_images(table_of, monkeypatch, version, dtype, by_zarr):
    if by_zarr:
        use_zarr(monkeypatch)
    table, images = table_of(version=version, dtype=dtype)
    rows = np.random.default_rng(1).permutation(len(table.observations))
    crops = CropReader(table).read(rows)
    assert (crops.dtype, crops.shape) == (np.float32, (len(rows), 2, 1, 8, 8))
    np.testing.assert_allclose(crops, expected_crops(table, images, rows), rtol=1e-5, atol=1e-5)


@BY
@pytest.mark.parametrize("channels", [("Virus",), ("Nuclei", "Phase3D"), ("Phase3D", "Virus", "Nuclei")])
def test_channels_are_in_the_order_of_the_experiment(table_of, monkeypatch, channels, by_zarr):
    if by_zarr:
        use_zarr(monkeypatch)
    table, images = table_of(channels=channels, crops=CropSettings(crop=8, z_slices=3))
    rows = np.array([5, 90, 5, 0])
    np.testing.assert_allclose(CropReader(table).read(rows), expected_crops(table, images, rows), rtol=1e-5, atol=1e-5)


@BY
def test_sharded_images_are_read(table_of, monkeypatch, by_zarr):
    if by_zarr:
        use_zarr(monkeypatch)
    table, images = table_of(chunks=(1, 1, 1, 8, 8), shards_ratio=(2, 3, 1, 5, 6))
    rows = np.arange(len(table.observations))
    np.testing.assert_allclose(CropReader(table).read(rows), expected_crops(table, images, rows), rtol=1e-5, atol=1e-5)


def test_experiments_may_name_their_channels_differently(noise):
    table, images = noise
    tuesday = replace(table.experiments[1], channels=["Nuclei", "Virus"])
    table = replace(table, experiments=[table.experiments[0], tuesday])
    rows = np.array([0, len(table.observations) - 1])
    np.testing.assert_allclose(CropReader(table).read(rows), expected_crops(table, images, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("n_slices", "n_selected", "first"), [(1, 1, 0), (2, 1, 1), (3, 1, 1), (4, 1, 2), (5, 3, 1), (4, 4, 0)]
)
def test_slices_are_taken_from_the_middle_of_the_stack(n_slices, n_selected, first):
    assert middle_slices(n_slices, n_selected) == slice(first, first + n_selected)


def test_a_constant_channel_gives_finite_pixels(noise):
    table = replace(noise[0], intensity={name: [[0.0, 0.0], [0.0, 1.0]] for name in ("monday", "tuesday")})
    assert np.isfinite(CropReader(table).read(np.arange(4))).all()


def test_reading_no_rows_gives_no_crops(noise):
    assert CropReader(noise[0]).read(np.array([], dtype=np.int64)).shape == (0, 2, 1, 8, 8)


def test_only_the_positions_of_the_rows_are_opened(noise):
    source = PlateSource(noise[0], cache_mb=64)
    source.read(np.array([0, 1]))
    (plates,) = source._open.values()
    assert len(plates.images._plates) == len(plates.images._images) == len(plates.positions) == 1


def test_open_images_are_not_pickled(noise):
    table, _ = noise
    reader = CropReader(table)
    before = reader.read(np.array([3, 4]))
    copy = pickle.loads(pickle.dumps(reader))
    assert vars(copy.source)["_open"] == {}
    np.testing.assert_array_equal(copy.read(np.array([3, 4])), before)


def test_a_chunk_shared_by_several_crops_is_read_once(noise):
    table, _ = noise
    rows = np.repeat(np.flatnonzero(table.observations["t"] == 2)[:1], 50)
    n_reads = {}
    for n in (1, 50):
        reader = CropReader(table)
        reader.read(np.array([len(table.observations) - 1]))
        before = count_chunk_reads()
        reader.read(rows[:n])
        n_reads[n] = count_chunk_reads() - before
    assert n_reads[50] == n_reads[1] > 0


def count_chunk_reads():
    """Return the number of file reads of this process; opening a position always adds the same number."""
    name = "/tensorstore/kvstore/file/batch_read"
    return sum(v["value"] for m in tensorstore.experimental_collect_matching_metrics(name) for v in m["values"])


@BY
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "overwritten"])
def test_the_error_for_a_damaged_chunk_names_its_frame(table_of, monkeypatch, damage, version, by_zarr):
    if by_zarr:
        use_zarr(monkeypatch)
    table, row = move_to_corner(table_of(names=("monday",), version=version)[0])
    chunk = chunk_path(table, row)
    content = chunk.read_bytes()
    chunk.unlink()
    if damage != "missing":
        chunk.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"x" * len(content))
    rows = np.array([len(table.observations) - 1, row])
    with pytest.raises(UserError, match=r"'monday', plate .*monday\.zarr, position A/1/0, frame 2 \(.*index") as error:
        CropReader(table).read(rows)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shards_ratio", [None, (1, 1, 3, 1, 1)])
@pytest.mark.parametrize("version", ["0.5"])
def test_a_missing_frame_is_reported_with_and_without_shards(table_of, version, shards_ratio):
    table, row = move_to_corner(
        table_of(names=("monday",), version=version, chunks=(1, 1, 1, 40, 48), shards_ratio=shards_ratio)[0]
    )
    frame = table.experiments[0].plate / "A/1/0/0/c/2"
    for chunk in [file for file in frame.rglob("*") if file.is_file()]:
        chunk.unlink()
    with pytest.raises(UserError, match="frame 2"):
        CropReader(table).read(np.array([row]))


@BY
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_the_error_for_invalid_pixels_names_their_frame(table_of, monkeypatch, value, by_zarr):
    if by_zarr:
        use_zarr(monkeypatch)
    table, row = move_to_corner(table_of(names=("monday",), dtype="float64")[0])
    set_pixel(table, row, value)
    with pytest.raises(UserError, match=r"position A/1/0, frame 2 \(some are NaN or infinite\); .* --pixels all`"):
        CropReader(table).read(np.array([row + 1, row]))


def set_pixel(table, row, value):
    """Write a value into the crop of an observation."""
    array = table.experiments[0].plate / table.observations.loc[row, "position"] / "0"
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    tensorstore.open(spec).result()[2, 0, 1, 2, 2].write(value).result()


def test_a_frame_outside_the_image_is_reported(noise):
    observations = noise[0].observations.assign(t=99)
    with pytest.raises(UserError, match="position A/1/0, frame 99"):
        CropReader(replace(noise[0], observations=observations)).read(np.array([0]))


@pytest.mark.parametrize("changes", [{"crop": 41}, {"z_slices": 4}])
def test_an_image_smaller_than_a_crop_is_refused(noise, changes):
    with pytest.raises(UserError, match="must fit into the"):
        CropReader(replace(noise[0], crops=replace(noise[0].crops, **changes))).read(np.array([0]))


def test_a_missing_plate_is_reported(noise, tmp_path):
    table = noise[0]
    moved = replace(table.experiments[0], plate=tmp_path / "gone.zarr")
    with pytest.raises(UserError, match="plate not found"):
        CropReader(replace(table, experiments=[moved, table.experiments[1]])).read(np.array([0]))


def test_a_source_gives_native_pixels_and_counts_them(noise):
    table, images = noise
    source = PlateSource(table, cache_mb=64)
    rows = np.array([0, len(table.observations) - 1])
    (crops,) = source.read(rows)
    assert crops.pixels.dtype == next(iter(images.values())).dtype.newbyteorder("=")
    assert sorted(crops.slots) == [0, 1]
    assert (source.counts.n_crops, source.counts.used_bytes) == (2, crops.pixels.nbytes)
    before = source.counts
    source.read(rows[:1])
    assert (source.counts - before).n_crops == 1


def test_counts_of_another_process_begin_at_zero():
    counter = ReadCounter()
    counter.add(n_crops=2, n_hits=1)
    copy = pickle.loads(pickle.dumps(counter))
    copy.add(n_crops=5)
    assert (counter.counts, copy.counts) == (ReadCounts(n_crops=2, n_hits=1), ReadCounts(n_crops=5))
