"""Simulation: cells that move, divide and, if infected, change over hours, and microscope images of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from viscy_train.tracks.tracks import COLUMNS

CHANNELS = ["Phase3D", "Virus"]
N_FRAMES = 24
SIDE = 192
HOURS_PER_FRAME = 0.5
_MARGIN = 12
_REACH = 16


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """Imaging properties that make the same cells look different in each experiment.

    Parameters
    ----------
    gain : float
        Camera counts per unit of signal.
    background : float
        Camera counts where there is no cell.
    blur : float
        Standard deviation of the point spread function, in pixels.
    """

    gain: float
    background: float
    blur: float


@dataclass(kw_only=True)
class Cell:
    """One cell, from its birth to its division or to the last frame.

    Parameters
    ----------
    track_id, parent_track_id : int
        IDs of its track and of its mother's track, -1 for none.
    first_frame : int
        Frame in which the path begins.
    path : list of tuple of float
        Position (y, x) in pixels in each frame, starting with `first_frame`.
    onset : float
        Hours post infection at which it looks half infected, infinity for an uninfected cell.
    shape : tuple of float
        Semi-axes in pixels, and the angle of the first one in radians.
    granules : numpy.ndarray
        Spots inside the cell, shape (n_granules, 3): y and x relative to the semi-axes, and brightness.
    autofluorescence : float
        Virus signal of a cell without virus.
    """

    track_id: int
    parent_track_id: int
    first_frame: int
    onset: float
    shape: tuple[float, float, float]
    granules: NDArray[np.float64]
    autofluorescence: float
    path: list[tuple[float, float]] = field(default_factory=list)


def simulate_cells(rng: np.random.Generator, n_cells: int, infected: bool) -> list[Cell]:
    """Simulate the cells of one position.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_cells : int
        Number of cells in the first frame. One cell of an uninfected position divides.
    infected : bool
        Whether the cells are infected.

    Returns
    -------
    list of Cell
        Mothers before their daughters.
    """
    cells = [_new_cell(rng, track, infected) for track in range(1, n_cells + 1)]
    starts = _scatter(rng, n_cells)
    for cell, start in zip(cells, starts, strict=True):
        _walk(rng, cell, np.asarray(start), N_FRAMES)
    if not infected:
        cells += _divide(rng, cells[0], int(rng.integers(8, 16)), n_cells)
    return cells


def tracks_of(cells: list[Cell]) -> pd.DataFrame:
    """Return simulated cells as a table of tracks.

    Parameters
    ----------
    cells : list of Cell
        Mothers before their daughters.

    Returns
    -------
    pandas.DataFrame
        Columns as in `viscy_train.tracks.tracks`, shape (n_cells_in_frames, 7), sorted by frame and track.
    """
    rows = [
        (cell.track_id, cell.first_frame + step, y, x, cell.parent_track_id, step)
        for cell in cells
        for step, (y, x) in enumerate(cell.path)
    ]
    tracks = pd.DataFrame(rows, columns=["track_id", "t", "y", "x", "parent_track_id", "step"])
    tracks = tracks.sort_values(["t", "track_id"], ignore_index=True).round({"y": 2, "x": 2})
    tracks["id"] = np.arange(1, len(tracks) + 1)
    ids = tracks.set_index(["track_id", "t"])["id"]
    previous_track = np.where(tracks["step"] > 0, tracks["track_id"], tracks["parent_track_id"])
    tracks["parent_id"] = [ids.get((track, t - 1), -1) for track, t in zip(previous_track, tracks["t"], strict=True)]
    return tracks[COLUMNS]


def take_images(
    rng: np.random.Generator, cells: list[Cell], microscope: Microscope, hours_at_start: float
) -> NDArray[np.uint16]:
    """Simulate the images of one position.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the noise.
    cells : list of Cell
        Cells of the position.
    microscope : Microscope
        Imaging properties.
    hours_at_start : float
        Hours post infection of the first frame.

    Returns
    -------
    numpy.ndarray
        Shape (n_frames, n_channels, 1, height, width).
    """
    signal = np.zeros((N_FRAMES, len(CHANNELS), SIDE, SIDE))
    for cell in cells:
        for step, center in enumerate(cell.path):
            frame = cell.first_frame + step
            _draw(signal[frame], cell, center, hours_at_start + frame * HOURS_PER_FRAME)
    # Uneven illumination, as from a lamp that is not centered.
    slope = 1 + 0.15 * np.linspace(-1, 1, SIDE)[:, None] * np.linspace(-1, 1, SIDE)
    counts = microscope.background * slope + microscope.gain * 100 * _blur(signal, microscope.blur)
    counts += rng.normal(scale=0.03 * microscope.background + 2, size=counts.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)[:, :, None]


def _new_cell(rng: np.random.Generator, track_id: int, infected: bool, mother: Cell | None = None) -> Cell:
    return Cell(
        track_id=track_id,
        parent_track_id=mother.track_id if mother else -1,
        first_frame=mother.first_frame + len(mother.path) if mother else 0,
        onset=rng.normal(8, 1) if infected else np.inf,
        shape=(rng.uniform(6.5, 9), rng.uniform(4.5, 6.5), rng.uniform(0, np.pi)),
        granules=np.column_stack([rng.uniform(-0.6, 0.6, (5, 2)), rng.uniform(0.4, 1.4, 5)]),
        autofluorescence=rng.uniform(0.15, 0.6),
    )


def _scatter(rng: np.random.Generator, n_cells: int) -> NDArray[np.float64]:
    """Return start positions on a jittered grid, so that few cells overlap, shape (n_cells, 2)."""
    n_rows = int(np.ceil(np.sqrt(n_cells)))
    spacing = (SIDE - 2 * _MARGIN) / n_rows
    squares = rng.permutation(n_rows**2)[:n_cells]
    corners = np.column_stack(np.divmod(squares, n_rows))
    return _MARGIN + spacing * (corners + rng.uniform(0.2, 0.8, (n_cells, 2)))


def _walk(rng: np.random.Generator, cell: Cell, start: NDArray[np.float64], end: int) -> None:
    """Give a cell a random walk inside the image, from its first frame up to but not including frame `end`."""
    steps = rng.normal(scale=1.2, size=(end - cell.first_frame, 2))
    steps[0] = 0
    positions = np.clip(start + np.cumsum(steps, axis=0), 4, SIDE - 5)
    cell.path = [(float(y), float(x)) for y, x in positions]


def _divide(rng: np.random.Generator, mother: Cell, frame: int, n_cells: int) -> list[Cell]:
    """End a cell's path before a frame and return its two daughters."""
    position = np.array(mother.path[frame])
    mother.path = mother.path[:frame]
    daughters = [_new_cell(rng, n_cells + number, False, mother) for number in (1, 2)]
    for daughter, side in zip(daughters, (-5, 5), strict=True):
        _walk(rng, daughter, np.clip(position + side, 4, SIDE - 5), N_FRAMES)
    return daughters


def _draw(frame: NDArray[np.float64], cell: Cell, center: tuple[float, float], hours: float) -> None:
    """Add a cell to a frame of shape (n_channels, height, width)."""
    infection = 0.0 if np.isinf(cell.onset) else 1 / (1 + np.exp(-(hours - cell.onset) / 1.2))
    top, left = (max(0, int(c) - _REACH) for c in center)
    phase, virus = frame[:, top : int(center[0]) + _REACH, left : int(center[1]) + _REACH]
    y, x = np.ogrid[top : top + phase.shape[0], left : left + phase.shape[1]]
    y, x = y - center[0], x - center[1]
    a, b, angle = cell.shape
    # Infected cells round up.
    a, b = a - 0.3 * infection * (a - b), b + 0.3 * infection * (a - b)
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    radius = np.hypot(along / a, across / b)
    body = 1 / (1 + np.exp(6 * (radius - 1)))
    phase += body + (0.3 + 0.3 * infection) * np.exp(-(((radius - 1.1) / 0.2) ** 2))
    virus += cell.autofluorescence * body
    for up, right, brightness in cell.granules:
        spot = np.exp(-((along - up * a) ** 2 + (across - right * b) ** 2) / 4)
        phase += 0.6 * brightness * spot
        # Virus accumulates in the granules.
        virus += infection * brightness * spot
    virus += 0.5 * infection**2 * body


def _blur(images: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Convolve the last two axes with a Gaussian of standard deviation `sigma`, with periodic boundaries."""
    rows, columns = np.fft.fftfreq(images.shape[-2])[:, None], np.fft.rfftfreq(images.shape[-1])
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    return np.fft.irfft2(np.fft.rfft2(images) * transfer, s=images.shape[-2:])
