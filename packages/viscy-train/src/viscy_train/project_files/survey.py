"""Survey of a plate: its wells or images, channels, frames and scale, from the first image of each well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from viscy_train.console import track
from viscy_train.errors import UserError
from viscy_train.plates.layouts import enumerate_names
from viscy_train.plates.plate import open_plate

if TYPE_CHECKING:
    from pathlib import Path

    from viscy_train.plates.position_image import PositionImage


@dataclass(kw_only=True)
class Survey:
    """What a plate contains.

    Parameters
    ----------
    path : pathlib.Path
        The plate.
    has_wells : bool
        Whether it is an HCS plate.
    positions : dict of str to list of str
        The positions of each well, image or folder of images that can be read.
    images : dict of str to PositionImage
        The first image of each of them.
    left_out : dict of str to list of str
        The others, by the reason why they cannot be used.
    """

    path: Path
    has_wells: bool
    positions: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, PositionImage] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def channels(self) -> list[str]:
        """Channels that all images have, in the order of the first one."""
        first, *others = (image.channels for image in self.images.values())
        return [name for name in first if all(name in other for other in others)]

    @property
    def other_channels(self) -> dict[str, list[str]]:
        """Where each of the other channels is."""
        places: dict[str, list[str]] = {}
        for key, image in self.images.items():
            for name in image.channels:
                if name not in self.channels:
                    places.setdefault(name, []).append(key)
        return places

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the images, without repetitions."""
        return sorted({image.shape for image in self.images.values()})

    @property
    def micrometers_per_pixel(self) -> list[float]:
        """Sides of a pixel in the images, as far as their metadata give them, without repetitions."""
        return sorted({side for image in self.images.values() if (side := _side(image)) is not None})

    @property
    def minutes_per_frame(self) -> float | None:
        """Minutes between frames, if the metadata of all images give the same."""
        minutes = {image.minutes_per_frame for image in self.images.values()}
        return minutes.pop() if len(minutes) == 1 else None


def survey_plate(path: Path) -> Survey:
    """Look at a plate.

    Parameters
    ----------
    path : pathlib.Path
        The plate.

    Raises
    ------
    UserError
        If it is not a plate, or none of its images can be read.
    """
    plate = open_plate(path)
    survey = Survey(path=path, has_wells=plate.has_wells)
    for key in track(plate.list_keys(), path.name):
        try:
            positions = plate.list_positions(key)
            survey.images[key] = plate.image(positions[0])
            survey.positions[key] = positions
        except UserError as error:
            survey.left_out.setdefault(error.reason or str(error), []).append(key)
    if not survey.images:
        lines = [f"{enumerate_names(keys)}: {reason}" for reason, keys in survey.left_out.items()] or ["it is empty"]
        raise UserError(f"plate {path} has no image that can be read; {lines[0]}")
    return survey


def _side(image: PositionImage) -> float | None:
    try:
        return image.micrometers_per_pixel
    except UserError:  # pixels that are not square; `index` says so if their size is needed
        return None
