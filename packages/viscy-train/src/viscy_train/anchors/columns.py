"""Columns of an anchor table: their names and types, and those that no metadata and no annotation may have."""

NAMES = ["experiment", "condition", "well", "position"]
"""Columns of text; stored as a dictionary."""
INTEGERS = ["track_id", "parent_track_id", "lineage_id", "t"]
FLOATS = ["hours_post_infection", "y", "x"]
COLUMNS = [*NAMES, *INTEGERS, *FLOATS, "has_positive"]
"""Columns of every anchor table. Columns of channels, metadata and annotations follow them."""
CHANNEL_COLUMNS = ["channel", "marker"]
"""Columns of a table with a row for each channel; stored as a dictionary."""
