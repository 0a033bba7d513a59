"""Track formats: what each tracker writes, read into one table. Only `viscy_train.tracks.tracks` imports it.

A format is recognized by its content, never only by the name of a file.
"""

from viscy_train.tracks.formats.position_files import (
    PositionFiles,
    choose_files,
    find_file_of_all,
    find_only_files,
    find_position_files,
    list_files,
)
from viscy_train.tracks.formats.position_names import is_named, is_well_of, list_directory
from viscy_train.tracks.formats.readers import read_track_file, with_lineage
from viscy_train.tracks.formats.recognition import is_zarr, recognize
from viscy_train.tracks.formats.swaps import count_swaps, suspicious
from viscy_train.tracks.formats.track_file import ReadOptions, TrackFile
from viscy_train.tracks.formats.units import fits_image, from_frame_0, in_pixels, size_of_pixel, stated_size, unit_of

__all__ = [
    "PositionFiles",
    "ReadOptions",
    "TrackFile",
    "choose_files",
    "count_swaps",
    "find_file_of_all",
    "find_only_files",
    "find_position_files",
    "fits_image",
    "from_frame_0",
    "in_pixels",
    "is_named",
    "is_well_of",
    "is_zarr",
    "list_directory",
    "list_files",
    "read_track_file",
    "recognize",
    "size_of_pixel",
    "stated_size",
    "suspicious",
    "unit_of",
    "with_lineage",
]
