"""Make: a contact sheet from an anchor table and its plates, or the one that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.anchors.shared_table import checksum_of_file
from viscy_train.contact_sheet.crop_pixels import CropPixels
from viscy_train.contact_sheet.drawing import FIELD, draw_sheet
from viscy_train.contact_sheet.fields import Fields
from viscy_train.contact_sheet.selection import select
from viscy_train.contact_sheet.sheet_file import SHEET, ContactSheet, read_sheet, write_sheet
from viscy_train.contact_sheet.tiles import Drawn
from viscy_train.errors import UserError
from viscy_train.loading.observed_positions import ObservedPositions
from viscy_train.output import require_replaceable
from viscy_train.wording import count

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.anchors.table import AnchorTable


def make_sheet(
    table: AnchorTable, source: Path, path: Path, *, store: Path | None = None, again: bool = False
) -> ContactSheet:
    """Return the contact sheet of a table; draw it unless it is there already.

    Parameters
    ----------
    table : AnchorTable
        The table.
    source : pathlib.Path
        Its file, whose content decides whether a sheet is up to date.
    path : pathlib.Path
        Where the sheet is, or will be.
    store : pathlib.Path, optional
        Crop store to read crops from instead of plates. Fields of view are read from plates.
    again : bool, default False
        Whether to draw it even if it is there.

    Returns
    -------
    ContactSheet
        The sheet. At most 24 conditions of 12 experiments are shown, with two frames each, and at most 512 MiB are
        decoded for their fields of view. What cannot be read is left out, with a warning.

    Raises
    ------
    UserError
        If the file cannot be written, or is something else.
    """
    checksum = checksum_of_file(source)
    if not again and (found := read_sheet(path, checksum)) is not None:
        return found
    require_replaceable(path, SHEET)
    positions = ObservedPositions(table)
    selection = select(table, positions)
    frames = selection.frames
    fields = Fields(table, FIELD)
    read = list(fields.read(frames))
    crops = CropPixels(table, positions, store).read([frame.rows for _, frame in frames])
    drawn = [
        Drawn(experiment=index, frame=frame, field=field, crops=of_frame)
        for (index, frame), field, of_frame in zip(frames, read, crops, strict=True)
    ]
    warnings = [
        f"{table.experiments[index].name}: {warning}"
        for index, places in sorted(fields.places.items())
        for warning in places.warnings()
    ]
    image = draw_sheet(table, positions, selection, drawn)
    return write_sheet(path, image, checksum, (*warnings, *_unread(drawn)))


def _unread(drawn: list[Drawn]) -> list[str]:
    """Return a sentence on the frames that could not be read."""
    errors = [one for shown in drawn for one in (shown.field, shown.crops) if isinstance(one, UserError)]
    if not errors:
        return []
    n = sum(isinstance(one.field, UserError) or isinstance(one.crops, UserError) for one in drawn)
    return [
        f"the contact sheet lacks pixels of {n} of {count(len(drawn), 'frame')}, which cannot be read: {errors[0]}; "
        "restore them, or leave their fields of view out with `exclude`"
    ]
