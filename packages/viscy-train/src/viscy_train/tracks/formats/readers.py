"""Readers: what reads each format, and what it takes from other files of the same position."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from viscy_train.errors import NoTracksError, UserError
from viscy_train.tracks.formats.btrack_hdf5 import HDF5, read_btrack_hdf5
from viscy_train.tracks.formats.ctc import read_ctc
from viscy_train.tracks.formats.dialects import (
    BIOTRACKS_LINKS,
    BIOTRACKS_OBJECTS,
    LAPTRACK_DIVISIONS,
    TRACKASTRA_LINKS,
    TRACKMATE_LINKS,
)
from viscy_train.tracks.formats.geff_graph import read_geff
from viscy_train.tracks.formats.labels import read_cells, read_labels
from viscy_train.tracks.formats.lineage import tracks_of_links
from viscy_train.tracks.formats.masks import scattered
from viscy_train.tracks.formats.recognition import is_label_images, read_head, what_it_should_be
from viscy_train.tracks.formats.tables import read_columns, read_table
from viscy_train.tracks.formats.track_file import ReadOptions, TrackFile
from viscy_train.tracks.formats.trackmate_xml import read_trackmate_xml

if TYPE_CHECKING:
    from pathlib import Path

COMPANION = {
    "trackmate_csv": "trackmate_links",
    "laptrack": "laptrack_divisions",
    "trackastra": "labels",
    "biotracks": "biotracks_links",
}
"""What is read together with a file of a format, if the position has it."""
_TREE = "tree_id"


def read_track_file(path: Path, format: str, options: ReadOptions, companion: Path | None = None) -> TrackFile:
    """Read a file or directory.

    Parameters
    ----------
    path : pathlib.Path
        The file or directory.
    format : str
        As `viscy_train.tracks.formats.recognition.recognize` returns it.
    options : ReadOptions
        What the configuration states.
    companion : pathlib.Path, optional
        The file of the position that `COMPANION` names for the format.

    Raises
    ------
    UserError
        If a file is damaged, or not of this format.
    """
    head = b"" if path.is_dir() else read_head(path)
    if not path.is_dir() and not head:
        raise NoTracksError(f"{path} is not {what_it_should_be(path)} of tracks: it is empty")
    if format == "trackastra":
        return _read_trackastra(path, head, companion)
    if format == "biotracks":
        return _read_biotracks(path, head, companion)
    if format in ("labels", "detections") and is_label_images(path, head):
        return read_labels(path, head, options)
    if format == "btrack" and head.startswith(HDF5):
        return read_btrack_hdf5(path)
    if format == "ctc":
        return read_ctc(path)
    if format == "geff":
        return read_geff(path, options)
    if format == "trackmate_xml":
        return read_trackmate_xml(path)
    return read_table(path, head, options)


def with_lineage(file: TrackFile, companion: Path | None) -> TrackFile:
    """Return the tracks of one position, with mothers that the format does not write as a column.

    Parameters
    ----------
    file : TrackFile
        Tracks of one position.
    companion : pathlib.Path, optional
        The file of the position that `COMPANION` names for the format.
    """
    if file.format == "trackmate_csv":
        return _with_links(file, companion) if companion else _without_links(file)
    if file.format == "laptrack":
        return _with_divisions(file, companion) if companion else _without_divisions(file)
    if file.format == "napari" and "parent_track_id" not in file.tracks:
        return _with_shared_points(file)
    return file


def _with_links(spots: TrackFile, companion: Path) -> TrackFile:
    """Return TrackMate's tracks, divided at divisions."""
    links = read_columns(companion, read_head(companion), TRACKMATE_LINKS)
    table = spots.tracks
    if "spot" not in table or pd.to_numeric(table["spot"], errors="coerce").isna().any():
        raise UserError(
            f"spots with links need their number in the column ID, {spots.where} lacks it; export them again"
        )
    links = links[links[TRACKMATE_LINKS[0]].isin(table["spot"]) | links[TRACKMATE_LINKS[1]].isin(table["spot"])]
    numbers = pd.to_numeric(table["track_id"], errors="coerce").fillna(-1)
    frames = pd.to_numeric(table["t"], errors="coerce")
    tracks, notes = tracks_of_links(table["spot"].astype("int64"), frames, links, str(companion), numbers)
    divided = table.drop(columns=["spot", "track_id"]).join(tracks.set_axis(table.index))
    return replace(spots, tracks=divided, notes=(*spots.notes, *notes))


def _without_links(spots: TrackFile) -> TrackFile:
    """Return TrackMate's tracks, if none divides."""
    tracks = spots.tracks.drop(columns="spot", errors="ignore")
    both = tracks[tracks[["track_id", "t"]].apply(pd.to_numeric, errors="coerce").duplicated().to_numpy()]
    if len(both):
        track, frame = both[["track_id", "t"]].astype(float).iloc[0]
        raise UserError(
            f"a track that divides needs its links, track {track:g} of {spots.where} has several spots in frame "
            f"{frame:g}; "
            "export TrackMate's table of edges into the directory of the position, too, or use its XML file"
        )
    return replace(spots, tracks=tracks)


def _with_divisions(file: TrackFile, companion: Path) -> TrackFile:
    """Return laptrack's tracks with the mothers of its table of divisions."""
    mother, daughter = LAPTRACK_DIVISIONS
    divisions = read_columns(companion, read_head(companion), LAPTRACK_DIVISIONS)
    repeated = divisions.loc[divisions[daughter].duplicated(), daughter]
    if len(repeated):
        raise UserError(f"a track must have one mother, track {repeated.iloc[0]} of {companion} has several")
    number = pd.to_numeric(file.tracks["track_id"], errors="coerce")
    parents = number.map(divisions.set_index(daughter)[mother]).fillna(-1)
    return replace(file, tracks=file.tracks.assign(parent_track_id=parents))


def _without_divisions(file: TrackFile) -> TrackFile:
    """Return laptrack's tracks, and say so if some are of one cell, but mothers are not known."""
    table = file.tracks
    if _TREE not in table:
        return file
    n_tracks = table.groupby(_TREE)["track_id"].nunique()
    tracks = table.drop(columns=_TREE)
    if "parent_track_id" in table or not (n_tracks > 1).any():
        return replace(file, tracks=tracks)
    note = (
        f"{_TREE} {n_tracks.idxmax()} has {n_tracks.max()} tracks, whose mothers are not known; put laptrack's table "
        f"of splits, with {' and '.join(LAPTRACK_DIVISIONS)}, next to the tracks"
    )
    return replace(file, tracks=tracks, notes=(*file.notes, note))


def _with_shared_points(file: TrackFile) -> TrackFile:
    """Return napari's tracks with mothers: a track that begins at the very point where another ends is its daughter.

    This is how trackastra draws divisions. The point is left to the mother.
    """
    tracks = file.tracks
    numbers = tracks[["track_id", "t", "y", "x"]].apply(pd.to_numeric, errors="coerce")
    ordered = numbers.sort_values(["track_id", "t"])
    first, last = (ordered.drop_duplicates("track_id", keep=keep) for keep in ("first", "last"))
    first = first[first["track_id"].duplicated(keep=False) | (first.index != last.index)]  # longer than one row
    shared = first.reset_index().merge(last, on=["t", "y", "x"], suffixes=("", "_mother"))
    shared = shared[shared["track_id"] != shared["track_id_mother"]].drop_duplicates("track_id")
    mothers = shared.set_index("track_id")["track_id_mother"]
    tracks = tracks.assign(parent_track_id=numbers["track_id"].map(mothers).fillna(-1)).drop(index=shared["index"])
    return replace(file, tracks=tracks)


def _read_trackastra(path: Path, head: bytes, labels: Path | None) -> TrackFile:
    """Return the tracks of trackastra's table of edges between cells of label images."""
    if labels is None:
        raise UserError(
            f"edges of trackastra need the label images whose cells they join, {path} has none in its directory; put "
            "them there, or use the output for the Cell Tracking Challenge"
        )
    cells, (n_frames, height, width) = read_cells(labels, b"" if labels.is_dir() else read_head(labels))
    edges = read_columns(path, head, TRACKASTRA_LINKS)
    index = pd.MultiIndex.from_frame(cells[["t", "label"]])
    ends = [index.get_indexer(pd.MultiIndex.from_frame(edges[list(side)])) for side in _sides()]
    for (frame, label), row in zip(_sides(), ends, strict=True):
        if (row < 0).any():
            edge = edges.iloc[int(np.argmax(row < 0))]
            raise UserError(
                f"edges must join cells of the label images, {path} names label {edge[label]} in frame {edge[frame]}, "
                f"which {labels} does not have"
            )
    tracks, notes = tracks_of_links(np.arange(len(cells)), cells["t"], np.column_stack(ends), str(path))
    tracks = pd.concat([cells[["t", "y", "x"]], tracks], axis=1)
    return TrackFile(
        format="trackastra",
        where=str(path),
        tracks=tracks,
        image_size=(height, width),
        n_frames=n_frames,
        scattered=scattered(cells),
        notes=notes,
    )


def _read_biotracks(path: Path, head: bytes, companion: Path | None) -> TrackFile:
    """Return the tracks of a data package for cell migration: objects, and links that list the objects of a chain."""
    if companion is None:
        raise UserError(
            f"objects of biotracks need the table of links, {path} has none in its directory; put links.csv there"
        )
    name, frame, y, x = BIOTRACKS_OBJECTS
    cells = read_columns(path, head, (name, frame), (y, x))
    members = read_columns(companion, read_head(companion), BIOTRACKS_LINKS)
    members = members.merge(cells[[name, frame]], on=name, how="left").sort_values([BIOTRACKS_LINKS[1], frame])
    is_chain = (members[BIOTRACKS_LINKS[1]].diff() == 0).to_numpy()
    ends = members[name].to_numpy()
    links = np.column_stack([ends[:-1], ends[1:]])[is_chain[1:]]
    tracks, notes = tracks_of_links(cells[name], cells[frame], links, str(path))
    tracks = tracks.assign(t=cells[frame], y=cells[y], x=cells[x])
    return TrackFile(format="biotracks", where=str(path), tracks=tracks, notes=notes)


def _sides() -> tuple[tuple[str, str], tuple[str, str]]:
    return TRACKASTRA_LINKS[:2], TRACKASTRA_LINKS[2:]
