"""Position images: the image of a field of view, with its channels and its physical scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from viscy_train.errors import UserError
from viscy_train.plates.ngff_scale import PhysicalScale

if TYPE_CHECKING:
    from viscy_train.plates.image_array import ImageArray


@dataclass(frozen=True, kw_only=True)
class PositionImage:
    """The image of a position.

    Parameters
    ----------
    array : ImageArray
        Its pixels, shape (n_frames, n_channels, n_slices, height, width).
    channels : list of str
        Names of the channels.
    where : str
        The position and its plate, for error messages.
    scale : PhysicalScale
        Physical scale, as far as the metadata of the image give it.
    """

    array: ImageArray
    channels: list[str]
    where: str
    scale: PhysicalScale = field(default_factory=PhysicalScale)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    @property
    def micrometers_per_pixel(self) -> float | None:
        """The side of a pixel in micrometers, or None if the metadata do not give it.

        Raises
        ------
        UserError
            If pixels are not square.
        """
        return self.scale.side(self.where)

    @property
    def micrometers_per_slice(self) -> float | None:
        """The distance of two slices in micrometers, or None if the metadata do not give it."""
        return self.scale.z

    @property
    def minutes_per_frame(self) -> float | None:
        """The minutes between two frames, or None if there is one frame, or the metadata do not give them."""
        return self.scale.t if self.shape[0] > 1 else None

    def channel_indices(self, names: list[str]) -> list[int]:
        """Return the index of each channel.

        Raises
        ------
        UserError
            If the image does not have exactly one channel of a name.
        """
        for name in names:
            if name not in self.channels:
                raise UserError(
                    f"{self.where} has no channel {name!r}; it has {', '.join(self.channels)}{self._unnamed}"
                )
            if self.channels.count(name) > 1:
                n = self.channels.count(name)
                raise UserError(f"{self.where} has {n} channels {name!r}; give them different names")
        return [self.channels.index(name) for name in names]

    @property
    def _unnamed(self) -> str:
        """What a message adds if no channel has a name."""
        are_numbers = self.channels == [str(number) for number in range(len(self.channels))]
        return ", because its channels have no names and are called by their numbers" if are_numbers else ""

    def check_type(self) -> None:
        """Refuse pixels that are not real numbers.

        Raises
        ------
        UserError
            If pixels are neither integers, floats nor booleans.
        """
        if self.array.dtype.kind not in "buif":
            raise UserError(f"pixels must be integers, floats or booleans, got {self.array.dtype} in {self.where}")
