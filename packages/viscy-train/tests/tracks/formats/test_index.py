"""`index` reads tracks of any format, says what it read, and notices when they change."""

import numpy as np
import pandas as pd
import pytest
import yaml

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_settings, check_sources
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.errors import ProjectError, UserError
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.plates.plate import write_plate

from . import tracker_files as files
from .test_formats import WRITERS
from .tracker_files import CELLS, MICROMETERS, SHAPE, canonical

CROPS = CropSettings(crop=8, z_slices=1)
POSITIVE = PositiveConfig(min_frames=1, max_frames=3)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    path = tmp_path_factory.mktemp("plates") / "plate.zarr"
    image = np.random.default_rng(0).integers(1, 9, SHAPE).astype(np.uint16)
    positions = {"A/1/0": image, "B/1/0": image + 1}
    write_plate(path, ["Phase"], positions, micrometers_per_pixel=MICROMETERS)
    return path


@pytest.fixture
def experiments_of(tmp_path, plate):
    """Return a function that reads an experiment from a YAML file."""

    def read(wells=("A/1", "B/1"), **keys):
        experiment = {
            "name": "plate1",
            "plate": str(plate),
            "tracks": "tracks",
            "channels": ["Phase"],
            "conditions": dict.fromkeys(wells, "mock"),
            "minutes_per_frame": 10,
        }
        (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"experiments": [experiment | keys]}))
        return load_experiments(tmp_path / "experiments.yaml")

    return read


def write_both(tmp_path, write):
    for position in ("A/1/0", "B/1/0"):
        directory = tmp_path / "tracks" / position
        directory.mkdir(parents=True)
        write(directory)


@pytest.mark.parametrize(("write", "title"), WRITERS.items(), ids=[write.__name__ for write in WRITERS])
def test_an_anchor_table_has_the_cells_of_any_tracker(tmp_path, experiments_of, capsys, write, title):
    write_both(tmp_path, write)
    table = build_anchor_table(experiments_of(), POSITIVE, CROPS)
    assert capsys.readouterr().out.splitlines()[0] == f"plate1: {title}, 2 positions, 8 tracks"
    assert len(table.observations) == 2 * len(CELLS)
    columns = list(CELLS)
    for _, observations in table.observations.groupby("position", observed=True):
        expected = canonical(CELLS)
        pd.testing.assert_frame_equal(canonical(observations[columns]), expected, check_dtype=False)
        assert observations["lineage_id"].nunique() == 2
    check_sources(table)


def test_changed_label_images_make_a_table_outdated(tmp_path, experiments_of):
    write_both(tmp_path, files.write_ctc)
    table = build_anchor_table(experiments_of(), POSITIVE, CROPS)
    path = tmp_path / "tracks/A/1/0/mask002.tif"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(ProjectError, match=r"tracks changed after the anchor table was built: .*, A/1/0; rebuild it"):
        check_sources(table)


def test_another_unit_makes_a_table_outdated(tmp_path, experiments_of):
    write_both(tmp_path, files.write_table)
    experiments = experiments_of()
    table = build_anchor_table(experiments, POSITIVE, CROPS)
    check_settings(table, experiments, POSITIVE, CROPS)
    with pytest.raises(UserError, match="tracks_unit of 'plate1' was auto, is now micrometer"):
        check_settings(table, experiments_of(tracks_unit="micrometer"), POSITIVE, CROPS)
    with pytest.raises(UserError, match="tracks_first_frame of 'plate1' was auto, is now 1"):
        check_settings(table, experiments_of(tracks_first_frame=1), POSITIVE, CROPS)


@pytest.mark.parametrize(
    "write", [files.write_napari_npy, files.write_geff, files.write_ctc, files.write_trackmate_csv]
)
def test_the_files_of_the_only_position_need_not_name_it(tmp_path, experiments_of, write):
    (tmp_path / "tracks").mkdir()
    write(tmp_path / "tracks")
    table = build_anchor_table(experiments_of(wells=["A/1"]), POSITIVE, CROPS)
    assert len(table.observations) == len(CELLS)
    check_sources(table)
    with pytest.raises(
        ProjectError, match=r"tracks file not found: .*A/1/0\.csv; each position .*; the same in 1 more"
    ):
        build_anchor_table(experiments_of(), POSITIVE, CROPS)


def test_keys_of_an_experiment_overrule_what_is_recognized(tmp_path, experiments_of, capsys):
    write_both(tmp_path, files.write_trackmate_xml)
    for position in ("A/1/0", "B/1/0"):
        shifted = CELLS.assign(t=CELLS["t"] + 1)
        shifted.to_csv(tmp_path / "tracks" / position / "corrected.csv", index=False)
    with pytest.raises(ProjectError, match="a position must have one file of tracks"):
        build_anchor_table(experiments_of(), POSITIVE, CROPS)
    keys = {"tracks_format": "table", "tracks_unit": "pixel", "tracks_first_frame": 1}
    table = build_anchor_table(experiments_of(**keys), POSITIVE, CROPS)
    assert capsys.readouterr().out.splitlines()[0] == "plate1: table of tracks, pixels, 2 positions, 8 tracks"
    assert table.observations["t"].min() == 0
    assert table.experiments == experiments_of(**keys)


def test_labels_that_change_can_be_trained_on_without_tracks(tmp_path, experiments_of, capsys):
    images = files.label_images([2, 1, 1, 1, 2, 2, 1, 2, 3])
    write_both(tmp_path, lambda directory: np.save(directory / "labels.npy", images))
    with pytest.raises(ProjectError, match="condition 'mock' has no anchors"):
        build_anchor_table(experiments_of(), POSITIVE, CROPS)
    assert "to train without tracks, set `data.positive.min_frames: 0`" in capsys.readouterr().out
    table = build_anchor_table(experiments_of(), PositiveConfig(min_frames=0, max_frames=0), CROPS)
    assert table.observations["has_positive"].all()
    assert len(table.observations) == 2 * len(CELLS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "tracks_format",
            "imaris",
            "tracks_format of experiment 'plate1' must be one of auto, table, .*, got 'imaris'",
        ),
        ("tracks_unit", "mile", "line 11: tracks_unit of .* must be one of auto, pixel, micrometer, got 'mile'"),
        ("tracks_unit", 3, "tracks_unit must be text, got 3"),
        (
            "tracks_first_frame",
            2,
            "line 11: tracks_first_frame of .* must be one of auto, 0, 1, got 2",
        ),
        ("tracks_first_frame", "one", "tracks_first_frame of .* must be one of auto, 0, 1, got 'one'"),
        ("tracks_first_frame", True, "tracks_first_frame .*must be .*, got True"),
        ("tracks_first_frame", 0.5, "tracks_first_frame of .* must be one of auto, 0, 1, got 0.5"),
    ],
)
def test_an_unknown_value_is_an_error_in_one_line(experiments_of, key, value, message):
    with pytest.raises(UserError, match=message) as error:
        experiments_of(**{key: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        *(("tracks_unit", name, "micrometer") for name in ("um", "\u00b5m", "\u03bcm", "Micron", "micrometers")),
        *(("tracks_unit", name, "pixel") for name in ("px", "pixels", "Pixel")),
        *(("tracks_format", name, "trackmate_xml") for name in ("TrackMate XML", "TRACKMATE_XML")),
        ("tracks_format", "GEFF", "geff"),
    ],
)
def test_a_value_may_have_the_name_that_users_and_messages_give_it(experiments_of, key, written, value):
    assert {getattr(one, key) for one in experiments_of(**{key: written})} == {value}
