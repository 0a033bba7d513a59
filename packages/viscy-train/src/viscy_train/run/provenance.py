"""Provenance: how a file came about, by versions, date, command and checkpoint."""

from __future__ import annotations

import platform
import shlex
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viscy_train.run.checkpoint import Checkpoint

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
        the time in UTC in ISO format; `versions`, see `collect_versions`.
    """
    return {
        "checkpoint": str(checkpoint.path),
        "epoch": int(checkpoint.data.get("epoch", 0)),
        "step": int(checkpoint.content.get("global_step", 0)),
        "command": shlex.join(["viscy-train", command, *options]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": collect_versions(),
    }
