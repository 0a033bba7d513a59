"""World cells: tracked cells of a world with all that is true of them, and the features by which they are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from viscy_train.study.worlds import CONDITIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.study.worlds import World

N_FEATURES = 16
"""Number of features of a cell in a world as a table."""
WELLS = (("A/1", "A/2"), ("B/1", "B/2"))
"""The wells of each condition, which share its positions."""
_N_IDENTITY = 6
_CYCLE_HOURS = 20.0
_ONSET_SPREAD = 2.0
_GROWTH_HOURS = 1.5
_N_HIDDEN = 32
_SHIFT, _MIXING = 0.75, 0.15
_SIDE = 512.0
# What random numbers are for: cells of each experiment, its look and noise, and what is common to all experiments.
_CELLS, _LOOK, _LOADINGS = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Cells in frames, a row each, and all that is true of them; sorted as an anchor table.

    Parameters
    ----------
    experiment : numpy.ndarray
        Number of the experiment of each row, from 0, shape (n,).
    is_infected : numpy.ndarray
        Whether the cell is infected, shape (n,).
    position, track : numpy.ndarray
        Number of the position within its condition, and of the track within its experiment, from 0, shape (n,).
    frame : numpy.ndarray
        Number of the frame, from 0, shape (n,).
    hours : numpy.ndarray
        Hours post infection, shape (n,).
    identity : numpy.ndarray
        What stays the same in a track, standard normal, shape (n, 6).
    phase : numpy.ndarray
        Phase of the cell cycle in radians, shape (n,).
    age : numpy.ndarray
        The hours, with mean 0 and standard deviation 1 over the frames of an experiment, shape (n,).
    infection : numpy.ndarray
        How far the infection has changed the cell, from 0 to about 1, shape (n,).
    focus : numpy.ndarray
        How far the frame of the cell is out of focus, standard normal, shape (n,).
    """

    experiment: NDArray[np.int64]
    is_infected: NDArray[np.bool_]
    position: NDArray[np.int64]
    track: NDArray[np.int64]
    frame: NDArray[np.int64]
    hours: NDArray[np.float64]
    identity: NDArray[np.float64]
    phase: NDArray[np.float64]
    age: NDArray[np.float64]
    infection: NDArray[np.float64]
    focus: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frame)


def make_cells(world: World, seed: int) -> Cells:
    """Make the cells of a world.

    Parameters
    ----------
    world : World
        Sizes of what varies.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    Cells
        track_frames rows of each track, the experiments to train on first.
    """
    parts = [_cells_of_experiment(world, number, _rng(seed, _CELLS, number)) for number in range(len(world.names))]
    names = Cells.__dataclass_fields__
    return Cells(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _rng(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, *purpose])


def _cells_of_experiment(world: World, number: int, rng: np.random.Generator) -> Cells:
    n_of_condition = world.n_cells(number)
    n = sum(n_of_condition)
    # Tracks are numbered by condition, then by position, as rows are sorted.
    is_infected = np.arange(n) >= n_of_condition[0]
    position = np.concatenate([_spread(n_cells, world.n_positions) for n_cells in n_of_condition])
    first = rng.integers(world.n_frames - world.track_frames + 1, size=n)
    frame = first[:, None] + np.arange(world.track_frames)
    hours = frame * (world.minutes_per_frame / 60)
    onset = world.onset + _ONSET_SPREAD * rng.standard_normal((n, 1))
    severity = np.exp(0.25 * rng.standard_normal((n, 1)))
    infection = is_infected[:, None] * severity / (1 + np.exp(-(hours - onset) / _GROWTH_HOURS))
    phase = 2 * np.pi * (rng.random((n, 1)) + hours / _CYCLE_HOURS)
    age = (hours - world.hours / 2) / (world.hours / np.sqrt(12))
    of_track: dict[str, Any] = {
        "is_infected": is_infected,
        "position": position,
        "track": np.arange(n),
        "identity": rng.standard_normal((n, _N_IDENTITY)),
    }
    of_row: dict[str, Any] = {
        "frame": frame,
        "hours": hours,
        "phase": phase,
        "age": age,
        "infection": infection,
        "focus": rng.standard_normal(hours.shape),
    }
    return Cells(
        experiment=np.full(frame.size, number),
        **{name: np.repeat(values, world.track_frames, axis=0) for name, values in of_track.items()},
        **{name: values.ravel() for name, values in of_row.items()},
    )


def _spread(n: int, n_positions: int) -> NDArray[np.int64]:
    """Return the position of each of n cells, ascending; sizes of positions differ by one at most."""
    return np.arange(n) * n_positions // max(n, 1)


def _spread_over_wells(world: World, position: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the well within its condition; each well has consecutive positions."""
    return position * len(WELLS[0]) // world.n_positions


def features_of(world: World, cells: Cells, seed: int) -> NDArray[np.float32]:
    """Return the features of cells, as they are after normalization.

    Parameters
    ----------
    world : World
        Sizes of what varies.
    cells : Cells
        The cells.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    numpy.ndarray
        Shape (n, 16). What is true of a cell has the same features in all experiments but for their look, which shifts
        all cells of an experiment and mixes their features.

    Notes
    -----
    Features f of a cell whose truth is t, in an experiment with look l, where V has orthogonal rows of length 1, tanh
    makes the features saturate as real ones do, and d, M and e are standard normal:

        f = g + l * (0.75 d + 0.15 M g) + noise * e,    g = standardized(tanh(t V + c) W).
    """
    own = _common_features(_truth(world, cells), _rng(seed, _LOADINGS))
    seen = np.empty_like(own)
    for number in range(len(world.names)):
        rng, rows = _rng(seed, _LOOK, number), cells.experiment == number
        shift = rng.standard_normal(N_FEATURES)
        shift *= np.sqrt(N_FEATURES) / np.linalg.norm(shift)
        mixing = rng.standard_normal((N_FEATURES, N_FEATURES)) / np.sqrt(N_FEATURES)
        look = _SHIFT * shift + _MIXING * (own[rows] @ mixing)
        seen[rows] = own[rows] + world.look * look + world.noise * rng.standard_normal(look.shape)
    return seen.astype(np.float32)


def _truth(world: World, cells: Cells) -> NDArray[np.float64]:
    """Return what varies between cells, each part with its amplitude, shape (n, 11)."""
    parts = [
        world.identity * cells.identity / np.sqrt(_N_IDENTITY),
        world.cycle * np.stack([np.cos(cells.phase), np.sin(cells.phase)], axis=1),
        np.stack([world.aging * cells.age, world.effect * cells.infection, world.focus * cells.focus], axis=1),
    ]
    return np.concatenate(parts, axis=1)


def _common_features(truth: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return features that are equal in all experiments, with mean 0 and standard deviation 1, shape (n, 16)."""
    directions, _ = np.linalg.qr(rng.standard_normal((_N_HIDDEN, truth.shape[1])))
    hidden = np.tanh(truth @ directions.T + 0.5 * rng.standard_normal(_N_HIDDEN))
    weights, _ = np.linalg.qr(rng.standard_normal((_N_HIDDEN, N_FEATURES)))
    features = hidden @ weights
    # Nothing varies if all amplitudes are 0.
    return (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)


def observations_of(world: World, cells: Cells, seed: int) -> pd.DataFrame:
    """Return cells as the observations of an anchor table, but for the column `has_positive`."""
    rng = _rng(seed, _CELLS, len(world.names))
    condition = np.asarray(CONDITIONS)[cells.is_infected.astype(int)]
    well = np.asarray(WELLS)[cells.is_infected.astype(int), _spread_over_wells(world, cells.position)]
    position = np.char.add(np.char.add(well, "/"), cells.position.astype(str))
    y, x = _SIDE * rng.random((2, len(cells)))
    return pd.DataFrame(
        {
            "experiment": pd.Categorical.from_codes(cells.experiment, categories=world.names),
            "condition": pd.Categorical(condition),
            "well": pd.Categorical(well),
            "position": pd.Categorical(position),
            "track_id": cells.track + 1,
            "parent_track_id": np.full(len(cells), -1),
            "lineage_id": np.cumsum(np.diff(cells.track, prepend=-1) != 0) - 1,
            "t": cells.frame,
            "hours_post_infection": cells.hours,
            "y": y,
            "x": x,
        }
    )
