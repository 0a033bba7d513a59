"""Images: the images that one process reads, each opened once, with many regions read concurrently."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.plate import open_plate

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.plates.pixels import Pixels
    from viscy_train.plates.plate import Plate, PositionImage


class OpenImage(NamedTuple):
    """An image and its pixels, of which a missing chunk cannot be read."""

    image: PositionImage
    pixels: Pixels


class Images:
    """The images that one process reads, each opened once.

    Parameters
    ----------
    cache_mb : int
        Memory for decoded chunks, shared by all images, in MB.

    Notes
    -----
    Images are never closed, because they hold no file handles.
    """

    def __init__(self, cache_mb: int) -> None:
        self._plates: dict[Path, Plate] = {}
        self._images: dict[tuple[Path, str], OpenImage] = {}
        self._reader = PixelReader(cache_mb)

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
            self._images[path, position] = OpenImage(image, self._reader.open(image.array, fill_missing=False))
        return self._images[path, position]
