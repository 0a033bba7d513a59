"""Fields: frames of fields of view, small enough to be shown, with the squares of the crops that are cut from them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from viscy_train.contact_sheet.places import Places
from viscy_train.crops.scale import scale_of
from viscy_train.crops.window import crop_window
from viscy_train.errors import UserError, one_line
from viscy_train.experiments.columns import Z_FOCUS
from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.plate import open_plate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.contact_sheet.selection import SampledFrame
    from viscy_train.crops.window import CropWindow
    from viscy_train.plates.pixels import Pending
    from viscy_train.plates.plate import Plate
    from viscy_train.plates.position_image import PositionImage

# Bytes that are decoded for fields of view, of all frames of a sheet together.
_MOST_BYTES = 2**29
_AHEAD = 4
# Percentiles that are black and white.
_BLACK, _WHITE = 1.0, 99.7


@dataclass(frozen=True, kw_only=True)
class Field:
    """A frame of a field of view.

    Parameters
    ----------
    height, width : int
        Size of the frame, in pixels.
    slices : slice
        Slices that crops have, or of which they have the maximum.
    n_slices : int
        Number of slices of the stack.
    micrometers : float, optional
        Side of a pixel.
    squares : numpy.ndarray
        First row, first column and side of each crop, in pixels, shape (n_crops, 3).
    pixels : numpy.ndarray, optional
        The frame in `shown_size` as gray values, dtype uint8; None if it was not read.
    """

    height: int
    width: int
    slices: slice
    n_slices: int
    micrometers: float | None
    squares: NDArray[np.float64]
    pixels: NDArray[np.uint8] | None = None


class Fields:
    """Reads the frames of a sheet one after the other.

    Parameters
    ----------
    table : AnchorTable
        The table.
    size : int
        Longer side of a frame that is shown.

    Attributes
    ----------
    places : dict of int to Places
        Where the cells of each experiment are, by its index.
    n_left_out : int
        Number of frames that were not read because others had taken all the bytes that may be decoded.
    """

    def __init__(self, table: AnchorTable, size: int) -> None:
        self._table, self._size = table, size
        self._plates: dict[int, Plate] = {}
        self._reader = PixelReader(0)
        self._bytes = 0
        self.places: dict[int, Places] = {}
        self.n_left_out = 0

    def read(self, frames: list[tuple[int, SampledFrame]]) -> Iterator[Field | UserError]:
        """Yield each frame, or why it cannot be read; some are requested before they are needed.

        Parameters
        ----------
        frames : list of (int, SampledFrame)
            Indices of experiments, and frames.
        """
        requested: deque[Any] = deque()
        for number, (index, frame) in enumerate(frames):
            requested.append((index, frame, self._request(index, frame)))
            if number + 1 == len(frames) or len(requested) > _AHEAD:
                for _ in range(len(requested) if number + 1 == len(frames) else 1):
                    yield self._finish(*requested.popleft())

    def _request(self, index: int, frame: SampledFrame) -> tuple[Field, Pending | None] | UserError:
        try:
            experiment = self._table.experiments[index]
            if index not in self._plates:
                self._plates[index] = open_plate(experiment.plate)
            image = self._plates[index].image(frame.position)
            window = crop_window(image, experiment, self._table.crops)
            slices = self._slices(window, frame)
            field = Field(
                height=image.shape[3],
                width=image.shape[4],
                slices=slices,
                n_slices=image.shape[2],
                micrometers=scale_of(image, experiment)[0],
                squares=self._squares(window, frame),
            )
            self._bytes += (needed := _decoded_bytes(image))
            if self._bytes > _MOST_BYTES:
                self._bytes -= needed
                self.n_left_out += 1
                return field, None
            channel = image.channel_indices(experiment.channel_names)[0]
            middle = (slices.start + slices.stop - 1) // 2
            region = frame.frame, np.array([channel]), slice(middle, middle + 1), slice(None), slice(None)
            return field, self._reader.open(image.array, fill_missing=True).request(region)
        except UserError as error:
            return error

    def _finish(
        self, index: int, frame: SampledFrame, requested: tuple[Field, Pending | None] | UserError
    ) -> Field | UserError:
        if isinstance(requested, UserError):
            return requested
        field, pending = requested
        if pending is None:
            return field
        try:
            with np.errstate(over="ignore"):
                pixels = np.asarray(pending.result())[0, 0].astype(np.float32)
        except Exception as error:  # many types: those of tensorstore, zarr and each codec
            return UserError(f"frame {frame.frame} of position {frame.position}: {one_line(error)}")
        places = self.places.setdefault(index, Places())
        places.add(frame.position, frame.tracks, frame.cells, pixels, float(field.squares[0, 2]))
        return replace(field, pixels=_as_gray(shrink(pixels, shown_size(pixels.shape, self._size))))

    def _slices(self, window: CropWindow, frame: SampledFrame) -> slice:
        focus = None
        if self._table.crops.z == "sharpest":
            focus = int(self._table.observations[Z_FOCUS].iloc[frame.rows[0]])
        return window.slices(window.first_slice(focus=focus))

    def _squares(self, window: CropWindow, frame: SampledFrame) -> NDArray[np.float64]:
        centers = self._table.observations.iloc[frame.rows][["y", "x"]].to_numpy(np.float64)
        starts = window.starts(centers)
        return np.column_stack([starts, np.full(len(starts), window.y.length)])


def shown_size(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return the height and width in which a frame is shown whose longer side becomes `size`."""
    scale = size / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def shrink(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image in another size: of means of its pixels if that is smaller, otherwise interpolated."""
    finite = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    how = Image.Resampling.BOX if size[0] < pixels.shape[0] else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(finite).resize((size[1], size[0]), how))


def as_gray(pixels: NDArray[np.float32], black: float, white: float) -> NDArray[np.uint8]:
    """Return gray values of pixels, 0 at `black` and below it, 255 at `white` and above it."""
    scaled = (pixels - black) * (255 / max(white - black, 1e-6))
    return np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)


def _as_gray(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    black, white = np.percentile(pixels, [_BLACK, _WHITE]).tolist()
    return as_gray(pixels, black, white)


def _decoded_bytes(image: PositionImage) -> int:
    """Return how many bytes are decoded to read a slice of one channel of a frame."""
    chunk = image.array.chunks
    n_chunks = math.prod(-(-total // size) for total, size in zip(image.shape[3:], chunk[3:], strict=True))
    return n_chunks * math.prod(chunk) * image.array.dtype.itemsize
