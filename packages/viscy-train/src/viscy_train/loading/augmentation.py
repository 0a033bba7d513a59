"""Augmentation: crops turned, shifted, brightened, blurred and made noisy, a whole batch at once on its device.

What is done to a slot is drawn on the CPU as an array with the slots first (see `viscy_train.loading.rng`), so it is the
same on every device and whatever the other slots are; only the pixels of the noise are drawn on the device. No global
generator is used or moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from torch import nn
from torch.nn.functional import affine_grid, grid_sample

from viscy_train.config.checks import require, require_at_least, require_number

if TYPE_CHECKING:
    from torch import Tensor

# Words of randomness, drawn whatever is switched on, so that one option does not change what another one does.
_WORDS_OF_A_SLOT = 10
_WORDS_OF_A_CHANNEL = 3
# Pixels from the centre of the kernel to its border, in standard deviations of the Gaussian.
_REACH = 3


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How the crops of a batch are varied; all slices and channels of a slot are moved alike. 0 switches a thing off.

    Parameters
    ----------
    rotation : float
        Greatest angle in degrees, to either side.
    flip : bool
        Whether half of the crops are mirrored along y, and half along x.
    scale : float
        Greatest change of size: sizes are multiplied by 1 - scale to 1 + scale.
    translation : float
        Greatest shift along y and x, as a fraction of the side of a crop.
    gain : float
        Greatest change of contrast: pixels of a channel are multiplied by 1 - gain to 1 + gain.
    offset : float
        Most that is added to the pixels of a channel or taken from them, in standard deviations of the channel.
    noise : float
        Greatest standard deviation of Gaussian noise, in standard deviations of the channel.
    blur : float
        Probability that a slot is blurred.
    blur_sigma : float
        Greatest standard deviation of the Gaussian that blurs, in pixels.
    channel_dropout : float
        Probability that a channel of a slot is set to the channel's mean; at least one channel is left.
    """

    rotation: float = 180.0
    flip: bool = True
    scale: float = 0.1
    translation: float = 0.03
    gain: float = 0.2
    offset: float = 0.2
    noise: float = 0.1
    blur: float = 0.2
    blur_sigma: float = 1.0
    channel_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("rotation", 180), ("translation", 0.5), ("blur", 1)):
            require(0 <= self._number(name) <= most, f"augmentation.{name} must be in [0, {most}]", self._number(name))
        for name in ("scale", "gain", "channel_dropout"):
            require(0 <= self._number(name) < 1, f"augmentation.{name} must be in [0, 1)", self._number(name))
        for name in ("offset", "noise", "blur_sigma"):
            require_at_least(f"augmentation.{name}", self._number(name), 0)
        require(isinstance(self.flip, bool), "augmentation.flip must be true or false", self.flip)

    def _number(self, name: str) -> float:
        require_number(f"augmentation.{name}", getattr(self, name))
        return getattr(self, name)


class Augment(nn.Module):
    """Vary the crops of a batch, as a function of a seed alone.

    Parameters
    ----------
    options : AugmentationConfig
        What is done, and how much of it.

    Notes
    -----
    Where a turned or shifted crop has no pixels, its own are mirrored at the border. The affine part is torch's
    `grid_sample` with one matrix a slot: kornia's `warp_affine` inverts matrices on the way and took twice as long.
    """

    def __init__(self, options: AugmentationConfig) -> None:
        super().__init__()
        self.options = options

    @torch.no_grad()
    def forward(self, crops: Tensor, seed: int) -> Tensor:
        """Return varied crops.

        Parameters
        ----------
        crops : torch.Tensor
            Shape (n, n_channels, n_slices, side, side), with mean 0 and standard deviation 1 over a channel.
        seed : int
            In [0, 2**63), such as `viscy_train.loading.rng.torch_seed` returns. The same seed gives the same pixels on a
            device, bit for bit; noise differs between kinds of device.

        Returns
        -------
        torch.Tensor
            New, of the same shape, type and device.
        """
        n, n_channels, n_slices = crops.shape[:3]
        n_words = _WORDS_OF_A_SLOT + _WORDS_OF_A_CHANNEL * n_channels
        drawn = torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random((n, n_words), dtype=np.float32))
        of_slots, of_channels = drawn.split([_WORDS_OF_A_SLOT, _WORDS_OF_A_CHANNEL * n_channels], dim=1)
        gain, offset, dropped = of_channels.reshape(n, n_channels, _WORDS_OF_A_CHANNEL).unbind(-1)
        moved, blurred, sigma, noise, kept = of_slots.split([6, 1, 1, 1, 1], dim=1)
        with torch.autocast(crops.device.type, enabled=False):
            # All slices and channels of a slot are moved by the same matrix, and blurred by the same kernel.
            images = crops.float().flatten(1, 2)
            images = self._moved(images, moved)
            images = self._blurred(images, blurred[:, 0], sigma[:, 0])
            varied = images.unflatten(1, (n_channels, n_slices))
            varied = self._brightened(varied, gain, offset)
            varied = self._with_noise(varied, noise, seed)
            varied = self._with_channels_dropped(varied, dropped, kept)
        return varied.to(crops.dtype)

    def _moved(self, images: Tensor, words: Tensor) -> Tensor:
        """Turn, scale, mirror and shift images of shape (n, any, side, side)."""
        options = self.options
        if not (options.rotation or options.scale or options.flip or options.translation):
            return images
        rotation, scale, *flips, down, right = words.unbind(1)
        angle = math.radians(options.rotation) * _signed(rotation)
        size = 1 + options.scale * _signed(scale)
        along_y, along_x = (1 - 2 * (options.flip * (flip < 0.5).float()) for flip in flips)
        cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
        # The matrix leads from a pixel of the result to where it is taken from, in halves of a side.
        shift_y, shift_x = (2 * options.translation * _signed(word) for word in (down, right))
        row_x = torch.stack([cosine * along_x, -sine * along_y, shift_x], dim=1)
        row_y = torch.stack([sine * along_x, cosine * along_y, shift_y], dim=1)
        matrices = torch.stack([row_x, row_y], dim=1).to(images.device)
        grid = affine_grid(matrices, list(images.shape), align_corners=False)
        return grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _blurred(self, images: Tensor, words: Tensor, sigma: Tensor) -> Tensor:
        """Blur some of the images of shape (n, any, side, side)."""
        chosen = torch.nonzero(words < self.options.blur)[:, 0]
        if len(chosen) == 0 or self.options.blur_sigma == 0:
            return images
        reach = min(math.ceil(_REACH * self.options.blur_sigma), images.shape[-1] - 1)
        # (0, blur_sigma]: a Gaussian of no width has no kernel.
        sigmas = (self.options.blur_sigma * (1 - sigma[chosen]))[:, None].expand(-1, 2)
        chosen = chosen.to(images.device)
        # cudnn chooses among algorithms that round differently.
        with torch.backends.cudnn.flags(enabled=False):
            blurred = gaussian_blur2d(images[chosen], 2 * reach + 1, sigmas.to(images.device))
        return images.index_copy(0, chosen, blurred)

    def _brightened(self, crops: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
        """Change contrast and brightness of each channel."""
        if not (self.options.gain or self.options.offset):
            return crops
        factor, summand = 1 + self.options.gain * _signed(gain), self.options.offset * _signed(offset)
        return torch.addcmul(_of_crops(summand, crops), crops, _of_crops(factor, crops))

    def _with_noise(self, crops: Tensor, words: Tensor, seed: int) -> Tensor:
        """Add noise, of each slot with a deviation of its own."""
        if not self.options.noise:
            return crops
        generator = torch.Generator(crops.device).manual_seed(seed)
        noise = torch.randn(crops.shape, generator=generator, device=crops.device)
        return torch.addcmul(crops, noise, _of_crops(self.options.noise * words, crops))

    def _with_channels_dropped(self, crops: Tensor, words: Tensor, kept: Tensor) -> Tensor:
        """Set channels to their mean, 0, but not all of a slot: one, chosen with equal chances, is left then."""
        if not self.options.channel_dropout:
            return crops
        n_channels = words.shape[1]
        stays = words >= self.options.channel_dropout
        # a word just below 1, times the number of channels, may be rounded up
        last = (kept * n_channels).long().clamp(max=n_channels - 1)
        stays |= (~stays.any(dim=1, keepdim=True)) & (torch.arange(n_channels) == last)
        return crops * _of_crops(stays.float(), crops)


def _signed(words: Tensor) -> Tensor:
    """Return uniform words in [-1, 1) for those in [0, 1)."""
    return 2 * words - 1


def _of_crops(values: Tensor, crops: Tensor) -> Tensor:
    """Return values of slots, and of channels, so that they are broadcast over crops, on their device."""
    return values.to(crops.device)[..., None, None, None]
