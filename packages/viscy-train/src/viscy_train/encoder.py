"""Encoder: a small convolutional network from a crop to its embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from viscy_train.config import EncoderConfig


class Encoder(nn.Module):
    """Embed crops.

    Parameters
    ----------
    n_channels : int
        Channels of a crop.
    config : EncoderConfig
        Sizes.

    Notes
    -----
    Group normalisation, not batch normalisation: a crop's embedding does not depend on its batch, whose composition is
    what a run varies.
    """

    def __init__(self, n_channels: int, config: EncoderConfig) -> None:
        super().__init__()
        widths = [config.width, 2 * config.width, 4 * config.width]
        layers: list[nn.Module] = []
        for n_in, n_out in zip([n_channels, *widths], widths, strict=False):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(1, n_out), nn.GELU()]
        self.body = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], config.features)
        )
        self.head = nn.Sequential(nn.GELU(), nn.Linear(config.features, config.projection))

    def forward(self, crops: Tensor) -> Tensor:
        """Return embeddings of shape (n_crops, features) for crops of shape (n_crops, n_channels, side, side)."""
        return self.body(crops)

    def project(self, embeddings: Tensor) -> Tensor:
        """Return what the loss compares, shape (n_crops, projection), for embeddings of shape (n_crops, features)."""
        return self.head(embeddings)
