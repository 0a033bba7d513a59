"""Crop batch: crops as plates store them, which become normalized crops on the device that they are moved to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from viscy_train.crops.native_crops import NativeCrops

# Pixels of other types are converted to float32 on the host.
_TORCH_TYPES = ("u1", "i1", "u2", "i2", "i4", "f2", "f4")
# Crops are resampled in groups of at most this many float32 pixels, so that they take little memory on a device.
_PIXELS_PER_GROUP = 2**26


class CropBatch:
    """Crops of a batch, in one tensor if they have the same type and size.

    Parameters
    ----------
    parts : sequence of _Part
        The crops.
    center, spread : torch.Tensor
        By which each channel is normalized, float32, shape (n_crops, n_channels).
    shape : tuple of int
        Slices, rows and columns of a crop, (z_slices, side, side).

    Notes
    -----
    Integers are moved to the device in their own type, which takes a half or a quarter of the bytes of float32. Pixels
    are computed element by element: a crop has the same bits alone and in a batch.
    """

    def __init__(self, parts: Sequence[_Part], center: Tensor, spread: Tensor, shape: tuple[int, int, int]) -> None:
        self._parts, self._center, self._spread, self._shape = tuple(parts), center, spread, shape

    @classmethod
    def of(
        cls,
        parts: Sequence[NativeCrops],
        center: NDArray[np.float32],
        spread: NDArray[np.float32],
        shape: tuple[int, int, int],
    ) -> CropBatch:
        """Return the crops that a source has read, after `with_torch_type`."""
        tensors = torch.from_numpy(center), torch.from_numpy(spread)
        return cls([_part(part, len(center)) for part in parts], *tensors, shape)

    def __len__(self) -> int:
        return len(self._center)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return sum(part.pixels.nbytes for part in self._parts)

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self._center.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> CropBatch:
        """Return the crops on a device. Pinned memory is copied to it without waiting for the copy."""
        target = torch.device(device)

        def move(tensor: Tensor) -> Tensor:
            if tensor.dtype == torch.uint16 and target.type not in ("cpu", "cuda"):  # not known to other devices
                tensor = tensor.float()
            is_free = non_blocking or (target.type == "cuda" and tensor.is_pinned())
            return tensor.to(target, non_blocking=is_free)

        return self._map(move)

    def pin_memory(self) -> CropBatch:
        """Return the crops in pinned memory, which torch uses again when the crops are gone."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> CropBatch:
        parts = [part.map(change) for part in self._parts]
        return CropBatch(parts, change(self._center), change(self._spread), self._shape)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Return the normalized crops, float32, shape (n_crops, n_channels, z_slices, side, side)."""
        center, spread = (values[..., None, None, None] for values in (self._center, self._spread))
        if len(self._parts) == 1 and self._parts[0].slots is None:
            return self._parts[0].finish().sub_(center).div_(spread)
        crops = torch.empty((*self._center.shape, *self._shape), device=self.device)
        for part in self._parts:
            crops[part.slots] = part.finish()
        return crops.sub_(center).div_(spread)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Crops of one type and size.

    Parameters
    ----------
    pixels : torch.Tensor
        Shape (m, n_channels, n_slices, n_rows, n_columns).
    slots : torch.Tensor or None
        Which crops of the batch they are, shape (m,); None if they are all of them in order.
    taps : tuple of (int, torch.Tensor, torch.Tensor)
        The axes to resample, as `viscy_train.crops.window.CropWindow.taps` returns them.
    """

    pixels: Tensor
    slots: Tensor | None
    taps: tuple[tuple[int, Tensor, Tensor], ...]

    def map(self, change: Callable[[Tensor], Tensor]) -> _Part:
        taps = tuple((axis, change(first), change(weights)) for axis, first, weights in self.taps)
        slots = None if self.slots is None else change(self.slots)
        return replace(self, pixels=change(self.pixels), slots=slots, taps=taps)

    def finish(self) -> Tensor:
        """Return a new tensor of the crops before normalization."""
        if not self.taps:
            return self.pixels.to(torch.float32, copy=True)
        # On a CPU, one crop fits into its cache.
        per_group = 1 if self.pixels.device.type == "cpu" else max(1, _PIXELS_PER_GROUP // self.pixels[0].numel())
        groups = [slice(first, first + per_group) for first in range(0, len(self.pixels), per_group)]
        return torch.cat([self._resample(group) for group in groups])

    def _resample(self, group: slice) -> Tensor:
        crops = self.pixels[group].float()
        for axis, first, weights in self.taps:
            crops = _resample(crops, axis, first[group], weights[group])
        return crops


def _resample(pixels: Tensor, axis: int, first: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums of pixels along an axis.

    Each product is added in turn, by operations on single elements. A matrix product would be rounded in another way
    for each number of crops.
    """
    moved = pixels.movedim(axis, 1)
    n_crops, n_read = moved.shape[:2]
    rows = moved.reshape(n_crops * n_read, -1)
    first_row = torch.arange(n_crops, device=pixels.device)[:, None] * n_read
    total: Any = None
    for tap in range(weights.shape[-1]):
        index = first_row + (first + tap).clamp(0, n_read - 1)
        product = rows.index_select(0, index.flatten()).mul_(weights[..., tap].reshape(-1, 1))
        total = product if total is None else total.add_(product)
    return total.reshape(*first.shape, *moved.shape[2:]).movedim(1, axis)


def with_torch_type(crops: NativeCrops) -> NativeCrops:
    """Return crops in a type that all of torch's devices know; a float64 beyond float32 becomes infinite."""
    if crops.pixels.dtype.str[1:] in _TORCH_TYPES and crops.pixels.dtype.isnative:
        return crops
    with np.errstate(over="ignore"):
        return replace(crops, pixels=crops.pixels.astype(np.float32))


def _part(crops: NativeCrops, n: int) -> _Part:
    is_whole = np.array_equal(crops.slots, np.arange(n))
    taps = crops.window.taps(crops.starts, crops.first_slices)
    return _Part(
        pixels=_tensor(crops.pixels),
        slots=None if is_whole else _tensor(crops.slots),
        taps=tuple((axis, _tensor(one.first), _tensor(one.weights)) for axis, one in taps),
    )


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return an array as a tensor, without a copy unless it is read-only or not contiguous."""
    return torch.from_numpy(np.require(array, requirements="CW"))
