import pytest

from viscy_train.project_files.tracks_beside import find_tracks


@pytest.mark.parametrize(
    ("file", "tracks"),
    [
        ("tracks/plate/A/1/0.csv", "tracks/plate"),
        ("tracks/A/1/0.csv", "tracks"),
        ("tracking.zarr/A/1/0/tracks.csv", "tracking.zarr"),
        ("plate_tracks/A/1/0.xml", "plate_tracks"),
        ("tracks/plate/A_1_0.xml", "tracks/plate"),
        ("plate_tracks.parquet", "plate_tracks.parquet"),
        ("tracks/plate.csv", "tracks/plate.csv"),
        ("../tracks/plate/A/1/0.csv", "../tracks/plate"),
    ],
)
def test_tracks_with_a_usual_name_are_found(tmp_path, file, tracks):
    plate = tmp_path / "plates" / "plate.zarr"
    path = plate.parent / file
    path.parent.mkdir(parents=True)
    path.touch()
    found = find_tracks(plate, ["A/1/0", "A/1/1"])
    assert found is not None
    assert found.resolve() == (plate.parent / tracks).resolve()


@pytest.mark.parametrize(("file", "tracks"), [("tracks/one.xml", "tracks"), ("one.csv", "")])
def test_tracks_in_a_folder_of_images_are_found(tmp_path, file, tracks):
    path = tmp_path / "images" / file
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_tracks(tmp_path / "images", ["one"]) == tmp_path / "images" / tracks


def test_a_directory_without_tracks_of_the_plate_is_not_taken(tmp_path):
    (tmp_path / "tracks" / "B" / "9").mkdir(parents=True)
    (tmp_path / "tracks" / "B" / "9" / "0.csv").touch()
    assert find_tracks(tmp_path / "plate.zarr", ["A/1/0"]) is None
