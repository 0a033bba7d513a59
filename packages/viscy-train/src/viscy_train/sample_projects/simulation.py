"""Simulation: cells that move, divide and, where infected, change over hours, and images of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from viscy_train.anchors.tracks import COLUMNS

CHANNELS = ["Phase3D", "Virus"]
N_FRAMES = 24
SIDE = 192
HOURS_PER_FRAME = 0.5
_MARGIN = 12
_REACH = 16


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a microscope shows the same cells.

    Parameters
    ----------
    gain : float
        Counts for a unit of signal.
    background : float
        Counts where there is no cell.
    blur : float
        Standard deviation of the point spread, in pixels.
    """

    gain: float
    background: float
    blur: float


@dataclass(kw_only=True)
class Cell:
    """One cell from its birth to its division or the end.

    Parameters
    ----------
    track_id, parent_track_id : int
        Names of its track and its mother's, -1 for none.
    first_frame : int
        Where the path begins.
    path : list of tuple of float
        (y, x) in each frame from the first.
    onset : float
        Hours post infection at which it looks half infected; infinite for an uninfected cell.
    shape : tuple of float
        Half axes in pixels, and their angle.
    grains : numpy.ndarray
        Spots inside, shape (n_grains, 3): y and x relative to the half axes, and brightness.
    glow : float
        Fluorescence of the cell itself.
    """

    track_id: int
    parent_track_id: int
    first_frame: int
    onset: float
    shape: tuple[float, float, float]
    grains: NDArray[np.float64]
    glow: float
    path: list[tuple[float, float]] = field(default_factory=list)


def simulate_cells(rng: np.random.Generator, n_cells: int, infected: bool) -> list[Cell]:
    """Simulate the cells of a position.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_cells : int
        At the start; an uninfected position has one more after a division.
    infected : bool
        Whether the cells are infected.

    Returns
    -------
    list of Cell
        Mothers before their daughters.
    """
    cells = [_new_cell(rng, track, infected) for track in range(1, n_cells + 1)]
    starts = _scattered(rng, n_cells)
    for cell, start in zip(cells, starts, strict=True):
        _walk(rng, cell, np.asarray(start), N_FRAMES)
    if not infected:
        cells += _divide(rng, cells[0], int(rng.integers(8, 16)), n_cells)
    return cells


def tracks_of(cells: list[Cell]) -> pd.DataFrame:
    """Return the tracks of simulated cells.

    Parameters
    ----------
    cells : list of Cell
        Mothers before their daughters.

    Returns
    -------
    pandas.DataFrame
        Columns as in `viscy_train.anchors.tracks`, shape (n_cells_in_frames, 7), sorted by frame and track.
    """
    rows = [
        (cell.track_id, cell.first_frame + step, y, x, cell.parent_track_id, step)
        for cell in cells
        for step, (y, x) in enumerate(cell.path)
    ]
    tracks = pd.DataFrame(rows, columns=["track_id", "t", "y", "x", "parent_track_id", "step"])
    tracks = tracks.sort_values(["t", "track_id"], ignore_index=True).round({"y": 2, "x": 2})
    tracks["id"] = np.arange(1, len(tracks) + 1)
    named = tracks.set_index(["track_id", "t"])["id"]
    before = np.where(tracks["step"] > 0, tracks["track_id"], tracks["parent_track_id"])
    tracks["parent_id"] = [named.get((track, t - 1), -1) for track, t in zip(before, tracks["t"], strict=True)]
    return tracks[COLUMNS]


def take_images(rng: np.random.Generator, cells: list[Cell], look: Look, hours_at_start: float) -> NDArray[np.uint16]:
    """Take the images of a position.

    Parameters
    ----------
    rng : numpy.random.Generator
        Of the noise.
    cells : list of Cell
        What is there.
    look : Look
        Of the microscope.
    hours_at_start : float
        Hours post infection of the first frame.

    Returns
    -------
    numpy.ndarray
        Shape (n_frames, n_channels, 1, height, width).
    """
    signal = np.zeros((N_FRAMES, len(CHANNELS), SIDE, SIDE))
    for cell in cells:
        for step, centre in enumerate(cell.path):
            frame = cell.first_frame + step
            _draw(signal[frame], cell, centre, hours_at_start + frame * HOURS_PER_FRAME)
    # Uneven illumination, as of a lamp that is off centre.
    slope = 1 + 0.15 * np.linspace(-1, 1, SIDE)[:, None] * np.linspace(-1, 1, SIDE)
    counts = look.background * slope + look.gain * 100 * _blurred(signal, look.blur)
    counts += rng.normal(scale=0.03 * look.background + 2, size=counts.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)[:, :, None]


def _new_cell(rng: np.random.Generator, track_id: int, infected: bool, mother: Cell | None = None) -> Cell:
    return Cell(
        track_id=track_id,
        parent_track_id=mother.track_id if mother else -1,
        first_frame=mother.first_frame + len(mother.path) if mother else 0,
        onset=rng.normal(8, 1) if infected else np.inf,
        shape=(rng.uniform(6.5, 9), rng.uniform(4.5, 6.5), rng.uniform(0, np.pi)),
        grains=np.column_stack([rng.uniform(-0.6, 0.6, (5, 2)), rng.uniform(0.4, 1.4, 5)]),
        glow=rng.uniform(0.15, 0.6),
    )


def _scattered(rng: np.random.Generator, n_cells: int) -> NDArray[np.float64]:
    """Return starts on a jittered grid, so that few cells overlap, shape (n_cells, 2)."""
    n_rows = int(np.ceil(np.sqrt(n_cells)))
    spacing = (SIDE - 2 * _MARGIN) / n_rows
    squares = rng.permutation(n_rows**2)[:n_cells]
    corners = np.column_stack(np.divmod(squares, n_rows))
    return _MARGIN + spacing * (corners + rng.uniform(0.2, 0.8, (n_cells, 2)))


def _walk(rng: np.random.Generator, cell: Cell, start: NDArray[np.float64], until: int) -> None:
    """Move a cell at random from its first frame to the one before `until`, inside the image."""
    steps = rng.normal(scale=1.2, size=(until - cell.first_frame, 2))
    steps[0] = 0
    places = np.clip(start + np.cumsum(steps, axis=0), 4, SIDE - 5)
    cell.path = [(float(y), float(x)) for y, x in places]


def _divide(rng: np.random.Generator, mother: Cell, frame: int, n_cells: int) -> list[Cell]:
    """End a cell's path at a frame and return its two daughters."""
    place = np.array(mother.path[frame])
    mother.path = mother.path[:frame]
    daughters = [_new_cell(rng, n_cells + number, False, mother) for number in (1, 2)]
    for daughter, side in zip(daughters, (-5, 5), strict=True):
        _walk(rng, daughter, np.clip(place + side, 4, SIDE - 5), N_FRAMES)
    return daughters


def _draw(frame: NDArray[np.float64], cell: Cell, centre: tuple[float, float], hours: float) -> None:
    """Add a cell to a frame of shape (n_channels, height, width)."""
    infection = 0.0 if np.isinf(cell.onset) else 1 / (1 + np.exp(-(hours - cell.onset) / 1.2))
    top, left = (max(0, int(c) - _REACH) for c in centre)
    phase, virus = frame[:, top : int(centre[0]) + _REACH, left : int(centre[1]) + _REACH]
    y, x = np.ogrid[top : top + phase.shape[0], left : left + phase.shape[1]]
    y, x = y - centre[0], x - centre[1]
    a, b, angle = cell.shape
    # Infected cells round up.
    a, b = a - 0.3 * infection * (a - b), b + 0.3 * infection * (a - b)
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    radius = np.hypot(along / a, across / b)
    body = 1 / (1 + np.exp(6 * (radius - 1)))
    phase += body + (0.3 + 0.3 * infection) * np.exp(-(((radius - 1.1) / 0.2) ** 2))
    virus += cell.glow * body
    for up, right, brightness in cell.grains:
        spot = np.exp(-((along - up * a) ** 2 + (across - right * b) ** 2) / 4)
        phase += 0.6 * brightness * spot
        # The virus gathers in the places where the cell is dense.
        virus += infection * brightness * spot
    virus += 0.5 * infection**2 * body


def _blurred(images: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Convolve the last two axes with a Gaussian of standard deviation `sigma`, round the edges."""
    rows, columns = np.fft.fftfreq(images.shape[-2])[:, None], np.fft.rfftfreq(images.shape[-1])
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    return np.fft.irfft2(np.fft.rfft2(images) * transfer, s=images.shape[-2:])
