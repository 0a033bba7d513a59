"""Tracks: where each cell of a position is in each frame, in files of any tracker."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Literal

from viscy_train.errors import NoTracksError, UserError, kind_of_file, require_regular_file
from viscy_train.experiments.track_options import AUTO
from viscy_train.tracks.checks import check_tracks, orphans
from viscy_train.tracks.depth import slices_away
from viscy_train.tracks.doubts import Doubts
from viscy_train.tracks.formats import (
    PositionFiles,
    ReadOptions,
    TrackFile,
    choose_files,
    find_file_of_all,
    find_only_files,
    find_position_files,
    fits_image,
    from_frame_0,
    in_pixels,
    is_named,
    is_well_of,
    is_zarr,
    list_directory,
    list_files,
    read_track_file,
    recognize,
    size_of_pixel,
    stated_size,
    unit_of,
    with_lineage,
)
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from viscy_train.experiments.experiment import Experiment
    from viscy_train.tracks.depth import ReadSlices

COLUMNS = ["track_id", "t", "y", "x", "id", "parent_track_id", "parent_id"]
_MAX_POSITIONS_SHOWN = 4
_CHUNK = 2**20
_PARQUET = (".parquet", ".pq")
_REMEDY = "each position of a well in `conditions` needs tracks"


def write_tracks(path: Path, tracks: pd.DataFrame) -> None:
    """Write the tracks of a position.

    Parameters
    ----------
    path : pathlib.Path
        CSV to write. Missing parent directories are created.
    tracks : pandas.DataFrame
        The columns `COLUMNS`, shape (n_observations, 7).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tracks[COLUMNS].to_csv(path, index=False)


class Tracks:
    """The tracks of an experiment.

    Parameters
    ----------
    source : pathlib.Path
        Directory in which each position has a file or directory: for ``A/1/0``, for example the file ``A/1/0.csv``, the
        only CSV in the directory ``A/1/0``, or the file ``A_1_0.xml``. Or one file of all positions, with their names
        in the column ``position`` or ``fov_name``; it is read once, here. Or the tracks of the only position.
    format : str, default "auto"
        A key of `viscy_train.experiments.track_options.FORMATS`, or ``auto`` to recognize the format.
    unit : {"auto", "pixel", "micrometer"}
        Unit of the coordinates. By default, what the file states, or pixels.
    first_frame : {"auto", 0, 1}
        Number of the first frame in the files. By default 0, and an error if it seems to be 1.
    minutes_per_frame : float, optional
        Converts times into frames, if a file has times only.

    Raises
    ------
    UserError
        If the directory or file does not exist, or the file is damaged or not recognized.
    """

    def __init__(
        self,
        source: Path,
        *,
        format: str = AUTO,
        unit: str = AUTO,
        first_frame: Literal["auto", 0, 1] = AUTO,
        minutes_per_frame: float | None = None,
    ) -> None:
        self._source = source
        self._unit = unit
        self._first_frame: Literal["auto", 0, 1] = first_frame
        self._options = ReadOptions(format=format, minutes_per_frame=minutes_per_frame)
        if not source.exists():
            raise UserError(f"tracks not found: {source}; correct `tracks` of its experiment")
        self._file, self._by_position = None, None
        if whole := _whole_file(source, format):
            file = read_track_file(whole.path, whole.format, self._options)
            self._by_position = file.by_position()
            self._file = file if self._by_position is None else None
        self._read_positions: dict[str, tuple[str, str, int, tuple[str, ...]]] = {}
        self._position_of: dict[str, str] = {}
        self._doubts = Doubts()

    @classmethod
    def of_experiment(cls, experiment: Experiment) -> Tracks:
        """Return the tracks of an experiment, with what its description states about them."""
        return cls(
            experiment.tracks,
            format=experiment.tracks_format,
            unit=experiment.tracks_unit,
            first_frame=experiment.tracks_first_frame,
            minutes_per_frame=experiment.minutes_per_frame,
        )

    def of(
        self,
        position: str,
        *,
        shape: tuple[int, ...] | None = None,
        micrometers_per_pixel: float | None = None,
        is_only: bool = False,
        read: ReadSlices | None = None,
    ) -> pd.DataFrame:
        """Return the validated tracks of a position.

        Parameters
        ----------
        position : str
            Name of the position, such as ``A/1/0``.
        shape : tuple of int, optional
            Shape of its image (T, C, Z, Y, X), by which a wrong unit or first frame is noticed.
        micrometers_per_pixel : float, optional
            Size of a pixel of its image.
        is_only : bool, default False
            Whether the experiment has no other position, so that files need not name it.
        read : ReadSlices, optional
            Slices that crops have, by which cells far from them are noticed.

        Returns
        -------
        pandas.DataFrame
            Sorted by track and frame, shape (n_observations, 5): `track_id`; `t`, the frame, from 0; `y` and `x` in
            pixels; `parent_track_id`, -1 without a mother. In the file, the column may be called `parent`, and a track
            without a mother may have itself as mother, or 0 if there is no such track.

        Raises
        ------
        UserError
            If a file is damaged, a column is missing, values are missing or not numbers, a track has two rows in a
            frame, or a mother does not end before her daughter begins, or descends from herself; also if the unit or
            the number of the first frame seems to be wrong.
        NoTracksError
            If the position has no tracks.
        """
        file = self._read(position, is_only)
        tracks = check_tracks(file.where, file.tracks)
        _check_size(file, shape)
        tracks = from_frame_0(tracks, self._first_frame, shape, position, file.where)
        as_read, tracks = tracks, in_pixels(file, tracks, self._unit, micrometers_per_pixel, shape)
        unit, _ = unit_of(file, self._unit)
        self._doubt(position, file, as_read, shape, micrometers_per_pixel)
        if read is not None and (away := slices_away(file.tracks, unit_of(file, self._unit)[1], read)) is not None:
            self._doubts.add_depth(position, away, read)
        self._read_positions[position] = (file.title, unit, tracks["track_id"].nunique(), file.notes)
        return tracks

    def describe(self) -> str:
        """Return what was read until now, such as ``TrackMate CSV, micrometers, 12 positions, 1,234 tracks``.

        Returns
        -------
        str
            The formats, the units, counts, and what the user should know; empty if no tracks were read.
        """
        if not self._read_positions:
            return ""
        titles, units, counts, notes = zip(*self._read_positions.values(), strict=True)
        n_tracks = sum(counts)
        return ", ".join(
            [
                " and ".join(dict.fromkeys(titles)),
                " and ".join(dict.fromkeys(units)),
                count(len(titles), "position"),
                count(n_tracks, "track"),
            ]
        ) + "".join(f"; {note}" for note in dict.fromkeys(note for some in notes for note in some))

    def doubts(self) -> list[str]:
        """Return a sentence for each thing that the tracks which were read until now leave open.

        Returns
        -------
        list of str
            Sentences that name the key which decides; none if that key is given.
        """
        return self._doubts.sentences(self._options.minutes_per_frame)

    def _doubt(
        self, position: str, file: TrackFile, tracks: pd.DataFrame, shape: tuple[int, ...] | None, size: float | None
    ) -> None:
        """Note what the tracks of a position leave open."""
        if self._first_frame == AUTO:
            self._doubts.add_frames(position, tracks)
        if self._options.format == AUTO and file.format != "detections":
            self._doubts.add_swaps(position, file.format, tracks)
        self._doubts.add_orphans(position, orphans(tracks))
        if file.scattered:
            self._doubts.add_scattered(position, *file.scattered)
        if file.minutes_per_frame:
            self._doubts.intervals[position] = file.minutes_per_frame
        if shape is None:
            return
        if file.n_frames:
            self._doubts.add_length(position, file.n_frames, shape[0])
        _, micrometers = unit_of(file, self._unit)
        if micrometers is None and self._unit == AUTO and not file.unit and not file.image_size:
            self._doubts.add_unit(tracks, size, lambda side: fits_image(tracks, shape, side))
            self._doubts.add_corner(tracks, shape)
        in_file, used = stated_size(file, shape), size_of_pixel(file, size, shape)
        if micrometers is not None and in_file and size and used:
            self._doubts.add_size(position, in_file, size, used)

    def _read(self, position: str, is_only: bool) -> TrackFile:
        """Return the tracks of a position as read."""
        if self._by_position is not None:
            name = _name_of_part(self._by_position, position, self._source)
            if self._position_of.setdefault(name, position) != position:
                raise UserError(
                    f"each position needs tracks of its own, {self._source} has only {name} for "
                    f"{self._position_of[name]} and {position}; write the field of view, too, such as {position}"
                )
            return with_lineage(self._by_position[name], None)
        if self._file is not None:
            if is_only:
                return with_lineage(self._file, None)
            raise UserError(
                f"tracks of several positions need the column `position` or `fov_name`, {self._source} has neither"
            )
        files = _files_of(self._source, position, self._options.format, is_only)
        if files is None:
            raise _not_found(self._source, position)
        file = read_track_file(files.path, files.format, self._options, files.companion)
        return with_lineage(file.only(position), files.companion)


def checksums(source: Path, positions: Iterable[str], format: str = AUTO) -> dict[str, int]:
    """Return a checksum of the files with tracks of the given positions.

    Parameters
    ----------
    source : pathlib.Path
        Directory or file, as for `Tracks`.
    positions : iterable of str
        Names of positions, such as ``A/1/0``.
    format : str, default "auto"
        As for `Tracks`.

    Returns
    -------
    dict of str to int
        CRC-32 of each file, by its path relative to the source; the files of a directory that is read as one, such as
        label images, have one together. Missing files are omitted.
    """
    if whole := _whole_file(source, format):
        return {source.name: _checksum(whole.path)}
    positions = list(positions)
    found = [_files_of(source, position, format, len(positions) == 1) for position in positions]
    paths = dict.fromkeys(path for one in found if one for path in (one.path, one.companion) if path)
    return {str(path.relative_to(source)): _checksum(path) for path in paths}


def _whole_file(source: Path, format: str) -> PositionFiles | None:
    """Return the one file of all positions, or None if they have files of their own."""
    if kind_of_file(source, "tracks") == "a directory":
        if source.suffix.lower() in _PARQUET:
            require_regular_file(source, "a Parquet file of tracks")
        is_whole = is_zarr(source) and recognize(source, format) == "geff"
        return PositionFiles(path=source, format="geff") if is_whole else None
    return choose_files([source], source.parent, format) if source.exists() else None


def _files_of(source: Path, position: str, format: str, is_only: bool) -> PositionFiles | None:
    files = find_position_files(source, position, format)
    return find_only_files(source, format) if files is None and is_only else files


def _name_of_part(parts: dict[str, TrackFile], position: str, source: Path) -> str:
    """Return the name of the part of a position, which may be written in another way, or be that of its well."""
    if position in parts:
        return position
    found = [name for name in parts if is_named(name, position)] or [
        name for name in parts if is_well_of(name, position)
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(found or list(parts)[:_MAX_POSITIONS_SHOWN])
    if found:
        raise UserError(f"a position must have one name, {source} has {names} for {position}; write it in one way")
    more = ", ..." if len(parts) > _MAX_POSITIONS_SHOWN else ""
    raise NoTracksError(
        f"no tracks for position {position} in {source}, which has positions {names}{more}; {_REMEDY}, named as in "
        "the plate"
    )


def _not_found(source: Path, position: str) -> UserError:
    names = [path.name for path in list_directory(source)]
    more = ", ..." if len(names) > _MAX_POSITIONS_SHOWN else ""
    if whole := find_file_of_all(source):
        return UserError(
            f"`tracks` must be the file if one has the tracks of all positions; set it to {whole}, not its directory"
        )
    found = f" ({source.name} has {', '.join(names[:_MAX_POSITIONS_SHOWN])}{more})" if names else ""
    return NoTracksError(f"tracks file not found: {source / f'{position}.csv'}; {_REMEDY}{found}")


def _check_size(file: TrackFile, shape: tuple[int, ...] | None) -> None:
    if shape and file.image_size and file.image_size != tuple(shape[-2:]):
        height, width = file.image_size
        raise UserError(
            f"label images must have the size of the image, {shape[-2]} x {shape[-1]} pixels, {file.where} has {height}"
            f" x {width}; segment the images of the plate"
        )


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file, or of the names and contents of all files that are read of a directory."""
    total = 0
    for file in list_files(path):
        if file != path:
            total = zlib.crc32(str(file.relative_to(path)).encode(), total)
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total = zlib.crc32(chunk, total)
    return total
