import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from iohub.ngff import open_ome_zarr

from viscy_train.anchors.table import AnchorTable
from viscy_train.cli.entry_point import main
from viscy_train.config.schema import CropSettings, NormalizationConfig
from viscy_train.errors import UserError
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.plates.plate import open_plate, write_plate
from viscy_train.project_files.config_file import suggested_batch_size
from viscy_train.project_files.starter import start_project
from viscy_train.training.lightning_cli import TrainingCLI


def read(path):
    return yaml.safe_load(path.read_text())


def fill_in(path, **values):
    """Fill in keys of all experiments, and give each well the name of a condition."""
    content = read(path)
    for experiment in content["experiments"]:
        experiment |= values
        experiment["conditions"] = {key: value or f"in {key[0]}" for key, value in experiment["conditions"].items()}
    path.write_text(yaml.safe_dump(content))


def write(path, shape=(3, 2, 1, 64, 80), channels=("Phase3D", "GFP"), wells=("A/1",), **options):
    image = np.random.default_rng(0).integers(1, 999, shape).astype(np.uint16)
    write_plate(path, list(channels), {f"{well}/0": image for well in wells}, **options)
    return path


@pytest.fixture
def started(tmp_path, data_folder):
    """The files that `init` writes for the plates of the two experiments."""
    plates = [str(data_folder / "plates" / f"{name}.zarr") for name in ("monday", "tuesday")]
    assert main(["init", *plates, "--out", str(tmp_path / "new")]) == 0
    return tmp_path / "new"


def test_the_files_hold_what_was_found(started, data_folder):
    first, second = read(started / "experiments.yaml")["experiments"]
    assert (first["name"], second["name"]) == ("monday", "tuesday")
    assert first["plate"] == str(data_folder / "plates" / "monday.zarr")
    assert first["tracks"] == str(data_folder / "tracks" / "monday")
    assert first["channels"] == ["Phase3D", "Virus"]
    assert first["conditions"] == {"A/1": None, "B/1": None}
    assert first["minutes_per_frame"] is None
    side, n_frames = (open_plate(data_folder / "plates" / "monday.zarr").image("A/1/0").shape[axis] for axis in (4, 0))
    text = (started / "experiments.yaml").read_text()
    assert f"2 wells with 4 fields of view, {n_frames} frames, 1 slice, " in text
    assert "# The condition of each well" in text
    assert read(started / "config.yaml")["data"]["crop"] <= side


def test_the_user_is_shown_what_was_found_and_what_is_left(capsys, started):
    output = capsys.readouterr().out
    assert "monday: 2 wells with 4 fields of view" in output
    assert "  fill in: minutes_per_frame, conditions" in output
    assert f"viscy-train index --config {started / 'config.yaml'}" in " ".join(output.split())


def test_index_says_what_to_fill_in(started, capsys):
    assert main(["index", "--config", str(started / "config.yaml")]) == EXIT_USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert "experiments.yaml has 6 empty values; fill in line " in line
    assert "minutes_per_frame" in line
    assert "A/1 of conditions" in line


def test_index_builds_the_table_once_all_is_filled_in(started):
    fill_in(started / "experiments.yaml", minutes_per_frame=30)
    assert main(["index", "--config", str(started / "config.yaml")]) == 0
    table = AnchorTable.read(started / "anchors.parquet")
    assert set(table.observations["condition"]) == {"in A", "in B"}


def test_the_configuration_is_valid(started):
    fill_in(started / "experiments.yaml", minutes_per_frame=30)
    _, _, data = TrainingCLI("fit", ["--config", str(started / "config.yaml")], "").make_all(training=False)
    assert data.experiments == load_experiments(started / "experiments.yaml")


def test_files_are_never_replaced(started, data_folder, capsys):
    before = (started / "experiments.yaml").read_text()
    (started / "config.yaml").unlink()
    assert main(["init", str(data_folder / "plates" / "monday.zarr"), "--out", str(started)]) == EXIT_USER_ERROR
    assert "experiments.yaml exists and is not replaced; choose another directory" in capsys.readouterr().err
    assert (started / "experiments.yaml").read_text() == before
    assert not (started / "config.yaml").exists()


def test_scale_and_interval_of_the_metadata_are_used(tmp_path):
    fine, coarse = (
        write(tmp_path / f"{side}.zarr", (3, 2, 1, 256, 256), micrometers_per_pixel=side, micrometers_per_slice=2.0)
        for side in (0.25, 0.5)
    )
    start_project([fine], tmp_path / "one")
    assert read(tmp_path / "one" / "config.yaml")["data"]["crop"] == 128  # 30 micrometers are 120 pixels
    start_project([fine, coarse], tmp_path / "two")
    data = read(tmp_path / "two" / "config.yaml")["data"]
    assert (data["crop"], data["crop_um"]) == (64, 32)
    assert "0.25 micrometers per pixel" in (tmp_path / "two" / "experiments.yaml").read_text()
    normalization = NormalizationConfig(**data["normalization"])
    assert normalization == NormalizationConfig()
    CropSettings(crop=data["crop"], z_slices=data["z_slices"], crop_um=data["crop_um"], normalization=normalization)


def test_crops_of_one_size_fit_into_the_images_with_the_finest_pixels(tmp_path):
    plates = [
        write(tmp_path / f"{side}.zarr", (3, 2, 1, 96, 96), micrometers_per_pixel=side, micrometers_per_slice=2.0)
        for side in (0.25, 0.5)
    ]
    start_project(plates, tmp_path / "two")
    assert read(tmp_path / "two" / "config.yaml")["data"]["crop_um"] == 24  # 96 pixels of 0.25 micrometers


def test_the_interval_is_that_of_the_time_axis(tmp_path):
    path = write(tmp_path / "plate.zarr")
    with open_ome_zarr(path / "A/1/0", mode="r+") as position:
        metadata = position.metadata.multiscales[0]
        metadata.axes[0].unit = "second"
        metadata.datasets[0].coordinate_transformations[0].scale = [900.0, 1.0, 1.0, 1.0, 1.0]
        position.dump_meta()
    start_project([path], tmp_path / "new")
    (experiment,) = read(tmp_path / "new" / "experiments.yaml")["experiments"]
    assert experiment["minutes_per_frame"] == 15


def test_a_still_image_needs_no_interval_and_is_its_own_positive(tmp_path):
    start_project([write(tmp_path / "plate.zarr", (1, 2, 1, 64, 80))], tmp_path / "new")
    (experiment,) = read(tmp_path / "new" / "experiments.yaml")["experiments"]
    assert experiment["minutes_per_frame"] is not None
    assert read(tmp_path / "new" / "config.yaml")["data"]["positive"] == {"min_frames": 0, "max_frames": 0}


def test_experiments_with_other_channels_are_seen_one_channel_at_a_time(tmp_path):
    plates = [write(tmp_path / "a.zarr"), write(tmp_path / "b.zarr", (3, 1, 1, 64, 80), ["DAPI"])]
    start_project(plates, tmp_path / "new")
    assert read(tmp_path / "new" / "config.yaml")["data"]["channels"] == "one"
    assert [one["channels"] for one in read(tmp_path / "new" / "experiments.yaml")["experiments"]] == [
        ["Phase3D", "GFP"],
        ["DAPI"],
    ]


def write_images(folder, names):
    for name in names:
        path = folder / f"{name}.zarr"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_ome_zarr(path, layout="fov", mode="w-", channel_names=["Phase3D", "GFP"]) as image:
            image.create_image("0", np.random.default_rng(0).integers(1, 999, (3, 2, 1, 64, 80)).astype(np.uint16))


def test_images_of_a_folder_need_a_condition_and_those_of_its_folders_have_their_name(tmp_path):
    write_images(tmp_path / "images", ["one", "mock/a", "mock/b", "drug/c"])
    start_project([tmp_path / "images"], tmp_path / "new")
    (experiment,) = read(tmp_path / "new" / "experiments.yaml")["experiments"]
    assert experiment["conditions"] == {"drug": "drug", "mock": "mock", "one": None}


def test_a_single_image_is_a_plate(tmp_path):
    write_images(tmp_path, ["image"])
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "image.csv").touch()
    start_project([tmp_path / "image.zarr"], tmp_path)
    (experiment,) = read(tmp_path / "experiments.yaml")["experiments"]
    assert (experiment["plate"], experiment["tracks"]) == ("image.zarr", "tracks/image.csv")
    assert experiment["conditions"] == {"image": None}


def test_plates_of_the_same_name_get_different_names(tmp_path):
    start_project([write(tmp_path / day / "plate.zarr") for day in ("one", "two")], tmp_path / "new")
    names = [one["name"] for one in read(tmp_path / "new" / "experiments.yaml")["experiments"]]
    assert names == ["plate", "plate-2"]


def test_a_well_that_cannot_be_read_is_left_out_with_the_reason(tmp_path):
    path = write(tmp_path / "plate.zarr", wells=("A/1", "A/2"))
    for name in ("zarr.json", ".zattrs"):
        (path / "A/2/0" / name).unlink(missing_ok=True)
    start_project([path], tmp_path / "new")
    text = (tmp_path / "new" / "experiments.yaml").read_text()
    assert read(tmp_path / "new" / "experiments.yaml")["experiments"][0]["conditions"] == {"A/1": None}
    assert "# Left out: A/2 (damaged or incomplete: " in text


def remove_images(plate, well):
    """Leave a well without fields of view."""
    attributes: Any = zarr.open_group(plate / well, mode="r+").attrs
    outer = attributes.get("ome", {})
    of_well = (outer or attributes)["well"] | {"images": []}
    attributes.update({"ome": outer | {"well": of_well}} if outer else {"well": of_well})


def test_the_user_is_shown_which_wells_and_images_are_left_out(tmp_path, capsys):
    path = write(tmp_path / "plate.zarr", wells=("A/1", "A/2", "A/3", "B/1"))
    for well in ("A/2", "A/3"):
        remove_images(path, well)
    for name in ("zarr.json", ".zattrs"):
        (path / "B/1" / name).unlink(missing_ok=True)
    assert main(["init", str(path), "--out", str(tmp_path / "new project")]) == 0
    output = capsys.readouterr().out
    assert "\n  left out: A/2, A/3 (no fields of view)\n  left out: B/1 (damaged or incomplete: " in output
    assert f"viscy-train index --config '{tmp_path}/new project/config.yaml'" in " ".join(output.split())
    text = (tmp_path / "new project" / "experiments.yaml").read_text()
    assert "# Left out: A/2, A/3 (no fields of view)." in text
    assert "`conditions`" not in text


def test_the_user_is_shown_which_images_and_channels_are_left_out(tmp_path):
    write_images(tmp_path / "images", ["one", "two"])
    (tmp_path / "images" / "three.zarr").mkdir()
    with open_ome_zarr(tmp_path / "images/four.zarr", layout="fov", mode="w-", channel_names=["GFP", "DAPI"]) as image:
        image.create_image("0", np.ones((3, 2, 1, 64, 80), np.uint16))
    _, *lines = start_project([tmp_path / "images"], tmp_path / "new")
    assert lines[:3] == [
        "  left out: three (no images)",
        "  left out: channel DAPI (only in four)",
        "  left out: channel Phase3D (only in one, two)",
    ]


@pytest.mark.parametrize(("n_frames", "batch_size"), [(3, 4), (40, 64), (90, 128)])
def test_tracks_limit_the_size_of_batches(tmp_path, n_frames, batch_size):
    """Two cells, of which one is in a single frame."""
    path = write(tmp_path / "plate.zarr", (n_frames, 1, 1, 16, 16), ["GFP"], wells=("A/1", "B/1"))
    cells = [(1, t) for t in range(n_frames)] + [(2, 0)]
    tracks = pd.DataFrame([(track, t, 5.0, 5.0) for track, t in cells], columns=["track_id", "t", "y", "x"])
    for position in ("A/1/0", "B/1/0"):
        file = tmp_path / "tracks" / f"{position}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        tracks.to_csv(file, index=False)
    start_project([path], tmp_path / "new")
    text = (tmp_path / "new" / "config.yaml").read_text()
    assert yaml.safe_load(text)["data"]["sampler"]["batch_size"] == batch_size
    assert (f"# Small, because the tracks have only about {2 * n_frames} anchors." in text) == (batch_size < 128)


def test_batches_have_the_usual_size_if_tracks_cannot_be_read(tmp_path):
    path = write(tmp_path / "plate.zarr")
    (tmp_path / "tracks.csv").write_text("nothing")
    start_project([path], tmp_path / "new")
    assert read(tmp_path / "new" / "config.yaml")["data"]["sampler"]["batch_size"] == 128


@pytest.mark.parametrize(("n_anchors", "size"), [(None, 128), (1, 2), (3, 2), (85, 32), (1000, 128), (10**9, 128)])
def test_anchors_for_validation_do_not_count(n_anchors, size):
    assert suggested_batch_size(n_anchors, keeps_positions=True) == size


def test_index_warns_of_batches_that_are_larger_than_the_anchors_for_training(started, capsys):
    fill_in(started / "experiments.yaml", minutes_per_frame=30)
    command = ["index", "--config", str(started / "config.yaml")]
    assert main([*command, "--data.sampler.batch_size", "9000"]) == 0
    (warning,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning"))
    pattern = r"Warning: data\.sampler\.batch_size is 9000, but there are only (\d+) anchors .*; set it to \1 or less"
    found = re.fullmatch(pattern, warning)
    assert found
    data = TrainingCLI("index", [*command[1:], "--data.sampler.batch_size", found[1]], "").make_data()
    assert data.batch_size_warnings(int(found[1])) == []


def test_paths_are_relative_if_the_plate_is_in_the_same_directory(tmp_path):
    start_project([write(tmp_path / "data" / "plate.zarr")], tmp_path / "data")
    assert read(tmp_path / "data" / "experiments.yaml")["experiments"][0]["plate"] == "plate.zarr"


@pytest.mark.parametrize("words", [["nowhere.zarr"], [], ["plate.zarr", "plate.zarr"], ["plate.zarr", "--what"]])
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, words):
    write(tmp_path / "plate.zarr")
    monkeypatch.chdir(tmp_path)
    assert main(["init", *words]) == EXIT_USER_ERROR
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "experiments.yaml").exists()


def test_a_file_as_directory_is_refused(tmp_path):
    path = write(tmp_path / "plate.zarr")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out must be a directory"):
        start_project([path], tmp_path / "file")
