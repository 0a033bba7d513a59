"""Columns of an anchor table: their names and types, and those that are neither metadata nor annotations."""

NAMES = ["experiment", "condition", "well", "position"]
"""Columns of text; stored as a dictionary."""
INTEGERS = ["track_id", "parent_track_id", "lineage_id", "t"]
FLOATS = ["hours_post_infection", "y", "x"]
COLUMNS = [*NAMES, *INTEGERS, *FLOATS, "has_positive"]
"""Columns of every anchor table. Columns of channels, metadata and annotations follow them."""
CHANNEL_COLUMNS = ["channel", "marker"]
"""Columns of a table with a row for each channel; stored as a dictionary."""
Z_FOCUS = "z_focus"
"""Column of the sharpest slice of the observation's frame, counted from 0, if crops are around it."""
EMBEDDING_COLUMNS = ["fov_name", "split"]
"""Further columns of embeddings: the position as VisCy calls it, and what an anchor was used for."""
RESERVED = [*COLUMNS, "channel", Z_FOCUS, *EMBEDDING_COLUMNS]
"""Columns that are neither metadata nor annotations."""


def is_reserved(name: str) -> bool:
    """Return whether a column is reserved, or would be in AnnData, which has ``_`` in place of ``/``."""
    return name.replace("/", "_") in RESERVED
