"""Whatever `index` accepts, the dataset of `fit` reads, with the values that were written."""

import json
import os
import shutil
import sys
from dataclasses import replace
from functools import partial

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.codecs import numcodecs as zarr_numcodecs

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_sources
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.crops.geometry import crop_corners
from viscy_train.errors import ProjectError
from viscy_train.loading.batches import Batch
from viscy_train.loading.datasets import PairDataset, finish_batch
from viscy_train.plates import pixels as pixels_module
from viscy_train.positives.lineages import Lineages

from .odd_plates import CHANNELS, CHUNKS, POSITIONS, SHAPE, WELLS, OddPlate, experiment_of, noise, write_odd_plate

CROP = 16
POSITIVE = PositiveConfig(min_frames=1, max_frames=2)


def build(experiment, **options):
    return build_anchor_table([experiment], POSITIVE, CropSettings(crop=CROP), **options)


def read_all(table):
    """Return the crops that `fit` reads of all rows of a table, without normalization."""
    intensity = {name: [[0.0, 1.0]] * len(values) for name, values in table.intensity.items()}
    table = replace(table, intensity=intensity)
    dataset = PairDataset(table, Lineages.of(table.observations, table.positive), seed=0)
    batch = Batch(rows=np.arange(len(table.observations)), epoch=0, index=0)
    return finish_batch(dataset.__getitems__(batch))["anchor"].numpy()


def crops_of(table, images, channels=(0, 1)):
    """Return the crops of all rows of a table, cut from the images that were written."""
    rows = table.observations
    corners = crop_corners(np.rint(rows[["y", "x"]].to_numpy()).astype(int), CROP, SHAPE[3:])
    crops = [
        images[position][t, list(channels), :, top : top + CROP, left : left + CROP]
        for position, t, (top, left) in zip(rows["position"], rows["t"], corners.tolist(), strict=True)
    ]
    return np.stack(crops).astype(np.float32)


def assert_read_as_written(experiment, images, **options):
    """Build the table, compare all pixels that `fit` reads with those that were written, and return the table."""
    table = build(experiment, **options)
    assert len(table.observations) == 2 * len(images) * SHAPE[0]
    assert not table.excluded
    check_sources(table)
    np.testing.assert_array_equal(read_all(table), crops_of(table, images))
    values = np.stack([images[position].astype(np.float64) for position in images])
    for channel, (mean, std) in enumerate(table.intensity["monday"]):
        np.testing.assert_allclose([mean, std], [values[:, :, channel].mean(), values[:, :, channel].std()], rtol=1e-5)
    return table


@pytest.fixture
def odd_plate(tmp_path):
    """A function that writes a plate; see `write_odd_plate`."""
    return partial(write_odd_plate, tmp_path)


def use_zarr(monkeypatch):
    """Read with zarr-python, as in a process that cannot use tensorstore."""
    monkeypatch.setattr(pixels_module, "may_use_tensorstore", lambda: False)


def v2(**options):
    return {"zarr_format": 2} | options


def keys(name, separator):
    return {"chunk_key_encoding": {"name": name, "separator": separator}}


LAYOUTS = {
    **{f"v2 {dtype}": v2(dtype=dtype) for dtype in ("i1", "u1", "<i8", "<f2", "<u8", ">i2", ">u2", ">f4", ">f8")},
    **{f"v3 {dtype}": {"dtype": dtype} for dtype in ("i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8")},
    "v2 columns first": v2(order="F"),
    "v2 big-endian, columns first, with a filter": v2(dtype=">u2", order="F", filters=[numcodecs.Delta(">u2")]),
    **{
        f"v2 {codec.codec_id} {codec.get_config().get('cname', '')}": v2(compressors=codec)
        for codec in (
            *(numcodecs.Blosc(name) for name in ("lz4", "lz4hc", "zstd", "zlib", "blosclz")),
            *(kind() for kind in (numcodecs.GZip, numcodecs.LZMA, numcodecs.BZ2, numcodecs.LZ4, numcodecs.Zlib)),
            numcodecs.Zstd(),
        )
    },
    "v2 without compression": v2(compressors=None),
    "v2 delta": v2(filters=[numcodecs.Delta("<u2")]),
    "v2 checksum": v2(filters=[numcodecs.Shuffle(2)], compressors=numcodecs.Zlib()),
    "v2 scaled": v2(dtype="f4", filters=[numcodecs.FixedScaleOffset(0, 1, "f4", "u2")]),
    "v2 dots": v2(**keys("v2", ".")),
    "v3 gzip": {"compressors": GzipCodec()},
    "v3 zstd": {"compressors": ZstdCodec(level=3, checksum=True)},
    "v3 blosc": {"compressors": BloscCodec(cname="lz4", shuffle="shuffle", typesize=2)},
    "v3 blosc and crc32c": {"compressors": [BloscCodec(typesize=2), Crc32cCodec()]},
    "v3 without compression": {"compressors": None},
    "v3 big-endian": {"serializer": BytesCodec(endian="big")},
    "v3 transposed": {"filters": TransposeCodec(order=(4, 3, 2, 1, 0))},
    **{
        f"v3 numcodecs.{name}": {"compressors": getattr(zarr_numcodecs, name)()}
        for name in ("LZMA", "Zlib", "BZ2", "LZ4")
    },
    "v3 numcodecs.delta": {"filters": zarr_numcodecs.Delta(dtype="<u2")},
    "v3 keys of v2": keys("v2", "."),
    "v3 dots": keys("default", "."),
    "sharded": {"chunks": (1, 1, 1, 8, 8), "shards": (2, 2, 1, 40, 48)},
    "sharded, index first": {
        "chunks": (2, 2, 1, 40, 48),
        "compressors": None,
        "serializer": ShardingCodec(
            chunk_shape=(1, 1, 1, 20, 16), index_location="start", codecs=[BytesCodec(), ZstdCodec()]
        ),
    },
    "sharded, big-endian index without checksum": {
        "chunks": (2, 2, 1, 40, 48),
        "compressors": None,
        "serializer": ShardingCodec(chunk_shape=(1, 1, 1, 20, 16), index_codecs=[BytesCodec(endian="big")]),
    },
    "sharded, transposed": {
        "chunks": (2, 2, 1, 40, 48),
        "compressors": None,
        "filters": TransposeCodec(order=(0, 1, 2, 4, 3)),
        "serializer": ShardingCodec(chunk_shape=(1, 1, 1, 8, 8)),
    },
    "shards in shards": {
        "chunks": (2, 2, 1, 40, 48),
        "compressors": None,
        "serializer": ShardingCodec(
            chunk_shape=(1, 2, 1, 20, 24), codecs=[ShardingCodec(chunk_shape=(1, 1, 1, 10, 12))]
        ),
    },
    "chunks larger than the image": {"chunks": (1, 1, 4, 64, 64)},
    "chunks of several frames": {"chunks": (2, 1, 1, 16, 48)},
    "chunks of all channels": {"chunks": (1, 2, 1, 40, 48)},
    "one chunk": {"chunks": SHAPE},
    "v2, one chunk larger than the image": v2(chunks=(9, 9, 9, 99, 99)),
    "another fill value": {"fill_value": 7},
    "v2 another fill value": v2(fill_value=7),
    "fill value NaN": {"dtype": "f4", "fill_value": np.nan},
    "v2 without fill value": v2(fill_value=None),
    "dataset s0": {"dataset": "s0"},
    "v2 dataset s0": v2(dataset="s0"),
    "dataset below a group": {"dataset": "raw/full"},
    "space in the path": {"name": "my plate ä %20.zarr"},
    "no suffix": {"name": "plate"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fit_reads_the_pixels_that_were_written(odd_plate, layout):
    assert_read_as_written(*odd_plate(**LAYOUTS[layout]))


@pytest.mark.parametrize(
    "layout", ["v2 >u2", "v2 columns first", "v2 dots", "v3 blosc", "v3 big-endian", "sharded", "fill value NaN"]
)
def test_a_worker_that_cannot_use_tensorstore_reads_the_pixels_that_were_written(odd_plate, monkeypatch, layout):
    use_zarr(monkeypatch)
    assert_read_as_written(*odd_plate(**LAYOUTS[layout]))


@pytest.mark.parametrize("layout", ["v2 >u2", "v2 delta", "v2 lzma ", "sharded, transposed"])
def test_checking_all_pixels_excludes_none_of_them(odd_plate, layout):
    assert_read_as_written(*odd_plate(**LAYOUTS[layout]), pixels="all")


def write_two_wells(folder, **image_of_third):
    """Write a plate whose metadata names first a well that no condition names."""
    plate = OddPlate(folder / "plate.zarr")
    plate.write_wells({"C/1": [], "A/1": ["0"], "B/1": ["0"]})
    images = {position: noise(seed) for seed, position in enumerate(POSITIONS)}
    for position, image in images.items():
        plate.write_image(position, image, channels=CHANNELS)
    return plate, images


def add_other_well(plate, image, **options):
    plate.write_wells({"C/1": ["0"], "A/1": ["0"], "B/1": ["0"]})
    plate.write_image("C/1/0", image, **options)


OTHER_WELLS = {
    "missing": lambda plate: None,
    "a named pipe": lambda plate: os.mkfifo(plate.path / "C"),
    "one channel": lambda plate: add_other_well(plate, noise(2, shape=(3, 1, 1, 40, 48)), channels=["Nuclei"]),
    "other channels": lambda plate: add_other_well(plate, noise(2), channels=["Nuclei", "Phase3D"]),
    "no names of channels": lambda plate: add_other_well(plate, noise(2)),
    "other axes": lambda plate: add_other_well(plate, noise(2)[0], axes="czyx", chunks=CHUNKS[1:]),
    "other version": lambda plate: add_other_well(plate, noise(2), axes=None),
    "small": lambda plate: add_other_well(plate, noise(2, shape=(1, 2, 1, 4, 4)), channels=CHANNELS),
    "complex": lambda plate: add_other_well(plate, noise(2, np.complex64), channels=CHANNELS),
}


@pytest.mark.parametrize("other", OTHER_WELLS)
def test_a_well_that_no_condition_names_does_not_matter(tmp_path, other):
    plate, images = write_two_wells(tmp_path)
    OTHER_WELLS[other](plate)
    assert_read_as_written(experiment_of(plate.path), images)


def test_each_position_gives_the_index_of_a_channel(tmp_path):
    plate, images = write_two_wells(tmp_path)
    shutil.rmtree(plate.path / "B/1/0")
    image = noise(5, shape=(3, 3, 1, 40, 48))
    plate.write_image("B/1/0", image, channels=["Virus", "Nuclei", "Phase3D"])
    images["B/1/0"] = image[:, [2, 0]]
    assert_read_as_written(experiment_of(plate.path), images)


def test_channels_without_names_are_called_by_their_index(odd_plate):
    experiment, images = odd_plate(channels=None)
    assert_read_as_written(replace(experiment, channels=["0", "1"]), images)
    table = build(replace(experiment, channels=["1"]))
    np.testing.assert_array_equal(read_all(table), crops_of(table, images, [1]))


def edit_attributes(path, change):
    """Change the attributes of a group, in the metadata of zarr 2 or 3."""
    file = path / ("zarr.json" if (path / "zarr.json").exists() else ".zattrs")
    content = json.loads(file.read_text())
    change(content["attributes"]["ome"] if file.name == "zarr.json" else content)
    file.write_text(json.dumps(content))


def wells_of(ome):
    return ome["plate"]["wells"]


def axes_of(ome):
    return ome["multiscales"][0]["axes"]


def add_acquisitions(ome):
    ome["plate"] |= {"acquisitions": [{"id": 1}, {"id": 2}], "field_count": 1, "name": "ä plate"}


METADATA = {
    "acquisitions": ("", add_acquisitions),
    "no rows and columns": ("", lambda ome: [ome["plate"].pop(name) for name in ("rows", "columns")]),
    "rows of another plate": ("", lambda ome: ome["plate"].update(rows=[{"name": "X"}])),
    "a name that is not alphanumeric": ("", lambda ome: wells_of(ome).append({"path": "my row/1.5"})),
    "slashes around the name of a well": ("", lambda ome: [w.update(path=f"/{w['path']}/") for w in wells_of(ome)]),
    "unit that is not in the specification": ("A/1/0", lambda ome: axes_of(ome)[3].update(unit="pixel")),
    "axes in capitals": ("A/1/0", lambda ome: [axis.update(name=axis["name"].upper()) for axis in axes_of(ome)]),
    "unknown color": ("A/1/0", lambda ome: ome["omero"]["channels"][0].update(color="chartreuse?", window={})),
    "patch release": ("A/1/0", lambda ome: ome.update(version="0.5.2")),
    "a label without number": ("A/1/0", lambda ome: ome.update(labels=["x"], plate="y")),
}


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_that_do_not_matter_are_not_checked(odd_plate, metadata):
    experiment, images = odd_plate()
    group, change = METADATA[metadata]
    edit_attributes(experiment.plate / group, change)
    assert_read_as_written(experiment, images)


@pytest.mark.parametrize("version", ["0.1", "0.4", None])
def test_the_version_of_a_plate_of_ngff_0_4_does_not_matter(odd_plate, version):
    experiment, images = odd_plate(zarr_format=2)
    edit_attributes(experiment.plate, lambda ome: ome["plate"].update(version=version))
    assert_read_as_written(experiment, images)


def test_consolidated_metadata_that_are_outdated_do_not_matter(odd_plate):
    experiment, images = odd_plate(zarr_format=2)
    zarr.consolidate_metadata(str(experiment.plate), zarr_format=2)
    path = experiment.plate / ".zmetadata"
    path.write_text(path.read_text().replace("Virus", "GFP").replace('"<u2"', '"<u4"'))
    assert_read_as_written(experiment, images)


def test_a_linked_plate_without_write_permission_is_read(odd_plate, tmp_path):
    experiment, images = odd_plate()
    link = tmp_path / "link.zarr"
    link.symlink_to(experiment.plate, target_is_directory=True)
    (experiment.plate / "A").chmod(0o555)
    experiment.plate.chmod(0o555)
    try:
        assert_read_as_written(replace(experiment, plate=link), images)
    finally:
        experiment.plate.chmod(0o755)
        (experiment.plate / "A").chmod(0o755)


def test_a_path_with_dots_is_read_with_tensorstore(odd_plate, tmp_path, caplog):
    experiment, images = odd_plate()
    (tmp_path / "project").mkdir()
    assert_read_as_written(replace(experiment, plate=tmp_path / "project" / ".." / experiment.plate.name), images)
    assert "zarr-python" not in caplog.text


def make_archive(path):
    shutil.make_archive(str(path), "zip", path)
    return path.with_name(f"{path.name}.zip")


def rename_archive(path):
    archive = make_archive(path)
    return archive.rename(archive.with_suffix(".ozx"))


def set_version(version):
    def change(path):
        for group in ("", "A/1", "A/1/0", "B/1", "B/1/0"):
            edit_attributes(path / group, lambda ome: ome.update(version=version))
        return path

    return change


def remove_metadata(path):
    (path / "zarr.json").unlink()
    return path


def make_pipe(name):
    def change(path):
        (path / name).unlink()
        os.mkfifo(path / name)
        return path

    return change


def make_pipe_as_plate(path):
    os.mkfifo(path.with_name("pipe"))
    return path.with_name("pipe")


def deepen(path):
    (path / "A/1/0/zarr.json").write_text("[" * 100_000)
    return path


# For each: how to change the plate, which path to give, and what the message says.
REFUSED = {
    "version 0.6": (set_version("0.6"), "version 0.6 of OME-NGFF, which is not supported; 0.4 and 0.5 are: write it"),
    "version 0.6.dev2": (set_version("0.6.dev2"), "has version 0.6.dev2 of OME-NGFF, .* ngff-zarr .*-version 0.5"),
    "version 1.0": (set_version("1.0"), "version 1.0 of OME-NGFF, which is not supported"),
    "version 0.3": (set_version("0.3"), "position A/1/0 of plate .* version 0.3 of OME-NGFF, which is not supported"),
    "well": (lambda path: path / "A/1", "not an OME-Zarr plate, .*: it is a single well; give the directory of"),
    "row": (lambda path: path / "A", "not an OME-Zarr plate, image or folder of images: .* no OME-Zarr image in it"),
    "array": (lambda path: path / "A/1/0/0", "not an OME-Zarr plate"),
    "no metadata": (remove_metadata, "it has no metadata of OME-Zarr, and there is no OME-Zarr image in it"),
    "zip": (make_archive, r"plate must be a directory, got a file: .*zip; unpack an archive first"),
    "ozx": (rename_archive, r"plate must be a directory, got a file: .*ozx; a single-file OME-Zarr .* unpack it: uvx"),
    "named pipe": (make_pipe_as_plate, "plate must be a directory, got a named pipe: .*pipe"),
    "device": (lambda path: path / "/dev/zero", "plate must be a directory, got a device: /dev/zero"),
    **{
        f"named pipe {name}": (make_pipe(name), "must be a regular file, got a named pipe: .*zarr.json")
        for name in ("zarr.json", "A/1/zarr.json", "A/1/0/zarr.json", "A/1/0/0/zarr.json")
    },
    "named pipe as a chunk": (make_pipe("A/1/0/0/c/0/0/0/0/0"), "a chunk .* must be a regular file, got a named pipe"),
    "deep metadata": (deepen, "cannot read position A/1/0"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_is_not_a_plate_is_refused_in_one_line(odd_plate, refused):
    experiment, _ = odd_plate()
    change, message = REFUSED[refused]
    with pytest.raises(ProjectError, match=message) as error:
        build(replace(experiment, plate=change(experiment.plate)))
    assert "damaged" not in str(error.value) or refused == "deep metadata"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("axes", "reader"),
    [*((axes, "tensorstore") for axes in ("tcyx", "tzyx", "tyx", "czyx", "yx")), ("tyx", "zarr-python")],
)
def test_an_axis_that_an_image_lacks_has_length_1(tmp_path, monkeypatch, axes, reader):
    if reader == "zarr-python":
        use_zarr(monkeypatch)
    lengths = dict(zip("tczyx", SHAPE, strict=True)) | {"z": 2}
    shape = tuple(lengths[axis] for axis in axes)
    plate = OddPlate(tmp_path / "plate.zarr", zarr_format=2)
    plate.write_wells({well: ["0"] for well in WELLS})
    images = {position: noise(seed, shape=shape) for seed, position in enumerate(POSITIONS)}
    channels = CHANNELS if "c" in axes else CHANNELS[:1]
    for position, image in images.items():
        plate.write_image(position, image, axes=axes, chunks=(1,) * (len(axes) - 2) + (24, 32), channels=channels)
    images = {name: image.reshape([lengths[x] if x in axes else 1 for x in "tczyx"]) for name, image in images.items()}
    n_frames = 3 if "t" in axes else 1
    experiment = experiment_of(plate.path, channels=channels, n_frames=n_frames)
    positive = POSITIVE if "t" in axes else PositiveConfig(min_frames=0, max_frames=0)
    table = build_anchor_table([experiment], positive, CropSettings(crop=CROP, z_slices=2 if "z" in axes else 1))
    assert len(table.observations) == 2 * len(images) * n_frames
    check_sources(table)
    np.testing.assert_array_equal(read_all(table), crops_of(table, images, range(len(channels))))


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("tzcyx", (3, 1, 2, 40, 48)), ("tcxy", (3, 2, 48, 40)), ("tcq", (3, 2, 40)), ("ctyx", SHAPE[1:])],
)
def test_images_with_axes_that_cannot_be_read_are_refused_in_one_line(tmp_path, axes, shape):
    plate = OddPlate(tmp_path / "plate.zarr")
    plate.write_wells({well: ["0"] for well in WELLS})
    for position in POSITIONS:
        plate.write_image(position, noise(0, shape=shape), axes=axes, chunks=shape, channels=CHANNELS)
    rule = f"images must have the axes T, C, Z, Y, X in this order, .*, got {', '.join(axes.upper())} in position"
    with pytest.raises(ProjectError, match=rule) as error:
        build(experiment_of(plate.path))
    assert "write them with their axes in this order" in str(error.value)
    assert "\n" not in str(error.value)


def test_axes_with_other_names_are_known_by_their_type(odd_plate):
    experiment, images = odd_plate()
    for position in POSITIONS:
        edit_attributes(experiment.plate / position, lambda ome: axes_of(ome)[1].update(name="wavelength"))
    assert_read_as_written(experiment, images)


def test_an_empty_name_of_a_channel_is_none(odd_plate):
    experiment, images = odd_plate(channels=["", ""])
    assert_read_as_written(replace(experiment, channels=["0", "1"]), images)


@pytest.mark.parametrize("reader", ["tensorstore", "zarr-python"])
@pytest.mark.parametrize("options", [{}, v2()])
def test_pixels_may_be_true_and_false(tmp_path, monkeypatch, reader, options):
    if reader == "zarr-python":
        use_zarr(monkeypatch)
    experiment, images = write_odd_plate(tmp_path, dtype="?", fill_value=False, **options)
    assert_read_as_written(experiment, images, pixels="all")


@pytest.fixture
def opened():
    """The paths that this process opens or lists, in Python."""
    paths, listening = [], [True]

    def hook(event, arguments):
        if (
            listening[0]
            and event in ("open", "os.listdir", "os.scandir")
            and isinstance(arguments[0], (str, os.PathLike))
        ):
            paths.append(os.fspath(arguments[0]))

    sys.addaudithook(hook)  # cannot be removed
    yield paths
    listening[0] = False


def test_unused_wells_are_never_opened(odd_plate, opened):
    experiment, images = odd_plate()
    more = OddPlate(experiment.plate.with_name("more.zarr"))
    more.write_wells({"A/1": ["0", "1"], "A/2": ["0"], "B/1": ["0"], "H/12": ["0"]})
    for position in (*POSITIONS, "A/1/1", "A/2/0"):
        shutil.copytree(experiment.plate / POSITIONS[0], more.path / position, dirs_exist_ok=True)
    shutil.rmtree(more.path / "B/1/0")
    shutil.copytree(experiment.plate / "B/1/0", more.path / "B/1/0")
    opened.clear()
    conditions = {"A/1/0": "mock", "B/1": "infected"}
    assert_read_as_written(replace(experiment, plate=more.path, conditions=conditions), images)
    used = {path.partition("more.zarr/")[2] for path in opened if "more.zarr/" in path}
    assert any(path.startswith("A/1/0/") for path in used)
    assert not [path for path in used if path.startswith(("A/1/1", "A/2", "H"))]
