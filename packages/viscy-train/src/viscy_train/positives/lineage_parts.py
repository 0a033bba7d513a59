"""Lineage parts: the lineages of a large table, found some positions at a time, which takes little memory.

Relatives are in the same position, so the lineages of whole positions do not depend on those of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.positives.lineages import Lineages, sort_key
from viscy_train.positives.relatives import ChannelTracks, Relatives
from viscy_train.row_slices import mapped_arrays, release, run_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig
    from viscy_train.positives.frame_range import FrameRange

LEAST_ROWS_PER_PART = 2**18
_TRACKS, _CELLS = ("track", "tracks"), ("cell", "cells")


def arrays_in_parts(
    observations: pd.DataFrame, positive: PositiveConfig, ranges: Mapping[str, FrameRange]
) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Yield the arrays of the lineages of a table in parts; joined, they are what `lineages_of` takes.

    Parameters
    ----------
    observations, positive, ranges
        As for `Lineages.of`.

    Yields
    ------
    dict of str to numpy.ndarray
        The next part of each array, shape (n,), by name. Every part has the same names.
    """
    columns, last_frame = mapped_arrays(observations), int(observations["t"].max())
    shifts = dict.fromkeys((*_TRACKS, *_CELLS, "first", "channel_first"), 0)
    for rows in whole_positions(observations):
        part = Lineages.of(observations.iloc[rows], positive, ranges)
        arrays = _arrays_of(part)
        for name, shift in shifts.items():
            if name in arrays:
                arrays[name] = arrays[name] + shift
        yield arrays | {"sort_keys": sort_key(arrays["track"], part.frame, last_frame)}
        shifts |= dict.fromkeys((*_TRACKS, "channel_first"), shifts["track"] + len(part.smallest))
        shifts |= dict.fromkeys(_CELLS, shifts["cell"] + len(part.relatives.first) - 1)
        shifts["first"] += len(part.relatives.cells)
        release(*columns)


def lineages_of(
    arrays: Mapping[str, NDArray[np.int64]], observations: pd.DataFrame, positive: PositiveConfig
) -> Lineages:
    """Return the lineages that consist of some arrays.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        The joined arrays of `arrays_in_parts`.
    observations, positive
        Those that they are of.

    Returns
    -------
    Lineages
        The lineages of the table.
    """
    channels = None
    if "channel" in arrays:
        channels = ChannelTracks(
            cell=arrays["cell"],
            first=_with_end(arrays["channel_first"], arrays["tracks"]),
            tracks=arrays["tracks"],
            channel=arrays["channel"],
            permitted=positive.channel,
        )
    return Lineages(
        track=arrays["track"],
        frame=observations["t"].to_numpy(np.int64),
        relatives=Relatives(
            first=_with_end(arrays["first"], arrays["cells"]), cells=arrays["cells"], channels=channels
        ),
        smallest=arrays["smallest"],
        largest=arrays["largest"],
        decay=positive.decay,
        sort_keys=arrays["sort_keys"],
    )


def _arrays_of(part: Lineages) -> dict[str, NDArray[np.int64]]:
    relatives, channels = part.relatives, part.relatives.channels
    arrays = {
        "track": part.track,
        "smallest": part.smallest,
        "largest": part.largest,
        "first": relatives.first[:-1],
        "cells": relatives.cells,
    }
    if channels is None:
        return arrays
    of_channels = {"cell": channels.cell, "channel_first": channels.first[:-1], "tracks": channels.tracks}
    # Channels are compared within a position only, so that each part may number them in its own way.
    return arrays | of_channels | {"channel": channels.channel}


def _with_end(first: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.append(first, len(values))


def whole_positions(observations: pd.DataFrame) -> Iterator[slice]:
    """Yield ranges of rows that contain whole positions, given observations as for `Lineages.of`."""
    begin, n = 0, len(observations)
    for end in np.append(run_starts(observations[["experiment", "position"]])[1:], n).tolist():
        if end - begin >= LEAST_ROWS_PER_PART or end == n:
            yield slice(begin, end)
            begin = end
