"""Header: the settings and statistics of an anchor table, stored as JSON in its Parquet file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from viscy_train.anchors.experiments import Experiment
from viscy_train.config.checks import require, require_integer, require_name, require_number
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1


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
) -> str:
    """Return everything in a table except its observations as JSON; the keys are part of the file format."""
    header = {
        "version": VERSION,
        "experiments": [
            asdict(experiment) | {"plate": str(experiment.plate), "tracks": str(experiment.tracks)}
            for experiment in experiments
        ],
        "positive": asdict(positive),
        "crop": crops.crop,
        "z_slices": crops.z_slices,
        "brightness": intensity,
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
        "pixels": pixels,
    }
    return json.dumps(header)


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
        if version != VERSION:
            raise UserError(f"format version must be {VERSION}, got {version}")
        return _check_header(header)
    except UserError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"its header must be complete, got {type(error).__name__}: {reason}") from error


def _check_header(header: dict[str, Any]) -> dict[str, Any]:
    experiments = [_parse_experiment(one) for one in header["experiments"]]
    require(bool(experiments), "experiments must name at least one", experiments)
    names = [one.name for one in experiments]
    require(len(set(names)) == len(names), "experiments must have different names", names)
    require_integer("crop", header["crop"], 1)
    require_integer("z_slices", header["z_slices"], 1)
    for name, value in header["positive"].items():
        require_integer(f"positive.{name}", value, 1)
    _check_intensity(header["brightness"], experiments)
    tracks = header.get("tracks", {})
    _check_checksums(tracks, names)
    pixels = header.get("pixels", {})
    for name, checksums in pixels.items():
        require(name in names, "checksums of pixels must belong to an experiment of the table", name)
        for position, *numbers in checksums:
            require_name(f"position of a checksum of pixels of experiment {name!r}", position)
            require(len(numbers) == 4, f"checksums of pixels of experiment {name!r} must be complete", numbers)
            for number in numbers:
                require_integer(f"checksum of pixels of experiment {name!r}", number, 0)
    return {
        "experiments": experiments,
        "positive": PositiveConfig(**header["positive"]),
        "crops": CropSettings(crop=header["crop"], z_slices=header["z_slices"]),
        "intensity": header["brightness"],
        "excluded": [_parse_exclusion(**one) for one in header["dropped"]],
        "tracks": tracks,
        "pixels": pixels,
    }


def _parse_experiment(entry: dict[str, Any]) -> Experiment:
    name = entry["name"]
    require(_is_list_of_text(entry["channels"]), f"channels of experiment {name!r} must be names", entry["channels"])
    for key in ("plate", "tracks"):
        require(isinstance(entry[key], str), f"{key} of experiment {name!r} must be a path", entry[key])
    return Experiment(**entry)


def _parse_exclusion(experiment: str, condition: str, reason: str, cells: int) -> Exclusion:
    return Exclusion(experiment=experiment, condition=condition, reason=reason, n_observations=cells)


def _check_intensity(intensity: dict[str, list[list[float]]], experiments: list[Experiment]) -> None:
    for experiment in experiments:
        channels = intensity[experiment.name]
        where = f"of experiment {experiment.name!r}"
        rule = f"intensity {where} must have one entry for each of its {len(experiment.channels)} channels"
        require(len(channels) == len(experiment.channels), rule, channels)
        for channel, (mean, std) in zip(experiment.channels, channels, strict=True):
            require_number(f"mean intensity of channel {channel!r} {where}", mean)
            require_number(f"standard deviation of channel {channel!r} {where}", std)
            require(std > 0, f"standard deviation of channel {channel!r} {where} must be above 0", std)


def _check_checksums(tracks: dict[str, dict[str, int]], names: Iterable[str]) -> None:
    for name, files in tracks.items():
        require(name in names, "checksums of tracks must belong to an experiment of the table", name)
        for file, checksum in files.items():
            require_integer(f"checksum of {file!r} of experiment {name!r}", checksum, 0)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
