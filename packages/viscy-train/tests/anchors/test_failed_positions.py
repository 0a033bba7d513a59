"""Positions that failed: what is left out of an anchor table on request, and what is said about it."""

from dataclasses import replace

import numpy as np
import pytest

from viscy_train.anchors.build import build_anchor_table
from viscy_train.anchors.staleness import check_settings
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.errors import ProjectError, UserError
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.plates.plate import write_plate
from viscy_train.positives.lineages import lineage_ids

POSITIVE, CROPS = PositiveConfig(min_frames=1, max_frames=2), CropSettings(crop=8)
POSITIONS = ("A/1/0", "A/1/1", "B/1/0", "B/1/1")
HEADER = "track_id,parent_track_id,t,y,x\n"
TRACKS = HEADER + "".join(f"{track},-1,{t},{9 + track},9\n" for track in (1, 2) for t in range(4))


@pytest.fixture
def project(tmp_path):
    """Write a plate of four positions with equal tracks; return a function that reads its experiment."""
    rng = np.random.default_rng(0)
    images = {name: rng.integers(1, 99, (4, 1, 1, 24, 24)).astype("uint16") for name in POSITIONS}
    write_plate(tmp_path / "plate.zarr", ["Phase3D"], images)
    for name in POSITIONS:
        path = tmp_path / "tracks" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TRACKS)

    def read(conditions="{A/1: mock, B/1: infected}", **options):
        lines = [f"    {key}: {value}" for key, value in options.items()]
        text = f"""experiments:
  - name: monday
    plate: plate.zarr
    tracks: tracks
    channels: [Phase3D]
    conditions: {conditions}
    minutes_per_frame: 30
"""
        path = tmp_path / "experiments.yaml"
        path.write_text(text + "\n".join(lines) + "\n")
        return load_experiments(path)

    return read


def build(experiments):
    return build_anchor_table(experiments, POSITIVE, CROPS)


def positions_of(table):
    return sorted(table.observations["position"].unique())


@pytest.mark.parametrize(
    ("excluded", "left"),
    [("[A/1/0]", ["A/1/1", "B/1/0", "B/1/1"]), ("[A/1/1, B/1/0]", ["A/1/0", "B/1/1"]), ("[]", list(POSITIONS))],
)
def test_excluded_fields_of_view_are_not_in_the_table(project, excluded, left):
    assert positions_of(build(project(exclude=excluded))) == left


def test_an_excluded_field_of_view_may_lack_image_and_tracks(project, tmp_path):
    (tmp_path / "tracks/A/1/0.csv").unlink()
    (tmp_path / "plate.zarr/A/1/0/0/zarr.json").unlink(missing_ok=True)
    with pytest.raises(ProjectError):
        build(project())
    assert len(positions_of(build(project(exclude="[A/1/0]")))) == 3


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        ("[B/1]", "line 8: a name in exclude of experiment 'monday' must not be a key of `conditions`"),
        ("A/1/0", "line 8: exclude of experiment 'monday' must be a list of wells and fields of view"),
        ("['']", "line 8: a name in exclude"),
    ],
)
def test_an_invalid_list_is_refused_with_its_line(project, excluded, message):
    with pytest.raises(UserError, match=message):
        project(exclude=excluded)


def test_a_name_that_the_plate_does_not_have_is_refused(project):
    with pytest.raises(ProjectError, match=r"well A/1 of plate .* has no field of view '7'; it has 0, 1"):
        build(project(exclude="[A/1/7]"))


@pytest.mark.parametrize("content", [None, "", HEADER])
def test_positions_without_tracks_are_left_out_on_request(project, tmp_path, capsys, content):
    for name in ("A/1/1", "B/1/0"):
        path = tmp_path / "tracks" / f"{name}.csv"
        path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ProjectError, match="or `missing_tracks: skip` leaves it out"):
        build(project())
    assert positions_of(build(project(missing_tracks="skip"))) == ["A/1/0", "B/1/1"]
    assert "Warning: monday: left out 2 positions without tracks: A/1/1, B/1/0" in " ".join(
        capsys.readouterr().out.split()
    )


def test_what_index_has_warned_of_is_kept_in_the_table(project, tmp_path):
    (tmp_path / "tracks/A/1/1.csv").unlink()
    table = build(project(missing_tracks="skip"))
    table.write(tmp_path / "anchors.parquet")
    expected = ["monday: left out 1 position without tracks: A/1/1"]
    assert AnchorTable.read(tmp_path / "anchors.parquet").warnings == table.warnings == expected


def test_damaged_tracks_are_refused_although_missing_ones_are_skipped(project, tmp_path):
    (tmp_path / "tracks/A/1/1.csv").write_text(HEADER + "1,-1,0,nan,9\n")
    with pytest.raises(ProjectError, match="has no value"):
        build(project(missing_tracks="skip"))


def test_an_experiment_without_any_tracks_is_refused(project, tmp_path):
    for name in POSITIONS:
        (tmp_path / "tracks" / f"{name}.csv").unlink()
    with pytest.raises(ProjectError, match="tracks must have a position of the experiment, got none in"):
        build(project(missing_tracks="skip"))


def test_another_choice_is_refused(project):
    with pytest.raises(UserError, match="missing_tracks of experiment 'monday' must be error or skip"):
        project(missing_tracks="ignore")


def test_a_table_with_other_exclusions_is_stale(project):
    table = build(project())
    (now,) = project(exclude="[A/1/0]")
    with pytest.raises(UserError, match=r"exclude of 'monday' was \[\], is now \['A/1/0'\]"):
        check_settings(table, [now], POSITIVE, CROPS)
    assert replace(now, exclude=[]) == table.experiments[0]


def test_daughters_of_a_mother_who_was_filtered_out_are_one_lineage(project, tmp_path, capsys):
    rows = [
        (1, -1, 0),
        (1, -1, 1),
        (2, 7, 2),
        (2, 7, 3),
        (3, 7, 2),
        (3, 7, 3),
        (4, 8, 2),
        (4, 8, 3),
        (5, -1, 0),
        (5, -1, 1),
    ]
    (tmp_path / "tracks/A/1/0.csv").write_text(HEADER + "".join(f"{a},{b},{t},9,9\n" for a, b, t in rows))
    table = build(project())
    of_position = table.observations[table.observations["position"] == "A/1/0"]
    lineages = of_position.groupby("track_id")["lineage_id"].first()
    assert lineages[2] == lineages[3]
    assert lineages.nunique() == 4
    assert (lineage_ids(table.observations) == table.observations["lineage_id"]).all()
    table.write(tmp_path / "anchors.parquet")
    assert AnchorTable.read(tmp_path / "anchors.parquet").observations.equals(table.observations)
    said = " ".join(capsys.readouterr().out.split())
    assert "Warning: monday: the mother of 3 tracks is not in the tracks (A/1/0), first mother 7 of track 2" in said


@pytest.mark.parametrize("name", ["A1", "a/1", "A/01", "A01", "A-1"])
def test_a_well_is_suggested(project, name):
    with pytest.raises(ProjectError, match=f"no well '{name}'; it has A/1, B/1; did you mean A/1[?]"):
        build(project(conditions=f"{{{name}: mock, B/1: infected}}"))


def test_no_well_is_suggested_for_another_name(project):
    with pytest.raises(ProjectError) as error:
        build(project(conditions="{C/1: mock, B/1: infected}"))
    assert "did you mean" not in str(error.value)
