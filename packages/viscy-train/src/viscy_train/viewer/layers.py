"""Layers: what napari shows of a position of a run, as tuples of data, options and kind of layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.crops.scale import micrometers_per_pixel, micrometers_per_slice
from viscy_train.crops.window import crop_window
from viscy_train.errors import UserError
from viscy_train.loading.normalization import Normalization
from viscy_train.plates.pixels import PixelReader
from viscy_train.plates.plate import open_plate
from viscy_train.viewer.channel import Channel
from viscy_train.viewer.features import principal_components, track_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.plates.plate import PositionImage
    from viscy_train.viewer.opened_run import OpenedRun

type LayerTuple = tuple[Any, dict[str, Any], str]

# In spreads below and above the center of a channel.
_DARKEST, _BRIGHTEST = 2.0, 5.0
_COLORMAPS = ("gray", "green", "magenta", "cyan", "yellow", "red", "blue")
_ROLES = {"anchor": "#E69F00", "positive": "#56B4E9"}
_CACHE_MB = 256


class PositionView:
    """The layers of a position of a run.

    Parameters
    ----------
    run : OpenedRun
        The run.
    experiment, position : str
        What to show.

    Raises
    ------
    UserError
        If the run has no such position, or its plate cannot be read.
    """

    def __init__(self, run: OpenedRun, experiment: str, position: str) -> None:
        self._run, self._position = run, position
        self._experiment = run.experiment(experiment)
        self._rows = run.rows(experiment, position)
        self._plate = open_plate(self._experiment.plate)
        self._image: PositionImage = self._plate.image(position)
        self._has_slices = self._image.shape[2] > 1
        pixel = micrometers_per_pixel(self._image, self._experiment) or 1.0
        z = micrometers_per_slice(self._image, self._experiment) or pixel
        self._common = {"scale": (1.0, z, pixel, pixel) if self._has_slices else (1.0, pixel, pixel)}

    def images(self) -> list[LayerTuple]:
        """Return a layer for each channel, at all resolutions of the plate, read where it is looked at.

        The contrast is that of the normalization: from 2 spreads below the center of the channel to 5 above it.
        """
        reader = PixelReader(_CACHE_MB)
        levels = [one for one in self._plate.resolutions(self._position) if one.shape[:3] == self._image.shape[:3]]
        limits = self._contrast_limits()
        layers: list[LayerTuple] = []
        for number, name in enumerate(self._experiment.channel_names):
            (index,) = self._image.channel_indices([name])
            data = [Channel(reader, level, index) for level in levels]
            options = {
                "name": name,
                "multiscale": len(data) > 1,
                "contrast_limits": limits[number],
                "colormap": _COLORMAPS[number % len(_COLORMAPS)],
                "blending": "additive",
                "metadata": {"plate": str(self._experiment.plate), "position": self._position},
            }
            layers.append((data if len(data) > 1 else data[0], options | self._common, "image"))
        return layers

    def _contrast_limits(self) -> list[tuple[float, float]]:
        name = self._experiment.name
        number = [experiment.name for experiment in self._run.table.experiments].index(name)
        normalization = Normalization(self._run.table, np.array([number]), [self._position])
        n_frames = self._image.shape[0]
        middle = np.array([n_frames // 2])  # of intensities by frame
        center, spread = normalization.of(np.array([0]), middle)
        return [(float(c - _DARKEST * s), float(c + _BRIGHTEST * s)) for c, s in zip(center[0], spread[0], strict=True)]

    def tracks(self, color: str | None = None) -> LayerTuple:
        """Return the tracks, colored by a column of the anchor table or a principal component of the embeddings.

        Raises
        ------
        UserError
            If there is no such column; the message lists those that there are.
        """
        rows = self._rows
        observations = self._run.table.observations.iloc[rows].reset_index(drop=True)
        embeddings = self._run.embeddings
        components = None if embeddings is None else principal_components(embeddings)[rows]
        features = track_features(observations, components)
        if color is not None and color not in features:
            hint = "" if embeddings is not None else "; run `viscy-train predict` for components of embeddings"
            raise UserError(f"--color must be one of {', '.join(features)}, got {color!r}{hint}")
        order = np.lexsort((observations["t"], observations["track_id"]))
        identity = observations["track_id"].to_numpy(np.float64)[:, None]
        data = np.concatenate([identity, self._points(rows)], axis=1)[order]
        options = {
            "name": "tracks",
            "features": features.iloc[order].reset_index(drop=True),
            "graph": _graph(observations["track_id"].to_numpy(), observations["parent_track_id"].to_numpy()),
            "color_by": color or "condition",
            "colormap": "viridis",
            "tail_length": 10,
            "tail_width": 3,
            "blending": "translucent",  # added to a bright cell, they could not be seen
            "metadata": {"row": rows[order]},
        }
        return data, options | self._common, "tracks"

    def batch(self, step: int, rank: int = 0) -> LayerTuple:
        """Return the crops of a batch in this position as boxes: those of the anchors and those of their positives."""
        recorded, positives = self._run.batch(step, rank)
        roles = {"anchor": recorded.rows, "positive": positives}
        slots = {role: np.flatnonzero(np.isin(rows, self._cells_of(rows))) for role, rows in roles.items()}
        rows = np.concatenate([roles[role][slots[role]] for role in roles])
        observations = self._run.table.observations.iloc[rows]
        role = np.repeat(list(roles), [len(slots[one]) for one in roles])
        features = {
            "role": role,
            "slot": np.concatenate(list(slots.values())),
            "row": rows,
            "condition": observations["condition"].astype(str).to_numpy(),
            "hours_post_infection": observations["hours_post_infection"].to_numpy(),
        }
        options = {
            "name": f"batch of step {recorded.step}, rank {recorded.rank}",
            "shape_type": "rectangle",
            "features": features,
            "edge_color": [_ROLES[one] for one in role] or "white",
            "edge_width": max(1.0, self._image.shape[4] / 400),
            "face_color": "transparent",
            "metadata": {"epoch": recorded.epoch, "batch": recorded.number, "n_slots": len(recorded.rows)},
        }
        return self._boxes(rows), options | self._common, "shapes"

    def _cells_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those rows that are in this position."""
        observations = self._run.table.observations.iloc[rows]
        is_here = (observations["experiment"] == self._experiment.name) & (observations["position"] == self._position)
        return rows[is_here.to_numpy()]

    def _points(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the coordinates of cells along the axes of the image, shape (n, 3 or 4)."""
        observations = self._run.table.observations.iloc[rows]
        t, y, x = (observations[name].to_numpy(np.float64) for name in ("t", "y", "x"))
        z = [np.full(len(rows), float(self._image.shape[2] // 2))] if self._has_slices else []
        return np.stack([t, *z, y, x], axis=1)

    def _boxes(self, rows: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Return the corners of the crops of cells, as the loader cuts them, each of shape (4, 3 or 4)."""
        window = crop_window(self._image, self._experiment, self._run.table.crops)
        points = self._points(rows)
        corners = window.corners(window.starts(points[:, -2:])) - 0.5  # the edge of a pixel, whose center is an integer
        height, width = window.sides
        around = np.array([(0, 0), (0, width), (height, width), (height, 0)])
        boxes = np.repeat(points[:, None], 4, axis=1)
        boxes[:, :, -2:] = corners[:, None] + around
        return list(boxes)


def _graph(track_id: NDArray[np.int64], parent: NDArray[np.int64]) -> dict[int, list[int]]:
    """Return the parent of each track that has one in the position."""
    known = set(track_id.tolist())
    pairs = zip(track_id.tolist(), parent.tolist(), strict=True)
    return {own: [of] for own, of in pairs if of in known and of != own}
