"""A table with a row for each channel: its rows, its checks, and the crops that are read of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from iohub.ngff import open_ome_zarr

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_plates, check_settings
from viscy_train.anchors.table import COLUMNS, AnchorTable
from viscy_train.config.schema import CropSettings, NormalizationConfig, PositiveConfig
from viscy_train.errors import ProjectError, UserError
from viscy_train.experiments.experiments_file import Experiment, load_experiments
from viscy_train.loading.crops import CropReader

POSITIVE = PositiveConfig(min_frames=1, max_frames=2)
SHAPE = (5, 3, 2, 32, 40)
# Track 1 divides into 2 and 3 after frame 2; the lineage of 4 is its own.
TRACKS = pd.DataFrame(
    [
        *((1, -1, t, 9.0, 9.0) for t in range(3)),
        *((track, 1, t, 9.0 + track, 9.0) for track in (2, 3) for t in range(3, 5)),
        *((4, -1, t, 30.4, 38.4) for t in range(5)),
    ],
    columns=["track_id", "parent_track_id", "t", "y", "x"],
)
NAMES = ["Phase", "GFP", "DAPI"]


def write_experiment(folder, name, channels, *, images=None, positions=("A/1/0", "A/1/1")):
    """Write a plate of noise with three channels, and return the experiment of some of them."""
    rng = np.random.default_rng(len(name))
    with open_ome_zarr(folder / f"{name}.zarr", layout="hcs", mode="w-", channel_names=NAMES) as plate:
        for position in positions:
            image = (
                rng.integers(1, 1000, SHAPE).astype(np.uint16)
                + 1000 * np.arange(3, dtype=np.uint16)[:, None, None, None]
            )
            image = (images or {}).get(position, image)
            plate.create_position(*position.split("/")).create_image("0", image, chunks=(1, 1, 1, 32, 40))
            path = folder / name / f"{position}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            TRACKS.to_csv(path, index=False)
    return Experiment(
        name=name,
        plate=folder / f"{name}.zarr",
        tracks=folder / name,
        channels=channels,
        conditions={"A/1": "mock"},
        minutes_per_frame=30,
    )


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """An experiment of three channels and one of a single channel, which tests must not change."""
    folder = tmp_path_factory.mktemp("experiments")
    three = {"Phase": "phase", "GFP": "SEC61B", "DAPI": "DNA"}
    return [write_experiment(folder, "many", three), write_experiment(folder, "single", {"GFP": "TOMM20"})]


def build(experiments, mode="one", positive=POSITIVE, **options):
    return build_anchor_table(experiments, positive, CropSettings(crop=8, **options), channels_mode=mode)


@pytest.fixture(scope="module")
def table(experiments):
    """The table of the two experiments with a row for each channel."""
    return build(experiments)


def test_a_row_is_a_cell_at_a_time_in_one_channel(table, experiments):
    observations = table.observations
    assert list(observations.columns) == [*COLUMNS, "channel", "marker"]
    assert len(observations) == len(TRACKS) * 2 * (3 + 1)
    assert table.channels_mode == "one"
    pairs = observations[["experiment", "channel", "marker"]].drop_duplicates().astype(str).to_numpy().tolist()
    assert pairs == [
        ["many", "DAPI", "DNA"],
        ["many", "GFP", "SEC61B"],
        ["many", "Phase", "phase"],
        ["single", "GFP", "TOMM20"],
    ]
    order = [observations[name].cat.codes for name in ("experiment", "position", "channel")]
    order = pd.concat([*order, observations["track_id"], observations["t"]], axis=1, keys=range(5))
    pd.testing.assert_frame_equal(order, order.sort_values(list(range(5))))


def test_the_channels_of_a_cell_share_its_lineage(table, experiments):
    of_all = build([experiments[0]], mode="all").observations
    rows = table.observations[(table.observations["experiment"] == "many").to_numpy()]
    for _, of_channel in rows.groupby("channel", observed=True):
        expected = of_all[["position", "track_id", "t", "lineage_id", "has_positive"]]
        found = of_channel[list(expected.columns)].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, check_categorical=False)


def test_the_table_is_written_and_read(table, tmp_path):
    table.write(tmp_path / "anchors.parquet")
    read = AnchorTable.read(tmp_path / "anchors.parquet")
    pd.testing.assert_frame_equal(read.observations, table.observations)
    assert read.channels_mode == "one"
    assert read.intensity == table.intensity
    assert read.fingerprint == table.fingerprint
    check_plates(read)


def test_intensities_are_those_of_each_channel(table, experiments):
    of_all = build([experiments[0]], mode="all")
    assert [len(table.intensity[name]) for name in ("many", "single")] == [3, 1]
    np.testing.assert_allclose(table.intensity["many"], of_all.intensity["many"])


@pytest.mark.parametrize("by", ["experiment", "position", "frame"])
def test_a_crop_is_that_of_its_channel(experiments, by):
    normalization = NormalizationConfig(by=by)
    reader_of_all = CropReader(of_all := build([experiments[0]], mode="all", normalization=normalization))
    table = build(experiments, normalization=normalization)
    reader = CropReader(table)
    keys = ["position", "track_id", "t"]
    expected = {
        tuple(key): crop
        for key, crop in zip(
            of_all.observations[keys].astype(object).itertuples(index=False),
            reader_of_all.read(np.arange(len(of_all.observations))),
            strict=True,
        )
    }
    rows = np.flatnonzero((table.observations["experiment"] == "many").to_numpy())[::-1]
    crops = reader.read(rows)
    assert crops.shape == (len(rows), 1, 1, 8, 8)
    found = table.observations.iloc[rows]
    for crop, channel, key in zip(
        crops, found["channel"], found[keys].astype(object).itertuples(index=False), strict=True
    ):
        np.testing.assert_allclose(crop[0], expected[tuple(key)][NAMES.index(channel)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "what"), [((0, 1), "the same or another"), ((0, 0), "the same"), ((1, 2), "another")]
)
def test_an_experiment_of_one_channel_has_no_positives_in_another(experiments, frames, what):
    positive = PositiveConfig(min_frames=frames[0], max_frames=frames[1], channel="other")
    with pytest.raises(ProjectError) as error:
        build(experiments, positive=positive)
    (problem,) = error.value.problems
    reason = f"observations without {what} frame of their lineage in another channel {frames[0]} to {frames[1]} frames"
    assert reason in problem
    assert "has only one channel, so set `data.positive.channel` to any, or remove A/1 " in problem
    assert build(experiments, positive=replace(positive, channel="any")).observations["has_positive"].any()


def test_a_constant_channel_of_a_frame_excludes_only_its_rows(tmp_path):
    image = np.random.default_rng(0).integers(1, 1000, SHAPE).astype(np.uint16)
    image[2, 1] = 7
    one = write_experiment(tmp_path, "monday", NAMES, images={"A/1/0": image})
    table = build([one])
    in_frame = table.observations[(table.observations["t"] == 2) & (table.observations["position"] == "A/1/0")]
    assert sorted(in_frame["channel"].unique()) == ["DAPI", "Phase"]
    n_lost = int((TRACKS["t"] == 2).sum())
    assert [(item.reason.endswith("channel GFP"), item.n_observations) for item in table.excluded] == [(True, n_lost)]
    assert len(table.observations) == len(TRACKS) * 2 * 3 - n_lost
    table.write(tmp_path / "anchors.parquet")
    AnchorTable.read(tmp_path / "anchors.parquet")


def test_a_channel_without_any_content_has_no_rows(tmp_path):
    image = np.random.default_rng(0).integers(1, 1000, SHAPE).astype(np.uint16)
    image[:, 1] = 7
    table = build([write_experiment(tmp_path, "monday", NAMES, images={"A/1/0": image, "A/1/1": image})])
    assert sorted(table.observations["channel"].unique()) == ["DAPI", "Phase"]
    table.write(tmp_path / "anchors.parquet")
    check_plates(AnchorTable.read(tmp_path / "anchors.parquet"))


def test_other_pixels_in_one_channel_are_noticed(tmp_path):
    one = write_experiment(tmp_path, "monday", NAMES)
    table = build([one])
    check_plates(table)
    with open_ome_zarr(one.plate, mode="r+") as plate:
        for position in ("A/1/0", "A/1/1"):
            plate[f"{position}/0"][:, 2] = 5
    with pytest.raises(UserError, match="has other pixels than when the anchor table was built"):
        check_plates(table)


def test_a_channel_that_is_not_of_the_experiment_is_refused(table, tmp_path):
    def refuse(message, **columns):
        replace(table, observations=table.observations.assign(**columns)).write(tmp_path / "anchors.parquet")
        with pytest.raises(UserError, match=message):
            AnchorTable.read(tmp_path / "anchors.parquet")

    observations = table.observations
    renamed = observations["channel"].cat.rename_categories({"GFP": "RFP"})
    refuse(
        r"rows must be sorted|channels must be those of experiment 'many' \(Phase, GFP, DAPI\), got 'RFP'",
        channel=renamed,
    )
    refuse(
        "markers must be those of the channels of experiment 'many'",
        marker=observations["marker"].cat.rename_categories({"DNA": "RNA"}),
    )
    refuse("column 'marker' must be a dictionary of text", marker=1)
    replace(table, observations=observations.drop(columns="marker")).write(tmp_path / "anchors.parquet")
    with pytest.raises(UserError, match="it must have the column 'marker'"):
        AnchorTable.read(tmp_path / "anchors.parquet")


def test_a_table_of_all_channels_is_stale_for_one(table, experiments):
    with pytest.raises(UserError, match=r"data.channels was one, is now all; rebuild it"):
        check_settings(table, experiments, POSITIVE, table.crops)
    check_settings(table, experiments, POSITIVE, table.crops, channels_mode="one")


def test_the_fingerprint_says_whether_a_row_has_one_channel(experiments):
    one, all_channels = (build([experiments[1]], mode=mode).fingerprint for mode in ("one", "all"))
    assert one["data.channels"] == "one"
    assert "data.channels" not in all_channels


def test_a_metadata_key_that_is_a_column_of_channels_is_refused(experiments):
    with pytest.raises(UserError, match=r"the key 'marker' .* is also a column of the channels"):
        build([replace(experiments[1], metadata={"marker": "TOMM20"})])
    assert "marker" in build([replace(experiments[1], metadata={"marker": "TOMM20"})], mode="all").observations


def test_unequal_numbers_of_channels_need_the_option(tmp_path):
    path = tmp_path / "experiments.yaml"
    item = (
        "- {{name: {0}, plate: {0}.zarr, tracks: {0}, channels: {1}, conditions: {{A/1: m}}, minutes_per_frame: 5}}\n"
    )
    path.write_text("experiments:\n" + item.format("a", "{Phase: phase, GFP: off}") + item.format("b", "[01]"))
    with pytest.raises(UserError, match=r"same number of channels, got {'a': 2, 'b': 1}; set data.channels to one"):
        load_experiments(path)
    one, other = load_experiments(path, "one")
    assert one.markers == {"Phase": "phase", "GFP": "off"}
    assert other.markers == {"01": "01"}


def test_markers_that_differ_only_in_case_are_refused(tmp_path):
    path = tmp_path / "experiments.yaml"
    item = "- {{name: {0}, plate: {0}, tracks: {0}, channels: {1}, conditions: {{A/1: m}}, minutes_per_frame: 5}}\n"
    path.write_text("experiments:\n" + item.format("a", "{GFP: Sec61b}") + item.format("b", "{GFP: SEC61B}"))
    with pytest.raises(UserError, match="names of markers must not differ only in upper and lower case"):
        load_experiments(path, "one")
    assert len(load_experiments(path)) == 2


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ("{GFP: }", "line 4: marker of channel 'GFP' of experiment 'a' must be non-empty text, got null"),
        ("{GFP: [x]}", "line 4: marker of channel 'GFP' of experiment 'a' must be non-empty text"),
        ("{}", "channels of experiment 'a' must name at least one"),
        ("GFP", "line 4: channels of experiment 'a' must be a list of names, or a mapping from names to markers"),
    ],
)
def test_an_invalid_marker_is_refused_with_its_line(tmp_path, channels, message):
    path = tmp_path / "experiments.yaml"
    path.write_text(
        "experiments:\n- name: a\n  plate: a.zarr\n  channels: " + channels + "\n  tracks: a\n"
        "  conditions: {A/1: m}\n  minutes_per_frame: 5\n"
    )
    with pytest.raises(UserError, match=message):
        load_experiments(path, "one")
