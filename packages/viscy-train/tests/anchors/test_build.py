import errno
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from iohub.ngff import open_ome_zarr

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_settings, check_sources
from viscy_train.anchors.summary import print_summary
from viscy_train.anchors.table import COLUMNS, AnchorTable, Exclusion
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.console import make_console
from viscy_train.errors import ProjectError, UserError
from viscy_train.experiments.experiments_file import Experiment
from viscy_train.plates.plate import write_plate
from viscy_train.tracks.tracks import write_tracks

POSITIVE = PositiveConfig(min_frames=1, max_frames=2)
POSITIONS = ("A/1/0", "A/1/1", "B/1/0")
SHAPE = (6, 2, 3, 40, 48)
CHUNKS = (1, 1, 1, 20, 24)
# Track 1 divides into 2 and 3 after frame 2; track 4 is in the last corner; track 5 has one frame.
TRACKS = pd.DataFrame(
    [
        *((1, -1, t, 9.0, 9.0) for t in range(3)),
        *((track, 1, t, 9.0 + track, 9.0) for track in (2, 3) for t in range(3, 6)),
        *((4, -1, t, 39.4, 47.4) for t in range(6)),
        (5, -1, 0, 20.0, 20.0),
    ],
    columns=["track_id", "parent_track_id", "t", "y", "x"],
)
LAYOUTS = {
    "0.4": {"version": "0.4"},
    "0.5": {"version": "0.5"},
    "sharded": {"version": "0.5", "shards_ratio": (2, 1, 1, 2, 2)},
}


def write_experiment(folder, name="monday", *, images=None, version="0.5", chunks=CHUNKS, shards_ratio=None, seed=0):
    """Write a plate of noise, with the same tracks in each position, and return the experiment."""
    rng = np.random.default_rng(seed)
    with open_ome_zarr(
        folder / f"{name}.zarr", layout="hcs", mode="w-", channel_names=["Phase3D", "Virus"], version=version
    ) as plate:
        for position in POSITIONS:
            image = rng.integers(1, 1000, SHAPE).astype(np.uint16)
            image = (images or {}).get(position, image)
            plate.create_position(*position.split("/")).create_image(
                "0", image, chunks=chunks, shards_ratio=shards_ratio
            )
            path = folder / name / f"{position}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            TRACKS.to_csv(path, index=False)
    return Experiment(
        name=name,
        plate=folder / f"{name}.zarr",
        tracks=folder / name,
        channels=["Virus", "Phase3D"],
        conditions={"A/1": "mock", "B/1": "infected"},
        minutes_per_frame=30,
        hour_of_infection=1,
    )


def build(*experiments, positive=POSITIVE, crop=16, z_slices=1, **options):
    """Build the anchor table of some experiments, with defaults for the settings."""
    return build_anchor_table(list(experiments), positive, CropSettings(crop=crop, z_slices=z_slices), **options)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment shared by all tests of this file; tests must not change it."""
    # One chunk per position: few files, which are fast to copy.
    return write_experiment(tmp_path_factory.mktemp("experiment"), chunks=SHAPE)


@pytest.fixture
def monday(experiment, tmp_path):
    """A copy of the experiment, for tests that damage it."""
    shutil.copytree(experiment.plate.parent, tmp_path, dirs_exist_ok=True)
    return replace(experiment, plate=tmp_path / "monday.zarr", tracks=tmp_path / "monday")


def image_file(experiment, position, *names):
    return experiment.plate.joinpath(position, "0", *names)


def test_the_table_is_complete_sorted_and_typed(experiment, tmp_path):
    friday = write_experiment(tmp_path, "friday", seed=1)
    # In the order of the experiments, not sorted by name.
    table = build(experiment, friday)
    observations = table.observations
    assert list(observations.columns) == COLUMNS
    assert isinstance(observations.index, pd.RangeIndex)
    assert observations["experiment"].cat.categories.tolist() == ["monday", "friday"]
    assert observations["condition"].cat.categories.tolist() == ["infected", "mock"]
    assert observations["position"].cat.categories.tolist() == list(POSITIONS)
    integers = ["track_id", "parent_track_id", "lineage_id", "t"]
    assert (observations[integers].dtypes == "int64").all()
    assert (observations[["hours_post_infection", "y", "x"]].dtypes == "float64").all()
    assert observations["has_positive"].dtype == bool
    codes = observations[["experiment", "position"]].apply(lambda names: names.cat.codes)
    order = codes.join(observations[["track_id", "t"]])
    pd.testing.assert_frame_equal(order, order.sort_values(list(order.columns)))
    assert len(observations) == 2 * 3 * len(TRACKS)
    assert observations["lineage_id"].nunique() == 2 * 3 * 3
    assert (observations["hours_post_infection"] == observations["t"] / 2 - 1).all()
    assert (observations["well"].astype(str) == observations["position"].astype(str).str[:3]).all()
    assert set(observations["track_id"][~observations["has_positive"]]) == {5}
    reason = "without another frame of their lineage 1 to 2 frames away"
    assert table.excluded == [
        Exclusion(experiment=name, condition=condition, reason=reason, n_observations=n)
        for name in ("monday", "friday")
        for condition, n in (("mock", 2), ("infected", 1))
    ]


def test_a_table_read_from_disk_equals_the_one_written(experiment, tmp_path):
    table = build(experiment)
    table.write(tmp_path / "anchors.parquet")
    loaded = AnchorTable.read(tmp_path / "anchors.parquet")
    pd.testing.assert_frame_equal(loaded.observations, table.observations)
    assert loaded.intensity == table.intensity
    assert loaded.excluded == table.excluded
    check_settings(loaded, [experiment], POSITIVE, CropSettings(crop=16))
    check_sources(loaded)


def test_the_keys_of_the_file_stay_those_of_earlier_releases(experiment, tmp_path):
    """Tables that users have built must stay readable."""
    table = build(experiment)
    table.write(tmp_path / "anchors.parquet")
    header = json.loads(pq.read_schema(tmp_path / "anchors.parquet").metadata[b"viscy_train"])
    assert header["version"] == 2
    assert {"crop": 16, "z_slices": 1}.items() <= header["crops"].items()
    assert {"min_frames": 1, "max_frames": 2}.items() <= header["positive"].items()
    assert header["brightness"] == table.intensity
    assert header["tracks"] == table.tracks
    assert [one["cells"] for one in header["dropped"]] == [one.n_observations for one in table.excluded]
    assert set(header["dropped"][0]) == {"experiment", "condition", "reason", "cells"}


def test_a_table_of_another_format_version_is_refused(experiment, tmp_path):
    path = tmp_path / "anchors.parquet"
    build(experiment).write(path)
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"viscy_train"]) | {"version": 99}
    pq.write_table(table.replace_schema_metadata({b"viscy_train": json.dumps(header)}), path)
    with pytest.raises(UserError, match=r"anchors\.parquet .*: format version must be 1 or 2, got 99; rebuild it with"):
        AnchorTable.read(path)


def test_one_parquet_file_of_tracks_gives_the_same_table(experiment, tmp_path):
    tracks = pd.concat([TRACKS.assign(fov_name=f"/{position}") for position in POSITIONS])
    tracks.to_parquet(tmp_path / "tracks.parquet")
    from_parquet = build(replace(experiment, tracks=tmp_path / "tracks.parquet"))
    pd.testing.assert_frame_equal(from_parquet.observations, build(experiment).observations)


def test_intensity_is_measured_in_the_middle_slice_in_channel_order(experiment):
    with open_ome_zarr(experiment.plate, layout="hcs", mode="r") as plate:
        pixels = np.stack([plate[position]["0"][:, [1, 0], 1] for position in POSITIONS]).astype(float)
    expected = [[pixels[:, :, channel].mean(), pixels[:, :, channel].std()] for channel in range(2)]
    np.testing.assert_allclose(build(experiment).intensity["monday"], expected, rtol=1e-6)


def test_the_intensity_of_a_bright_channel_with_little_contrast_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    images = {position: (1e4 + rng.normal(size=SHAPE)).astype(np.float32) for position in POSITIONS}
    experiment = write_experiment(tmp_path, images=images)
    for mean, std in build(experiment).intensity["monday"]:
        assert mean == pytest.approx(1e4, abs=0.1)
        assert std == pytest.approx(1, rel=0.02)


@pytest.mark.slow
def test_the_intensity_of_many_positions_covers_the_time_course(tmp_path):
    """One frame of each of forty positions is sampled, and the images get brighter over time."""
    names = [f"A/1/{number}" for number in range(40)]
    # Frames must not be constant.
    frames = np.arange(8)[:, None, None, None, None] * 100 + np.arange(256).reshape(16, 16) % 3
    frames = frames.astype(np.uint16)
    write_plate(tmp_path / "plate.zarr", ["GFP"], dict.fromkeys(names, frames))
    for name in names:
        tracks = pd.DataFrame({"track_id": 1, "t": range(8), "y": 8.0, "x": 8.0})
        write_tracks(tmp_path / "tracks" / f"{name}.csv", tracks.assign(id=-1, parent_track_id=-1, parent_id=-1))
    experiment = Experiment(
        name="monday",
        plate=tmp_path / "plate.zarr",
        tracks=tmp_path / "tracks",
        channels=["GFP"],
        conditions={"A/1": "mock"},
        minutes_per_frame=30,
        hour_of_infection=0,
    )
    ((mean, std),) = build(experiment, crop=16).intensity["monday"]
    assert mean == pytest.approx(351, abs=50)
    assert std == pytest.approx(np.arange(8).std() * 100, rel=0.2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_observations_in_missing_chunks_are_excluded_and_counted(tmp_path, layout):
    rng = np.random.default_rng(0)
    images = {position: rng.integers(1, 1000, SHAPE).astype(np.uint16) for position in POSITIONS}
    images["A/1/0"][4] = 0  # a blank frame
    images["A/1/1"][2, 0, 1, :20, :24] = 0  # a tile of one channel in the middle slice, with tracks 1 to 3
    images["B/1/0"][5, :, 2] = 0  # a slice outside every crop
    experiment = write_experiment(tmp_path, images=images, **LAYOUTS[layout])
    table = build(experiment)
    kept = table.observations.groupby("position", observed=True)
    assert 4 not in set(kept.get_group("A/1/0")["t"])
    tile = kept.get_group("A/1/1")
    assert tile["track_id"][tile["t"] == 2].tolist() == [4]
    assert len(kept.get_group("B/1/0")) == len(TRACKS)
    counts = {one.reason: one.n_observations for one in table.excluded}
    assert counts["excluded: a chunk of the frame is missing from the plate (blank or lost)"] == 3 + 1
    # The blank frame does not count as dark pixels.
    assert min(mean for mean, _ in table.intensity["monday"]) > 490


@pytest.mark.parametrize(
    ("layout", "file", "frames"),
    [("0.4", "3/0/1/0/0", {3}), ("0.5", "c/3/0/1/0/0", {3}), ("sharded", "c/1/0/1/0/0", {2, 3})],
)
def test_observations_in_a_deleted_chunk_file_are_excluded(tmp_path, layout, file, frames):
    experiment = write_experiment(tmp_path, **LAYOUTS[layout])
    image_file(experiment, "A/1/0", file).unlink()
    table = build(experiment)
    per_frame = table.observations[table.observations["position"] == "A/1/0"].groupby("t").size()
    assert {t for t in range(6) if per_frame.get(t, 0) < (TRACKS["t"] == t).sum()} == frames


def test_excluded_observations_still_connect_a_lineage(tmp_path):
    rng = np.random.default_rng(0)
    images = {"A/1/0": rng.integers(1, 1000, SHAPE).astype(np.uint16)}
    images["A/1/0"][:3, :, :, :20, :24] = 0  # all of track 1
    observations = build(write_experiment(tmp_path, images=images)).observations
    first = observations[observations["position"] == "A/1/0"]
    assert set(first["track_id"]) == {2, 3, 4}
    assert first.groupby("track_id")["lineage_id"].first().nunique() == 2


def state_seconds(experiment, position, seconds):
    """Write the time between two frames into the metadata of a position, in seconds."""
    with open_ome_zarr(experiment.plate / position, mode="r+") as image:
        multiscale = image.metadata.multiscales[0]
        multiscale.axes[0].unit = "second"
        multiscale.datasets[0].coordinate_transformations[0].scale = [seconds, 1.0, 1.0, 1.0, 1.0]
        image.dump_meta()


def test_an_interval_in_the_metadata_that_contradicts_the_experiment_is_a_warning(monday, capsys):
    state_seconds(monday, "A/1/1", 600.0)
    state_seconds(monday, "B/1/0", 1801.0)
    build(monday)
    (warning,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning"))
    assert warning == (
        "Warning: monday: the metadata of the images state 10 minutes per frame, but minutes_per_frame is 30; correct "
        "the one that is wrong (A/1/1)"
    )


def test_an_experiment_of_blank_frames_is_refused(tmp_path):
    images = dict.fromkeys(POSITIONS, np.zeros(SHAPE, np.uint16))
    with pytest.raises(
        ProjectError,
        match=r"'mock' has no anchors \(32 observations excluded: a chunk .*lost\)\); remove A/1 from .*\n.*'infected'",
    ):
        build(write_experiment(tmp_path, images=images))


def make_image_with_nan(where):
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32) + 1
    image[where] = np.nan
    return image


def test_observations_with_invalid_pixels_are_reported_or_excluded(tmp_path):
    # Only in frame 4, at tracks 2 and 3.
    experiment = write_experiment(tmp_path, images={"A/1/1": make_image_with_nan((4, 1, 1, 12, 12))})
    with pytest.raises(
        ProjectError, match=r"position A/1/1, frame 4 has pixels that are NaN or infinite; .*--pixels all"
    ):
        build(experiment)
    table = build(experiment, pixels="all")
    reason = "excluded: pixels cannot be read, or are NaN or infinite"
    assert Exclusion(experiment="monday", condition="mock", reason=reason, n_observations=2) in table.excluded
    in_frame = table.observations[(table.observations["position"] == "A/1/1") & (table.observations["t"] == 4)]
    assert in_frame["track_id"].tolist() == [4]
    assert np.isfinite(table.intensity["monday"]).all()


def test_invalid_pixels_outside_all_crops_are_ignored(tmp_path):
    image = make_image_with_nan((slice(None), slice(None), slice(None), slice(0, 3), slice(40, 44)))
    table = build(write_experiment(tmp_path, images={"A/1/0": image}))
    assert len(table.observations) == 3 * len(TRACKS)
    assert np.isfinite(table.intensity["monday"]).all()


@pytest.mark.parametrize(("layout", "file"), [("0.4", "3/0/1/0/0"), ("0.5", "c/3/0/1/0/0"), ("sharded", "c/1/0/1/0/0")])
def test_a_truncated_chunk_is_reported_or_its_observations_are_excluded(tmp_path, layout, file):
    experiment = write_experiment(tmp_path, **LAYOUTS[layout])
    path = image_file(experiment, "A/1/0", file)
    path.write_bytes(path.read_bytes()[:7])
    with pytest.raises(ProjectError, match=r"position A/1/0, frame [23] cannot be read \(.*\); restore it"):
        build(experiment)
    observations = build(experiment, pixels="all").observations
    in_frame = observations[(observations["position"] == "A/1/0") & (observations["t"] == 3)]
    # Without shards, a damaged file is one chunk, so only the observations in it are affected.
    assert in_frame["track_id"].tolist() == ([] if layout == "sharded" else [4])


def edit_csv(**values):
    def edit(experiment):
        path = experiment.tracks / "A/1/0.csv"
        pd.read_csv(path).assign(**values).to_csv(path, index=False)

    return edit


def edit_json(*names, **values):
    def edit(experiment):
        path = experiment.plate.joinpath(*names)
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def truncate(*names):
    def edit(experiment):
        path = experiment.plate.joinpath(*names)
        path.write_bytes(path.read_bytes()[:-30])

    return edit


def replace_images(image):
    def edit(experiment):
        shutil.rmtree(experiment.plate)
        shutil.rmtree(experiment.tracks)
        write_experiment(experiment.plate.parent, images=dict.fromkeys(POSITIONS, image))

    return edit


def rename_channel(experiment):
    path = experiment.plate / "B/1/0/zarr.json"
    path.write_text(path.read_text().replace("Virus", "GFP"))


def swap_axes(experiment):
    path = experiment.plate / "A/1/0/zarr.json"
    text = path.read_text().replace('"name": "C"', '"name": "W"').replace('"name": "Z"', '"name": "C"')
    path.write_text(text.replace('"name": "W"', '"name": "Z"').replace('"type": "channel"', '"type": "space"', 1))


def no_damage(experiment):
    pass


# For each: how to damage the files, changes of the experiment, changes of the arguments, and the expected message.
MISMATCHES = {
    "missing plate": (
        lambda one: shutil.rmtree(one.plate),
        {},
        {},
        r"plate not found: .*monday\.zarr; correct `plate`",
    ),
    "plate is an empty folder": (
        lambda one: (shutil.rmtree(one.plate), one.plate.mkdir()),
        {},
        {},
        r"monday\.zarr is not an OME-Zarr plate",
    ),
    "plate is a position": (
        no_damage,
        {"plate": "monday.zarr/A/1/0", "conditions": {"A/1": "mock"}},
        {},
        "plate .*monday.zarr/A/1/0 has no image 'A/1'; it has 0; correct the name in `conditions`",
    ),
    "well without fields of view": (
        edit_json("A", "1", "zarr.json", attributes={"ome": {"version": "0.5", "well": {"images": []}}}),
        {},
        {},
        r"well A/1 of plate .*monday\.zarr has no fields of view; remove it from `conditions`$",
    ),
    "condition of a well whose fields of view have others": (
        no_damage,
        {"conditions": {"A/1": "mock", "B/1": "infected", "B/1/0": "mock"}},
        {},
        r"condition 'infected' has no anchors \(no observations\); remove B/1 from `conditions`$",
    ),
    "unknown well": (no_damage, {"conditions": {"A/1": "mock", "C/9": "x"}}, {}, "has no well 'C/9'; it has A/1, B/1"),
    "unknown channel": (no_damage, {"channels": ["GFP"]}, {}, "has no channel 'GFP'; it has Phase3D, Virus"),
    "missing tracks": (lambda one: shutil.rmtree(one.tracks), {}, {}, "tracks not found: .*; correct `tracks`"),
    "one position without tracks": (
        lambda one: (one.tracks / "A/1/1.csv").unlink(),
        {},
        {},
        r"tracks file not found: .*A/1/1\.csv; each position of a well in `conditions` needs tracks",
    ),
    "several positions without tracks": (
        lambda one: shutil.rmtree(one.tracks / "A"),
        {},
        {},
        r"tracks file not found: .*A/1/0\.csv; .* 1 more: A/1/1",
    ),
    "tracks with a missing value": (
        edit_csv(y=[None] + [1.0] * 15),
        {},
        {},
        r"'y' of tracks has no value in data row 1",
    ),
    "truncated metadata of the plate": (
        truncate("zarr.json"),
        {},
        {},
        r"monday\.zarr is not an OME-Zarr plate|is damaged",
    ),
    "truncated metadata of a well": (
        truncate("B/1/zarr.json"),
        {},
        {},
        "is damaged or incomplete: cannot read well B/1",
    ),
    "truncated metadata of the first position": (
        truncate("A/1/0/zarr.json"),
        {},
        {},
        "damaged or incomplete: cannot read position A/1/0",
    ),
    "truncated metadata of a position": (
        truncate("A/1/1/zarr.json"),
        {},
        {},
        "damaged or incomplete: cannot read position A/1/1",
    ),
    "truncated metadata of an image": (
        truncate("A/1/1/0/zarr.json"),
        {},
        {},
        "damaged or incomplete: cannot read position A/1/1",
    ),
    "other channels in one position": (
        rename_channel,
        {},
        {},
        "position B/1/0 of plate .* has no channel 'Virus'; it has Phase3D, GFP",
    ),
    "array with fewer channels": (
        edit_json("B/1/0/0/zarr.json", shape=[6, 1, 3, 40, 48]),
        {},
        {},
        "the channels that their metadata name, Phase3D, Virus, got 1 in position B/1/0",
    ),
    "axes in the wrong order": (
        swap_axes,
        {},
        {},
        "must have the axes T, C, Z, Y, X in this order, .*, got T, Z, C, Y, X in position A/1/0 .*; write them with",
    ),
    "complex pixels": (
        replace_images(np.ones(SHAPE, np.complex64)),
        {},
        {},
        "must be integers, floats or booleans, got complex64 .* 2 more",
    ),
    "crop too large": (no_damage, {}, {"crop": 41}, "data.crop must fit into the image, 40 x 48 pixels in .*, got 41"),
    "too many slices": (no_damage, {}, {"z_slices": 4}, "data.z_slices must fit into the stack, 3 slices in .*, got 4"),
    "frames after the last image": (
        edit_csv(t=lambda tracks: tracks["t"] + 1),
        {},
        {},
        r"inside the image, t in \[0, 5\], got 6 for track 2 in frame 6 of position A/1/0 .* \(3 rows affected\)",
    ),
    "cells outside the image": (
        edit_csv(x=lambda tracks: tracks["x"] + 0.2),
        {},
        {},
        r"inside the image, x in \[-0.5, 47.5\], got 47.6 for track 4 in frame 0 .* \(6 rows affected\)",
    ),
    "negative coordinates": (
        edit_csv(y=-0.6),
        {},
        {},
        r"y in \[-0.5, 39.5\], got -0.6 for track 1 in frame 0 .* \(16 rows affected\)",
    ),
}


@pytest.mark.parametrize("mismatch", MISMATCHES)
def test_a_mismatch_is_reported_in_one_line(monday, mismatch):
    damage, changes, options, message = MISMATCHES[mismatch]
    damage(monday)
    changes = {key: monday.plate.parent / value if key == "plate" else value for key, value in changes.items()}
    with pytest.raises(ProjectError, match=message) as error:
        build(replace(monday, **changes), **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("experiment 'monday': ")


def test_truncated_metadata_of_an_ngff_0_4_plate_are_reported_in_one_line(tmp_path):
    experiment = write_experiment(tmp_path, version="0.4")
    for names in (("A/1/1/.zattrs",), ("B/1/0/0/.zarray",)):
        truncate(*names)(experiment)
    with pytest.raises(ProjectError, match="found 2 problems") as error:
        build(experiment)
    assert [
        f"position {position} " in line for position, line in zip(("A/1/1", "B/1/0"), error.value.problems, strict=True)
    ] == [True] * 2


def test_all_mismatches_are_reported_at_once(monday, tmp_path):
    friday = replace(monday, name="friday", plate=tmp_path / "nowhere.zarr")
    (monday.tracks / "B/1/0.csv").write_text("")
    with pytest.raises(ProjectError, match="found 4 problems:\n") as error:
        build(replace(monday, channels=["GFP"], conditions={"B/1": "x", "Z/9": "y"}), friday)
    assert len(error.value.problems) == 4
    for word, line in zip(("Z/9", "GFP", "not a CSV", "nowhere"), error.value.problems, strict=True):
        assert word in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"crops": CropSettings(crop=8)},
            "data.crop was 16, is now 8; rebuild it with `viscy-train index --config FILE`",
        ),
        ({"crops": CropSettings(crop=16, z_slices=3)}, "data.z_slices was 1, is now 3"),
        ({"positive": PositiveConfig(min_frames=1, max_frames=3)}, "data.positive.max_frames was 2, is now 3"),
        ({"experiments": []}, r"list of experiments was \['monday'\], is now \[\]"),
        ({"channels": ["Virus"]}, "channels of 'monday' was"),
        ({"conditions": {"A/1": "mock"}}, "conditions of 'monday' was"),
        ({"minutes_per_frame": 15}, "minutes_per_frame of 'monday' was 30, is now 15"),
        ({"hour_of_infection": 0}, "hour_of_infection of 'monday' was 1, is now 0"),
    ],
)
def test_a_table_built_with_other_settings_is_refused(experiment, change, message):
    now = {"experiments": [experiment], "positive": POSITIVE, "crops": CropSettings(crop=16)}
    experiment_changes = {key: value for key, value in change.items() if key not in now}
    now |= {key: value for key, value in change.items() if key in now}
    if experiment_changes:
        now["experiments"] = [replace(experiment, **experiment_changes)]
    with pytest.raises(UserError, match=message) as error:
        check_settings(build(experiment), **now)
    assert "\n" not in str(error.value)


def test_a_table_can_be_used_after_its_plates_have_moved(experiment, tmp_path):
    check_settings(
        build(experiment), [replace(experiment, plate=tmp_path, tracks=tmp_path)], POSITIVE, CropSettings(crop=16)
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda one: shutil.rmtree(one.plate), "plate not found"),
        (lambda one: shutil.rmtree(one.plate / "A/1/1"), "cannot read position A/1/1"),
        (
            edit_json("A/1/0/0/zarr.json", shape=[5, 2, 3, 40, 48]),
            "has 5 frames of 40 x 48 pixels, but the anchor table has",
        ),
        (edit_json("A/1/0/0/zarr.json", shape=[6, 2, 3, 40, 12]), "data.crop must fit into the image, 40 x 12"),
        (
            replace_images(np.ones((6, 2, 3, 39, 48), np.uint16)),
            "of 39 x 48 pixels, .* observations outside; .* 2 more",
        ),
    ],
)
def test_a_plate_that_changed_after_the_build_is_reported(monday, damage, message):
    table = build(monday)
    check_sources(table)
    damage(monday)
    with pytest.raises(ProjectError, match=message) as error:
        check_sources(table)
    assert "\n" not in str(error.value)


def test_the_summary_shows_the_counts_of_each_stratum(experiment):
    text = io.StringIO()
    print_summary(build(experiment), make_console(width=80, file=text))
    rows = [row.split() for row in text.getvalue().splitlines()]
    # Positions, tracks, divisions, rows, anchors, hours.
    assert ["monday", "mock", "2", "10", "2", "32", "30", "-1", "to", "1.5"] in rows
    assert ["monday", "infected", "1", "5", "1", "16", "15", "-1", "to", "1.5"] in rows
    assert "without another frame of their lineage" in " ".join(text.getvalue().split())
    assert "Note" not in text.getvalue()


def test_a_range_of_positives_without_any_anchor_is_refused(experiment):
    rule = r"condition 'mock' has no anchors \(32 observations .*\); widen `data.positive`, or remove A/1 from .*\n"
    with pytest.raises(ProjectError, match=rule):
        build(experiment, positive=PositiveConfig(min_frames=9, max_frames=9))


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"max_frames": 2}, r"its tracks have one frame each, so set `data\.positive\.min_frames` to 0"),
        ({"max_hours": 2}, r"its tracks have one frame each, so set `data\.positive\.min_hours` to 0"),
        ({"match": "t", "differ": "experiment"}, "all observations have the same experiment, so remove it from"),
    ],
)
def test_a_condition_without_anchors_has_the_remedy_that_helps(monday, options, remedy):
    for path in monday.tracks.rglob("*.csv"):
        TRACKS[TRACKS["t"] == 0].to_csv(path, index=False)
    with pytest.raises(ProjectError, match=rf"condition 'mock' has no anchors \(.*; {remedy}.*, or remove A/1 from "):
        build(monday, positive=PositiveConfig(**options))


def test_a_condition_without_anchors_is_refused(monday):
    """A rare condition must not disappear silently."""
    shutil.rmtree(image_file(monday, "B/1/0", "c"))
    with pytest.raises(
        ProjectError, match=r"condition 'infected' has no anchors \(16 .*; remove B/1 from `conditions`$"
    ):
        build(monday)


def test_tracks_that_changed_after_the_build_are_reported(monday):
    table = build(monday)
    check_sources(table)
    path = next(monday.tracks.glob("**/*.csv"))
    before = path.read_text()
    path.write_text(before.replace("\n1,", "\n1 ,", 1))
    with pytest.raises(ProjectError, match=rf"tracks changed after .*{path.relative_to(monday.tracks)}; rebuild it"):
        check_sources(table)
    # Training on another machine does not need the tracks.
    shutil.rmtree(monday.tracks)
    check_sources(table)


def change_channels(experiment, change):
    """Change the channel names in the metadata of all positions."""
    for path in experiment.plate.glob("*/*/*/zarr.json"):
        metadata = json.loads(path.read_text())
        change(metadata["attributes"]["ome"])
        path.write_text(json.dumps(metadata))


def test_channels_without_names_can_be_used_by_index(monday):
    change_channels(monday, lambda ome: ome.pop("omero"))
    with pytest.raises(ProjectError, match="has no channel 'Virus'; it has 0, 1, because its channels have no names"):
        build(monday)
    assert build(replace(monday, channels=["0", "1"])).intensity["monday"]


def test_a_plate_with_two_channels_of_the_same_name_is_refused(monday):
    change_channels(monday, lambda ome: [one.update(label="Virus") for one in ome["omero"]["channels"]])
    with pytest.raises(ProjectError, match=r"has \d channels 'Virus'; give them different names"):
        build(replace(monday, channels=["Virus"]))


@pytest.mark.parametrize("how", ["full disk", "truncated write"])
def test_a_failed_write_keeps_the_previous_table(experiment, tmp_path, monkeypatch, how):
    path = tmp_path / "anchors.parquet"
    table = build(experiment)
    table.write(path)
    before = path.read_bytes()

    def fail(_, where, **options):
        where.write_bytes(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(UserError, match=r"cannot write .*anchors\.parquet: No space left on device"):
        table.write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["anchors.parquet"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -9])
def test_a_truncated_table_is_refused(experiment, tmp_path, keep):
    path = tmp_path / "anchors.parquet"
    build(experiment).write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        UserError, match=r"anchors\.parquet is not an anchor table, or is damaged; build it with"
    ) as error:
        AnchorTable.read(path)
    assert "\n" not in str(error.value)
