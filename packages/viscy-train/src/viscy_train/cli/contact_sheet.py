"""Contact sheet: what `index` and `inspect` say of it, which never fail because of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.console import say, warn
from viscy_train.contact_sheet.make import make_sheet
from viscy_train.contact_sheet.sheet_file import sheet_path
from viscy_train.crops.scale import warn_of_scales
from viscy_train.errors import UserError
from viscy_train.remote.path import is_remote
from viscy_train.report.data_section import DataSection

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.contact_sheet.sheet_file import ContactSheet
    from viscy_train.loading.run_data import RunData


def say_sheet(
    table: AnchorTable, source: Path, path: Path | None = None, *, store: Path | None = None, again: bool = False
) -> ContactSheet | None:
    """Draw the contact sheet of a table unless it is there, and say where it is and what it shows to be wrong.

    Parameters
    ----------
    table, source, path, store, again
        As for `viscy_train.contact_sheet.make.make_sheet`; by default, the sheet is next to its table.

    Returns
    -------
    ContactSheet or None
        The sheet; None if it cannot be written, which is a warning.
    """
    path = sheet_path(source) if path is None else path
    try:
        sheet = make_sheet(table, source, path, store=store, again=again)
    except UserError as error:
        warn(f"there is no contact sheet, because {error}")
        return None
    for warning in sheet.warnings:
        warn(warning)
    say(f"Look at {path}: crops, fields of view, intensities and cells over time, before you train")
    return sheet


def find_sheet(data: RunData, page: Path) -> DataSection:
    """Say what `index` has warned of, and find the contact sheet, or draw it if it is not up to date.

    Parameters
    ----------
    data : RunData
        The data of the configuration.
    page : pathlib.Path
        The page of `inspect`, next to which the sheet is if the anchor table is at a URL.

    Returns
    -------
    DataSection
        What the page shows of the data.
    """
    table = data.table
    for warning in table.warnings:
        warn(warning)
    sheet = say_sheet(table, data.path, sheet_path(page) if is_remote(data.path) else None, store=data.store)
    scales = warn_of_scales(table.crops, table.experiments, table.scales)
    warnings = [*table.warnings, *scales, *(sheet.warnings if sheet else ())]
    return DataSection(warnings=tuple(warnings), sheet=sheet)
