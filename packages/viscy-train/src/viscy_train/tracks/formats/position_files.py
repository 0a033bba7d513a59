"""Position files: which files of an experiment hold the tracks of a position.

For position ``A/1/0``, these are a file or directory ``A/1/0`` with any suffix, what is in the directory ``A/1/0``, or
a file or directory whose name is ``A_1_0`` and possibly a word such as ``tracks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from viscy_train.errors import NoTracksError, UserError
from viscy_train.experiments.track_options import AUTO, FORMATS, POSITION_COLUMNS
from viscy_train.tracks.formats.ctc import track_table
from viscy_train.tracks.formats.dialects import COMPANIONS, MAIN_TABLES, dialect_of
from viscy_train.tracks.formats.label_images import is_tiff
from viscy_train.tracks.formats.position_names import list_directory, named_like
from viscy_train.tracks.formats.readers import COMPANION
from viscy_train.tracks.formats.recognition import TABLE_SUFFIXES, is_export, is_image, is_zarr, read_head, recognize
from viscy_train.tracks.formats.tables import column_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Label images are only read if a position has nothing that says which cells are a track.
_IMAGES = ("labels", "detections")
_MAX_TABLES = 10


@dataclass(frozen=True, kw_only=True)
class PositionFiles:
    """The files of a position.

    Parameters
    ----------
    path : pathlib.Path
        File or directory with the tracks.
    format : str
        Its format.
    companion : pathlib.Path, optional
        File or directory that is read together with it.
    """

    path: Path
    format: str
    companion: Path | None = None


def find_position_files(directory: Path, position: str, stated: str = AUTO) -> PositionFiles | None:
    """Return the files of a position, or None if there are none.

    Parameters
    ----------
    directory : pathlib.Path
        Directory with the files of all positions.
    position : str
        Name of the position, such as ``A/1/0``.
    stated : str, default "auto"
        Format that the configuration states.

    Raises
    ------
    UserError
        If several files have tracks, or none of them is recognized or of the stated format.
    """
    candidates = [inner for path in named_like(directory, position) for inner in _candidates(path)]
    return choose_files(candidates, directory, stated) if candidates else None


def find_only_files(directory: Path, stated: str = AUTO) -> PositionFiles | None:
    """Return the files of the only position of an experiment, which are in its directory, or None."""
    return choose_files(_candidates(directory), directory, stated)


def find_file_of_all(directory: Path) -> Path | None:
    """Return a table in a directory that names positions in a column, or None."""
    tables = [path for path in list_directory(directory) if path.suffix.lower() in TABLE_SUFFIXES and path.is_file()]
    return next((path for path in tables[:_MAX_TABLES] if _names_positions(path)), None)


def _names_positions(path: Path) -> bool:
    try:
        dialect = dialect_of(names := column_names(path, read_head(path)))
    except UserError:
        return False
    return dialect is not None and any(name in names or name in dialect.spelling.values() for name in POSITION_COLUMNS)


def _candidates(path: Path) -> list[Path]:
    """Return a file or directory, and what is in the directory."""
    if not path.is_dir():
        return [path]
    own = track_table(path)
    inside = [
        inner for inner in list_directory(path) if not (is_tiff(inner) or inner == own or inner.name == "zarr.json")
    ]
    if is_zarr(path) and is_image(path):
        # Not the levels of the image, and its labels are read with it.
        inside = [inner for inner in inside if not is_zarr(inner) and inner.name != "labels"]
    outer = [inner for inner in inside if inner.is_dir() and recognize(inner) is None]
    nested = [deep for inner in outer for deep in list_directory(inner) if not is_zarr(inner) or _is_graph(deep)]
    return [path, *inside, *nested]


def list_files(path: Path) -> list[Path]:
    """Return all files that are read of a file or directory with tracks, sorted."""
    if path.is_file():
        return [path]
    if is_zarr(path):
        return sorted(file for file in path.rglob("*") if file.is_file())
    table = track_table(path)
    return sorted([*filter(is_tiff, path.iterdir()), *([table] if table else [])])


def _is_graph(path: Path) -> bool:
    """Return whether a path is a graph in a group of other arrays."""
    return path.is_dir() and is_zarr(path) and recognize(path) == "geff"


def choose_files(candidates: list[Path], directory: Path, stated: str = AUTO) -> PositionFiles | None:
    """Return the candidates that have the tracks of a position.

    Parameters
    ----------
    candidates : list of pathlib.Path
        Files and directories.
    directory : pathlib.Path
        Directory to which paths in messages are relative.
    stated : str, default "auto"
        Format that the configuration states.

    Raises
    ------
    UserError
        If several files have tracks, or none of them is recognized or of the stated format.
    """
    formats = {path: format for path in candidates if (format := recognize(path, stated)) is not None}
    mains = {path: format for path, format in formats.items() if format not in COMPANIONS or format in MAIN_TABLES}
    if stated != AUTO:
        mains = {path: format for path, format in mains.items() if format == stated}
    elif any(format not in _IMAGES for format in mains.values()):
        mains = {path: format for path, format in mains.items() if format not in _IMAGES}
    if len(mains) > 1:
        mains = {path: format for path, format in mains.items() if not is_export(path, format)} or mains
    if len(mains) > 1:
        names = _relative(mains, directory)
        raise UserError(
            f"a position must have one file of tracks, {directory} has {names}; keep one of them, or state "
            "`tracks_format` if they have different formats"
        )
    if mains:
        path, format = next(iter(mains.items()))
        return PositionFiles(path=path, format=format, companion=_companion(format, formats, directory))
    if formats and stated != AUTO:
        found = ", ".join(
            f"{path.name} ({FORMATS.get(format, 'a table of links')})" for path, format in formats.items()
        )
        raise UserError(
            f"tracks must have the stated format {stated!r}, {directory} has {found}; correct `tracks_format`"
        )
    files = [path for path in candidates if path.is_file()]
    if tables := [path for path in files if path.suffix.lower() in TABLE_SUFFIXES]:
        return PositionFiles(path=tables[0], format="table")  # reading it says what it lacks
    if files:
        is_empty = all(path.stat().st_size == 0 for path in files)
        raise (NoTracksError if is_empty else UserError)(_not_recognized(files, directory))
    return None


def _companion(format: str, formats: dict[Path, str], directory: Path) -> Path | None:
    """Return what is read together with a file of a format."""
    paths = [path for path, other in formats.items() if other == COMPANION.get(format)]
    if len(paths) > 1:
        raise UserError(
            f"{FORMATS[format]} must have one file that is read with them, {directory} has "
            f"{_relative(paths, directory)}; keep one of them"
        )
    return paths[0] if paths else None


def _not_recognized(files: list[Path], directory: Path) -> str:
    names = _relative(files[:3], directory)
    empty = next((path for path in files if path.stat().st_size == 0), None)
    why = f", {empty.name} is empty" if empty else ""
    return (
        f"files of tracks must have a known format, {directory} has {names}{why}; export the tracks again, or see the "
        "formats in the README"
    )


def _relative(paths: Iterable[Path], directory: Path) -> str:
    return ", ".join(str(path.relative_to(directory)) for path in paths)
