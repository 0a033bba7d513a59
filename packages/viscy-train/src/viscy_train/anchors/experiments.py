"""Experiments: the plates, tracks and conditions of a project, read from a YAML file."""

from argparse import ArgumentError
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from viscy_train.config.checks import require, require_above_0, require_name, require_number
from viscy_train.config.schema import FilePath
from viscy_train.config.yaml_source import line_of, read_as_text, read_yaml, refuse_clock_time, with_line
from viscy_train.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: a plate, its tracks, the conditions of its wells, and its timing.

    Parameters
    ----------
    name : str
        Name of the experiment in the anchor table.
    plate : path
        HCS OME-Zarr plate (OME-NGFF 0.4 or 0.5).
    tracks : path
        Directory with a CSV for each position: for ``A/1/0``, the file ``A/1/0.csv`` or the only CSV in the directory
        ``A/1/0``. Or one Parquet file of all positions.
    channels : list of str
        Channels of the plate that the encoder sees, in this order. Experiments may have different channel names, but
        must have the same number of channels.
    conditions : dict of str to str
        Wells to use, such as ``A/1``, and the condition of each.
    minutes_per_frame : float
        Minutes between consecutive frames.
    hour_of_infection : float
        Hours from the first frame to the infection; negative if the cells were infected before imaging.
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
        YAML file with the key ``experiments``, a list. Relative paths in it are relative to its directory.

    Returns
    -------
    list of Experiment
        At least one experiment. Names are unique, and all have the same number of channels.

    Raises
    ------
    UserError
        If the file does not exist or is invalid. The message names the line, if there is one.
    """
    content = read_yaml(path)
    _check_outline(path, content)
    texts = read_as_text(path)["experiments"]
    experiments = [
        _parse_experiment(path, number, _with_names_as_text(values, text))
        for number, (values, text) in enumerate(zip(content["experiments"], texts, strict=True))
    ]
    _check_together(path, experiments)
    return experiments


def _with_names_as_text(values: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment whose names are spelled as in the file, although YAML takes some for numbers or booleans."""
    changed = dict(values)
    for key in ("name", "plate", "tracks"):
        changed[key] = _spelled(values.get(key), text.get(key))
    channels, spelled = values.get("channels"), text.get("channels")
    if isinstance(channels, list) and isinstance(spelled, list):
        changed["channels"] = [_spelled(*pair) for pair in zip(channels, spelled, strict=True)]
    wells, spelled = values.get("conditions"), text.get("conditions")
    if isinstance(wells, dict) and isinstance(spelled, dict) and len(wells) == len(spelled):
        pairs = zip(wells.items(), spelled.items(), strict=True)
        changed["conditions"] = {str(well): _spelled(value, name) for (_, value), (well, name) in pairs}
    return {key: value for key, value in changed.items() if key in values}


def _spelled(value: Any, text: Any) -> Any:
    """Return the text of a number or boolean; other values are as they should be, or are reported as they are."""
    return text if isinstance(value, (bool, int, float)) and isinstance(text, str) else value


def _parse_experiment(path: Path, number: int, values: dict[str, Any]) -> Experiment:
    """Return the experiment of an item of the list, or raise an error with the line of its mistake."""
    within = f"experiments.{number}"
    for name in ("minutes_per_frame", "hour_of_infection"):
        refuse_clock_time(path, f"{within}.{name}")
    conditions = values.get("conditions")
    for well, condition in conditions.items() if isinstance(conditions, dict) else ():
        where = f"{path}, line {line_of(path, f'{within}.conditions.{well}')}"
        require(isinstance(condition, str), f"{where}: condition of well {well!r} must be text", condition)
    paths = {name: values[name] for name in ("plate", "tracks") if isinstance(values.get(name), str)}
    absolute = {name: str(path.parent.absolute() / Path(value).expanduser()) for name, value in paths.items()}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Experiment)
    try:
        return Experiment(**parser.parse_object(values | absolute).as_dict())
    except (ArgumentError, UserError) as error:
        message = " ".join(str(error).split())
        if "is not accepted" in message:
            message += f"; an experiment has {', '.join(field.name for field in fields(Experiment))}"
        raise UserError(with_line(path, message, within)) from error


def _check_outline(path: Path, content: Any) -> None:
    """Refuse a file that is not a list of mappings, for which the parser's message would not help."""
    rule = f"{path} must be a mapping with the key `experiments`"
    require(isinstance(content, dict) and "experiments" in content, rule, content)
    for key in content:
        where = f"{path}, line {line_of(path, str(key))}"
        require(key == "experiments", f"{where}: `experiments` must be the only key", key)
    experiments = content["experiments"]
    rule = f"{path}, line {line_of(path, 'experiments')}: experiments must be a non-empty list"
    require(isinstance(experiments, list) and bool(experiments), rule, experiments)
    for number, experiment in enumerate(experiments):
        key = f"experiments.{number}"
        require(isinstance(experiment, dict), f"{path}, line {line_of(path, key)}: {key} must be a mapping", experiment)


def _check_together(path: Path, experiments: list[Experiment]) -> None:
    """Refuse experiments that cannot be used together."""
    names = [experiment.name for experiment in experiments]
    require(len(set(names)) == len(names), f"{path}: experiments must have different names", names)
    n_channels = {experiment.name: len(experiment.channels) for experiment in experiments}
    rule = f"{path}: experiments must have the same number of channels"
    require(len(set(n_channels.values())) == 1, rule, n_channels)
    conditions = {condition: None for one in experiments for condition in one.conditions.values()}
    spellings = {condition.casefold(): condition for condition in conditions}
    for condition in conditions:
        rule = f"{path}: names of conditions must not differ only in upper and lower case"
        spelling = spellings[condition.casefold()]
        require(spelling == condition, rule, [condition, spelling])
    for number, one in enumerate(experiments):
        for other in experiments[:number]:
            shared = sorted(set(one.conditions) & set(other.conditions))
            if one.plate.resolve() == other.plate.resolve() and shared:
                raise UserError(
                    f"{path}: experiments {other.name!r} and {one.name!r} both use well {shared[0]} of plate "
                    f"{one.plate}, so its cells would be counted twice; remove it from one of them"
                )
            if one.tracks.resolve() == other.tracks.resolve() and one.plate.resolve() != other.plate.resolve():
                raise UserError(
                    f"{path}: experiments {other.name!r} and {one.name!r} have different plates but the same tracks, "
                    f"{one.tracks}; correct one of them"
                )
