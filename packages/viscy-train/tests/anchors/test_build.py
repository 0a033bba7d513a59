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
from rich.console import Console

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.experiments import Experiment
from viscy_train.anchors.plates import write_plate
from viscy_train.anchors.staleness import check_plates, check_table
from viscy_train.anchors.summary import describe
from viscy_train.anchors.table import COLUMNS, AnchorTable
from viscy_train.anchors.tracks import write_tracks
from viscy_train.config.schema import PositiveConfig
from viscy_train.errors import ProjectError, UserError

POSITIVE = PositiveConfig(min_frames=1, max_frames=2)
POSITIONS = ("A/1/0", "A/1/1", "B/1/0")
SHAPE = (6, 2, 3, 40, 48)
CHUNKS = (1, 1, 1, 20, 24)
# Track 1 divides into 2 and 3 after frame 2; track 4 is in the last corner; track 5 is there once.
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
    """Write a plate of noise and the same tracks for each of its positions; return the experiment."""
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


def index_of(*experiments, positive=POSITIVE, crop=16, z_slices=1, **options):
    return build_anchor_table(list(experiments), positive, crop, z_slices, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An experiment, not to be changed."""
    # Of few files, which are copied fast.
    return write_experiment(tmp_path_factory.mktemp("whole"), chunks=SHAPE)


@pytest.fixture
def monday(whole, tmp_path):
    """An experiment to be damaged."""
    shutil.copytree(whole.plate.parent, tmp_path, dirs_exist_ok=True)
    return replace(whole, plate=tmp_path / "monday.zarr", tracks=tmp_path / "monday")


def image_file(experiment, position, *names):
    return experiment.plate.joinpath(position, "0", *names)


def test_the_table_keeps_its_promises(whole, tmp_path):
    friday = write_experiment(tmp_path, "friday", seed=1)
    # In the order of the experiments, not of their names.
    table = index_of(whole, friday)
    cells = table.observations
    assert list(cells.columns) == COLUMNS
    assert isinstance(cells.index, pd.RangeIndex)
    assert cells["experiment"].cat.categories.tolist() == ["monday", "friday"]
    assert cells["condition"].cat.categories.tolist() == ["infected", "mock"]
    assert cells["position"].cat.categories.tolist() == list(POSITIONS)
    integers = ["track_id", "parent_track_id", "lineage_id", "t"]
    assert (cells[integers].dtypes == "int64").all()
    assert (cells[["hours_post_infection", "y", "x"]].dtypes == "float64").all()
    assert cells["has_positive"].dtype == bool
    order = cells[["experiment", "position"]].apply(lambda names: names.cat.codes).join(cells[["track_id", "t"]])
    pd.testing.assert_frame_equal(order, order.sort_values(list(order.columns)))
    assert len(cells) == 2 * 3 * len(TRACKS)
    assert cells["lineage_id"].nunique() == 2 * 3 * 3
    assert (cells["hours_post_infection"] == cells["t"] / 2 - 1).all()
    assert (cells["well"].astype(str) == cells["position"].astype(str).str[:3]).all()
    assert set(cells["track_id"][~cells["has_positive"]]) == {5}
    reason = "no other time of their lineage 1 to 2 frames away"
    assert table.dropped == [
        {"experiment": name, "condition": condition, "reason": reason, "cells": cells}
        for name in ("monday", "friday")
        for condition, cells in (("mock", 2), ("infected", 1))
    ]


def test_the_table_survives_the_disk(whole, tmp_path):
    table = index_of(whole)
    table.write(tmp_path / "anchors.parquet")
    again = AnchorTable.read(tmp_path / "anchors.parquet")
    pd.testing.assert_frame_equal(again.observations, table.observations)
    assert again.brightness == table.brightness
    assert again.dropped == table.dropped
    check_table(again, [whole], POSITIVE, 16, 1)
    check_plates(again)


def test_one_parquet_file_of_tracks_gives_the_same_table(whole, tmp_path):
    tracks = pd.concat([TRACKS.assign(fov_name=f"/{position}") for position in POSITIONS])
    tracks.to_parquet(tmp_path / "tracks.parquet")
    of_parquet = index_of(replace(whole, tracks=tmp_path / "tracks.parquet"))
    pd.testing.assert_frame_equal(of_parquet.observations, index_of(whole).observations)


def test_brightness_is_that_of_the_middle_slice_in_the_order_of_the_channels(whole):
    with open_ome_zarr(whole.plate, layout="hcs", mode="r") as plate:
        pixels = np.stack([plate[position]["0"][:, [1, 0], 1] for position in POSITIONS]).astype(float)
    expected = [[pixels[:, :, channel].mean(), pixels[:, :, channel].std()] for channel in range(2)]
    np.testing.assert_allclose(index_of(whole).brightness["monday"], expected, rtol=1e-6)


def test_brightness_of_a_bright_channel_with_little_contrast_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    images = {position: (1e4 + rng.normal(size=SHAPE)).astype(np.float32) for position in POSITIONS}
    experiment = write_experiment(tmp_path, images=images)
    for mean, deviation in index_of(experiment).brightness["monday"]:
        assert mean == pytest.approx(1e4, abs=0.1)
        assert deviation == pytest.approx(1, rel=0.02)


def test_brightness_of_many_positions_is_that_of_all_times(tmp_path):
    """A frame of each of forty positions, which get brighter with time."""
    names = [f"A/1/{number}" for number in range(40)]
    frames = np.arange(8, dtype=np.uint16)[:, None, None, None, None] * 100 + np.zeros((8, 1, 1, 16, 16), np.uint16)
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
    ((mean, deviation),) = index_of(experiment, crop=16).brightness["monday"]
    assert mean == pytest.approx(350, abs=50)
    assert deviation == pytest.approx(np.arange(8).std() * 100, rel=0.2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cells_in_missing_chunks_are_left_out_and_counted(tmp_path, layout):
    rng = np.random.default_rng(0)
    images = {position: rng.integers(1, 1000, SHAPE).astype(np.uint16) for position in POSITIONS}
    images["A/1/0"][4] = 0  # a blank frame
    images["A/1/1"][2, 0, 1, :20, :24] = 0  # a tile of the middle slice of one channel, where tracks 1 to 3 are
    images["B/1/0"][5, :, 2] = 0  # a slice that no crop has
    experiment = write_experiment(tmp_path, images=images, **LAYOUTS[layout])
    table = index_of(experiment)
    kept = table.observations.groupby("position", observed=True)
    assert 4 not in set(kept.get_group("A/1/0")["t"])
    tile = kept.get_group("A/1/1")
    assert tile["track_id"][tile["t"] == 2].tolist() == [4]
    assert len(kept.get_group("B/1/0")) == len(TRACKS)
    lost = {one["reason"]: one["cells"] for one in table.dropped}
    assert lost["left out: the plate lacks a chunk of their frame, it is blank or lost"] == 3 + 1
    # The blank frame is not counted as dark pixels.
    assert min(mean for mean, _ in table.brightness["monday"]) > 490


@pytest.mark.parametrize(
    ("layout", "file", "frames"),
    [("0.4", "3/0/1/0/0", {3}), ("0.5", "c/3/0/1/0/0", {3}), ("sharded", "c/1/0/1/0/0", {2, 3})],
)
def test_a_file_that_was_lost_is_found_missing(tmp_path, layout, file, frames):
    experiment = write_experiment(tmp_path, **LAYOUTS[layout])
    image_file(experiment, "A/1/0", file).unlink()
    table = index_of(experiment)
    whole_frames = table.observations[table.observations["position"] == "A/1/0"].groupby("t").size()
    assert {t for t in range(6) if whole_frames.get(t, 0) < (TRACKS["t"] == t).sum()} == frames


def test_a_lineage_goes_on_through_cells_that_were_left_out(tmp_path):
    rng = np.random.default_rng(0)
    images = {"A/1/0": rng.integers(1, 1000, SHAPE).astype(np.uint16)}
    images["A/1/0"][:3, :, :, :20, :24] = 0  # all of track 1
    cells = index_of(write_experiment(tmp_path, images=images)).observations
    first = cells[cells["position"] == "A/1/0"]
    assert set(first["track_id"]) == {2, 3, 4}
    assert first.groupby("track_id")["lineage_id"].first().nunique() == 2


def test_an_experiment_of_blank_frames_is_refused(tmp_path):
    images = dict.fromkeys(POSITIONS, np.zeros(SHAPE, np.uint16))
    with pytest.raises(
        ProjectError,
        match=r"'mock' can be an anchor \(32 cells left out: the plate lacks .*lost\); leave out A/1\n.*'infected'",
    ):
        index_of(write_experiment(tmp_path, images=images))


def with_nan(where):
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32) + 1
    image[where] = np.nan
    return image


def test_cells_on_pixels_that_are_no_numbers_are_told_or_left_out(tmp_path):
    # In frame 4 only, at tracks 2 and 3.
    experiment = write_experiment(tmp_path, images={"A/1/1": with_nan((4, 1, 1, 12, 12))})
    with pytest.raises(
        ProjectError, match=r"position A/1/1, frame 4 has pixels that are NaN or infinite; .*--pixels all"
    ):
        index_of(experiment)
    table = index_of(experiment, pixels="all")
    reason = "left out: their pixels cannot be read or are no numbers"
    assert {"experiment": "monday", "condition": "mock", "reason": reason, "cells": 2} in table.dropped
    here = table.observations[(table.observations["position"] == "A/1/1") & (table.observations["t"] == 4)]
    assert here["track_id"].tolist() == [4]
    assert np.isfinite(table.brightness["monday"]).all()


def test_pixels_that_are_no_numbers_beside_the_cells_do_no_harm(tmp_path):
    image = with_nan((slice(None), slice(None), slice(None), slice(0, 3), slice(40, 44)))
    table = index_of(write_experiment(tmp_path, images={"A/1/0": image}))
    assert len(table.observations) == 3 * len(TRACKS)
    assert np.isfinite(table.brightness["monday"]).all()


@pytest.mark.parametrize(("layout", "file"), [("0.4", "3/0/1/0/0"), ("0.5", "c/3/0/1/0/0"), ("sharded", "c/1/0/1/0/0")])
def test_a_chunk_that_was_cut_off_is_told_or_its_cells_are_left_out(tmp_path, layout, file):
    experiment = write_experiment(tmp_path, **LAYOUTS[layout])
    path = image_file(experiment, "A/1/0", file)
    path.write_bytes(path.read_bytes()[:7])
    with pytest.raises(ProjectError, match=r"position A/1/0, frame [23] cannot be read \(.*\); restore it"):
        index_of(experiment)
    cells = index_of(experiment, pixels="all").observations
    left = cells[(cells["position"] == "A/1/0") & (cells["t"] == 3)]
    # A file of one chunk spoils the cells in it alone.
    assert left["track_id"].tolist() == ([] if layout == "sharded" else [4])


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


def cut(*names):
    def edit(experiment):
        path = experiment.plate.joinpath(*names)
        path.write_bytes(path.read_bytes()[:-30])

    return edit


def other_image(image):
    def edit(experiment):
        shutil.rmtree(experiment.plate)
        shutil.rmtree(experiment.tracks)
        write_experiment(experiment.plate.parent, images=dict.fromkeys(POSITIONS, image))

    return edit


def other_channel(experiment):
    path = experiment.plate / "B/1/0/zarr.json"
    path.write_text(path.read_text().replace("Virus", "GFP"))


def other_axes(experiment):
    path = experiment.plate / "A/1/0/zarr.json"
    text = path.read_text().replace('"name": "C"', '"name": "W"').replace('"name": "Z"', '"name": "C"')
    path.write_text(text.replace('"name": "W"', '"name": "Z"').replace('"type": "channel"', '"type": "space"', 1))


def nothing(experiment):
    pass


# What is broken, what the experiment says otherwise, other arguments, and the one line.
BROKEN = {
    "no plate": (lambda one: shutil.rmtree(one.plate), {}, {}, r"there is no plate .*monday\.zarr; correct `plate`"),
    "an empty folder": (
        lambda one: (shutil.rmtree(one.plate), one.plate.mkdir()),
        {},
        {},
        r"monday\.zarr is no HCS OME-Zarr plate",
    ),
    "a position for a plate": (nothing, {"plate": "monday.zarr/A/1/0"}, {}, r"is no HCS OME-Zarr plate"),
    "no such well": (nothing, {"conditions": {"A/1": "mock", "C/9": "x"}}, {}, "has no well 'C/9'; it has A/1, B/1"),
    "no such channel": (nothing, {"channels": ["GFP"]}, {}, "has no channel 'GFP'; it has Phase3D, Virus"),
    "no tracks at all": (lambda one: shutil.rmtree(one.tracks), {}, {}, "there are no tracks .*; correct `tracks`"),
    "a position without tracks": (
        lambda one: (one.tracks / "A/1/1.csv").unlink(),
        {},
        {},
        r"there is no tracks file .*A/1/1\.csv; each position of a well that is used needs some",
    ),
    "several positions without tracks": (
        lambda one: shutil.rmtree(one.tracks / "A"),
        {},
        {},
        r"there is no tracks file .*A/1/0\.csv; .*; likewise 1 more: A/1/1",
    ),
    "tracks with a gap in a column": (
        edit_csv(y=[None] + [1.0] * 15),
        {},
        {},
        r"'y' of tracks has no value in data row 1",
    ),
    "cut metadata of the plate": (cut("zarr.json"), {}, {}, r"monday\.zarr is no HCS OME-Zarr plate|is damaged"),
    "cut metadata of a well": (cut("B/1/zarr.json"), {}, {}, "is damaged or incomplete, well B/1 cannot be read"),
    "cut metadata of the first position": (
        cut("A/1/0/zarr.json"),
        {},
        {},
        "damaged or incomplete, its first position, which names the channels, cannot be read",
    ),
    "cut metadata of a position": (cut("A/1/1/zarr.json"), {}, {}, "damaged or incomplete, position A/1/1"),
    "cut metadata of an image": (cut("A/1/1/0/zarr.json"), {}, {}, "damaged or incomplete, position A/1/1"),
    "another channel in one position": (
        other_channel,
        {},
        {},
        "all positions must have the channels of the first, Phase3D, Virus; position B/1/0 .* has 2: Phase3D, GFP",
    ),
    "an array of fewer channels": (
        edit_json("B/1/0/0/zarr.json", shape=[6, 1, 3, 40, 48]),
        {},
        {},
        "position B/1/0 .* has 1: Phase3D, Virus",
    ),
    "axes in another order": (
        other_axes,
        {},
        {},
        "must have the axes T, C, Z, Y, X, position A/1/0 .* has T, Z, C, Y, X",
    ),
    "complex pixels": (
        other_image(np.ones(SHAPE, np.complex64)),
        {},
        {},
        "must be integers or floats, .*; likewise 2 more",
    ),
    "boolean pixels": (other_image(np.ones(SHAPE, bool)), {}, {}, "must be integers or floats, .* has bool"),
    "crop too large": (nothing, {}, {"crop": 41}, "data.crop must fit into the images, .* has 40 x 48 pixels, got 41"),
    "too many slices": (nothing, {}, {"z_slices": 4}, "data.z_slices must fit into the stack, .* has 3, got 4"),
    "frames beyond the plate": (
        edit_csv(t=lambda tracks: tracks["t"] + 1),
        {},
        {},
        r"inside the image, t in \[0, 5\], got 6 for track 2 in frame 6 of position A/1/0 .* \(3 such rows\)",
    ),
    "cells outside": (
        edit_csv(x=lambda tracks: tracks["x"] + 0.2),
        {},
        {},
        r"inside the image, x in \[0, 47\], got 47.6 for track 4 in frame 0 .* \(6 such rows\)",
    ),
    "negative places": (
        edit_csv(y=-0.6),
        {},
        {},
        r"y in \[0, 39\], got -0.6 for track 1 in frame 0 .* \(16 such rows\)",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_told_in_one_line(monday, what):
    damage, changes, options, message = BROKEN[what]
    damage(monday)
    changes = {key: monday.plate.parent / value if key == "plate" else value for key, value in changes.items()}
    with pytest.raises(ProjectError, match=message) as error:
        index_of(replace(monday, **changes), **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("experiment 'monday': ")


def test_cut_metadata_of_an_old_plate_is_told_in_one_line(tmp_path):
    experiment = write_experiment(tmp_path, version="0.4")
    for names in (("A/1/1/.zattrs",), ("B/1/0/0/.zarray",)):
        cut(*names)(experiment)
    with pytest.raises(ProjectError, match="2 things do not fit") as error:
        index_of(experiment)
    assert [
        f"position {position} " in line for position, line in zip(("A/1/1", "B/1/0"), error.value.problems, strict=True)
    ] == [True] * 2


def test_all_that_does_not_fit_is_told_at_once(monday, tmp_path):
    friday = replace(monday, name="friday", plate=tmp_path / "nowhere.zarr")
    (monday.tracks / "B/1/0.csv").write_text("")
    with pytest.raises(ProjectError, match="4 things do not fit:\n") as error:
        index_of(replace(monday, channels=["GFP"], conditions={"B/1": "x", "Z/9": "y"}), friday)
    assert len(error.value.problems) == 4
    for word, line in zip(("GFP", "Z/9", "no CSV", "nowhere"), error.value.problems, strict=True):
        assert word in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 8}, "data.crop was 16, is 8; build it anew with `viscy-train index --config FILE`"),
        ({"z_slices": 3}, "data.z_slices was 1, is 3"),
        ({"positive": PositiveConfig(min_frames=1, max_frames=3)}, "data.positive.max_frames was 2, is 3"),
        ({"experiments": []}, r"the names of the experiments was \['monday'\], is \[\]"),
        ({"channels": ["Virus"]}, "channels of 'monday' was"),
        ({"conditions": {"A/1": "mock"}}, "conditions of 'monday' was"),
        ({"minutes_per_frame": 15}, "minutes_per_frame of 'monday' was 30, is 15"),
        ({"hour_of_infection": 0}, "hour_of_infection of 'monday' was 1, is 0"),
    ],
)
def test_a_table_of_other_settings_is_refused(whole, change, message):
    now = {"experiments": [whole], "positive": POSITIVE, "crop": 16, "z_slices": 1}
    of_experiment = {key: value for key, value in change.items() if key not in now}
    now |= {key: value for key, value in change.items() if key in now}
    if of_experiment:
        now["experiments"] = [replace(whole, **of_experiment)]
    with pytest.raises(UserError, match=message) as error:
        check_table(index_of(whole), **now)
    assert "\n" not in str(error.value)


def test_a_table_may_be_used_where_its_plates_were_moved_to(whole, tmp_path):
    check_table(index_of(whole), [replace(whole, plate=tmp_path, tracks=tmp_path)], POSITIVE, 16, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda one: shutil.rmtree(one.plate), "there is no plate"),
        (lambda one: shutil.rmtree(one.plate / "A/1/1"), "position A/1/1 cannot be read"),
        (
            edit_json("A/1/0/0/zarr.json", shape=[5, 2, 3, 40, 48]),
            "has 5 frames of 40 x 48 pixels, and the anchor table has",
        ),
        (edit_json("A/1/0/0/zarr.json", shape=[6, 2, 3, 40, 12]), "data.crop must fit into the images"),
        (
            other_image(np.ones((6, 2, 3, 39, 48), np.uint16)),
            "of 39 x 48 pixels, .* cells beyond them; .*; likewise 2 more",
        ),
    ],
)
def test_a_plate_that_has_changed_since_is_told_before_training(monday, damage, message):
    table = index_of(monday)
    check_plates(table)
    damage(monday)
    with pytest.raises(ProjectError, match=message) as error:
        check_plates(table)
    assert "\n" not in str(error.value)


def test_what_the_table_holds_is_described(whole):
    text = io.StringIO()
    describe(index_of(whole), Console(width=80, file=text))
    rows = [row.split() for row in text.getvalue().splitlines()]
    # Positions, tracks, tracks that divided, cells, anchors, hours.
    assert ["monday", "mock", "2", "10", "2", "32", "30", "-1", "to", "1.5"] in rows
    assert ["monday", "infected", "1", "5", "1", "16", "15", "-1", "to", "1.5"] in rows
    assert "no other time of their lineage 1 to 2 frames" in " ".join(text.getvalue().split())
    assert "Note" not in text.getvalue()


def test_a_channel_that_is_the_same_everywhere_is_told(whole):
    table = index_of(whole)
    text = io.StringIO()
    (virus, _) = table.brightness["monday"]
    describe(replace(table, brightness={"monday": [virus, [7.0, 0.0]]}), Console(width=80, file=text))
    assert "Note: channel 'Phase3D' of 'monday' is the same everywhere" in text.getvalue()


def test_positives_that_are_too_far_apart_are_told(whole):
    rule = r"no cell of condition 'mock' can be an anchor \(32 cells .*\); widen `data.positive`, or leave out A/1\n"
    with pytest.raises(ProjectError, match=rule):
        index_of(whole, positive=PositiveConfig(min_frames=9, max_frames=9))


def test_a_condition_of_which_nothing_is_left_is_refused(monday):
    """A rare condition must not go without a word."""
    shutil.rmtree(image_file(monday, "B/1/0", "c"))
    with pytest.raises(ProjectError, match=r"no cell of condition 'infected' can be an anchor \(16 .*; leave out B/1$"):
        index_of(monday)


def test_tracks_that_changed_since_are_told_before_training(monday):
    table = index_of(monday)
    check_plates(table)
    path = next(monday.tracks.glob("**/*.csv"))
    before = path.read_text()
    path.write_text(before.replace("\n1,", "\n1 ,", 1))
    with pytest.raises(ProjectError, match=rf"tracks have changed since .*{path.relative_to(monday.tracks)}; build it"):
        check_plates(table)
    # Who trains elsewhere needs none.
    shutil.rmtree(monday.tracks)
    check_plates(table)


def change_channels(experiment, change):
    """Change the channels that the metadata of all positions name."""
    for path in experiment.plate.glob("*/*/*/zarr.json"):
        metadata = json.loads(path.read_text())
        change(metadata["attributes"]["ome"])
        path.write_text(json.dumps(metadata))


def test_a_plate_that_names_no_channels_is_told(monday):
    change_channels(monday, lambda ome: ome.pop("omero"))
    with pytest.raises(ProjectError, match="has no channel 'Virus'; it has 0, 1"):
        index_of(monday)
    assert index_of(replace(monday, channels=["0", "1"])).brightness["monday"]


def test_a_plate_with_two_channels_of_a_name_is_told(monday):
    change_channels(monday, lambda ome: [one.update(label="Virus") for one in ome["omero"]["channels"]])
    with pytest.raises(ProjectError, match=r"has \d channels 'Virus'; give them different names"):
        index_of(replace(monday, channels=["Virus"]))


@pytest.mark.parametrize("how", ["full disk", "cut write"])
def test_a_table_that_cannot_be_written_leaves_the_old_one(whole, tmp_path, monkeypatch, how):
    path = tmp_path / "anchors.parquet"
    table = index_of(whole)
    table.write(path)
    before = path.read_bytes()

    def fail(_, where):
        where.write_bytes(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(UserError, match=r"cannot write .*anchors\.parquet: No space left on device"):
        table.write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["anchors.parquet"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -9])
def test_a_table_that_was_cut_off_is_refused(whole, tmp_path, keep):
    path = tmp_path / "anchors.parquet"
    index_of(whole).write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        UserError, match=r"anchors\.parquet is no anchor table, or a damaged one; build it with"
    ) as error:
        AnchorTable.read(path)
    assert "\n" not in str(error.value)
