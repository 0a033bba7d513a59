"""The figure: time per batch over the number of rows, with one line per sampler."""

from __future__ import annotations

import importlib
from pathlib import Path
from statistics import median

from .result import Result
from .samplers import OURS

_MARKERS = "oXs^vD<>PhX"


def draw(result: Result, file: Path) -> bool:
    """Draw time per batch over the number of rows; return False if matplotlib is not installed."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ModuleNotFoundError:
        return False
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, marker in zip(result.contenders, _MARKERS, strict=False):
        points = [(n, median(times)) for n in result.sizes if (times := result.us_per_batch(name, n))]
        if points:
            width = 3 if name in OURS else 1.2
            axes.loglog(*zip(*points, strict=True), marker=marker, linewidth=width, label=name)
    axes.set(xlabel="rows in the table", ylabel="microseconds of CPU time per batch of 256")
    axes.grid(which="major", alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(file, metadata={"Software": None, "Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)
    return True
