"""Experiment: a plate, its tracks, and what its wells and fields of view are described by."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from viscy_train.config.checks import require, require_above_0, require_name, require_number, require_one_of
from viscy_train.config.schema import FilePath
from viscy_train.errors import at_key
from viscy_train.experiments.metadata import CONDITION, Value, check_keys, check_wells, well_of, without_condition
from viscy_train.experiments.track_options import AUTO, FIRST_FRAMES, FORMATS, UNITS, canonical
from viscy_train.remote.path import as_path


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: a plate, its tracks, the conditions of its wells, and its timing.

    Parameters
    ----------
    name : str
        Name of the experiment in the anchor table.
    plate : path
        HCS OME-Zarr plate, OME-Zarr image, or folder of OME-Zarr images (OME-NGFF 0.4 or 0.5).
    tracks : path
        Directory in which each position has a file or directory that a tracker wrote: for ``A/1/0``, the file
        ``A/1/0.csv``, for example, or the only file with tracks in the directory ``A/1/0``. Or one file of all.
    tracks_format : str
        Format of the tracks, a key of `viscy_train.experiments.track_options.FORMATS`; by default, it is recognized.
    tracks_unit : {"auto", "pixel", "micrometer"}
        Unit of their coordinates; by default, what the files state, or pixels. Other names, such as ``um``, will do.
    tracks_first_frame : {"auto", 0, 1}
        Number of the first frame in the files; by default 0, and an error if it seems to be 1.
    channels : list of str, or dict of str to str
        Channels of the plate that the encoder sees, in this order, or a mapping from each to its marker. Experiments
        may have different channel names; with ``data.channels: all``, they must have the same number of channels.
    conditions : dict of str to str
        Wells to use, such as ``A/1``, or fields of view, such as ``A/1/0``, and the condition of each. The condition of
        a field of view overrides that of its well.
    minutes_per_frame : float
        Minutes between consecutive frames.
    hour_of_infection : float
        Hours from the first frame to the infection; negative if the cells were infected before imaging.
    micrometers_per_pixel, micrometers_per_slice : float, optional
        Side of a pixel, and distance of two slices. By default, those in the metadata of each image.
    metadata : dict of str to value
        Text, number or boolean for keys of any name, such as ``microscope``, each a column of the anchor table.
    wells : dict of str to dict of str to value
        The same for wells and for fields of view, which override their well, as wells override `metadata`. The key
        ``condition`` is moved to `conditions`.
    exclude : list of str
        Wells and fields of view that are not used although `conditions` names their well.
    missing_tracks : {"error", "skip"}, default "error"
        Whether a position without tracks (no file, or one without rows) is an error, or left out with a warning.
    annotations : path or list of path
        Tables with more columns of observations, tracks or positions, see `viscy_train.experiments.annotations`.
    """

    name: str
    plate: FilePath
    tracks: FilePath
    channels: list[str] | dict[str, str]
    conditions: dict[str, str] = field(default_factory=dict)
    minutes_per_frame: float
    hour_of_infection: float = 0.0
    tracks_format: str = AUTO
    tracks_unit: str = AUTO
    tracks_first_frame: Any = AUTO
    micrometers_per_pixel: float | None = None
    micrometers_per_slice: float | None = None
    metadata: dict[str, Value] = field(default_factory=dict)
    wells: dict[str, dict[str, Value]] = field(default_factory=dict)
    annotations: Sequence[FilePath] = ()
    exclude: Sequence[str] = ()
    missing_tracks: str = "error"

    def __post_init__(self) -> None:
        require_name("name of an experiment", self.name)
        where = f"of experiment {self.name!r}"
        for path in ("plate", "tracks"):
            require(getattr(self, path) is not None, f"{path} {where} must be a path", getattr(self, path))
            object.__setattr__(self, path, as_path(getattr(self, path)))
        self._check_annotations(where)
        self._check_channels(where)
        with at_key("metadata"):
            check_keys(self.metadata, f"metadata {where}")
        with at_key("wells"):
            check_wells(self.wells, where)
        object.__setattr__(self, "conditions", _with_conditions_of_wells(self.conditions, self.wells, where))
        object.__setattr__(self, "wells", {well: without_condition(values) for well, values in self.wells.items()})
        self._check_conditions(where)
        self._check_exclude(where)
        rule = f"missing_tracks {where} must be error or skip"
        require_one_of(rule, self.missing_tracks, ("error", "skip"))
        require_above_0(f"minutes_per_frame {where}", self.minutes_per_frame)
        require_number(f"hour_of_infection {where}", self.hour_of_infection)
        for name, values in (("format", [AUTO, *FORMATS]), ("unit", UNITS), ("first_frame", FIRST_FRAMES)):
            option = f"tracks_{name}"
            value = canonical(option, getattr(self, option))
            rule = f"{option} {where} must be one of {', '.join(map(str, values))}"
            require_one_of(rule, value, values)
            object.__setattr__(self, option, value)
        for name in ("micrometers_per_pixel", "micrometers_per_slice"):
            if getattr(self, name) is not None:
                require_above_0(f"{name} {where}", getattr(self, name))

    def _check_annotations(self, where: str) -> None:
        with at_key("annotations"):
            is_path = [isinstance(path, (str, os.PathLike)) for path in as_list(self.annotations)]
            rule = f"annotations {where} must be a path, or a list of paths"
            require(all(is_path), rule, self.annotations)
        object.__setattr__(self, "annotations", [as_path(path) for path in as_list(self.annotations)])

    def _check_channels(self, where: str) -> None:
        rule = f"channels {where} must be a list of names, or a mapping from names to markers"
        require(isinstance(self.channels, (list, dict)), rule, self.channels)
        require(bool(self.channels), f"channels {where} must name at least one", self.channels)
        for channel in self.channels:
            require_name(f"a channel {where}", channel)
        for channel, marker in self.markers.items():
            with at_key("channels", channel):
                require_name(f"marker of channel {channel!r} {where}", marker)
        require(len(set(self.channels)) == len(self.channels), f"channels {where} must differ", self.channels)

    def _check_conditions(self, where: str) -> None:
        require(bool(self.conditions), f"conditions {where} must name a well", self.conditions)
        for well, condition in self.conditions.items():
            with at_key("conditions", str(well)):
                require(isinstance(condition, str), f"condition of well {well!r} must be text", condition)
                require_name(f"condition of well {well!r} {where}", condition)
        used = set(self.conditions) | {well_of(name) for name in self.conditions}
        for well, values in self.wells.items():
            with at_key("wells", well):
                rule = f"well {well!r} {where} must have a condition to be used; give it one, or remove it from `wells`"
                require(well in used or well_of(well) in self.conditions, rule, values)

    def _check_exclude(self, where: str) -> None:
        with at_key("exclude"):
            is_list = isinstance(self.exclude, (list, tuple))
            require(is_list, f"exclude {where} must be a list of wells and fields of view", self.exclude)
            for name in self.exclude:
                require_name(f"a name in exclude {where}", name)
                rule = f"a name in exclude {where} must not be a key of `conditions`; remove it from one of them"
                require(name not in self.conditions, rule, name)
        object.__setattr__(self, "exclude", list(self.exclude))

    @property
    def channel_names(self) -> list[str]:
        """Names of the channels, in order."""
        return list(self.channels)

    @property
    def markers(self) -> dict[str, str]:
        """The marker of each channel; by default its name."""
        return dict(self.channels) if isinstance(self.channels, dict) else {name: name for name in self.channels}

    def condition_of(self, position: str, well: str) -> str | None:
        """Return the condition of a position in a well; None if the position is not used."""
        if position in self.exclude or (well in self.exclude and position not in self.conditions):
            return None
        return self.conditions.get(position, self.conditions.get(well))

    def metadata_of(self, position: str, well: str) -> dict[str, Value]:
        """Return the value of each key at a position in a well: its own, or that of the well or the experiment."""
        return self.metadata | self.wells.get(well, {}) | self.wells.get(position, {})

    def hours_post_infection(self, frames: Any) -> Any:
        """Return the hours post infection of frames, counted from 0."""
        return frames * (self.minutes_per_frame / 60) - self.hour_of_infection


def as_list(paths: Any) -> list[Any]:
    """Return one path, or several, as a list."""
    return list(paths) if isinstance(paths, (list, tuple)) else [paths]


def _with_conditions_of_wells(conditions: Any, wells: dict[str, dict[str, Any]], where: str) -> dict[str, Any]:
    """Return conditions with those that are keys of wells and fields of view."""
    require(isinstance(conditions, dict), f"conditions {where} must be a mapping from wells to conditions", conditions)
    of_wells = {well: values[CONDITION] for well, values in wells.items() if CONDITION in values}
    for well in of_wells:
        with at_key("wells", well, CONDITION):
            rule = f"condition of well {well!r} {where} must be given once, in `conditions` or in `wells`"
            require(well not in conditions, rule, [conditions.get(well), of_wells[well]])
    return conditions | of_wells
