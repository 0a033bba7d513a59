"""Header: the settings and statistics of an anchor table, stored as JSON in its Parquet file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from viscy_train.config.checks import require, require_above_0, require_integer, require_name, require_number
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.crops.image_intensity import decode, encode
from viscy_train.errors import UserError, one_line
from viscy_train.experiments.columns import COLUMNS
from viscy_train.experiments.experiments_file import Experiment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from viscy_train.crops.image_intensity import LocalIntensity

VERSION = 2
"""Version 1 knows no columns of metadata, and of crops only ``crop`` and ``z_slices``."""


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Observations of a stratum that cannot be anchors.

    Parameters
    ----------
    experiment, condition : str
        The stratum.
    reason : str
        Why they cannot be anchors.
    n_observations : int
        How many they are.
    """

    experiment: str
    condition: str
    reason: str
    n_observations: int

    def __post_init__(self) -> None:
        for name in ("experiment", "condition", "reason"):
            require_name(f"{name} of excluded observations", getattr(self, name))
        require_integer("number of excluded observations", self.n_observations, 0)


def format_header(
    *,
    experiments: list[Experiment],
    positive: PositiveConfig,
    crops: CropSettings,
    intensity: dict[str, list[list[float]]],
    excluded: list[Exclusion],
    tracks: dict[str, dict[str, int]],
    pixels: dict[str, list[list[str | int]]],
    channels_mode: str,
    annotations: dict[str, dict[str, int]],
    local_intensity: LocalIntensity,
    scales: dict[str, list[list[Any]]],
    extra_columns: list[str],
    warnings: Sequence[str] = (),
) -> str:
    """Return everything in a table except its observations as JSON; the keys are part of the file format."""
    header = {
        "version": VERSION,
        "experiments": [asdict(experiment) for experiment in experiments],
        "positive": asdict(positive),
        "crops": asdict(crops),
        "channels": channels_mode,
        "columns": extra_columns,
        "brightness": intensity,
        "local_brightness": encode(local_intensity),
        "scales": scales,
        "warnings": list(warnings),
        "dropped": [
            {
                "experiment": one.experiment,
                "condition": one.condition,
                "reason": one.reason,
                "cells": one.n_observations,
            }
            for one in excluded
        ],
        "tracks": tracks,
        "annotations": annotations,
        "pixels": pixels,
    }
    return json.dumps(header, default=_path_as_text)


def _path_as_text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be stored in the header of a table")


def parse_header(text: bytes) -> dict[str, Any]:
    """Parse the header of a table.

    Parameters
    ----------
    text : bytes
        JSON, as `format_header` returns it.

    Returns
    -------
    dict
        The keyword arguments of `format_header`.

    Raises
    ------
    UserError
        If the header is of another version, or contains a value that ``viscy-train index`` does not write.
    """
    try:
        header = json.loads(text)
        version = header["version"]
        if version == 1:
            header = _upgrade(header)
        elif version != VERSION:
            raise UserError(f"format version must be 1 or {VERSION}, got {version}")
        return _check_header(header)
    except UserError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = one_line(error)
        raise UserError(f"its header must be complete, got {type(error).__name__}: {reason}") from error


def _upgrade(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header of version 1 as one of this version."""
    crops = {name: header[name] for name in ("crop", "z_slices")}
    return header | {"crops": crops, "channels": "all", "columns": [], "annotations": {}}


def _check_header(header: dict[str, Any]) -> dict[str, Any]:
    experiments = [_parse_experiment(one) for one in header["experiments"]]
    require(bool(experiments), "experiments must name at least one", experiments)
    names = [one.name for one in experiments]
    require(len(set(names)) == len(names), "experiments must have different names", names)
    crops = _parse_options(CropSettings, header["crops"], "")
    positive = _parse_options(PositiveConfig, header["positive"], "positive.")
    mode, columns = header["channels"], header["columns"]
    require(mode in ("all", "one"), "channels must be all or one", mode)
    require(_is_list_of_text(columns), "columns of channels, metadata and annotations must be names", columns)
    for name in columns:
        require(name not in COLUMNS and columns.count(name) == 1, "columns must differ", name)
    _check_intensity(header["brightness"], experiments)
    tracks, annotations = header.get("tracks", {}), header["annotations"]
    _check_checksums(tracks, names, "tracks")
    _check_checksums(annotations, names, "annotations")
    warnings = header.get("warnings", [])
    require(_is_list_of_text(warnings), "warnings must be sentences", warnings)
    pixels = header.get("pixels", {})
    for name, checksums in pixels.items():
        require(name in names, "checksums of pixels must belong to an experiment of the table", name)
        for position, *numbers in checksums:
            require_name(f"position of a checksum of pixels of experiment {name!r}", position)
            # Then the number of the channel, if each row has one, and the first slice, if crops have different ones.
            n_numbers = 4 + (mode == "one") + (crops.z == "sharpest")
            require(len(numbers) == n_numbers, f"checksums of pixels of experiment {name!r} must be complete", numbers)
            for number in numbers:
                require_integer(f"checksum of pixels of experiment {name!r}", number, 0)
            n_channels = len(experiments[names.index(name)].channels)
            rule = f"channel of a checksum of pixels of experiment {name!r} must be below {n_channels}"
            require(mode == "all" or numbers[4] < n_channels, rule, numbers)
    return {
        "experiments": experiments,
        "positive": positive,
        "crops": crops,
        "intensity": header["brightness"],
        "excluded": [_parse_exclusion(**one) for one in header["dropped"]],
        "tracks": tracks,
        "pixels": pixels,
        "channels_mode": mode,
        "annotations": annotations,
        "local_intensity": _parse_local_intensity(header.get("local_brightness", {}), experiments, crops),
        "scales": _parse_scales(header.get("scales", {}), names),
        "warnings": warnings,
        "extra_columns": columns,
    }


def _parse_options[T](kind: type[T], values: dict[str, Any], prefix: str) -> T:
    """Return options that `asdict` made a mapping of; those that are missing have their defaults."""
    defaults: Any = kind()
    parsed = {}
    for name, value in values.items():
        require(hasattr(defaults, name), f"{prefix}{name} must be an option of this version", value)
        default = getattr(defaults, name)
        if is_dataclass(default) and value is not None:
            parsed[name] = _parse_options(type(default), value, f"{prefix}{name}.")
        else:
            _check_plain(f"{prefix}{name}", value, default)
            parsed[name] = value
    return kind(**parsed)


def _check_plain(name: str, value: Any, default: Any) -> None:
    """Refuse a value that a configuration cannot give to an option, as far as its default tells."""
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float):
            require_number(name, number)
    if isinstance(default, int) and not isinstance(default, bool) and value is not None:
        require_integer(name, value, 0)


def _parse_experiment(entry: dict[str, Any]) -> Experiment:
    name = entry["name"]
    channels = entry["channels"]
    is_names = isinstance(channels, dict) or _is_list_of_text(channels)
    require(is_names, f"channels of experiment {name!r} must be names", channels)
    for key in ("plate", "tracks"):
        require(isinstance(entry[key], str), f"{key} of experiment {name!r} must be a path", entry[key])
    rule = f"annotations of experiment {name!r} must be paths"
    require(_is_list_of_text(entry.get("annotations", [])), rule, entry.get("annotations"))
    return Experiment(**entry)


def _parse_exclusion(experiment: str, condition: str, reason: str, cells: int) -> Exclusion:
    return Exclusion(experiment=experiment, condition=condition, reason=reason, n_observations=cells)


def _check_intensity(intensity: dict[str, list[list[float]]], experiments: list[Experiment]) -> None:
    for experiment in experiments:
        channels = intensity[experiment.name]
        where = f"of experiment {experiment.name!r}"
        rule = f"intensity {where} must have one entry for each of its {len(experiment.channels)} channels"
        require(len(channels) == len(experiment.channels), rule, channels)
        for channel, (mean, std) in zip(experiment.channel_names, channels, strict=True):
            require_number(f"mean intensity of channel {channel!r} {where}", mean)
            require_number(f"standard deviation of channel {channel!r} {where}", std)
            require(std > 0, f"standard deviation of channel {channel!r} {where} must be above 0", std)


def _parse_local_intensity(
    texts: dict[str, dict[str, str]], experiments: list[Experiment], crops: CropSettings
) -> LocalIntensity:
    n_channels = {one.name: len(one.channels) for one in experiments}
    is_local = crops.normalization.by != "experiment"
    rule = f"intensities by {crops.normalization.by} must be there for each experiment, and only then"
    require(texts.keys() == (n_channels.keys() if is_local else set()), rule, list(texts))
    return decode(texts, n_channels)


def _parse_scales(scales: dict[str, list[list[Any]]], names: list[str]) -> dict[str, list[list[Any]]]:
    for name, counts in scales.items():
        require(name in names, "scales must belong to an experiment of the table", name)
        for *lengths, n_positions in counts:
            require(len(lengths) == 2, f"scales of experiment {name!r} must be of pixels and slices", lengths)
            for length in lengths:
                if length is not None:
                    require_above_0(f"scale of experiment {name!r}", length)
            require_integer(f"number of positions of experiment {name!r}", n_positions, 1)
    return scales


def _check_checksums(checksums: dict[str, dict[str, int]], names: Iterable[str], what: str) -> None:
    for name, files in checksums.items():
        require(name in names, f"checksums of {what} must belong to an experiment of the table", name)
        for file, checksum in files.items():
            require_integer(f"checksum of {file!r} of experiment {name!r}", checksum, 0)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
