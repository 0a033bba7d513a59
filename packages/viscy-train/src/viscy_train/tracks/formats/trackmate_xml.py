"""TrackMate XML: the file that TrackMate saves, and the smaller one to which it exports tracks.

Both are parsed as a stream. A document type declaration is refused, so that no entity is expanded and no file fetched.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.parsers import expat

import numpy as np
import pandas as pd

from viscy_train.errors import UserError, one_line
from viscy_train.tracks.formats.lineage import tracks_of_links
from viscy_train.tracks.formats.track_file import TrackFile
from viscy_train.tracks.formats.units import micrometers_in, stated_interval

if TYPE_CHECKING:
    from pathlib import Path

ROOTS = (b"<TrackMate", b"<Tracks")
"""How the first element of the two kinds of files begins."""


def read_trackmate_xml(path: Path) -> TrackFile:
    """Read the tracks that pass the filters of a TrackMate file.

    Parameters
    ----------
    path : pathlib.Path
        A file with spots and links, or one with the spots of each track only, which has no divisions.

    Returns
    -------
    TrackFile
        The spots that are part of a track. A track without a division has its number in TrackMate.

    Raises
    ------
    UserError
        If the file is damaged, contains another document or has a document type declaration.
    """
    content = _Content(path)
    content.parse()
    if not content.spots:
        raise UserError(f"a TrackMate file must have spots, {path} has none; save it after tracking")
    return _tracks_of_particles(content) if content.root == "Tracks" else _tracks_of_spots(content)


class _Content:
    """The elements of a file that matter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = ""
        self.unit: str | None = None
        self.time_unit: str | None = None
        self.interval: str | None = None
        self.image: dict[str, str] = {}
        # For each spot: name, frame, y, x.
        self.spots: list[tuple[int, float, float, float]] = []
        # For each link: number of the track, names of two spots.
        self.links: list[tuple[int, int, int]] = []
        self.tracks: set[int] = set()
        self.filtered: set[int] | None = None
        self._track = -1
        self._frame: dict[str, str] = {}
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype

    def parse(self) -> None:
        """Parse the file."""
        try:
            with self.path.open("rb") as file:
                self._parser.ParseFile(file)
        except expat.ExpatError as error:
            raise UserError(f"{self.path} is not an XML file, or is damaged: {one_line(error)}") from None
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from None

    def _refuse_doctype(self, *_: object) -> None:
        raise UserError(
            f"a TrackMate file must not have a document type declaration, {self.path} has one; save it with TrackMate"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.root:
            self._begin(name, attributes)
        elif name == "Spot":
            self.spots.append(self._spot(attributes))
        elif name == "SpotsInFrame":
            self._frame = {"FRAME": attributes["frame"]} if "frame" in attributes else {}
        elif name == "Edge":
            source, target = (self._integer(name, attributes, f"SPOT_{end}_ID") for end in ("SOURCE", "TARGET"))
            self.links.append((self._track, source, target))
        elif name == "Track":
            self._track = self._integer(name, attributes, "TRACK_ID")
            self.tracks.add(self._track)
        elif name == "FilteredTracks":
            self.filtered = set()
        elif name == "TrackID" and self.filtered is not None:
            self.filtered.add(self._integer(name, attributes, "TRACK_ID"))
        elif name == "Model":
            self.unit, self.time_unit = attributes.get("spatialunits"), attributes.get("timeunits")
        elif name == "ImageData":
            self.image, self.interval = attributes, attributes.get("timeinterval")
        elif name == "particle":
            self._track += 1
        elif name == "detection":
            number, y, x = (self._number(name, attributes, key) for key in ("t", "y", "x"))
            self.spots.append((self._track, number, y, x))

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if name not in ("TrackMate", "Tracks"):
            raise UserError(f"an XML file of tracks must be of TrackMate, {self.path} has the element {name!r}")
        self.root = name
        self.unit, self.time_unit = attributes.get("spaceUnits"), attributes.get("timeUnits")
        self.interval = attributes.get("frameInterval")

    def _spot(self, attributes: dict[str, str]) -> tuple[int, float, float, float]:
        keys = ("FRAME", "POSITION_Y", "POSITION_X")
        frame, y, x = (self._number("Spot", self._frame | attributes, key) for key in keys)
        return self._integer("Spot", attributes, "ID"), frame, y, x

    def _integer(self, element: str, attributes: dict[str, str], key: str) -> int:
        number = self._number(element, attributes, key)
        if number % 1:
            raise UserError(self._invalid(element, key, "an integer", attributes[key]))
        return int(number)

    def _number(self, element: str, attributes: dict[str, str], key: str) -> float:
        try:
            number = float(attributes[key])
        except KeyError:
            raise UserError(self._invalid(element, key, "there", "none")) from None
        except ValueError:
            raise UserError(self._invalid(element, key, "a number", repr(attributes[key]))) from None
        if not math.isfinite(number):
            raise UserError(self._invalid(element, key, "finite", attributes[key]))
        return number

    def _invalid(self, element: str, key: str, rule: str, value: str) -> str:
        line = self._parser.CurrentLineNumber
        return (
            f"{key} of element {element} must be {rule}, got {value} in line {line} of {self.path}; save the file again"
        )


def _tracks_of_spots(content: _Content) -> TrackFile:
    path = content.path
    kept = content.tracks if content.filtered is None else content.filtered
    links = np.array([link for link in content.links if link[0] in kept], dtype=np.int64).reshape(-1, 3)
    if not len(links):
        raise UserError(
            f"a TrackMate file must have tracks that pass its filters, {path} has {len(content.tracks)} tracks, of "
            "which none passes; track the spots, or change the filters"
        )
    spots = pd.DataFrame(content.spots, columns=["spot", "t", "y", "x"])
    # A daughter's track may begin with a link from a spot of the mother's.
    number = pd.Series(np.tile(links[:, 0], 2), index=np.concatenate([links[:, 2], links[:, 1]]))
    number = number[~number.index.duplicated()]
    spots = spots[spots["spot"].isin(number.index)].reset_index(drop=True)
    numbers = spots["spot"].map(number)
    tracks, notes = tracks_of_links(spots["spot"], spots["t"], links[:, 1:], str(path), numbers)
    return TrackFile(
        format="trackmate_xml",
        where=str(path),
        tracks=pd.concat([spots.drop(columns="spot"), tracks], axis=1),
        unit=content.unit,
        micrometers_per_pixel=_pixel_size(content),
        tracked_size=_image_size(content),
        minutes_per_frame=stated_interval(content.interval, content.time_unit),
        notes=notes,
    )


def _tracks_of_particles(content: _Content) -> TrackFile:
    tracks = pd.DataFrame(content.spots, columns=["track_id", "t", "y", "x"])
    return TrackFile(
        format="trackmate_xml",
        where=str(content.path),
        tracks=tracks,
        unit=content.unit,
        minutes_per_frame=stated_interval(content.interval, content.time_unit),
    )


def _image_size(content: _Content) -> tuple[int, int] | None:
    """Return the height and width of the image that was tracked."""
    try:
        return int(content.image["height"]), int(content.image["width"])
    except (KeyError, ValueError):
        return None


def _pixel_size(content: _Content) -> float | None:
    """Return the size of the pixels that were tracked, if they are square and have a size."""
    try:
        width, height = (float(content.image[key]) for key in ("pixelwidth", "pixelheight"))
    except (KeyError, ValueError):
        return None
    factor = micrometers_in(content.unit)
    return width * factor if factor and width > 0 and np.isclose(width, height) else None
