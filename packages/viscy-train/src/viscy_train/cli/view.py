"""View: the command that opens napari with a position of a run."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from viscy_train.cli.options import OPTIONS, make_parser
from viscy_train.config.suggestions import parse
from viscy_train.errors import UserError
from viscy_train.viewer.plugin import read_layers


def run_view(options: list[str], description: str) -> int:
    """Open napari, and return the exit code when it was closed."""
    values = parse(make_parser("view", description), options)
    if find_spec("napari") is None:
        raise UserError("view needs napari, which is not installed: install viscy-train[napari]")
    layers = read_layers(values.run, **{name: values[name] for name in OPTIONS["view"]})
    napari: Any = import_module("napari")
    viewer = napari.Viewer(title=f"viscy-train: {layers[0][1]['metadata']['position']} of {values.run}")
    add_layers(viewer, layers)
    napari.run()
    return 0


def add_layers(viewer: Any, layers: list[Any]) -> None:
    """Add layers to a viewer, or the model of one, name its axes, and show the middle of the time course."""
    create = import_module("napari.layers").Layer.create
    for layer in layers:
        viewer.add_layer(create(*layer))
    viewer.dims.axis_labels = ("t", "z", "y", "x") if viewer.dims.ndim == 4 else ("t", "y", "x")
    viewer.dims.set_current_step(0, viewer.dims.nsteps[0] // 2)
