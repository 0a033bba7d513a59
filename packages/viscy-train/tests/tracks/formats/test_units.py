"""Coordinates become pixels, and frames are counted from 0, or an error names the key that decides."""

import pandas as pd
import pytest

from viscy_train.errors import UserError
from viscy_train.tracks.formats.units import stated_interval
from viscy_train.tracks.tracks import Tracks

from . import tracker_files as files
from .tracker_files import CELLS, MICROMETERS, SHAPE, canonical


def read(source, size: float | None = MICROMETERS, shape=SHAPE, **options):
    tracks = Tracks(source, **options)
    return tracks.of("0", shape=shape, micrometers_per_pixel=size), tracks.describe()


def write_table(path, scale=1.0, shift=0, cells=CELLS):
    changed = cells.assign(y=cells["y"] * scale, x=cells["x"] * scale, t=cells["t"] + shift)
    changed.to_csv(path / "0.csv", index=False)


def expect_cells(tracks):
    pd.testing.assert_frame_equal(canonical(tracks), canonical(CELLS), check_dtype=False)


@pytest.mark.parametrize(
    "unit", ["micron", "um", "\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m", r"\u00B5m", "Microns"]
)
def test_a_length_in_the_file_is_converted(tmp_path, unit):
    files.write_trackmate_xml(tmp_path, unit=unit)
    (tmp_path / "movie.xml").rename(tmp_path / "0.xml")
    tracks, said = read(tmp_path)
    expect_cells(tracks)
    assert said == "TrackMate XML, micrometers, 1 position, 4 tracks"


def test_other_lengths_are_converted(tmp_path):
    files.write_trackmate_xml(tmp_path, unit="mm")
    source = Tracks(tmp_path / "movie.xml")
    tracks = source.of("0", shape=SHAPE, micrometers_per_pixel=1000 * MICROMETERS, is_only=True)
    expect_cells(tracks)
    assert source.describe() == "TrackMate XML, mm, 1 position, 4 tracks"


def test_the_size_of_a_pixel_in_the_file_is_used_if_the_plate_has_none(tmp_path):
    files.write_trackmate_xml(tmp_path)
    tracks = Tracks(tmp_path / "movie.xml").of("0", shape=SHAPE, is_only=True)
    expect_cells(tracks)


def test_the_scale_with_which_an_image_was_tracked_is_right_for_its_coordinates(tmp_path):
    """TrackMate was given another pixel size than the plate has, or an image of another size."""
    files.write_trackmate_xml(tmp_path, size='width="64" height="48"')
    source = Tracks(tmp_path / "movie.xml")
    expect_cells(source.of("0", shape=SHAPE, micrometers_per_pixel=0.65, is_only=True))
    smaller = source.of("0", shape=(4, 1, 1, 96, 128), micrometers_per_pixel=MICROMETERS / 2, is_only=True)
    assert smaller["y"].max() == 2 * CELLS["y"].max()


def doubts(source, size: float | None = MICROMETERS, shape=SHAPE, **options):
    tracks = Tracks(source, **options)
    for number in range(sum(1 for path in source.iterdir() if path.suffix in (".csv", ".xml"))):
        tracks.of(f"{number}", shape=shape, micrometers_per_pixel=size)
    return tracks.doubts()


def test_another_scale_in_the_file_than_that_of_the_image_is_a_doubt(tmp_path):
    files.write_trackmate_xml(tmp_path, size='width="64" height="48"')
    (tmp_path / "movie.xml").rename(tmp_path / "0.xml")
    (doubt,) = doubts(tmp_path, size=0.4)
    assert "files of tracks state 0.5 micrometers per pixel, the images have 0.4 (0)" in doubt
    assert "coordinates are divided by 0.5: correct `micrometers_per_pixel`" in doubt
    assert doubts(tmp_path) == []
    # The same image, tracked at half of its resolution.
    assert doubts(tmp_path, size=MICROMETERS / 2, shape=(4, 1, 1, 96, 128)) == []


def test_a_unit_that_seems_wrong_is_said_so(tmp_path):
    (tmp_path / "0").mkdir()
    files.write_trackmate_csv(tmp_path / "0", unit="nm")
    with pytest.raises(
        UserError, match=r"are in nm, as it states, and only reach y 0\.0.*so the unit seems wrong; set"
    ):
        read(tmp_path)
    (tmp_path / "xml").mkdir()
    files.write_trackmate_xml(tmp_path / "xml", unit="inch", size='width="64" height="48"')
    (tmp_path / "xml/movie.xml").rename(tmp_path / "xml/0.xml")
    (doubt,) = doubts(tmp_path / "xml")
    assert "state 12700 micrometers per pixel, the images have 0.5 (0); so the unit in the files seems wrong" in doubt


def write_graph_with_times(path):
    files.write_geff(path, time_unit="minute", t="POSITION_T", props={"FRAME": None}, unit="pixel")


@pytest.mark.parametrize(
    "write", [files.write_trackmate_xml, files.write_trackmate_csv, files.write_particles, write_graph_with_times]
)
def test_another_interval_in_the_file_than_that_of_the_experiment_is_a_doubt(tmp_path, write):
    """The spots of TrackMate are 600 seconds apart."""
    found = {}
    for number in ("0", "1"):
        (tmp_path / number).mkdir()
        write(tmp_path / number)
        for file in (tmp_path / number).glob("*_Tracks.xml"):
            interval = 'frameInterval="600.0" timeUnits="sec"'
            file.write_text(file.read_text().replace('frameInterval="1.0"', interval))
    for minutes in (10, 10.2, 30):
        source = Tracks(tmp_path, minutes_per_frame=minutes)
        for number in ("0", "1"):
            source.of(number, shape=SHAPE, micrometers_per_pixel=MICROMETERS)
        found[minutes] = source.doubts()
    (doubt,) = found.pop(30)
    assert doubt.startswith("files of tracks state 10 minutes per frame, but minutes_per_frame is 30; correct the one")
    assert doubt.endswith(" (0, 1)")
    assert list(found.values()) == [[], []]


@pytest.mark.parametrize(
    ("interval", "unit", "minutes"),
    [
        (600.0, "sec", 10),
        ("600.0", "seconds", 10),
        (15, "min", 15),
        (0.5, "Hours", 30),
        (500, "ms", 0.5 / 60),
        (1.0, "sec", None),  # what programs write if they do not know
        (1.0, "frame", None),
        (600.0, None, None),
        (0.0, "sec", None),
        ("?", "sec", None),
        (float("nan"), "sec", None),
        (None, "sec", None),
    ],
)
def test_an_interval_counts_only_if_a_file_states_it(interval, unit, minutes):
    assert stated_interval(interval, unit) == (None if minutes is None else pytest.approx(minutes))


def test_a_length_without_the_size_of_a_pixel_names_the_keys(tmp_path):
    (tmp_path / "0").mkdir()
    files.write_trackmate_csv(tmp_path / "0")
    message = "coordinates in .*m need the size of a pixel, .*; set `micrometers_per_pixel` .*, or `tracks_unit: pixel`"
    with pytest.raises(UserError, match=message):
        read(tmp_path, size=None)


def test_a_stated_unit_overrules_that_of_the_file(tmp_path):
    files.write_geff(tmp_path, unit="pixel")
    tracks, said = read(tmp_path, unit="micrometer")
    assert said == "GEFF, micrometers, 1 position, 4 tracks"
    assert tracks["y"].max() == CELLS["y"].max() / MICROMETERS
    tracks, said = read(tmp_path)
    expect_cells(tracks)
    assert said == "GEFF, pixels, 1 position, 4 tracks"


def test_micrometers_that_would_only_fit_as_pixels_are_an_error(tmp_path):
    files.write_geff(tmp_path, name="0.geff")
    with pytest.raises(UserError, match=r"they would fit as pixels: set `tracks_unit: pixel`, or correct `micrometers"):
        read(tmp_path, size=MICROMETERS / 10)
    tracks, _ = read(tmp_path, size=MICROMETERS / 10, unit="pixel")
    assert tracks["y"].max() == CELLS["y"].max() * MICROMETERS


def make_many(size, n=20):
    """Return many cells at positions all over an image, in micrometers."""
    rows = [(cell, 0, size * (47 * cell / n), size * (63 * ((cell * 7) % n) / n)) for cell in range(n)]
    return pd.DataFrame(rows, columns=["track_id", "t", "y", "x"])


@pytest.mark.parametrize("size", [0.3, 0.65])
def test_micrometers_given_as_pixels_are_noticed(tmp_path, size):
    write_table(tmp_path, cells=make_many(size))
    with pytest.raises(UserError, match=r"seem to be micrometers, those of all 20 tracks .*; set `tracks_unit` of the"):
        read(tmp_path, size=size)
    tracks, said = read(tmp_path, size=size, unit="micrometer")
    assert tracks["y"].max() == pytest.approx(47 * 19 / 20)
    assert said == "table of tracks, micrometers, 1 position, 20 tracks"
    tracks, said = read(tmp_path, size=size, unit="pixel")
    assert tracks["y"].max() == pytest.approx(size * 47 * 19 / 20)
    assert said == "table of tracks, pixels, 1 position, 20 tracks"


def test_micrometers_outside_the_image_are_noticed_also_in_few_cells(tmp_path):
    write_table(tmp_path, scale=1.3)
    with pytest.raises(UserError, match="seem to be micrometers"):
        read(tmp_path, size=1.3)


@pytest.mark.parametrize("size", [None, 0.65, 1.0, 1.3])
def test_pixels_all_over_the_image_are_pixels(tmp_path, size):
    write_table(tmp_path, cells=make_many(1))
    tracks, _ = read(tmp_path, size=size)
    assert tracks["y"].max() == pytest.approx(47 * 19 / 20)


def test_few_cells_in_a_part_of_the_image_are_accepted(tmp_path):
    write_table(tmp_path, cells=make_many(0.65).head(3))
    assert len(read(tmp_path, size=0.65)[0]) == 3


def test_few_cells_that_could_be_in_micrometers_are_a_doubt(tmp_path):
    write_table(tmp_path, cells=make_many(0.3).head(3))
    (doubt,) = doubts(tmp_path, size=0.3)
    assert "would also be inside the images if they were micrometers" in doubt
    assert "set `tracks_unit` of the experiment to micrometer or pixel" in doubt
    assert doubts(tmp_path, size=0.3, unit="pixel") == []
    make_many(1).to_csv(tmp_path / "1.csv", index=False)
    assert doubts(tmp_path, size=0.3) == []


def in_part(path, part, n=12, shift=0.0):
    """Write tracks of cells all over a part of the height and of the width of an image."""
    cells = make_many(1.0, n)
    cells.assign(y=shift + cells["y"] * part[0], x=shift + cells["x"] * part[1]).to_csv(path / "0.csv", index=False)


def test_cells_in_the_same_part_of_the_height_and_width_are_a_doubt_without_a_scale(tmp_path):
    in_part(tmp_path, (0.5, 0.5))
    (doubt,) = doubts(tmp_path, size=None)
    assert doubt.startswith("all cells are in the upper 4")
    assert doubt.endswith(
        ": set `tracks_unit` of the experiment to micrometer or pixel, or track the images of the plate"
    )
    assert doubts(tmp_path, size=None, unit="pixel") == []


@pytest.mark.parametrize(
    ("part", "n", "shift"),
    [
        ((1.0, 1.0), 40, 0.0),
        ((0.8, 0.8), 40, 0.0),
        ((0.5, 0.9), 40, 0.0),  # another part of the height than of the width
        ((0.5, 0.35), 40, 0.0),
        ((0.5, 0.5), 8, 0.0),  # few cells
        ((0.5, 0.5), 40, 9.0),  # does not begin at the first pixel
    ],
)
def test_cells_that_are_elsewhere_or_few_are_accepted_without_a_scale(tmp_path, part, n, shift):
    in_part(tmp_path, part, n, shift)
    assert doubts(tmp_path, size=None) == []


def test_frames_counted_from_1_are_noticed_and_can_be_stated(tmp_path):
    write_table(tmp_path, shift=1)
    message = r"t in \[0, 3\], got 4 for track 2 in frame 4 of position 0 .*; frames seem to be counted from 1, as none"
    with pytest.raises(UserError, match=message + " is 0: set `tracks_first_frame` of the experiment to 1"):
        read(tmp_path)
    expect_cells(read(tmp_path, first_frame=1)[0])
    assert read(tmp_path, first_frame=0)[0]["t"].max() == 4


def test_a_frame_before_the_stated_first_one_is_an_error(tmp_path):
    write_table(tmp_path)
    with pytest.raises(UserError, match=r"must be at least 1, as `tracks_first_frame` states, got 0 in .*0\.csv"):
        read(tmp_path, first_frame=1)


def test_tracks_that_begin_later_are_accepted(tmp_path):
    write_table(tmp_path, cells=CELLS[CELLS["t"] >= 1])
    assert read(tmp_path)[0]["t"].min() == 1


@pytest.mark.parametrize("first_frame", ["auto", 0, 1])
def test_tracks_of_which_none_is_in_frame_0_are_a_doubt(tmp_path, first_frame):
    """Counted from 1, but the last frame has no cells, so that they seem to fit."""
    write_table(tmp_path, shift=1, cells=CELLS[CELLS["t"] < 3])
    found = doubts(tmp_path, first_frame=first_frame)
    assert len(found) == (first_frame == "auto")
    for doubt in found:
        assert "the first tracks of 0 begin in frame 1, none in frame 0; set `tracks_first_frame`" in doubt


def test_one_of_several_positions_that_begins_later_is_accepted_unless_it_has_many_tracks(tmp_path):
    write_table(tmp_path)
    CELLS[CELLS["t"] >= 1].to_csv(tmp_path / "1.csv", index=False)
    CELLS.to_csv(tmp_path / "2.csv", index=False)
    assert doubts(tmp_path) == []
    make_many(1).assign(t=1).to_csv(tmp_path / "1.csv", index=False)
    (doubt,) = doubts(tmp_path)
    assert "the first tracks of 1 begin in frame 1" in doubt
