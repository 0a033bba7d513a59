"""Provenance section: where a run came from: data, settings, attempts, command, host, versions and dates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from viscy_train.report.formatting import thousands
from viscy_train.run.provenance import collect_versions
from viscy_train.wording import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.run.directory import RunDirectory

_MAX_PLATES = 12
# Settings to show: a heading, and where they are in the configuration.
_SETTINGS = {
    "encoder": ("model", "encoder"),
    "loss": ("model", "loss"),
    "optimizer": ("model", "optimizer"),
    "positives": ("data", "positive"),
    "augmentation": ("data", "augmentation"),
    "normalization": ("data", "normalization"),
    "held out": ("data", "split"),
}


def provenance_rows(
    run_directory: RunDirectory, provenance: Sequence[Mapping[str, Any]], experiments: Sequence[Experiment]
) -> list[tuple[str, str]]:
    """Return what a run came from, as pairs of a heading and a text.

    Parameters
    ----------
    run_directory : RunDirectory
        The run, whose configuration is read if it exists.
    provenance : sequence of mapping
        From `viscy_train.run.provenance.read_provenance`.
    experiments : sequence of Experiment
        The experiments of the anchor table.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [("report written", format_date(now)), *_origin(provenance)]
    plates = [f"{one.name}: {one.plate}" for one in experiments[:_MAX_PLATES]]
    if len(experiments) > _MAX_PLATES:
        plates.append(f"and {len(experiments) - _MAX_PLATES:,} more")
    rows += [("plates", "; ".join(plates))] if plates else []
    return rows + _settings(run_directory)


def attempt_rows(attempts: pd.DataFrame, provenance: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return a row for each attempt: start, first step, epoch, processes, repeated steps, minutes of training, host."""
    hosts = {one["attempt"]: str(one.get("host", "")) for one in provenance}
    return [
        [
            format_date(str(attempt["started"])),
            thousands(attempt["step"]),
            attempt["epoch"] + 1,
            attempt["processes"],
            "" if np.isnan(attempt["reached"]) else thousands(max(attempt["reached"] - attempt["step"], 0)),
            f"{attempt['seconds'] / 60:.1f}",
            hosts.get(number, ""),
        ]
        for number, attempt in enumerate(attempts.to_dict("records"), start=1)
    ]


def describe_attempts(attempts: pd.DataFrame) -> str:
    """Return how often a run was interrupted, and what that cost, in a sentence."""
    if len(attempts) < 2:
        return "The run was not interrupted." if len(attempts) else "No attempt was recorded."
    steps = ", ".join(f"{step:,}" for step in attempts["step"].iloc[1:][:6])
    more = f" and {len(attempts) - 7} more" if len(attempts) > 7 else ""
    resumed = "once, at step" if len(attempts) == 2 else f"{len(attempts) - 1} times, at steps"
    repeated = int((attempts["reached"] - attempts["step"]).clip(lower=0).fillna(0).sum())
    return f"The run was resumed {resumed} {steps}{more}; {count(repeated, 'step')} of training had to be repeated."


def format_date(text: str) -> str:
    """Return a date in ISO format for readers, for example ``2030-01-01 00:00:00 UTC``."""
    return text.replace("T", " ").replace("+00:00", " UTC")


def _origin(provenance: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return command, host and versions of the last attempt, or only the present versions if none was recorded."""
    if not provenance:
        return [("versions of the report", _join(collect_versions()))]
    last = provenance[-1]
    return [
        ("trained", format_date(str(last.get("started", "")))),
        ("command", f"{last.get('command', '')} in {last.get('directory', '')}"),
        ("host", f"{last.get('host', '')}, {last.get('system', '')}"),
        ("versions", _join(last.get("versions", {}))),
    ]


def _settings(run_directory: RunDirectory) -> list[tuple[str, str]]:
    """Return settings of the run's configuration that are not null, empty or 0."""
    try:
        config = yaml.safe_load(run_directory.config.read_text(encoding="utf-8"))
        data = config["data"]
        crop = _join({name: data[name] for name in ("crop", "z_slices", "crop_um", "depth_um", "channels")})
        rows = [(heading, _join(config[first][second])) for heading, (first, second) in _SETTINGS.items()]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []
    return [("crop", crop), *rows, ("seed", str(config.get("seed_everything")))]


def _join(values: Mapping[str, Any]) -> str:
    """Return values as ``name: tiny, width: 16``."""
    return ", ".join(f"{name}: {value}" for name, value in values.items() if value or value is False)
