"""Data section: what a page shows of the data before any training: the contact sheet, and what is wrong."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viscy_train.contact_sheet.sheet_file import ContactSheet


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """What a page shows of the data.

    Parameters
    ----------
    warnings : tuple of str
        What is wrong, a sentence each.
    sheet : ContactSheet, optional
        The contact sheet.
    """

    warnings: tuple[str, ...] = ()
    sheet: ContactSheet | None = None

    @property
    def source(self) -> str:
        """The sheet as the source of an image element."""
        return "" if self.sheet is None else f"data:image/png;base64,{base64.b64encode(self.sheet.png).decode('ascii')}"
