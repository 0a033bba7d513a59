"""Encoder: the network from a crop to its embedding, a small one of our own or any of timm's."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from viscy_train.errors import UserError

if TYPE_CHECKING:
    from viscy_train.config import EncoderConfig

TINY = "tiny"


class Encoder(nn.Module):
    """Embed crops, and project the embeddings to what the loss compares.

    Parameters
    ----------
    n_channels : int
        Channels of a crop.
    z_slices : int
        Slices of a crop.
    config : EncoderConfig
        Which network, and sizes.

    Raises
    ------
    UserError
        If there is no such network.

    Notes
    -----
    The stem sees every slice of every channel as a channel of its own: its first convolution is one over the whole
    depth of the stack, after which an image is flat.
    """

    def __init__(self, n_channels: int, z_slices: int, config: EncoderConfig) -> None:
        super().__init__()
        n_planes = n_channels * z_slices
        self.body, features = _tiny(n_planes, config) if config.name == TINY else _of_timm(n_planes, config)
        self.head = nn.Sequential(nn.Linear(features, features), nn.GELU(), nn.Linear(features, config.projection))

    def forward(self, crops: Tensor) -> Tensor:
        """Return embeddings, shape (n_crops, features), of crops, shape (n_crops, n_channels, z_slices, side, side)."""
        return self.body(crops.flatten(1, 2))

    def project(self, embeddings: Tensor) -> Tensor:
        """Return what the loss compares, shape (n_crops, projection), for embeddings of shape (n_crops, features)."""
        return self.head(embeddings)


def _tiny(n_planes: int, config: EncoderConfig) -> tuple[nn.Module, int]:
    """Return three convolutions with strides, normalised by group: an embedding does not depend on its batch."""
    widths = [config.width, 2 * config.width, 4 * config.width]
    layers: list[nn.Module] = []
    for n_in, n_out in zip([n_planes, *widths], widths, strict=False):
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(1, n_out), nn.GELU()]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], config.features)]
    return nn.Sequential(*layers, *pooled), config.features


def _of_timm(n_planes: int, config: EncoderConfig) -> tuple[nn.Module, int]:
    import timm  # a second to load, which the small encoder saves

    if not timm.is_model(config.name):
        near = get_close_matches(config.name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; `timm.list_models()` lists the others"
        raise UserError(
            f"model.encoder.name must be {TINY!r} or the name of a model of timm, got {config.name!r}{hint}"
        )
    try:
        body: Any = timm.create_model(config.name, pretrained=config.pretrained, in_chans=n_planes, num_classes=0)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"timm cannot make {config.name!r} with {n_planes} input planes: {reason}") from error
    return body, int(body.num_features)
