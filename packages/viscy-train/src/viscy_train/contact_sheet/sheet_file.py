"""Sheet file: the picture next to an anchor table, which says what it was drawn from, so that it is drawn once."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from viscy_train.atomic import atomic_write
from viscy_train.output import OutputKind, require_replaceable

if TYPE_CHECKING:
    from pathlib import Path

_KEY = "viscy-train contact sheet"
# Increases when a picture of an earlier version must be drawn again.
_VERSION = 1
_COMPRESSION = 3


@dataclass(frozen=True, kw_only=True)
class ContactSheet:
    """A contact sheet.

    Parameters
    ----------
    path : pathlib.Path
        Its file.
    png : bytes
        Its content.
    warnings : tuple of str
        What its pixels show to be wrong, and what of them could not be read, a sentence each.
    is_new : bool
        Whether it was drawn just now.
    """

    path: Path
    png: bytes
    warnings: tuple[str, ...]
    is_new: bool


def _is_sheet(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.format == "PNG" and _KEY in image.info
    except (OSError, ValueError):  # of Pillow, for any file that is not an image
        return False


SHEET = OutputKind("a contact sheet of viscy-train", _is_sheet)


def sheet_path(table: Path) -> Path:
    """Return where the sheet of an anchor table is: ``anchors.contact-sheet.png`` next to ``anchors.parquet``."""
    return table.with_name(f"{table.stem}.contact-sheet.png")


def write_sheet(path: Path, image: Image.Image, source: str, warnings: tuple[str, ...]) -> ContactSheet:
    """Write a sheet in one atomic step.

    Parameters
    ----------
    path : pathlib.Path
        File to create or to replace.
    image : PIL.Image.Image
        The picture.
    source : str
        What it was drawn from: the checksum of the table.
    warnings : tuple of str
        What its pixels show to be wrong.

    Raises
    ------
    UserError
        If the file cannot be written, or is something else.
    """
    info = PngInfo()
    info.add_text(_KEY, json.dumps({"version": _VERSION, "source": source, "warnings": warnings}))
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=_COMPRESSION, pnginfo=info)
    require_replaceable(path, SHEET)
    with atomic_write(path, by=str(os.getpid())) as unfinished:
        unfinished.write_bytes(png.getvalue())
    return ContactSheet(path=path, png=png.getvalue(), warnings=warnings, is_new=True)


def read_sheet(path: Path, source: str) -> ContactSheet | None:
    """Read a sheet.

    Parameters
    ----------
    path : pathlib.Path
        Its file.
    source : str
        The checksum of the table.

    Returns
    -------
    ContactSheet or None
        None if there is none, or it was drawn from another table or by another version.
    """
    try:
        png = path.read_bytes()
        with Image.open(io.BytesIO(png)) as image:
            content = json.loads(image.info[_KEY])
        if content["version"] != _VERSION or content["source"] != source:
            return None
        return ContactSheet(path=path, png=png, warnings=tuple(map(str, content["warnings"])), is_new=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
