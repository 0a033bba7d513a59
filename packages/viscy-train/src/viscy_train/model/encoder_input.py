"""Encoder input: the crops that an encoder takes, and how they differ from those that another one takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from viscy_train.config.schema import CropSettings
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Sequence

ENCODER_INPUT = "encoder_input"
"""Key of the input of the encoder in the state of the data module."""
ONE_CHANNEL = "one channel"
"""Name of the only channel of a crop that may be of any channel."""
# Settings of the section `data` that decide how the pixels of a crop look, besides its size.
_SETTINGS = ("crop_um", "depth_um", "z", "normalization")


@dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """What an encoder takes.

    Parameters
    ----------
    channels : list of str
        Names of the channels.
    z_slices : int
        Number of slices of a crop.
    crop : int
        Side of a crop, in pixels.
    markers : list of list of str
        The markers of each channel in the experiments, by default its name; empty if they are unknown.
    settings : dict of str to str
        How crops are made: settings of the section ``data`` as text, by name; empty if they are unknown.

    Raises
    ------
    ValueError
        If a value is of another type, as in a damaged file.
    """

    channels: list[str]
    z_slices: int
    crop: int
    markers: list[list[str]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [self.channels, *self.markers, [*self.settings, *self.settings.values()]]
        are_valid = all(isinstance(of, list) and all(isinstance(text, str) for text in of) for of in texts)
        are_valid &= type(self.z_slices) is int and type(self.crop) is int
        if not are_valid or len(self.markers) not in (0, len(self.channels)):
            raise ValueError("malformed input of an encoder")

    @classmethod
    def of(cls, channels: list[str], markers: Sequence[Sequence[str]], crops: CropSettings) -> EncoderInput:
        """Return the input of an encoder of crops with these settings; for the rest see the parameters."""
        return cls(
            channels=channels,
            z_slices=crops.z_slices,
            crop=crops.crop,
            markers=[list(dict.fromkeys(names)) for names in markers],
            settings={name: str(getattr(crops, name)) for name in _SETTINGS},
        )

    @classmethod
    def of_fingerprint(cls, fingerprint: Mapping[str, str]) -> EncoderInput:
        """Return the input of an encoder that was trained on the table of a fingerprint.

        Raises
        ------
        LookupError, TypeError, ValueError, AttributeError
            If the fingerprint is damaged.
        """
        is_any = fingerprint.get("data.channels") == "one"
        default = CropSettings()
        return cls(
            channels=[ONE_CHANNEL] if is_any else next(iter(json.loads(fingerprint["channels"]).values())),
            z_slices=int(fingerprint["z_slices"]),
            crop=int(fingerprint["crop"]),
            settings={name: fingerprint.get(f"data.{name}", str(getattr(default, name))) for name in _SETTINGS},
        )

    @property
    def layout(self) -> tuple[int, int]:
        """Number of channels and of slices; each slice of each channel is an input channel of the network."""
        return len(self.channels), self.z_slices

    def differences_from(self, former: EncoderInput) -> list[str]:
        """Return how these crops differ from those that an encoder of the same layout was trained on.

        Parameters
        ----------
        former : EncoderInput
            What the encoder was trained on.

        Returns
        -------
        list of str
            The end of a sentence for each kind of difference: other channels or another order of them, other settings.
        """
        return [*_other_channels(*_comparable(self, former)), *_other_crops(self, former)]


def _comparable(now: EncoderInput, before: EncoderInput) -> tuple[list[list[str]], list[list[str]]]:
    """Return the names of each channel: markers if both have them; none for a channel that may be any."""
    if now.markers and before.markers:
        return now.markers, before.markers
    present, former = ([[name] * (name != ONE_CHANNEL) for name in one.channels] for one in (now, before))
    return present, former


def _other_channels(now: list[list[str]], before: list[list[str]]) -> list[str]:
    pairs = zip(now, before, strict=True)
    if all(not former or set(present) <= set(former) for present, former in pairs):
        return []
    is_permuted = sorted(map(sorted, now)) == sorted(map(sorted, before))
    remedy = "; list `channels` of the experiments in that order" if is_permuted else ""
    return [f"the channels {_list(before)}, and this run has {_list(now)}{remedy}"]


def _other_crops(now: EncoderInput, before: EncoderInput) -> list[str]:
    present, former = ({"crop": str(one.crop), **one.settings} for one in (now, before))
    changed = [name for name in present if name in former and present[name] != former[name]]
    texts = [f"data.{name} {_null(present[name])} (was {_null(former[name])})" for name in changed]
    return [f"crops that differ from those of this run: {', '.join(texts)}"] if texts else []


def input_of_state(state: Any, fingerprint: str) -> EncoderInput | None:
    """Return the input in the state of the data module in a checkpoint.

    Parameters
    ----------
    state : mapping
        The state.
    fingerprint : str
        Key of the fingerprint of the anchor table, from which the input follows in states of earlier versions.

    Returns
    -------
    EncoderInput, optional
        None if the state has neither, or is damaged.
    """
    try:
        if ENCODER_INPUT in state:
            return EncoderInput(**state[ENCODER_INPUT])
        return EncoderInput.of_fingerprint(state[fingerprint])
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration):
        return None


def describe_layout(takes: EncoderInput) -> str:
    """Return the layout as text, such as ``2 channels with 1 slice each``."""
    (n_channels, z_slices) = takes.layout
    return f"{count(n_channels, 'channel')} with {count(z_slices, 'slice')}{' each' * (n_channels != 1)}"


def _list(names: list[list[str]]) -> str:
    return ", ".join(" or ".join(of) for of in names)


def _null(text: str) -> str:
    return "null" if text == "None" else text
