"""Augmentation: random geometric and intensity transforms of a complete batch of crops, on its device.

The parameters of the transforms are drawn on the CPU, as an array whose first axis is the slots (see
`viscy_train.loading.rng`). They are the same on every device, and those of a slot do not depend on the other slots.
Only the pixels of the noise are drawn on the device. Global generators are neither used nor changed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from torch import nn
from torch.nn.functional import affine_grid, grid_sample

if TYPE_CHECKING:
    from torch import Tensor

    from viscy_train.config.schema import AugmentationConfig

# Random numbers are drawn even for transforms that are off, so that an option does not affect the other transforms.
_DRAWS_PER_SLOT = 10
_DRAWS_PER_CHANNEL = 3
# Distance from the center of the blur kernel to its border, in standard deviations of the Gaussian.
_KERNEL_RADIUS = 3


class Augment(nn.Module):
    """Augment the crops of a batch, as a deterministic function of a seed.

    Parameters
    ----------
    options : AugmentationConfig
        The transforms and their magnitudes.

    Notes
    -----
    Pixels outside the original crop are filled by reflection. The affine transform uses torch's `grid_sample` with one
    matrix per slot: kornia's `warp_affine` additionally inverts the matrices and took twice as long.
    """

    def __init__(self, options: AugmentationConfig) -> None:
        super().__init__()
        self.options = options

    @torch.no_grad()
    def forward(self, crops: Tensor, seed: int, first_slot: int | None = None) -> Tensor:
        """Return augmented crops.

        Parameters
        ----------
        crops : torch.Tensor
            Shape (n, n_channels, n_slices, side, side), with mean 0 and standard deviation 1 over a channel.
        seed : int
            In [0, 2**63), for example from `viscy_train.loading.rng.torch_seed`. The same seed gives the same pixels on
            the same device, bit for bit; the noise differs between types of device.
        first_slot : int, optional
            Slot of the batch in which the first crop is, if the batch may be cut into parts: a slot then has the same
            pixels in any part, up to rounding. This draws the noise slot by slot, and other noise than without it.

        Returns
        -------
        torch.Tensor
            A new tensor with the shape, type and device of `crops`.
        """
        n, n_channels, n_slices = crops.shape[:3]
        sizes = [_DRAWS_PER_SLOT, _DRAWS_PER_CHANNEL * n_channels]
        first = first_slot or 0
        generator = np.random.Generator(np.random.PCG64(seed))
        draws = torch.from_numpy(generator.random((first + n, sum(sizes)), dtype=np.float32)[first:])
        slot_draws, channel_draws = draws.split(sizes, dim=1)
        gain, offset, dropout = channel_draws.reshape(n, n_channels, _DRAWS_PER_CHANNEL).unbind(-1)
        affine, blur, sigma, noise, kept_channel = slot_draws.split([6, 1, 1, 1, 1], dim=1)
        with torch.autocast(crops.device.type, enabled=False):
            # All slices and channels of a slot share an affine matrix and a blur kernel.
            images = crops.float().flatten(1, 2)
            images = self._apply_affine(images, affine)
            images = self._blur(images, blur[:, 0], sigma[:, 0])
            augmented = images.unflatten(1, (n_channels, n_slices))
            augmented = self._change_intensity(augmented, gain, offset)
            augmented = self._add_noise(augmented, noise, [seed] if first_slot is None else _seeds(seed, first, n))
            augmented = self._drop_channels(augmented, dropout, kept_channel)
        return augmented.to(crops.dtype)

    def _apply_affine(self, images: Tensor, draws: Tensor) -> Tensor:
        """Rotate, scale, flip and shift images, shape (n, any, side, side)."""
        options = self.options
        if not (options.rotation or options.scale or options.flip or options.translation):
            return images
        rotation, scale, *flips, down, right = draws.unbind(1)
        angle = math.radians(options.rotation) * _to_signed(rotation)
        size = 1 + options.scale * _to_signed(scale)
        along_y, along_x = (1 - 2 * (options.flip * (flip < 0.5).float()) for flip in flips)
        cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
        # The matrix maps pixels of the result to pixels of the input; coordinates are in units of half a side.
        shift_y, shift_x = (2 * options.translation * _to_signed(draw) for draw in (down, right))
        row_x = torch.stack([cosine * along_x, -sine * along_y, shift_x], dim=1)
        row_y = torch.stack([sine * along_x, cosine * along_y, shift_y], dim=1)
        matrices = torch.stack([row_x, row_y], dim=1).to(images.device)
        grid = affine_grid(matrices, list(images.shape), align_corners=False)
        return grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _blur(self, images: Tensor, draws: Tensor, sigma: Tensor) -> Tensor:
        """Blur some of the images, shape (n, any, side, side)."""
        chosen = torch.nonzero(draws < self.options.blur)[:, 0]
        if len(chosen) == 0 or self.options.blur_sigma == 0:
            return images
        radius = min(math.ceil(_KERNEL_RADIUS * self.options.blur_sigma), images.shape[-1] - 1)
        # In (0, blur_sigma]: a kernel must have a width above 0.
        sigmas = (self.options.blur_sigma * (1 - sigma[chosen]))[:, None].expand(-1, 2)
        chosen = chosen.to(images.device)
        # cudnn selects among algorithms that round differently.
        with torch.backends.cudnn.flags(enabled=False):
            blurred = gaussian_blur2d(images[chosen], 2 * radius + 1, sigmas.to(images.device))
        return images.index_copy(0, chosen, blurred)

    def _change_intensity(self, crops: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
        """Change contrast and brightness of each channel."""
        if not (self.options.gain or self.options.offset):
            return crops
        factor, shift = 1 + self.options.gain * _to_signed(gain), self.options.offset * _to_signed(offset)
        return torch.addcmul(_expand_to(crops, shift), crops, _expand_to(crops, factor))

    def _add_noise(self, crops: Tensor, draws: Tensor, seeds: list[int]) -> Tensor:
        """Add Gaussian noise, with a different standard deviation for each slot, from one seed, or one for each."""
        if not self.options.noise:
            return crops
        generator, noise = torch.Generator(crops.device), torch.empty(crops.shape, device=crops.device)
        for seed, part in zip(seeds, noise.tensor_split(len(seeds)), strict=True):
            part.normal_(generator=generator.manual_seed(seed))
        return torch.addcmul(crops, noise, _expand_to(crops, self.options.noise * draws))

    def _drop_channels(self, crops: Tensor, draws: Tensor, kept_channel: Tensor) -> Tensor:
        """Set channels to their mean, 0. If all channels of a slot would be dropped, keep one at random."""
        if not self.options.channel_dropout:
            return crops
        n_channels = draws.shape[1]
        is_kept = draws >= self.options.channel_dropout
        # A number just below 1, times the number of channels, may be rounded up.
        fallback = (kept_channel * n_channels).long().clamp(max=n_channels - 1)
        is_kept |= (~is_kept.any(dim=1, keepdim=True)) & (torch.arange(n_channels) == fallback)
        return crops * _expand_to(crops, is_kept.float())


def _to_signed(draws: Tensor) -> Tensor:
    """Map uniform numbers in [0, 1) to [-1, 1)."""
    return 2 * draws - 1


def _seeds(seed: int, first_slot: int, n: int) -> list[int]:
    """Return a seed for each of n slots from a first one on."""
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    return generator.integers(2**63, size=first_slot + n)[first_slot:].tolist()


def _expand_to(crops: Tensor, values: Tensor) -> Tensor:
    """Return values per slot, and per channel, on the device of the crops and with axes to broadcast over them."""
    return values.to(crops.device)[..., None, None, None]
