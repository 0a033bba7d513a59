"""The same cells, as each program writes them, are read into the same table."""

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from PIL import Image

from viscy_train.errors import UserError
from viscy_train.tracks.tracks import Tracks

from . import tracker_files as files
from .tracker_files import CELLS, MICROMETERS, SHAPE, canonical

WRITERS = {
    files.write_table: "table of tracks, pixels",
    files.write_ultrack: "ultrack table, pixels",
    files.write_btrack_csv: "btrack, pixels",
    files.write_btrack_hdf5: "btrack, pixels",
    files.write_laptrack: "laptrack table, pixels",
    files.write_trackmate_csv: "TrackMate CSV, micrometers",
    files.write_trackmate_xml: "TrackMate XML, micrometers",
    files.write_napari_csv: "napari tracks, pixels",
    files.write_napari_csv_3d: "napari tracks, pixels",
    files.write_napari_text: "napari tracks, pixels",
    files.write_napari_npy: "napari tracks, pixels",
    files.write_geff: "GEFF, micrometers",
    files.write_biotracks: "biotracks objects, pixels",
    files.write_ctc: "Cell Tracking Challenge, pixels",
    files.write_trackastra_ctc: "Cell Tracking Challenge, pixels",
    files.write_trackastra_edges: "trackastra edges, pixels",
}


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "A/1/0"
    path.mkdir(parents=True)
    return path


def read(source, **options):
    tracks = Tracks(source, **options)
    return tracks.of("A/1/0", shape=SHAPE, micrometers_per_pixel=MICROMETERS), tracks.describe()


@pytest.mark.parametrize(("write", "title"), WRITERS.items(), ids=[write.__name__ for write in WRITERS])
def test_each_format_gives_the_same_tracks_and_is_named(tmp_path, directory, write, title):
    write(directory)
    tracks, said = read(tmp_path)
    pd.testing.assert_frame_equal(canonical(tracks), canonical(CELLS), check_dtype=False)
    assert [str(dtype) for dtype in tracks.dtypes] == ["int64", "int64", "float64", "float64", "int64"]
    assert said == f"{title}, 1 position, 4 tracks"


@pytest.mark.parametrize("write", [files.write_particles, files.write_trackmate_xml])
def test_xml_is_recognized_whatever_it_is_called(tmp_path, directory, write):
    write(directory)
    (file,) = directory.iterdir()
    file.rename(directory / "tracks.csv")
    _, said = read(tmp_path)
    assert said.startswith("TrackMate XML")


def test_the_smaller_xml_file_of_trackmate_has_no_divisions(tmp_path, directory):
    files.write_particles(directory)
    tracks, _ = read(tmp_path)
    expected = canonical(CELLS.assign(parent_track_id=-1))
    pd.testing.assert_frame_equal(canonical(tracks), expected, check_dtype=False)


def test_a_spot_without_a_frame_is_in_that_of_its_group(tmp_path, directory):
    files.write_trackmate_xml(directory, without="FRAME")
    pd.testing.assert_frame_equal(canonical(read(tmp_path)[0]), canonical(CELLS), check_dtype=False)


def test_the_saved_file_is_preferred_to_the_one_without_divisions(tmp_path, directory):
    files.write_trackmate_xml(directory)
    files.write_particles(directory)
    pd.testing.assert_frame_equal(canonical(read(tmp_path)[0]), canonical(CELLS), check_dtype=False)


def test_daughters_may_have_track_elements_of_their_own(tmp_path, directory):
    """As in the XML files of ultrack, in which the first link of a daughter comes from a spot of her mother."""
    files.write_trackmate_xml(directory)
    path = directory / "movie.xml"
    split = [
        (f'<Edge SPOT_SOURCE_ID="{files.SPOT + 1}" SPOT_TARGET_ID="{files.SPOT + row}"/>', number)
        for row, number in ((2, 0), (4, 7))
    ]
    text = path.read_text()
    for edge, number in split:
        text = text.replace(edge, "").replace("<AllTracks>", f'<AllTracks><Track TRACK_ID="{number}">{edge}</Track>')
        text = text.replace("<FilteredTracks>", f'<FilteredTracks><TrackID TRACK_ID="{number}"/>')
    path.write_text(text)
    tracks, _ = read(tmp_path)
    pd.testing.assert_frame_equal(canonical(tracks), canonical(CELLS), check_dtype=False)
    assert tracks.loc[tracks["t"] == 0, "track_id"].tolist() == [1, 4]
    assert set(tracks["track_id"]) == {0, 1, 4, 7}


def test_tracks_that_do_not_divide_keep_their_numbers(tmp_path, directory):
    files.write_trackmate_xml(directory)
    tracks, _ = read(tmp_path)
    kept = tracks[tracks["y"] > 30]
    assert set(kept["track_id"]) == {4}
    assert set(tracks.loc[tracks["t"] == 0, "track_id"]) == {1, 4}
    assert set(tracks["track_id"]) == {1, 4, 5, 6}


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        (["particle", "frame", "y", "x"], "trackpy table"),
        (["track_id", "frame", "y", "x"], "table of tracks"),
        (["track_id", "frame", "position_y", "position_x"], "table of tracks"),
        (["track_id", "frame", "centroid-0", "centroid-1"], "table of tracks"),
        (["ID", "T", "Y", "X"], "napari tracks"),
        (["TRACK_ID", "FRAME", "POSITION_Y", "POSITION_X"], "TrackMate CSV"),
    ],
)
@pytest.mark.parametrize("write", ["to_csv", "to_parquet"])
def test_a_table_is_recognized_by_its_columns_in_any_file(tmp_path, directory, columns, title, write):
    table = CELLS[["track_id", "t", "y", "x"]].set_axis(columns, axis=1)
    getattr(table, write)(directory / "cells.dat", index=False)
    tracks, said = read(tmp_path)
    expected = canonical(CELLS.assign(parent_track_id=-1))
    pd.testing.assert_frame_equal(canonical(tracks), expected, check_dtype=False)
    assert said == f"{title}, pixels, 1 position, 4 tracks"


@pytest.mark.parametrize("column", ["position", "fov_name"])
@pytest.mark.parametrize("write", [files.write_napari_csv, files.write_trackmate_csv, files.write_btrack_csv])
def test_one_file_of_any_table_can_hold_all_positions(tmp_path, write, column):
    write(tmp_path)
    (path,) = (path for path in tmp_path.glob("*s.csv") if "edges" not in path.name)
    separator = " " if write is files.write_btrack_csv else ","
    table = pd.read_csv(path, sep=separator, encoding="latin-1", dtype=str)
    if "TRACK_ID" in table:  # divisions need a table of links
        table = table[~table["FRAME"].isin(["2", "3"]) | (table["TRACK_ID"] != "1")]
    both = pd.concat([table.assign(**{column: "/A/1/0"}), table.assign(**{column: "B_2_0"})])
    both.to_csv(tmp_path / "all.csv", index=False)
    source = Tracks(tmp_path / "all.csv")
    left, right = (source.of(position, micrometers_per_pixel=MICROMETERS) for position in ("A/1/0", "B/2/0"))
    pd.testing.assert_frame_equal(left, right)
    assert len(left) >= 5
    assert "2 positions" in source.describe()
    with pytest.raises(UserError, match=r"no tracks for position C/1/0 in .*, which has positions A/1/0, B_2_0"):
        source.of("C/1/0")


@pytest.mark.parametrize(
    "name",
    [
        "A/1/0.xml",
        "A/1/0_tracks.xml",
        "A/1/0/x.xml",
        "A/1/0/TrackMate/x.xml",
        "A_1_0.xml",
        "A-1-0.xml",
        "A1_0.xml",
        "a01_000.xml",
        "A_1_0/movie.xml",
        "tracks_A_1_0.xml",
        "A_1_0_all spots.XML",
    ],
)
def test_a_file_of_a_position_may_be_named_like_it(tmp_path, name):
    (tmp_path / "tracks" / name).parent.mkdir(parents=True)
    files.write_trackmate_xml(tmp_path)
    (tmp_path / "movie.xml").rename(tmp_path / "tracks" / name)
    for other in ("A_1_01.xml", "A_1_0_1.xml", "A_11_0.xml", "AA_1_0.xml", "A_1_0b.xml", "1_0.xml", "A_1.xml"):
        (tmp_path / "tracks" / other).write_text("of another position")
    assert len(read(tmp_path / "tracks")[0]) == len(CELLS)


@pytest.mark.parametrize("name", ["0.geff", "0.zarr", "0/cells.geff", "0/tracked.zarr", "0/tracked.zarr/graph.geff"])
def test_a_graph_is_a_directory_with_any_name(tmp_path, directory, name):
    files.write_geff(directory.parent, name=name)
    assert len(read(tmp_path)[0]) == len(CELLS)


def test_a_graph_can_hold_all_positions(tmp_path):
    files.write_geff(tmp_path, props={"fov_name": "A/1/0"})
    assert len(read(tmp_path / "0.geff")[0]) == len(CELLS)
    with pytest.raises(UserError, match="no tracks for position B/1/0"):
        Tracks(tmp_path / "0.geff").of("B/1/0")


def test_axes_of_a_graph_are_known_by_their_type_and_units(tmp_path, directory):
    files.write_geff(directory, t="when", y="down", x="right", time_unit="minute")
    tracks, _ = read(tmp_path, minutes_per_frame=10)
    pd.testing.assert_frame_equal(canonical(tracks), canonical(CELLS), check_dtype=False)
    with pytest.raises(UserError, match=r"times must be multiples of `minutes_per_frame` \(7\), .* has 10 minute"):
        read(tmp_path, minutes_per_frame=7)


def test_a_graph_with_frames_besides_times_uses_the_frames(tmp_path, directory):
    files.write_geff(directory, time_unit="minute", t="POSITION_T", props={"FRAME": None})
    tracks, _ = read(tmp_path)
    pd.testing.assert_frame_equal(canonical(tracks), canonical(CELLS), check_dtype=False)


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd", "packbits"])
def test_compressed_label_images_need_no_other_package(tmp_path, directory, compression):
    files.write_ctc(directory)
    for file in directory.glob("*.tif"):
        Image.fromarray(tifffile.imread(file)).save(file, compression=compression)
    tracks, _ = read(tmp_path)
    pd.testing.assert_frame_equal(canonical(tracks), canonical(CELLS), check_dtype=False)


def write_stack(path, images):
    tifffile.imwrite(path / "labels.tif", images, photometric="minisblack")


def write_z_stack(path, images):
    stack = np.stack([images, 0 * images, images], axis=1)
    tifffile.imwrite(path / "labels.tif", stack, photometric="minisblack")


def write_frames(path, images):
    for frame, image in enumerate(images):
        tifffile.imwrite(path / f"movie2_t{frame:02}_ch01.tiff", image)


def write_array(path, images):
    np.save(path / "labels.npy", images.astype(np.float32))


def write_zarr(path, images):
    zarr.save_array(path / "labels.zarr", images)


def write_ome_zarr(path, images):
    """As channel of an image with two."""
    image = np.stack([images * 0 + 9, images], axis=1)[:, :, np.newaxis]
    write_levels(path, image, ["Phase", "nuclei_labels"])


def write_labels_of_image(path, images):
    write_levels(path, images[:, np.newaxis, np.newaxis] * 0 + 9, ["Phase"])
    write_levels(path / "labels/nuclei", images[:, np.newaxis, np.newaxis], [], **{"image-label": {}})


def write_levels(path, image, channels, **attributes):
    group = zarr.open_group(path, mode="a")
    group.create_array("0", data=image)
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"datasets": [{"path": "0"}]}],
        "omero": {"channels": [{"label": name} for name in channels]},
        **attributes,
    }


@pytest.mark.parametrize(
    "write",
    [
        write_stack,
        write_z_stack,
        write_frames,
        write_array,
        write_zarr,
        write_ome_zarr,
        write_labels_of_image,
    ],
)
def test_a_label_is_a_track_if_it_follows_a_cell(tmp_path, directory, write):
    write(directory, files.label_images())
    tracks, said = read(tmp_path)
    assert said == "label images, pixels, 1 position, 4 tracks"
    pd.testing.assert_frame_equal(tracks, CELLS.assign(parent_track_id=-1), check_dtype=False)


def test_labels_that_change_are_cells_without_tracks(tmp_path, directory):
    write_stack(directory, files.label_images([2, 1, 1, 1, 2, 2, 1, 2, 3]))
    tracks, said = read(tmp_path)
    assert said.startswith("cells without tracks, pixels, 1 position, 9 tracks; labels change from frame to frame")
    assert "`data.positive.min_frames: 0`" in said
    assert tracks["track_id"].is_unique
    tracks, said = read(tmp_path, format="labels")
    assert said == "label images, pixels, 1 position, 3 tracks"
    tracks, said = read(tmp_path, format="detections")
    assert said == "cells without tracks, pixels, 1 position, 9 tracks"


def test_tracks_are_preferred_to_label_images(tmp_path, directory):
    write_frames(directory, files.label_images())
    files.write_napari_csv(directory)
    assert read(tmp_path)[1].startswith("napari tracks")
    assert read(tmp_path, format="labels")[1].startswith("label images")


def test_a_table_without_tracks_is_read_if_this_is_stated(tmp_path, directory):
    CELLS[["t", "y", "x"]].to_csv(directory / "cells.csv", index=False)
    tracks, said = read(tmp_path, format="detections")
    assert said == "cells without tracks, pixels, 1 position, 9 tracks"
    assert tracks["track_id"].is_unique
    with pytest.raises(UserError, match=r"tracks need the columns track_id, t, y, x, .* lacks track_id"):
        read(tmp_path)


def test_merged_cells_begin_a_track_without_a_mother(tmp_path, directory):
    files.write_trackmate_csv(directory)
    with (directory / "export-edges.csv").open("a") as file:
        file.write(f"edge,1,{files.SPOT + 4},{files.SPOT + 3}\n")
    tracks, said = read(tmp_path)
    merged = tracks[(tracks["y"] == 7) & (tracks["t"] == 3)]
    assert merged["parent_track_id"].tolist() == [-1]
    assert said.endswith("; cells that merge from several begin a track without a mother")


def test_a_division_in_a_table_of_spots_needs_its_links(tmp_path, directory):
    files.write_trackmate_csv(directory, links=False)
    message = r"track 1 of .* has several spots in frame 2; export TrackMate's table of edges"
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_tracks_of_laptrack_without_their_table_of_splits_are_said_to_lack_mothers(tmp_path, directory):
    files.write_laptrack(directory)
    assert "mothers" not in read(tmp_path)[1]
    (directory / "splits.csv").unlink()
    tracks, said = read(tmp_path)
    assert tracks["parent_track_id"].eq(-1).all()
    assert said.endswith(
        "; tree_id 0 has 3 tracks, whose mothers are not known; put laptrack's table of splits, with parent_track_id "
        "and child_track_id, next to the tracks"
    )


@pytest.mark.parametrize(
    "columns",
    [
        ["Track_ID", "Frame", "Y", "X", "Parent_Track_ID"],
        ["TRACK_ID", "T", "Y", "X", "PARENT"],
        ["track_id", "t", "y", "x", "Parent_Track_ID"],
        ["Particle", "FRAME", "y", "x", "parent"],
    ],
)
@pytest.mark.parametrize("write", ["to_csv", "to_parquet"])
def test_columns_may_have_other_capital_letters(tmp_path, directory, columns, write):
    getattr(CELLS.set_axis(columns, axis=1), write)(directory / "cells.dat", index=False)
    pd.testing.assert_frame_equal(canonical(read(tmp_path)[0]), canonical(CELLS), check_dtype=False)


def test_a_column_of_the_right_capital_letters_is_preferred(tmp_path, directory):
    CELLS.assign(T=9, Y=0, TRACK_ID=7).to_csv(directory / "cells.csv", index=False, sep=";")
    pd.testing.assert_frame_equal(canonical(read(tmp_path)[0]), canonical(CELLS), check_dtype=False)
    CELLS.rename(columns={"track_id": "id"}).to_csv(directory / "cells.csv", index=False)
    with pytest.raises(UserError, match="lacks track_id"):  # an id may be that of a row
        read(tmp_path)


@pytest.mark.parametrize("z", [False, True])
@pytest.mark.parametrize("start", [0, 1])
def test_numbers_of_rows_before_the_columns_of_napari_are_left_out(tmp_path, directory, z, start):
    table = pd.DataFrame(files.napari_array(z=z)).astype({0: int, 1: int})
    table.set_axis(range(start, start + len(table))).to_csv(directory / "tracks.csv", header=False)
    pd.testing.assert_frame_equal(canonical(read(tmp_path)[0]), canonical(CELLS), check_dtype=False)


def write_of_all(path, names):
    pd.concat([CELLS.assign(fov=name) for name in names]).to_csv(path / "all.csv", index=False)
    return path / "all.csv"


@pytest.mark.parametrize("name", ["A01_000", "A1_0", "A_1_0", "A-1-0", "/A/1/0", "A/01/00", "A/1", "A1", "A01"])
def test_a_column_may_write_the_name_of_a_position_as_a_file_may(tmp_path, name):
    tracks, _ = read(write_of_all(tmp_path, [name, "A/1/1", "B/1", "AA01_000"]))
    assert len(tracks) == len(CELLS)


def test_a_position_in_a_column_must_have_one_name_and_tracks_of_its_own(tmp_path):
    path = write_of_all(tmp_path, ["A01_000", "A_1_0", "B1"])
    with pytest.raises(UserError, match=r"must have one name, .* has A01_000, A_1_0 for A/1/0; write it in one way"):
        read(path)
    source = Tracks(path)
    source.of("B/1/0")
    with pytest.raises(UserError, match=r"has only B1 for B/1/0 and B/1/1; write the field of view, too, such as"):
        source.of("B/1/1")
    with pytest.raises(UserError, match=r"no tracks for position C/1/0 .* needs tracks, named as in the plate"):
        source.of("C/1/0")


def test_the_directory_of_one_file_of_all_positions_is_an_error_that_names_the_file(tmp_path):
    path = write_of_all(tmp_path, ["A/1/0", "B/1/0"])
    with pytest.raises(UserError, match=f"set it to {path}, not its directory"):
        read(tmp_path)
