"""Experiments that show the same cells at different scales."""

import numpy as np
import pandas as pd

from viscy_train.experiments.experiment import Experiment
from viscy_train.plates.plate import write_plate
from viscy_train.tracks.tracks import write_tracks

FINE, COARSE = 0.25, 0.6
SIDE_UM, DEPTH_UM = 36.0, 12.0
N_FRAMES = 4
CELLS = np.array([[9.0, 9.0], [27.0, 12.0], [18.0, 26.0]])


def render(per_pixel, per_slice=None, n_slices=1):
    """Return images of round cells that do not move, shape (n_frames, 1, n_slices, side, side)."""
    side = round(SIDE_UM / per_pixel)
    centers = (np.arange(side) + 0.5) * per_pixel
    depths = (np.arange(n_slices) + 0.5) * per_slice if per_slice else np.array([DEPTH_UM / 2])
    image = np.full((N_FRAMES, 1, len(depths), side, side), 100.0)
    for number, (y, x) in enumerate(CELLS):
        distance = (centers[:, None] - y) ** 2 + (centers[None] - x) ** 2
        radius = 2.0 + 0.5 * number
        along_z = np.exp(-((depths - DEPTH_UM / 2) ** 2) / 18)
        for frame in range(N_FRAMES):
            cell = 1000 * (1 + 0.1 * frame) * np.exp(-distance / (2 * radius**2))
            image[frame, 0] += along_z[:, None, None] * cell
    return image.round().astype(np.uint16)


def write_experiment(folder, name, per_pixel, *, metadata=True, per_slice=None, n_slices=1, **changes):
    """Write a plate and its tracks, and return their experiment."""
    images = {f"{well}/0": render(per_pixel, per_slice, n_slices) for well in ("A/1", "B/1")}
    scale = {"micrometers_per_pixel": per_pixel, "micrometers_per_slice": per_slice} if metadata else {}
    write_plate(folder / f"{name}.zarr", ["GFP"], images, **scale)
    track, t = (values.ravel() for values in np.mgrid[: len(CELLS), :N_FRAMES])
    y, x = ((CELLS[track] / per_pixel) - 0.5).T
    for position in images:
        cells = pd.DataFrame({"track_id": track, "t": t, "y": y, "x": x, "id": np.arange(len(t))})
        cells = cells.assign(parent_track_id=-1, parent_id=-1)
        write_tracks(folder / "tracks" / name / f"{position}.csv", cells)
    options = {
        "name": name,
        "plate": folder / f"{name}.zarr",
        "tracks": folder / "tracks" / name,
        "channels": ["GFP"],
        "conditions": {"A/1": "mock", "B/1": "virus"},
        "minutes_per_frame": 30,
    }
    return Experiment(**options | changes)
