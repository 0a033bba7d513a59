"""Experiments: the plates, tracks and conditions of a project, read from a YAML file."""

from argparse import ArgumentError
from collections.abc import Callable, Collection
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from viscy_train.config.checks import require
from viscy_train.config.parser_messages import reword
from viscy_train.config.suggestions import did_you_mean, explained
from viscy_train.config.yaml_source import Spelled, line_of, read_spelled, read_yaml, refuse_clock_time, with_line
from viscy_train.errors import UserError
from viscy_train.experiments.experiment import Experiment, as_list
from viscy_train.experiments.metadata import (
    CONDITION,
    read_value,
    well_of,
)
from viscy_train.experiments.open_places import check_filled_in
from viscy_train.experiments.spelling import check_spelling, spellings
from viscy_train.remote.url import is_url

__all__ = ["Experiment", "load_experiments"]

# Keys whose values the user names freely, so that jsonargparse must not interpret them.
_NESTED = ("channels", "conditions", "metadata", "wells", "annotations", "exclude")


def load_experiments(path: Path, channels_mode: str = "all") -> list[Experiment]:
    """Read the experiments of a project.

    Parameters
    ----------
    path : pathlib.Path
        YAML file with the key ``experiments``, a list. Relative paths in it are relative to its directory.
    channels_mode : {"all", "one"}, default "all"
        Whether an encoder sees all channels of a cell, or one.

    Returns
    -------
    list of Experiment
        At least one experiment. Names are unique, and all have the same number of channels unless an encoder sees one.

    Raises
    ------
    UserError
        If the file does not exist or is invalid. The message names the line, if there is one.
    """
    content = read_yaml(path)
    _check_outline(path, content)
    check_filled_in(path, content["experiments"])
    experiments = [
        _parse_experiment(path, number, _as_written(spelled))
        for number, spelled in enumerate(read_spelled(path)["experiments"])
    ]
    _check_together(path, experiments)
    if channels_mode == "all":
        _check_n_channels(path, experiments)
    else:
        _check_spelling(path, "names of markers", [name for one in experiments for name in one.markers.values()])
    return experiments


def _as_written(spelled: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment whose names are spelled as in the file, although YAML takes some for numbers or booleans."""
    return {key: _READ.get(key, _value)(node) for key, node in spelled.items()}


def _read_each(read: Callable[[Any], Any], node: Any) -> Any:
    """Return what a function reads of each value of a mapping or list, or of a value that is neither."""
    if isinstance(node, dict):
        return {key: read(below) for key, below in node.items()}
    return [read(item) for item in node] if isinstance(node, list) else read(node)


def _value(node: Any) -> Any:
    """Return a value as YAML reads it."""
    return node.value if isinstance(node, Spelled) else _read_each(_value, node)


def _name(node: Any) -> Any:
    """Return the text of a number or boolean; other values are as they should be, or are reported as they are."""
    is_name = isinstance(node, Spelled) and isinstance(node.value, (bool, int, float))
    return node.text if is_name else _value(node)


def _metadata_value(node: Any) -> Any:
    return read_value(*node) if isinstance(node, Spelled) else _value(node)


def _values_of_well(node: Any) -> Any:
    if not isinstance(node, dict):
        return _value(node)
    return {key: (_name if key == CONDITION else _metadata_value)(value) for key, value in node.items()}


_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("name", "plate", "tracks"), _name),
    **dict.fromkeys(("channels", "conditions", "annotations", "exclude"), partial(_read_each, _name)),
    "metadata": partial(_read_each, _metadata_value),
    "wells": partial(_read_each, _values_of_well),
}


def _parse_experiment(path: Path, number: int, values: dict[str, Any]) -> Experiment:
    """Return the experiment of an item of the list, or raise an error with the line of its mistake."""
    within = f"experiments.{number}"
    _check_keys(path, within, values)
    for name in ("minutes_per_frame", "hour_of_infection"):
        refuse_clock_time(path, f"{within}.{name}")
    paths = {name: values[name] for name in ("plate", "tracks") if isinstance(values.get(name), str)}
    absolute = {name: _absolute(path, value) for name, value in paths.items()}
    nested = {name: values[name] for name in _NESTED if name in values}
    if "annotations" in nested:
        named = as_list(values["annotations"])
        nested["annotations"] = [_absolute(path, value) if isinstance(value, str) else value for value in named]
    try:
        parsed = _parse({name: value for name, value in values.items() if name not in _NESTED} | absolute)
        return Experiment(**parsed.as_dict(), **nested)
    except (ArgumentError, UserError) as error:
        message = reword(" ".join(str(error).split()))
        line = line_of(path, (*within.split("."), *error.keys)) if isinstance(error, UserError) and error.keys else None
        if line is not None:
            raise UserError(f"{path}, line {line}: {message}") from error
        raise UserError(with_line(path, message, within)) from error


def _check_keys(path: Path, within: str, values: dict[str, Any]) -> None:
    """Refuse a key that an experiment does not have."""
    known = [field.name for field in fields(Experiment)]
    for key in values:
        if key not in known:
            line = line_of(path, (*within.split("."), str(key)))
            meant = did_you_mean(str(key), known) or f"; an experiment has {', '.join(known)}"
            raise UserError(f"{path}, line {line}: an experiment has no key {str(key)!r}{meant}")


def _parse(values: dict[str, Any]) -> Namespace:
    parser = _make_parser()
    try:
        return parser.parse_object(values)
    except ArgumentError as error:
        raise explained(error, parser) from error


@cache  # a project may have hundreds of experiments
def _make_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Experiment, skip=set(_NESTED))
    return parser


def _absolute(path: Path, value: str) -> str:
    """Return a path of an experiments file, which is relative to the directory of the file."""
    return value if is_url(value) else str(path.parent.absolute() / Path(value).expanduser())


def _check_outline(path: Path, content: Any) -> None:
    """Refuse a file that is not a list of mappings, for which the parser's message would not help."""
    rule = f"{path} must be a mapping with the key `experiments`"
    if not isinstance(content, dict):
        kind = "a list; write `experiments:` above it" if isinstance(content, list) else repr(content)
        raise UserError(f"{rule}, got {kind}")
    if "experiments" not in content:
        (first, *_), keys = content, ", ".join(map(repr, content))
        if did_you_mean(str(first), ["experiments"]):
            where = f"{path}, line {line_of(path, str(first))}"
            raise UserError(f"{where}: unknown key {first!r}; did you mean experiments?")
        raise UserError(f"{rule}, got the keys {keys}")
    for key in content:
        where = f"{path}, line {line_of(path, str(key))}"
        require(key == "experiments", f"{where}: `experiments` must be the only key", key)
    experiments = content["experiments"]
    rule = f"{path}, line {line_of(path, 'experiments')}: experiments must be a non-empty list"
    if isinstance(experiments, dict):
        keys = ", ".join(map(repr, experiments))
        raise UserError(f"{rule}, whose items begin with `- name:`, got a mapping with the keys {keys}")
    require(isinstance(experiments, list) and bool(experiments), rule, experiments)
    for number, experiment in enumerate(experiments):
        key = f"experiments.{number}"
        require(isinstance(experiment, dict), f"{path}, line {line_of(path, key)}: {key} must be a mapping", experiment)


def _check_spelling(path: Path, what: str, names: list[str]) -> None:
    known = spellings(names)
    for name in names:
        check_spelling(f"{path}: {what}", name, known)


def _check_together(path: Path, experiments: list[Experiment]) -> None:
    """Refuse experiments that cannot be used together."""
    names = [experiment.name for experiment in experiments]
    require(len(set(names)) == len(names), f"{path}: experiments must have different names", names)
    _check_spelling(path, "names of conditions", [name for one in experiments for name in one.conditions.values()])
    described = [values for one in experiments for values in (one.metadata, *one.wells.values())]
    _check_spelling(path, "keys of metadata and wells", [key for values in described for key in values])
    for number, one in enumerate(experiments):
        for other in experiments[:number]:
            shared = _overlap(one.conditions, other.conditions)
            channels = [name for name in one.channel_names if name in other.channel_names]
            # With other channels, they are other images of the same cells.
            if one.plate.resolve() == other.plate.resolve() and shared and channels:
                raise UserError(
                    f"{path}: experiments {other.name!r} and {one.name!r} both use well {shared[0]} of plate "
                    f"{one.plate} in channel {channels[0]!r}, so its cells would be counted twice; remove it from one "
                    "of them"
                )
            if one.tracks.resolve() == other.tracks.resolve() and one.plate.resolve() != other.plate.resolve():
                raise UserError(
                    f"{path}: experiments {other.name!r} and {one.name!r} have different plates but the same tracks, "
                    f"{one.tracks}; correct one of them"
                )


def _overlap(one: Collection[str], other: Collection[str]) -> list[str]:
    """Return the wells and fields of view that are in both, or of which one is in the other."""
    names, others = set(one), set(other)
    within = {name for name in names if well_of(name) in others} | {name for name in others if well_of(name) in names}
    return sorted(names & others | within)


def _check_n_channels(path: Path, experiments: list[Experiment]) -> None:
    """Refuse experiments with unequal numbers of channels, which one encoder cannot see all at once."""
    n_channels = {experiment.name: len(experiment.channels) for experiment in experiments}
    if len(set(n_channels.values())) > 1:
        raise UserError(
            f"{path}: experiments must have the same number of channels, got {n_channels}; set data.channels to one, "
            "so that a row of the anchor table is a cell in one of its channels, or name equally many"
        )
