"""Image intensity: center and spread of each channel in an experiment, in its positions and in their frames."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.config.checks import require
from viscy_train.crops.intensity import FrameSample, make_statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from viscy_train.config.schema import NormalizationConfig

# Center and spread by experiment and position, shape (n_frames, n_channels, 2); one frame if it counts for all.
type LocalIntensity = dict[str, dict[str, NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class CountedFrame:
    """A frame whose intensities count.

    Parameters
    ----------
    frame : int
        Number of the frame.
    is_sampled : bool
        Whether it counts for the experiment and the position.
    sample : FrameSample
        What it adds; only center and spread if it is not sampled.
    """

    frame: int
    is_sampled: bool
    sample: FrameSample


class ExperimentIntensity:
    """Center and spread of each channel of an experiment, counted frame by frame.

    Parameters
    ----------
    config : NormalizationConfig
        How intensities are normalized.
    n_channels : int
        Number of channels.
    n_frames : int
        About how many frames are sampled.
    """

    def __init__(self, config: NormalizationConfig, n_channels: int, n_frames: int) -> None:
        self.config = config
        self._n_channels = n_channels
        self._all = make_statistics(config, n_channels, n_frames)
        self.positions: dict[str, PositionIntensity] = {}

    def add_position(self, name: str, n_frames: int) -> PositionIntensity:
        """Return the intensity of a position, still without frames.

        Parameters
        ----------
        name : str
            Name of the position.
        n_frames : int
            Number of frames of its image.
        """
        own = make_statistics(self.config, self._n_channels, n_frames) if self.config.by == "position" else None
        self.positions[name] = PositionIntensity(self._all, own, n_frames, self._n_channels)
        return self.positions[name]

    def center_and_spread(self) -> list[list[float]]:
        """Return center and spread of each channel in the sampled frames, shape (n_channels, 2)."""
        return self._all.center_and_spread()

    def by_position(self) -> dict[str, NDArray[np.float32]]:
        """Return center and spread of each position, or of each of its frames.

        Returns
        -------
        dict of str to numpy.ndarray
            Shape (1, n_channels, 2), or (n_frames, n_channels, 2) with NaN for frames that were not counted; empty if
            intensities are normalized by experiment. A spread of 0 is replaced by that of the experiment.
        """
        if self.config.by == "experiment":
            return {}
        spread = np.array(self.center_and_spread())[:, 1]
        local = {}
        for name, position in self.positions.items():
            constants = position.constants()
            constants[..., 1] = np.where(constants[..., 1] == 0, spread, constants[..., 1])
            local[name] = constants.astype(np.float32)
        return local


class PositionIntensity:
    """Center and spread of each channel of a position, and of each of its frames that was counted."""

    def __init__(self, shared: Any, own: Any, n_frames: int, n_channels: int) -> None:
        self._shared, self._own = shared, own
        self.frames = np.full((n_frames, n_channels, 2), np.nan)

    def merge(self, counted: CountedFrame) -> None:
        """Count a frame."""
        self.frames[counted.frame] = counted.sample.of_frame
        if counted.is_sampled:
            self._shared.merge(counted.sample)
            if self._own is not None:
                self._own.merge(counted.sample)

    def constants(self) -> NDArray[np.float64]:
        """Return center and spread of the position, or of each frame, as in `ExperimentIntensity.by_position`."""
        return self.frames.copy() if self._own is None else np.array([self._own.center_and_spread()])


def encode(intensity: LocalIntensity) -> dict[str, dict[str, str]]:
    """Return center and spread as text: float32 in little-endian byte order, in base64."""
    return {
        experiment: {
            name: base64.b64encode(np.ascontiguousarray(constants, dtype="<f4").tobytes()).decode("ascii")
            for name, constants in positions.items()
        }
        for experiment, positions in intensity.items()
    }


def decode(texts: Any, n_channels: Mapping[str, int]) -> LocalIntensity:
    """Return center and spread from what `encode` returned.

    Parameters
    ----------
    texts : dict of str to dict of str to str
        Texts by experiment and position.
    n_channels : mapping of str to int
        Number of channels of each experiment.

    Raises
    ------
    UserError
        If a text is not as `encode` writes it.
    """
    return {
        experiment: {
            name: _decode_position(text, n_channels[experiment], f"position {name!r} of experiment {experiment!r}")
            for name, text in positions.items()
        }
        for experiment, positions in texts.items()
    }


def _decode_position(text: Any, n_channels: int, where: str) -> NDArray[np.float32]:
    rule = f"intensities of {where} must be pairs of numbers in base64"
    require(isinstance(text, str), rule, text)
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error:
        content = b"damaged"
    require(len(content) > 0 and len(content) % (8 * n_channels) == 0, rule, text[:16])
    constants = np.frombuffer(content, dtype="<f4").reshape(-1, n_channels, 2).astype(np.float32)
    # Frames that were not counted are not numbers.
    spread = constants[..., 1]
    require(bool((np.isnan(spread) | (spread > 0)).all()), f"spreads of {where} must be above 0", text[:16])
    return constants
