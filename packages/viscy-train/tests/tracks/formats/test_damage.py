"""Damaged files of every format are an error in one line."""

import shutil

import numpy as np
import pytest

from viscy_train.errors import UserError
from viscy_train.tracks.tracks import Tracks, checksums

from . import tracker_files as files
from .test_formats import WRITERS
from .tracker_files import MICROMETERS, SHAPE

DOCTYPE = '<!DOCTYPE TrackMate [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "A/1/0"
    path.mkdir(parents=True)
    return path


def read(source, **options):
    return Tracks(source, **options).of("A/1/0", shape=SHAPE, micrometers_per_pixel=MICROMETERS)


def message_of(source):
    """Return the message of an error, if there is one."""
    try:
        read(source)
    except UserError as error:
        return [str(error)]
    return []


def error_of(source, **options):
    with pytest.raises(UserError) as error:
        read(source, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("write", WRITERS, ids=[write.__name__ for write in WRITERS])
def test_a_file_that_is_cut_or_empty_or_missing_is_an_error_in_one_line(tmp_path, directory, write):
    write(directory)
    contents = {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}
    messages = []
    for file, content in contents.items():
        for n_bytes in (0, len(content) // 3, len(content) - 2) if len(contents) < 8 else (len(content) // 3,):
            file.write_bytes(content[:n_bytes])
            messages += message_of(tmp_path)
        file.write_bytes(content)
    assert len(messages) >= len(contents) - 3
    assert not any("\n" in message for message in messages)
    shutil.rmtree(directory)
    (tmp_path / "all.csv").touch()
    assert f"0.csv; each position of a well in `conditions` needs tracks ({tmp_path.name} has A, all.csv)" in error_of(
        tmp_path
    )


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (
            files.write_trackmate_xml,
            ("POSITION_Y", "Y"),
            "POSITION_Y of element Spot must be there, got none in line 2",
        ),
        (files.write_trackmate_xml, ('ID="100"', 'ID="x"'), "ID of element Spot must be a number, got 'x' in line 2"),
        (files.write_trackmate_xml, ('ID="100"', 'ID="1.5"'), "ID of element Spot must be an integer, got 1.5"),
        (files.write_trackmate_xml, ('POSITION_X="10.0"', 'POSITION_X="NaN"'), "POSITION_X .* must be finite, got NaN"),
        (files.write_trackmate_xml, ('ID="103"', 'ID="102"'), "a cell must occur once, .* has cell 102 several times"),
        (files.write_trackmate_xml, ('TARGET_ID="103"', 'TARGET_ID="7"'), "has a link to the unknown cell 7"),
        (files.write_trackmate_xml, ('TARGET_ID="104"', 'TARGET_ID="107"'), "links 101 and 107 in frame 1"),
        (files.write_trackmate_xml, ("<TrackMate", "<Mamut"), "must have a known format"),
        (files.write_trackmate_csv, (b",(\xb5m),", b",(furlong),"), "the pixel or a length, .* states 'furlong'"),
        (files.write_trackmate_csv, ("ID103,103", "ID103,x"), "spots with links need their number in the column ID"),
        (files.write_trackmate_csv, ("edge,1,100,101", "edge,1,100,1"), "has a link to the unknown cell 1"),
        (files.write_trackmate_csv, ("edge,1,100,101", "edge,1,100,x"), "must be integers, got 100, x in data row 1"),
        (files.write_laptrack, ("0,1,2", "0,1,9\n2,1,9"), "a track must have one mother, track 9 .* has several"),
        (files.write_ctc, ("4 0 3 0", "4 0 3"), r"four integers, got '4 0 3' in line 4 of .*res_track\.txt"),
        (files.write_ctc, ("4 0 3 0", "4 0 1 0"), "track 4 of .* is in frames 0 to 1, but has a cell in frame 3"),
        (files.write_ctc, ("4 0 3 0", "5 0 3 0"), r"a label must be a track of .*, label 4 in frame 0 is none"),
        (files.write_ctc, ("4 0 3 0", "4 0 3 0\n9 0 3 0"), "track 9 of .* has none"),
        (files.write_ctc, ("4 0 3 0", "4 0 3 0\n4 0 3 0"), "a track must have one row, .* has several of track 4"),
        (files.write_ctc, ("2 2 3 1", "2 2 3 4"), "begins in frame 2, its mother 4 ends in frame 3"),
        (
            files.write_trackastra_edges,
            ("0,7,1,1,0.9", "0,8,1,1,0.9"),
            "names label 8 in frame 0, which .* does not have",
        ),
        (files.write_btrack_hdf5, (b"area>10", b"area~10"), "a filter of btrack must be like area>100"),
    ],
)
def test_what_contradicts_itself_is_an_error_that_says_where(tmp_path, directory, write, change, message):
    write(directory)
    old, new = (text if isinstance(text, bytes) else text.encode() for text in change)
    changed = [file for file in directory.iterdir() if old in file.read_bytes()]
    for file in changed:
        file.write_bytes(file.read_bytes().replace(old, new))
    assert changed
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_entities_of_xml_are_not_expanded(tmp_path, directory):
    files.write_trackmate_xml(directory, head=DOCTYPE)
    assert "must not have a document type declaration" in error_of(tmp_path)


def test_a_trackmate_file_without_tracks_is_an_error(tmp_path, directory):
    files.write_trackmate_xml(directory, filtered="")
    assert "must have tracks that pass its filters" in error_of(tmp_path)


def test_a_missing_label_image_is_an_error(tmp_path, directory):
    files.write_ctc(directory)
    (directory / "mask002.tif").unlink()
    assert "has frames 0 to 3 without frame 2 (1 missing)" in error_of(tmp_path)


def test_an_image_that_is_not_of_labels_is_an_error(tmp_path, directory):
    np.save(directory / "image.npy", np.random.default_rng(0).integers(0, 4096, (4, 48, 64)))
    assert "save the labels, not the image" in error_of(tmp_path)
    np.save(directory / "image.npy", np.full((4, 48, 64), 0.5))
    assert "must be the number of a cell, or 0" in error_of(tmp_path)
    np.save(directory / "image.npy", np.zeros((4, 48, 64), int))
    assert "label images must have cells" in error_of(tmp_path)
    np.save(directory / "image.npy", files.label_images()[:, :-1])
    assert "must have the size of the image, 48 x 64 pixels, " in error_of(tmp_path)


def test_a_spreadsheet_is_refused(tmp_path):
    (tmp_path / "A_1_0.xlsx").write_bytes(b"PK\3\4")
    assert "A_1_0.xlsx is a spreadsheet; save it as CSV" in error_of(tmp_path)


def test_an_archive_is_refused(tmp_path, directory):
    files.write_trackmate_xml(directory)
    shutil.make_archive(str(tmp_path / "A_1_0"), "zip", directory)
    shutil.rmtree(directory)
    (tmp_path / "A_1_0.zip").rename(tmp_path / "A_1_0.csv")
    assert "tracks must not be in an archive" in error_of(tmp_path)


def test_a_graph_without_its_library_names_the_extra(tmp_path, directory, monkeypatch):
    files.write_geff(directory)
    monkeypatch.setitem(__import__("sys").modules, "geff", None)
    assert "needs the package geff; install viscy-train[geff]" in error_of(tmp_path)


def test_several_files_with_tracks_are_refused_unless_a_format_is_stated(tmp_path, directory):
    files.write_trackmate_xml(directory)
    files.write_trackmate_csv(directory)
    message = error_of(tmp_path)
    assert "has A/1/0/export-spots.csv, A/1/0/movie.xml; keep one of them, or state `tracks_format`" in message
    assert len(read(tmp_path, format="trackmate_xml")) == len(files.CELLS)
    message = error_of(tmp_path, format="geff")
    assert "must have the stated format 'geff'" in message
    assert "movie.xml (TrackMate XML)" in message


def test_several_tables_of_links_are_refused(tmp_path, directory):
    files.write_trackmate_csv(directory)
    shutil.copy(directory / "export-edges.csv", directory / "old-edges.csv")
    assert "has A/1/0/export-edges.csv, A/1/0/old-edges.csv; keep one of them" in error_of(tmp_path)


@pytest.mark.parametrize("write", WRITERS, ids=[write.__name__ for write in WRITERS])
def test_a_change_of_any_file_that_is_read_is_noticed(tmp_path, directory, write):
    write(directory)
    (directory / "notes.txt").write_text("not read")
    unread = {"notes.txt", *(["tracks.csv"] if write is files.write_biotracks else [])}
    before = checksums(tmp_path, ["A/1/0"])
    for file in directory.rglob("*"):
        if file.is_file() and file.stat().st_size:
            content = file.read_bytes()
            file.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
            is_noticed = checksums(tmp_path, ["A/1/0"]) != before
            assert is_noticed == (file.name not in unread), file
            file.write_bytes(content)
    assert checksums(tmp_path, ["A/1/0"]) == before
