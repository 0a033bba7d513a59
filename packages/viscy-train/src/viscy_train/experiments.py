"""Experiments: the plates, tracks and conditions of a project, as one YAML file names them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscy_train.checks import require, require_above_0, require_name, require_number
from viscy_train.config import FilePath


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: a plate, its tracks, and when and with what its wells were infected.

    Parameters
    ----------
    name : str
        Name of the experiment in the anchor table.
    plate : path
        HCS OME-Zarr plate, of OME-NGFF 0.4 or 0.5.
    tracks : path
        Folder with a CSV for each position, for position ``A/1/0`` the file ``A/1/0.csv`` or the one CSV in the folder
        ``A/1/0``; or one Parquet file of all positions.
    channels : list of str
        Channels of the plate that the encoder sees, in its order. The names may differ between experiments, their
        number may not.
    conditions : dict of str to str
        Wells to use, such as ``A/1``, and the condition of each.
    minutes_per_frame : float
        Minutes from a frame to the next.
    hour_of_infection : float
        Hours from the first frame to the infection; negative where the cells were infected before imaging.
    """

    name: str
    plate: FilePath
    tracks: FilePath
    channels: list[str]
    conditions: dict[str, str]
    minutes_per_frame: float
    hour_of_infection: float = 0.0

    def __post_init__(self) -> None:
        require_name("name of an experiment", self.name)
        where = f"of experiment {self.name!r}"
        for field in ("plate", "tracks"):
            require(getattr(self, field) is not None, f"{field} {where} must be a path", getattr(self, field))
            object.__setattr__(self, field, Path(getattr(self, field)))
        require(bool(self.channels), f"channels {where} must name at least one", self.channels)
        for channel in self.channels:
            require_name(f"a channel {where}", channel)
        require(len(set(self.channels)) == len(self.channels), f"channels {where} must differ", self.channels)
        require(bool(self.conditions), f"conditions {where} must name a well", self.conditions)
        for well, condition in self.conditions.items():
            require_name(f"condition of well {well!r} {where}", condition)
        require_above_0(f"minutes_per_frame {where}", self.minutes_per_frame)
        require_number(f"hour_of_infection {where}", self.hour_of_infection)

    def hours_post_infection(self, frames: Any) -> Any:
        """Return the hours post infection of frames, counted from 0."""
        return frames * (self.minutes_per_frame / 60) - self.hour_of_infection
