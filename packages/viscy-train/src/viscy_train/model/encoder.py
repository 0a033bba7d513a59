"""Encoder: the network that maps a crop to its embedding, either a small built-in one or one from timm."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from viscy_train.config.schema import EncoderConfig

TINY = "tiny"


class Encoder(nn.Module):
    """Embed crops, and project the embeddings into the space in which the loss compares them.

    Parameters
    ----------
    n_channels : int
        Number of channels of a crop.
    z_slices : int
        Number of slices of a crop.
    crop : int
        Side of a crop, in pixels.
    config : EncoderConfig
        Name of the network, and sizes.

    Raises
    ------
    UserError
        If the network is unknown, or cannot process such crops.

    Notes
    -----
    Every slice of every channel is an input channel of the network: the first convolution covers the complete depth of
    the stack, and the network is two-dimensional after it.
    """

    def __init__(self, n_channels: int, z_slices: int, crop: int, config: EncoderConfig) -> None:
        super().__init__()
        n_planes = n_channels * z_slices
        self.body = _make_tiny(n_planes, config) if config.name == TINY else _make_timm(n_planes, crop, config)
        features = _count_features(self.body, n_planes, crop, config.name)
        self.head = nn.Sequential(nn.Linear(features, features), nn.GELU(), nn.Linear(features, config.projection))

    def forward(self, crops: Tensor) -> Tensor:
        """Return embeddings, shape (n_crops, features), of crops, shape (n_crops, n_channels, z_slices, side, side)."""
        return self.body(crops.flatten(1, 2))

    def project(self, embeddings: Tensor) -> Tensor:
        """Return projections, shape (n_crops, projection), of embeddings, shape (n_crops, features)."""
        return self.head(embeddings)


def _make_tiny(n_planes: int, config: EncoderConfig) -> nn.Module:
    """Return three strided convolutions with group normalization, so that embeddings do not depend on the batch."""
    widths = [config.width, 2 * config.width, 4 * config.width]
    layers: list[nn.Module] = []
    for n_in, n_out in zip([n_planes, *widths], widths, strict=False):
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(1, n_out), nn.GELU()]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], config.features)]
    return nn.Sequential(*layers, *pooled)


def _make_timm(n_planes: int, crop: int, config: EncoderConfig) -> nn.Module:
    import timm  # takes a second, which the small encoder does not need

    if not timm.is_model(config.name):
        near = get_close_matches(config.name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; see `timm.list_models()`"
        raise UserError(f"model.encoder.name must be {TINY!r} or the name of a timm model, got {config.name!r}{hint}")
    options: dict[str, Any] = {"pretrained": config.pretrained, "in_chans": n_planes, "num_classes": 0}
    try:
        try:
            # Transformers are built for one image size, convolutional networks accept any.
            return timm.create_model(config.name, img_size=crop, **options)
        except TypeError:
            return timm.create_model(config.name, **options)
    except Exception as error:  # many types: every timm network has its own errors
        reason = " ".join(str(error).split())
        raise UserError(f"timm cannot create {config.name!r} with {n_planes} input channels: {reason}") from error


def _count_features(body: nn.Module, n_planes: int, crop: int, name: str) -> int:
    """Return the length of an embedding, by running the network once."""
    body.eval()
    try:
        with torch.inference_mode():
            _, features = body(torch.zeros(2, n_planes, crop, crop)).shape
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"model.encoder.name {name!r} cannot process crops of {crop} x {crop} pixels: {reason}; choose another "
            "encoder or another data.crop"
        ) from error
    body.train()
    return features
