"""Provenance: how a file came about, by versions, date, command and checkpoint."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from viscy_train.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.run.checkpoint import Checkpoint
    from viscy_train.run.directory import RunDirectory

_PACKAGES = ("viscy-train", "viscy-data", "torch", "lightning", "timm", "numpy", "anndata")


def collect_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from a checkout
            versions[name] = "unknown"
    return versions


def describe_origin(command: str, options: Sequence[str], checkpoint: Checkpoint) -> dict[str, Any]:
    """Return how an output came about.

    Parameters
    ----------
    command : str
        Name of the command that writes it.
    options : sequence of str
        Its options.
    checkpoint : Checkpoint
        The checkpoint that it was computed from.

    Returns
    -------
    dict
        `checkpoint`, its path; `epoch` and `step`, how many of each the encoder was trained for; `command`; `created`,
        the time in UTC in ISO format; `versions`, see `collect_versions`; of one of the best checkpoints, also
        `monitor`, a metric, and `score`, its value.
    """
    score = {} if checkpoint.score is None else dict(zip(("monitor", "score"), checkpoint.score, strict=True))
    return {
        "checkpoint": str(checkpoint.path),
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "command": shlex.join(["viscy-train", command, *options]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": collect_versions(),
        **score,
    }


def record_attempt(run_directory: RunDirectory, attempt: int) -> None:
    """Record by which command, on which host and with which versions an attempt of a run is made.

    Parameters
    ----------
    run_directory : RunDirectory
        The run.
    attempt : int
        Number of the attempt, from 1. Records from this one on are replaced.
    """
    earlier = [one for one in read_provenance(run_directory) if one["attempt"] < attempt]
    record = {
        "attempt": attempt,
        "command": shlex.join(["viscy-train", *sys.argv[1:]]),
        "directory": os.getcwd(),
        "host": platform.node(),
        "system": platform.platform(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": collect_versions(),
    }
    with atomic_write(run_directory.provenance) as unfinished:
        unfinished.write_text(json.dumps([*earlier, record], indent=1), encoding="utf-8")


def read_provenance(run_directory: RunDirectory) -> list[dict[str, Any]]:
    """Return what `record_attempt` wrote, in the order of the attempts.

    Empty for runs of earlier versions, and where the file is damaged: it is of no consequence for training.
    """
    try:
        records = json.loads(run_directory.provenance.read_bytes())
        return [one for one in records if isinstance(one["attempt"], int)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
