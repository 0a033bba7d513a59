"""Images: the images that one process reads, each opened once, with many regions read concurrently."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.plate import open_plate
from viscy_train.plates.row_pixels import open_rows

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.plates.pixels import Pixels
    from viscy_train.plates.plate import Plate, PositionImage
    from viscy_train.plates.row_pixels import RowPixels


class OpenImage(NamedTuple):
    """An image and its pixels, of which a missing chunk cannot be read; also by rows where that is possible."""

    image: PositionImage
    pixels: Pixels
    rows: RowPixels | None


class Images:
    """The images that one process reads, each opened once.

    Parameters
    ----------
    n_threads : int
        Number of threads that decode.

    Notes
    -----
    Images are never closed, because they hold no file handles.
    """

    def __init__(self, n_threads: int) -> None:
        self._plates: dict[Path, Plate] = {}
        self._images: dict[tuple[Path, str], OpenImage] = {}
        self._reader = PixelReader(0, n_threads=n_threads)

    def open(self, path: Path, position: str) -> OpenImage:
        """Return the image of a position.

        Parameters
        ----------
        path : pathlib.Path
            Path of the plate.
        position : str
            Name of the position, such as ``A/1/0``.

        Returns
        -------
        OpenImage
            The image, and its pixels of shape (n_frames, n_channels, n_slices, height, width).

        Raises
        ------
        UserError
            If the plate or position does not exist or is damaged.
        """
        if (path, position) not in self._images:
            if path not in self._plates:
                self._plates[path] = open_plate(path)
            image = self._plates[path].image(position)
            pixels = self._reader.open(image.array, fill_missing=False)
            self._images[path, position] = OpenImage(image, pixels, open_rows(image.array))
        return self._images[path, position]
