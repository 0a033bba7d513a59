"""Channel groups: the channels that a row of an anchor table has, whose pixels and intensities are checked together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from viscy_train.crops.image_intensity import ExperimentIntensity
from viscy_train.crops.intensity_jumps import describe_jumps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.config.schema import NormalizationConfig
    from viscy_train.experiments.experiment import Experiment

type ChannelsMode = Literal["all", "one"]
"""Whether a row is a cell at a time in all channels of its experiment, or in one."""


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels of an experiment.

    Parameters
    ----------
    channels : slice
        Which of the experiment's channels.
    columns : dict of str to str
        Values of the columns `CHANNEL_COLUMNS` in the rows of these channels; empty if a row has all channels.
    intensity : ExperimentIntensity
        Their intensities.
    """

    channels: slice
    columns: dict[str, str]
    intensity: ExperimentIntensity


class ChannelGroups:
    """All channels of an experiment, in one group or each in a group of its own.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    mode : {"all", "one"}
        Whether a row has all channels or one.
    normalization : NormalizationConfig
        How intensities are normalized.
    n_frames : int
        About how many frames are sampled.
    """

    def __init__(
        self, experiment: Experiment, mode: ChannelsMode, normalization: NormalizationConfig, n_frames: int
    ) -> None:
        n_channels = len(experiment.channels)
        self._name, self._channels = experiment.name, experiment.channel_names
        if mode == "all":
            intensity = ExperimentIntensity(normalization, n_channels, n_frames)
            self.groups = [ChannelGroup(channels=slice(0, n_channels), columns={}, intensity=intensity)]
            return
        self.groups = [
            ChannelGroup(
                channels=slice(index, index + 1),
                columns={"channel": name, "marker": marker},
                intensity=ExperimentIntensity(normalization, 1, n_frames),
            )
            for index, (name, marker) in enumerate(experiment.markers.items())
        ]

    def center_and_spread(self) -> list[list[float]]:
        """Return center and spread of each channel, shape (n_channels, 2)."""
        return [pair for group in self.groups for pair in group.intensity.center_and_spread()]

    def by_position(self) -> dict[str, NDArray[np.float32]]:
        """Return center and spread of all channels in each position, see `ExperimentIntensity.by_position`."""
        of_groups = [group.intensity.by_position() for group in self.groups]
        return {name: np.concatenate([one[name] for one in of_groups], axis=1) for name in of_groups[0]}

    def describe_jumps(self) -> list[str]:
        """Return warnings and notes where intensities jump, see `viscy_train.crops.intensity_jumps`."""
        sentences = []
        for group in self.groups:
            frames = {name: position.frames for name, position in group.intensity.positions.items()}
            sentences += describe_jumps(self._name, self._channels[group.channels], frames, group.intensity.config)
        return sentences


def row_order(mode: ChannelsMode) -> list[str]:
    """Return the columns by which the rows of an anchor table are sorted."""
    return ["experiment", "position", *(["channel"] if mode == "one" else []), "track_id", "t"]
