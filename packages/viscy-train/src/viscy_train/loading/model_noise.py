"""Model noise: the state of torch's default generators, from which a model draws in a training step, as for dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import device as Device  # noqa: N812


def seed_model_noise(seed: int, device: Device) -> None:
    """Seed the default generators of the host and of a device, as `torch.manual_seed` does.

    Parameters
    ----------
    seed : int
        In [-2**63, 2**64).
    device : torch.device
        Where the model is.

    Notes
    -----
    `torch.manual_seed` seeds all kinds of devices. For those that are not in use it keeps the text of the Python stack,
    which takes about a millisecond and looks at each source file, which may be on a network drive.
    """
    if device.type == "cuda":
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed_all(seed)
    elif device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
