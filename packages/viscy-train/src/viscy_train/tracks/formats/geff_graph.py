"""GEFF: tracks in the Graph Exchange File Format 1, read with its own library."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.errors import UserError, one_line
from viscy_train.experiments.track_options import POSITION_COLUMNS
from viscy_train.plates.zarr_codecs import zarr_codecs
from viscy_train.tracks.formats.lineage import tracks_of_links
from viscy_train.tracks.formats.track_file import ReadOptions, TrackFile
from viscy_train.tracks.formats.units import interval_of_times, micrometers_in, minutes_in

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Names of properties that are frames or coordinates, if the axes do not say so.
_NAMES = {
    "t": ("t", "T", "frame", "FRAME", "time", "time_point"),
    "y": ("y", "Y", "POSITION_Y", "centroid_y"),
    "x": ("x", "X", "POSITION_X", "centroid_x"),
}
# Frames in files whose time axis is in seconds.
_FRAMES = ("frame", "FRAME")
_TOLERANCE = 0.01


def read_geff(path: Path, options: ReadOptions) -> TrackFile:
    """Read the tracks of a GEFF group.

    Parameters
    ----------
    path : pathlib.Path
        Zarr group with a graph.
    options : ReadOptions
        Minutes per frame convert an axis of time into frames.

    Returns
    -------
    TrackFile
        All nodes. Tracks follow from the edges, and keep the numbers of the file's tracklets, if it has them.

    Raises
    ------
    UserError
        If the library is not installed, or the file is damaged or lacks an axis.
    """
    reader = _open(path)
    axes = list(reader.metadata.axes or [])
    names = _names_of_axes(reader, axes, path)
    tracklet = str((reader.metadata.track_node_props or {}).get("tracklet"))
    # A time besides the frame.
    clock = next((axis for axis in axes if axis.type == "time" and axis.name != names["t"]), None)
    more = (*POSITION_COLUMNS, tracklet, *([clock.name] if clock else []))
    extra = [name for name in more if name in reader.node_prop_names]
    values, nodes, edges = _load(reader, [*names.values(), *extra], path)
    axis_of_time = next((axis for axis in axes if axis.name == names["t"]), None)
    frames = _frames(values[names["t"]], axis_of_time, options, path)
    numbers = values[tracklet] if tracklet in values and values[tracklet].dtype.kind in "ui" else None
    tracks, notes = tracks_of_links(nodes, frames, edges, str(path), numbers)
    tracks = tracks.assign(t=frames, y=values[names["y"]], x=values[names["x"]])
    for name in POSITION_COLUMNS:
        if name in values:
            tracks[name] = values[name]
    unit = _unit(axes, names, path)
    return TrackFile(
        format="geff",
        where=str(path),
        tracks=tracks,
        unit=unit,
        minutes_per_frame=interval_of_times(frames, values[clock.name], clock.unit)
        if clock and clock.name in values
        else None,
        notes=notes,
    )


def _open(path: Path) -> Any:
    try:
        from geff import GeffReader
    except ImportError:
        raise UserError(
            f"{path} is in the Graph Exchange File Format, which needs the package geff; install viscy-train[geff]"
        ) from None
    local = os.fspath(path)  # at a URL, a copy: the library opens what it reads for writing, too
    with zarr_codecs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units and properties that do not matter here
        try:
            return GeffReader(local)
        except Exception as error:  # the library raises errors of many types
            raise UserError(f"{path} is not a graph in GEFF 1, or is damaged: {one_line(error)}") from None


def _names_of_axes(reader: Any, axes: list[Any], path: Path) -> dict[str, str]:
    """Return the properties that are the frame, y and x of a node."""
    hints = reader.metadata.display_hints
    space = [axis.name for axis in axes if axis.type == "space"]
    names = {
        "t": getattr(hints, "display_time", None) or next((axis.name for axis in axes if axis.type == "time"), None),
        "y": getattr(hints, "display_vertical", None),
        "x": getattr(hints, "display_horizontal", None),
    }
    for key, usual in _NAMES.items():
        candidates = [axis.name for axis in axes if axis.name in usual] or [
            name for name in usual if name in reader.node_prop_names
        ]
        names[key] = names[key] or next(iter(candidates), None)
    # Axes are in the order of the image, such as t, z, y, x.
    if names["y"] is None and names["x"] is None and len(space) > 1:
        names["y"], names["x"] = space[-2:]
    names = _prefer_frames(names, reader, axes)
    missing = [key for key in names if names[key] not in reader.node_prop_names]
    if missing:
        raise UserError(
            f"a graph of tracks must have the axes t, y and x, {path} lacks {', '.join(missing)}, its nodes have "
            f"{', '.join(reader.node_prop_names) or 'no properties'}"
        )
    return {key: str(name) for key, name in names.items()}


def _prefer_frames(names: dict[str, str | None], reader: Any, axes: list[Any]) -> dict[str, str | None]:
    """Take frames instead of times, if the nodes have both."""
    unit = next((axis.unit for axis in axes if axis.name == names["t"]), None)
    frames = next((name for name in _FRAMES if name in reader.node_prop_names), None)
    return names | {"t": frames} if unit and unit != "frame" and frames else names


def _load(reader: Any, names: list[str], path: Path) -> tuple[dict[str, NDArray], NDArray, NDArray]:
    """Return the values of properties, the names of the nodes, and the edges."""
    with zarr_codecs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read_node_props(list(dict.fromkeys(names)))
            graph = reader.build()
            values = {name: np.asarray(graph["node_props"][name]["values"]) for name in names}
            missing = {name: graph["node_props"][name]["missing"] for name in names}
        except Exception as error:  # the library raises errors of many types
            raise UserError(f"{path} is not a graph in GEFF 1, or is damaged: {one_line(error)}") from None
    nodes = np.asarray(graph["node_ids"])
    for name in names:
        if values[name].shape != nodes.shape:
            raise UserError(f"{name!r} must be one value per node, {path} has the shape {values[name].shape}")
        if missing[name] is not None and np.any(missing[name]):
            node = nodes[np.argmax(missing[name])]
            raise UserError(f"{name!r} must have a value for each node, {path} has none for node {node}")
    if not len(nodes):
        raise UserError(f"a graph of tracks must have nodes, {path} has none")
    return values, nodes, np.asarray(graph["edge_ids"])


def _frames(values: NDArray, axis: Any, options: ReadOptions, path: Path) -> NDArray:
    """Return the frames of nodes: the values, unless the axis has a unit of time."""
    unit = axis.unit if axis is not None else None
    if unit is None or str(unit).lower() in ("frame", "frames"):
        return values
    minutes = minutes_in(str(unit))
    if minutes is None or not options.minutes_per_frame:
        raise UserError(f"the unit of time must be the frame, second, minute or hour, {path} states {str(unit)!r}")
    frames = np.asarray(values, dtype=float) * (minutes / options.minutes_per_frame)
    whole = np.rint(frames)
    if np.abs(frames - whole).max(initial=0) > _TOLERANCE:
        value = values[np.argmax(np.abs(frames - whole))]
        raise UserError(
            f"times must be multiples of `minutes_per_frame` ({options.minutes_per_frame:g}), {path} has {value:g} "
            f"{unit}; correct it, or add the frame to the nodes"
        )
    return whole


def _unit(axes: list[Any], names: dict[str, str], path: Path) -> str | None:
    """Return the unit of the coordinates."""
    y, x = (next((axis for axis in axes if axis.name == names[key]), None) for key in ("y", "x"))
    units = [str(axis.unit) if axis is not None and axis.unit else None for axis in (y, x)]
    if units[0] != units[1]:
        raise UserError(f"y and x must have one unit, {path} has {units[0]!r} and {units[1]!r}")
    if units[0] is None and y is not None and y.scale and micrometers_in(y.scaled_unit):
        return "pixel"  # a scale converts values that are not yet lengths
    return units[0]
