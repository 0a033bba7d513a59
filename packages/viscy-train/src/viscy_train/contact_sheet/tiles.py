"""Tiles: the crops of a sheet as gray images, all of a channel on one scale, and histograms of their intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.contact_sheet.fields import Field
    from viscy_train.contact_sheet.selection import SampledFrame
    from viscy_train.loading.observed_positions import ObservedPositions

# Percentiles of the pixels of all crops of a channel that are black and white, and where histograms begin and end.
_GRAY, _SHOWN = (0.5, 99.7), (0.1, 99.9)
_BINS = 48


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A frame of a sheet, as it was read.

    Parameters
    ----------
    experiment : int
        Index of the experiment.
    frame : SampledFrame
        The frame.
    field : Field or UserError
        Its field of view, or why it cannot be read.
    crops : numpy.ndarray or UserError
        Normalized crops, shape (n_crops, n_channels, z_slices, side, side), or why they cannot be read.
    """

    experiment: int
    frame: SampledFrame
    field: Field | UserError
    crops: NDArray[np.float32] | UserError


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Where the gray values, and the histograms, of a channel begin and end, in spreads around the center."""

    black: float
    white: float
    first: float
    last: float


class Tiles:
    """The crops of a sheet by channel.

    Parameters
    ----------
    table : AnchorTable
        The table.
    positions : ObservedPositions
        Its positions.
    drawn : sequence of Drawn
        The frames of the sheet.

    Notes
    -----
    Channels of different experiments are the same one if they are at the same place in the encoder's input, or, if an
    encoder sees one channel at a time, if they have the same name.
    """

    def __init__(self, table: AnchorTable, positions: ObservedPositions, drawn: Sequence[Drawn]) -> None:
        self._table, self._positions = table, positions
        values: dict[Any, list[NDArray[np.float32]]] = {}
        self._of_experiment: dict[tuple[int, Any], list[NDArray[np.float32]]] = {}
        for one in drawn:
            for _, channel, pixels in self._images(one):
                values.setdefault(channel, []).append(pixels)
                self._of_experiment.setdefault((one.experiment, channel), []).append(pixels)
        self.scales = {channel: _scale_of(images) for channel, images in values.items()}

    def of(self, drawn: Drawn) -> Iterator[list[tuple[str, Any, NDArray[np.float32]]]]:
        """Yield the images of each crop of a frame: name and key of the channel, and pixels of shape (side, side)."""
        names = self._table.experiments[drawn.experiment].channel_names
        crops: dict[int, list[tuple[str, Any, NDArray[np.float32]]]] = {}
        for crop, channel, pixels in self._images(drawn):
            name = names[channel] if isinstance(channel, int) else channel
            crops.setdefault(crop, []).append((name, channel, pixels))
        yield from crops.values()

    def channels_of(self, experiment: int) -> list[tuple[str, Any]]:
        """Return name and key of each channel of an experiment whose crops are shown."""
        names = self._table.experiments[experiment].channel_names
        keys: Iterable[Any] = range(len(names)) if self._positions.channel is None else names
        found = zip(names, keys, strict=True)
        return [(name, key) for name, key in found if (experiment, key) in self._of_experiment]

    def histogram(self, experiment: int, channel: Any) -> NDArray[np.float64]:
        """Return square roots of counts of the pixels of an experiment, relative to the largest, shape (n_bins,)."""
        scale = self.scales[channel]
        pixels = np.concatenate([one.ravel() for one in self._of_experiment[experiment, channel]])
        counts = np.histogram(pixels[np.isfinite(pixels)], _BINS, (scale.first, scale.last))[0]
        return np.sqrt(counts / max(counts.max(), 1))

    def _images(self, drawn: Drawn) -> Iterator[tuple[int, Any, NDArray[np.float32]]]:
        """Yield number of the crop, channel and pixels of the middle slice of each image of a frame."""
        if isinstance(drawn.crops, UserError):
            return
        names = self._table.experiments[drawn.experiment].channel_names
        of_rows = None if self._positions.channel is None else self._positions.channel[drawn.frame.rows]
        middle = drawn.crops[:, :, (drawn.crops.shape[2] - 1) // 2]
        for number, index in np.ndindex(*middle.shape[:2]):
            yield number, index if of_rows is None else names[of_rows[number]], middle[number, index]


def _scale_of(images: Sequence[NDArray[np.float32]]) -> Scale:
    pixels = np.concatenate([one.ravel() for one in images])
    finite = pixels[np.isfinite(pixels)]
    black, white, first, last = np.percentile(finite if len(finite) else [0.0], [*_GRAY, *_SHOWN]).tolist()
    # Bins of a histogram of 32-bit numbers must differ.
    return Scale(black=black, white=white, first=first, last=max(last, first + max(1e-3, 1e-4 * abs(first))))
