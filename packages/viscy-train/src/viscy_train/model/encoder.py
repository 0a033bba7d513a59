"""Encoder: the network from a crop to its embedding, a small one of our own or any of timm's."""

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
    """Embed crops, and project the embeddings to what the loss compares.

    Parameters
    ----------
    n_channels : int
        Channels of a crop.
    z_slices : int
        Slices of a crop.
    crop : int
        Side of a crop, in pixels.
    config : EncoderConfig
        Which network, and sizes.

    Raises
    ------
    UserError
        If there is no such network, or it cannot take such crops.

    Notes
    -----
    The stem sees every slice of every channel as a channel of its own: its first convolution is one over the whole
    depth of the stack, after which an image is flat.
    """

    def __init__(self, n_channels: int, z_slices: int, crop: int, config: EncoderConfig) -> None:
        super().__init__()
        n_planes = n_channels * z_slices
        self.body = _tiny(n_planes, config) if config.name == TINY else _of_timm(n_planes, crop, config)
        features = _length_of_embedding(self.body, n_planes, crop, config.name)
        self.head = nn.Sequential(nn.Linear(features, features), nn.GELU(), nn.Linear(features, config.projection))

    def forward(self, crops: Tensor) -> Tensor:
        """Return embeddings, shape (n_crops, features), of crops, shape (n_crops, n_channels, z_slices, side, side)."""
        return self.body(crops.flatten(1, 2))

    def project(self, embeddings: Tensor) -> Tensor:
        """Return what the loss compares, shape (n_crops, projection), for embeddings of shape (n_crops, features)."""
        return self.head(embeddings)


def _tiny(n_planes: int, config: EncoderConfig) -> nn.Module:
    """Return three convolutions with strides, normalised by group: an embedding does not depend on its batch."""
    widths = [config.width, 2 * config.width, 4 * config.width]
    layers: list[nn.Module] = []
    for n_in, n_out in zip([n_planes, *widths], widths, strict=False):
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(1, n_out), nn.GELU()]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], config.features)]
    return nn.Sequential(*layers, *pooled)


def _of_timm(n_planes: int, crop: int, config: EncoderConfig) -> nn.Module:
    import timm  # a second to load, which the small encoder saves

    if not timm.is_model(config.name):
        near = get_close_matches(config.name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; `timm.list_models()` lists the others"
        raise UserError(
            f"model.encoder.name must be {TINY!r} or the name of a model of timm, got {config.name!r}{hint}"
        )
    options: dict[str, Any] = {"pretrained": config.pretrained, "in_chans": n_planes, "num_classes": 0}
    try:
        try:
            # Transformers are made for one size of images, convolutions for any.
            return timm.create_model(config.name, img_size=crop, **options)
        except TypeError:
            return timm.create_model(config.name, **options)
    except Exception as error:  # of many types: each network of timm refuses in its own way
        reason = " ".join(str(error).split())
        raise UserError(f"timm cannot make {config.name!r} with {n_planes} input planes: {reason}") from error


def _length_of_embedding(body: nn.Module, n_planes: int, crop: int, name: str) -> int:
    """Return how many features a network makes of a crop, by trying it."""
    body.eval()
    try:
        with torch.inference_mode():
            _, features = body(torch.zeros(2, n_planes, crop, crop)).shape
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"model.encoder.name {name!r} cannot take crops of {crop} x {crop} pixels: {reason}; choose another, or "
            "another data.crop"
        ) from error
    body.train()
    return features
