"""Embeddings section: figures of the embeddings of a run, and what their captions say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.evaluation.projection import principal_components, project
from viscy_train.loading.axes import axis_names
from viscy_train.report.crop_plots import MAX_CHANNELS, plot_gallery
from viscy_train.report.embedding_plots import Coloring, plot_embeddings, plot_trajectories
from viscy_train.report.html import svg_uri
from viscy_train.report.learned_section import NEIGHBOR_HEADINGS, describe_smoothness, neighbor_rows
from viscy_train.report.palette import MAX_COLORS, category_colors, condition_colors, experiment_colors, label_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.report.run_results import RunResults

MAX_DOTS = 20_000
_MAX_CONDITIONS, _TRACKS_OF_CONDITION = 6, 5


def embeddings_context(results: RunResults) -> dict[str, Any]:
    """Return the figures of embeddings, neighbors and tracks, and the numbers of their captions."""
    evaluation = results.evaluation
    shown = shown_rows(results)
    embeddings, rows = evaluation.embeddings[shown], evaluation.rows[shown]
    anchors = results.labeled.iloc[rows].reset_index(drop=True)
    projection = project(embeddings, results.projection, results.seed)
    colorings = choose_colorings(anchors, results)
    return {
        "embeddings_figure": svg_uri(plot_embeddings(projection, colorings, results.seed)),
        "method": "two dimensions of UMAP" if results.projection == "umap" else "first two principal components",
        "n_dots": len(shown),
        "n_embedded": len(evaluation.rows),
        "n_held_out": len(held_out_rows(results)),
        "n_positions": len(anchors[["experiment", "position"]].drop_duplicates()),
        "has_held_out_queries": results.has_held_out_queries,
        "is_each_experiment_a_plate": _is_each_experiment_a_plate(results),
        "max_colors": MAX_COLORS - 1 if any(one.colors and len(one.colors) > MAX_COLORS for one in colorings) else 0,
        "neighbor_rows": neighbor_rows(evaluation.neighbors),
        "neighbor_headings": NEIGHBOR_HEADINGS,
        **_gallery_context(results),
        **_trajectories_context(embeddings, anchors, results),
    }


def held_out_rows(results: RunResults) -> NDArray[np.int64]:
    """Return which embeddings are of cells that the encoder was not trained on."""
    return np.flatnonzero(~np.isin(results.evaluation.rows, results.train_rows))


def shown_rows(results: RunResults) -> NDArray[np.int64]:
    """Return which embeddings to show: held-out ones if there are any, evenly spaced if there are many."""
    held_out = held_out_rows(results)
    shown = held_out if len(held_out) else np.arange(len(results.evaluation.rows))
    if len(shown) <= MAX_DOTS:
        return shown
    return shown[np.linspace(0, len(shown) - 1, MAX_DOTS).round().astype(np.int64)]


def choose_colorings(anchors: pd.DataFrame, results: RunResults) -> list[Coloring]:
    """Return what embeddings are colored by: condition, time, experiment, and wells and plates if there are several."""
    group, condition = axis_names(results.planned.options)
    times = anchors["hours_post_infection"].astype(float)
    colorings = [
        Coloring(name=condition, values=anchors["condition"], colors=condition_colors(anchors)),
        Coloring(name=results.time, values=times),
        Coloring(name=group, values=anchors["experiment"], colors=experiment_colors(anchors)),
    ]
    rows = results.evaluation.rows[shown_rows(results)]
    own = results.observations["experiment"].iloc[rows].astype(str).reset_index(drop=True)
    if "well" in anchors:
        wells = anchors["well"].astype(str)
        wells = wells if own.nunique() == 1 else own + " " + wells
        if wells.nunique() > 1:
            colorings.append(Coloring(name="well", values=wells, colors=category_colors(wells)))
    names = _names_of_plates(results)
    plates = own.map(lambda experiment: names.get(experiment, experiment))
    if plates.nunique() > 1 and not _is_each_experiment_a_plate(results):
        colorings.append(Coloring(name="plate", values=plates, colors=category_colors(plates)))
    return colorings


def _names_of_plates(results: RunResults) -> dict[str, str]:
    """Return the name of the plate of each experiment: that of its file, or its path if others are called so."""
    paths = {one.name: str(one.plate) for one in results.experiments}
    files = {path: path.rstrip("/").rpartition("/")[2] for path in paths.values()}
    twice = {name for name in files.values() if list(files.values()).count(name) > 1}
    return {name: path if files[path] in twice else files[path] for name, path in paths.items()}


def _is_each_experiment_a_plate(results: RunResults) -> bool:
    return len(set(_names_of_plates(results).values())) == len(results.experiments) > 1


def _gallery_context(results: RunResults) -> dict[str, Any]:
    gallery = results.gallery
    if gallery is None or results.gallery_crops is None:
        return {"gallery_figure": None}
    figure = plot_gallery(results.gallery_crops, gallery, results.observations, results.channels)
    others = {"experiment": "experiments", "position": "positions", "lineage": "lineages"}
    return {
        "gallery_figure": svg_uri(figure),
        "n_gallery": len(gallery.rows),
        "n_gallery_kinds": gallery.n_kinds,
        "n_neighbors": gallery.rows.shape[1] - 1,
        "gallery_among": others[gallery.among],
        "n_channels_left_out": max(len(results.channels) - MAX_CHANNELS, 0),
        "seed": results.seed,
    }


def _trajectories_context(
    embeddings: NDArray[np.float32], anchors: pd.DataFrame, results: RunResults
) -> dict[str, Any]:
    tracks, n_conditions = choose_tracks(anchors)
    if not tracks:
        return {"trajectories_figure": None}
    times = anchors["hours_post_infection"].to_numpy(dtype=float)
    figure = plot_trajectories(principal_components(embeddings), tracks, times)
    trajectories = [trajectory for of_condition in tracks.values() for trajectory in of_condition]
    return {
        "trajectories_figure": svg_uri(figure),
        "n_trajectories": len(trajectories),
        "n_trajectory_anchors": sum(map(len, trajectories)),
        "n_trajectory_conditions": len(tracks),
        "n_all_conditions": n_conditions,
        "tracks_of_condition": _TRACKS_OF_CONDITION,
        "trajectory_time": results.time,
        "trajectory_condition": axis_names(results.planned.options)[1],
        "smoothness": describe_smoothness(results.evaluation.smoothness),
    }


def choose_tracks(anchors: pd.DataFrame) -> tuple[dict[str, list[NDArray[np.int64]]], int]:
    """Choose the longest tracks of the conditions with the most anchors.

    Parameters
    ----------
    anchors : pandas.DataFrame
        Experiment, condition, position, track_id and t; channel if each row has one.

    Returns
    -------
    tracks : dict of str to list of numpy.ndarray
        Rows of each track in the order of time, at most five of each of six conditions, under a title. None for tracks
        of one frame.
    n_conditions : int
        Number of conditions that have tracks.
    """
    columns = ["condition", "experiment", "position", "track_id", *(["channel"] if "channel" in anchors else [])]
    order = anchors.sort_values("t", kind="stable")
    sizes = order.groupby(columns, observed=True, sort=False).size()
    sizes = sizes[sizes > 1]
    of_condition = sizes.groupby(level="condition", observed=True, sort=False)
    shown = of_condition.sum().sort_values(ascending=False, kind="stable").index[:_MAX_CONDITIONS]
    rows = order.groupby(columns, observed=True, sort=False).indices
    places = order.index.to_numpy()
    tracks = {}
    for condition in shown:
        longest = of_condition.get_group(condition).nlargest(_TRACKS_OF_CONDITION)
        title = f"{label_of(condition, 22)}: {len(longest)} of {len(of_condition.get_group(condition)):,} tracks"
        tracks[title if title not in tracks else f"{title} ({len(tracks)})"] = [
            places[rows[key]] for key in longest.index
        ]
    return tracks, of_condition.ngroups
