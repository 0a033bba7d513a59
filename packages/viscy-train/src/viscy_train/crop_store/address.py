"""Address: what decides the rows and the pixels of a crop store, by which a store of other crops is recognized.

It consists of parts of the fingerprint of an anchor table. Positives, lineages, conditions and the normalization are
not among them, so they can change without packing again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.anchors.fingerprint import describe_difference
from viscy_train.experiments.columns import Z_FOCUS

if TYPE_CHECKING:
    from collections.abc import Mapping

# Columns that say where a crop is; those of channels and of the sharpest slice exist only where they decide it.
_COLUMNS = ("experiment", "position", "t", "y", "x", "channel", Z_FOCUS)
# The part of channels lists all those of an experiment, in the order of a crop.
_PARTS = ("number of rows", "crop", "z_slices", "channels", "pixels", "scale", *(f"column {one!r}" for one in _COLUMNS))
_OPTIONS = ("data.crop_um", "data.depth_um", "data.z", "data.channels")


def address_of(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """Return the address of the crops of an anchor table.

    Parameters
    ----------
    fingerprint : mapping of str to str
        `AnchorTable.fingerprint`.

    Returns
    -------
    dict of str to str
        Two tables with equal addresses have the same crops in the same rows.
    """
    return {name: value for name, value in fingerprint.items() if name in (*_PARTS, *_OPTIONS)}


def difference(stored: Mapping[str, str], present: dict[str, str]) -> str:
    """Return how the address of a store differs from that of a table, or an empty text if it does not.

    Parameters
    ----------
    stored, present : mapping of str to str
        What `address_of` returned for the table that was packed, and for the one that is used.
    """
    if dict(stored) == dict(present):
        return ""
    others = sorted(stored.keys() ^ present.keys())
    return describe_difference(stored, present) or f"different {', '.join(others)}"
