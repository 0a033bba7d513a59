"""The layers of a position: pixels at all resolutions, tracks with their columns, and the crops of a batch."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from iohub.ngff import open_ome_zarr

from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch
from viscy_train.plates.plate import open_plate
from viscy_train.viewer.layers import PositionView
from viscy_train.viewer.opened_run import OpenedRun
from viscy_train.viewer.plugin import get_reader, read_layers


@pytest.fixture
def view(run):
    return PositionView(run, "monday", "A/1/0")


def test_a_channel_is_shown_with_the_contrast_of_its_normalization(run, view):
    layers = view.images()
    assert [options["name"] for _, options, kind in layers] == run.experiment("monday").channel_names
    for (data, options, kind), (center, spread) in zip(layers, run.table.intensity["monday"], strict=True):
        assert kind == "image"
        assert options["contrast_limits"] == pytest.approx((center - 2 * spread, center + 5 * spread), rel=1e-5)
        assert options["scale"] == (1.0, 1.0, 1.0)
        assert not options["multiscale"]
        with open_ome_zarr(run.experiment("monday").plate / "A/1/0") as position:
            index = position.channel_names.index(options["name"])
            np.testing.assert_array_equal(np.asarray(data), position["0"][:, index, 0])


@pytest.mark.parametrize("by", ["position", "frame"])
def test_the_contrast_follows_a_normalization_by_position_or_frame(run, by):
    n_frames = int(run.table.observations["t"].max()) + 1
    crops = replace(run.table.crops, normalization=replace(run.table.crops.normalization, by=by))
    values = np.tile(np.float32([[10, 1], [20, 2]]), (n_frames if by == "frame" else 1, 1, 1))
    positions = run.table.observations["position"].unique()
    local = {name: dict.fromkeys(positions, values) for name in ("monday", "tuesday")}
    run.data.table = replace(run.table, crops=crops, local_intensity=local)
    images = PositionView(run, "monday", "A/1/0").images()
    assert [options["contrast_limits"] for _, options, _ in images] == [(8.0, 15.0), (16.0, 30.0)]


def test_all_resolutions_of_a_plate_are_layers_of_a_pyramid(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 9, (8, 2, 1, 64, 64), dtype=np.uint16)
    with open_ome_zarr(tmp_path / "p.zarr", layout="hcs", mode="w-", channel_names=["phase", "virus"]) as plate:
        position = plate.create_position("A", "1", "0")
        position.create_image("0", pixels, chunks=(1, 1, 1, 64, 64))
        position.initialize_pyramid(levels=3)
    shapes = [array.shape[3:] for array in open_plate(tmp_path / "p.zarr").resolutions("A/1/0")]
    assert shapes == [(64, 64), (32, 32), (16, 16)]
    experiment = replace(run.experiment("monday"), plate=tmp_path / "p.zarr", channels=["phase", "virus"])
    run.data.table = replace(run.table, experiments=[experiment, run.experiment("tuesday")])
    data, options, _ = PositionView(run, "monday", "A/1/0").images()[1]
    assert options["multiscale"]
    assert [level.shape for level in data] == [(8, 64, 64), (8, 32, 32), (8, 16, 16)]
    np.testing.assert_array_equal(data[0][3], pixels[3, 1, 0])


def test_tracks_are_those_of_the_position_in_order_of_track_and_time(run, view):
    data, options, kind = view.tracks()
    rows = run.rows("monday", "A/1/0")
    observations = run.table.observations.iloc[rows].sort_values(["track_id", "t"])
    assert kind == "tracks"
    np.testing.assert_array_equal(data, observations[["track_id", "t", "y", "x"]].to_numpy(np.float64))
    np.testing.assert_array_equal(options["metadata"]["row"], observations.index)
    np.testing.assert_array_equal(options["features"]["hours_post_infection"], observations["hours_post_infection"])
    assert options["color_by"] == "condition"
    parents = observations.drop_duplicates("track_id").set_index("track_id")["parent_track_id"]
    assert options["graph"] == {own: [of] for own, of in parents.items() if of in parents.index}


def test_tracks_are_colored_by_a_column_or_a_component_of_the_embeddings(run):
    observations, rows = run.table.observations, run.rows("monday", "A/1/0")
    values = np.random.default_rng(0).normal(size=(len(observations), 4)) * [5, 1, 1, 1]
    with h5py.File(run.directory.embeddings, "w") as file:
        file["X"] = values.astype(np.float32)
        for name in ("t", "track_id"):
            file[f"obs/{name}"] = observations[name].to_numpy()
    _, options, _ = PositionView(run, "monday", "A/1/0").tracks("embedding PC1")
    assert options["color_by"] == "embedding PC1"
    shown = values[options["metadata"]["row"], 0]
    assert abs(np.corrcoef(options["features"]["embedding PC1"], shown)[0, 1]) > 0.95
    assert len(shown) == len(rows)


def test_a_column_that_does_not_exist_is_refused(view):
    with pytest.raises(UserError, match=r"--color must be one of condition, track_id, .*; run `viscy-train predict`"):
        view.tracks("dosis")


def test_embeddings_of_other_observations_are_refused(run):
    with h5py.File(run.directory.embeddings, "w") as file:
        file["X"] = np.zeros((3, 4), np.float32)
        file["obs/t"], file["obs/track_id"] = np.zeros(3, int), np.zeros(3, int)
    with pytest.raises(UserError, match="has embeddings of other observations than the anchor table"):
        PositionView(run, "monday", "A/1/0").tracks()


def test_a_damaged_file_of_embeddings_is_refused(run):
    run.directory.embeddings.write_bytes(b"no")
    with pytest.raises(UserError, match="is not a file of embeddings, or is damaged"):
        PositionView(run, "monday", "A/1/0").tracks()


def test_a_batch_is_the_crops_of_its_anchors_and_positives_in_the_position(run):
    recorded, positives = run.batch(1)
    data = run.data
    rows = data.train_rows[data.make_sampler().batch(1, 0)]
    np.testing.assert_array_equal(recorded.rows, rows)
    np.testing.assert_array_equal(positives, data.positive_choice.choose(Batch(rows, 0, 1)))
    found = []
    for experiment in ("monday", "tuesday"):
        for position in run.table.observations["position"].unique():
            boxes, options, kind = PositionView(run, experiment, position).batch(1)
            assert kind == "shapes"
            assert len(boxes) == len(options["features"]["row"])
            found += list(zip(options["features"]["role"], options["features"]["row"].tolist(), strict=True))
            for box, row in zip(boxes, options["features"]["row"], strict=True):
                cell = run.table.observations.iloc[row]
                assert (cell["experiment"], cell["position"]) == (experiment, position)
                assert set(box[:, 0]) == {cell["t"]}
                low, high = box[:, 1:].min(axis=0), box[:, 1:].max(axis=0)
                np.testing.assert_array_equal(high - low, [16, 16])
                assert (low <= cell[["y", "x"]].to_numpy(float)).all()
                assert (cell[["y", "x"]].to_numpy(float) <= high).all()
    expected = [("anchor", row) for row in rows.tolist()] + [("positive", row) for row in positives.tolist()]
    assert sorted(found) == sorted(expected)


def test_the_position_with_most_anchors_of_the_batch_is_shown(run):
    rows = run.batch(0)[0].rows
    counts = run.table.observations.iloc[rows].groupby(["experiment", "position"], observed=True).size()
    experiment, position = run.choose_position(None, None, rows)
    assert counts[experiment, position] == counts.max()
    assert run.choose_position("tuesday", "B/1/1", rows) == ("tuesday", "B/1/1")
    assert run.choose_position("tuesday", None)[0] == "tuesday"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experiment": "sunday"}, "--experiment must be one of monday, tuesday, got 'sunday'"),
        ({"position": "C/9/0"}, "--position must be one of monday, A/1/0, .*, got 'C/9/0'"),
        ({"step": 99}, "--step must be a recorded step, from 0 to 2 for rank 0, got 99"),
        ({"step": 0, "rank": 7}, r"--rank must be a rank of the run \(0\), got 7"),
    ],
)
def test_what_a_run_does_not_have_is_refused(run, options, message):
    with pytest.raises(UserError, match=message):
        read_layers(run.directory.path, **options)


def test_only_the_directory_of_a_run_is_read(run, tmp_path):
    path = str(run.directory.path)
    reader = get_reader(path)
    assert reader is not None
    assert [kind for _, _, kind in reader(path)] == ["image", "image", "tracks"]
    assert get_reader(str(tmp_path)) is None
    assert get_reader([path]) is None
    with pytest.raises(UserError, match="must be the directory of a run"):
        OpenedRun(tmp_path)
