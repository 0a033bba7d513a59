"""Experiments: the plates, tracks and conditions of a project, as one YAML file names them."""

from argparse import ArgumentError
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from viscy_train.config.checks import require, require_above_0, require_name, require_number
from viscy_train.config.schema import FilePath
from viscy_train.config.yaml_source import line_of, read_yaml, refuse_clock_times, with_line
from viscy_train.errors import UserError


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


def load_experiments(path: Path) -> list[Experiment]:
    """Read the experiments of a project.

    Parameters
    ----------
    path : pathlib.Path
        YAML file with the key ``experiments``, a list; relative paths in it start at its folder.

    Returns
    -------
    list of Experiment
        At least one, with different names and equally many channels.

    Raises
    ------
    UserError
        If there is no such file, or it holds something else; with the line, where it is about one.
    """
    _check_outline(path, read_yaml(path))
    refuse_clock_times(path, ("minutes_per_frame", "hour_of_infection"))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--experiments", type=list[Experiment], required=True)
    try:
        experiments = parser.instantiate(parser.parse_args(["--config", str(path)])).experiments
    except (ArgumentError, UserError) as error:
        message = " ".join(str(error).split())
        if "is not accepted" in message:
            message += f"; an experiment has {', '.join(field.name for field in fields(Experiment))}"
        told = with_line(path, message)
        raise UserError(told if told != message else f"{path}: {message}") from error
    _check_together(path, experiments)
    return experiments


def _check_outline(path: Path, content: Any) -> None:
    """Refuse a file without a list of mappings, of which the parser would say little."""
    rule = f"{path} must be a mapping with the key `experiments`"
    require(isinstance(content, dict) and "experiments" in content, rule, content)
    for key in content:
        where = f"{path}, line {line_of(path, str(key))}"
        require(key == "experiments", f"{where}: `experiments` must be the only key", key)
    experiments = content["experiments"]
    rule = f"{path}, line {line_of(path, 'experiments')}: experiments must be a list that is not empty"
    require(isinstance(experiments, list) and bool(experiments), rule, experiments)
    for number, experiment in enumerate(experiments):
        key = f"experiments.{number}"
        require(isinstance(experiment, dict), f"{path}, line {line_of(path, key)}: {key} must be a mapping", experiment)


def _check_together(path: Path, experiments: list[Experiment]) -> None:
    """Refuse experiments that cannot be trained on together."""
    names = [experiment.name for experiment in experiments]
    require(len(set(names)) == len(names), f"{path}: experiments must have different names", names)
    n_channels = {experiment.name: len(experiment.channels) for experiment in experiments}
    rule = f"{path}: experiments must have equally many channels"
    require(len(set(n_channels.values())) == 1, rule, n_channels)
    conditions = {condition: None for one in experiments for condition in one.conditions.values()}
    spelt = {condition.casefold(): condition for condition in conditions}
    for condition in conditions:
        rule = f"{path}: conditions must differ in more than upper and lower case"
        require(spelt[condition.casefold()] == condition, rule, [condition, spelt[condition.casefold()]])
    for number, one in enumerate(experiments):
        for other in experiments[:number]:
            shared = sorted(set(one.conditions) & set(other.conditions))
            if one.plate.resolve() == other.plate.resolve() and shared:
                raise UserError(
                    f"{path}: experiments {other.name!r} and {one.name!r} both use well {shared[0]} of plate "
                    f"{one.plate}, so its cells would be there twice; leave it out of one of them"
                )
            if one.tracks.resolve() == other.tracks.resolve() and one.plate.resolve() != other.plate.resolve():
                raise UserError(
                    f"{path}: experiments {other.name!r} and {one.name!r} have different plates and the same tracks, "
                    f"{one.tracks}; correct one of them"
                )
