"""Plugin: what `napari.yaml` contributes to napari, a reader of run directories and a form that shows a position."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscy_train.run.directory import RunDirectory
from viscy_train.viewer.layers import PositionView
from viscy_train.viewer.opened_run import OpenedRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from viscy_train.viewer.layers import LayerTuple


def get_reader(path: str | list[str]) -> Callable[[Any], list[Any]] | None:
    """Return the function that reads a directory, if it is that of a run; None for anything else."""
    if not isinstance(path, str) or not Path(path).is_dir() or not RunDirectory(Path(path)).has_run:
        return None
    return lambda run: read_layers(Path(run))


def read_layers(
    run: Path,
    *,
    experiment: str | None = None,
    position: str | None = None,
    color: str | None = None,
    step: int | None = None,
    rank: int = 0,
) -> list[LayerTuple]:
    """Return the layers of a position of a run.

    Parameters
    ----------
    run : pathlib.Path
        Directory of the run.
    experiment, position : str, optional
        What to show: by default the position with the most anchors of the batch, or the most observations.
    color : str, optional
        Column of the anchor table, or ``embedding PC1`` and so on, that colors the tracks; by default the condition.
    step : int, optional
        Training step whose batch to show.
    rank : int, default 0
        Rank whose batch to show.

    Returns
    -------
    list of tuple
        Data, options and kind of a layer for each channel, the tracks, and the batch.

    Raises
    ------
    UserError
        If the run, the position, the column or the step does not exist.
    """
    opened = OpenedRun(run)
    rows = None if step is None else opened.batch(step, rank)[0].rows
    view = PositionView(opened, *opened.choose_position(experiment, position, rows))
    layers = [*view.images(), view.tracks(color)]
    return layers if step is None else [*layers, view.batch(step, rank)]


def show_position(
    run: Path, experiment: str = "", position: str = "", color: str = "", step: int = -1, rank: int = 0
) -> list[LayerTuple]:
    """Return the layers of a position; what is empty, or negative, is chosen or left out."""
    return read_layers(
        run,
        experiment=experiment or None,
        position=position or None,
        color=color or None,
        step=None if step < 0 else step,
        rank=rank,
    )


def make_form() -> Any:
    """Return the form of napari that calls `show_position` and adds the layers that it returns."""
    magicgui: Any = import_module("magicgui")
    layer: Any = import_module("napari.types").LayerDataTuple

    def show(
        run: Path, experiment: str = "", position: str = "", color: str = "", step: int = -1, rank: int = 0
    ) -> Any:
        return show_position(run, experiment, position, color, step, rank)

    show.__annotations__ |= {"run": Path, "return": list[layer]}  # napari adds what is of this type
    return magicgui.magicgui(show, call_button="Show", run={"mode": "d"})
