"""View: the command that opens napari with a position of a run."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from viscy_train.errors import UserError
from viscy_train.viewer.plugin import read_layers

_OPTIONS: dict[str, dict[str, Any]] = {
    "step": {"type": int, "default": None, "help": "training step whose batch to show, as in the log"},
    "rank": {"type": int, "default": 0, "help": "rank of the process whose batch to show"},
    "experiment": {"type": str, "default": None, "help": "experiment to show, by default that with the most of it"},
    "position": {"type": str, "default": None, "help": "position to show, such as A/1/0"},
    "color": {
        "type": str,
        "default": None,
        "help": "what colors the tracks: a column of the anchor table, or `embedding PC1` to `PC8` after predict; by "
        "default the condition",
    },
}


def run_view(options: list[str], description: str) -> int:
    """Open napari, and return the exit code when it was closed."""
    parser = ArgumentParser(prog="viscy-train view", exit_on_error=False, description=description)
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a run")
    for name, keywords in _OPTIONS.items():
        parser.add_argument(f"--{name}", **keywords)
    values = parser.parse_args(options)
    if find_spec("napari") is None:
        raise UserError("view needs napari, which is not installed: install viscy-train[napari]")
    layers = read_layers(values.run, **{name: values[name] for name in _OPTIONS})
    napari: Any = import_module("napari")
    viewer = napari.Viewer(title=f"viscy-train: {layers[0][1]['metadata']['position']} of {values.run}")
    add_layers(viewer, layers)
    napari.run()
    return 0


def add_layers(viewer: Any, layers: list[Any]) -> None:
    """Add layers to a viewer, or the model of one, and show the middle of the time course."""
    create = import_module("napari.layers").Layer.create
    for layer in layers:
        viewer.add_layer(create(*layer))
    viewer.dims.set_current_step(0, viewer.dims.nsteps[0] // 2)
