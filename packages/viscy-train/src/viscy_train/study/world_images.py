"""World images: crops of the cells of a world, as cameras of different experiments see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from viscy_train.study.world_cells import Cells
    from viscy_train.study.worlds import World

CHANNELS = ("Phase3D", "Virus")
SIDE = 32
"""Side of a crop, in pixels."""
_N_GRANULES = 4
_IMAGES = 3
# Pixels beyond the border that a blurred pixel sees.
_REACH = 8
_DEBRIS = 4


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What an experiment makes of the light of its cells.

    Parameters
    ----------
    blur : float
        Standard deviation of the point spread function in focus, in pixels.
    gamma : numpy.ndarray
        Exponent of the light in each channel, shape (2,).
    bleeding : float
        Fraction of the light of the first channel that the second one sees.
    texture : numpy.ndarray
        Standard deviation of the light of debris, in each channel, shape (2,).
    gain, background : numpy.ndarray
        Counts of light 1, and of no light, in each channel, shape (2,).
    noise : float
        Standard deviation of the noise, as a part of the gain.
    """

    blur: float
    gamma: NDArray[np.float64]
    bleeding: float
    texture: NDArray[np.float64]
    gain: NDArray[np.float64]
    background: NDArray[np.float64]
    noise: float


def make_cameras(world: World, rng: np.random.Generator) -> list[Camera]:
    """Make the camera of each experiment; without a look, they differ in nothing but gain and background.

    Each property takes evenly spaced values over the experiments, in an order of its own, as in a Latin hypercube.
    """
    n = len(world.names)
    spaced: Any = rng.permuted(np.tile(np.linspace(-1, 1, n), (7, 1)), axis=1).T
    gain, background = rng.uniform(300, 3000, (n, 2)), rng.uniform(100, 1000, (n, 2))
    return [
        Camera(
            blur=0.8 * float(np.exp(0.7 * world.look * own[0])),
            gamma=np.exp(0.8 * world.look * own[1:3]),
            bleeding=0.3 * world.look * (1 + own[3]),
            texture=0.2 * world.look * (1 + own[4:6]),
            noise=0.2 * world.noise * float(np.exp(world.look * own[6])),
            gain=gain[number],
            background=background[number],
        )
        for number, own in enumerate(spaced)
    ]


def draw_crops(world: World, cells: Cells, seed: int) -> NDArray[np.float32]:
    """Draw the crops of cells.

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
        Counts, shape (n, 2, 32, 32).

    Notes
    -----
    In the phase channel, identity is the shape and the texture of a cell, the cell cycle its size, aging the darkness
    of its nucleus. Infection brightens its granules in the virus channel and makes it rounder. Focus blurs a frame.
    """
    rng = np.random.default_rng([seed, _IMAGES])
    cameras, light = make_cameras(world, rng), _light(world, cells, rng)
    crops = np.empty_like(light)
    for number, camera in enumerate(cameras):
        rows = cells.experiment == number
        sigma = np.hypot(camera.blur, 0.6 * world.focus * np.abs(cells.focus[rows]))
        crops[rows] = _take(camera, _blur(_with_debris(camera, light[rows], rng), sigma), rng)
    return crops


def _light(world: World, cells: Cells, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the light of cells before it meets a camera, shape (n, 2, 32, 32)."""
    identity, infection = world.identity * cells.identity / 2, world.effect * cells.infection / 2
    angle = _per_track(cells, rng.uniform(0, np.pi, len(cells))) + 0.2 * rng.standard_normal(len(cells))
    center = (SIDE - 1) / 2 + rng.uniform(-1, 1, (len(cells), 2))
    axes = _semi_axes(cells, identity, infection, 1 + 0.12 * world.cycle * np.cos(cells.phase))
    along, across = _coordinates(angle, center)
    radius = np.sqrt((along / _image(axes[:, 0])) ** 2 + (across / _image(axes[:, 1])) ** 2)
    body = 1 / (1 + np.exp(6 * np.minimum(radius - 1, 5)))
    rim, nucleus = body * (1 - body), np.exp(-((radius / 0.45) ** 2))
    granules = _per_track(cells, rng.uniform(-0.6, 0.6, (len(cells), _N_GRANULES, 2)))
    spots = _spots(angle, center, granules * axes[:, None]) * _image(np.exp(0.4 * identity[:, 4]))
    phase = 0.2 + body * _image(np.exp(0.15 * identity[:, 2])) + rim * _image(np.exp(0.3 * identity[:, 3]))
    phase += 0.5 * spots - nucleus * _image(0.5 + 0.3 * world.aging * cells.age)
    virus = 0.1 + body * _image(0.3 * np.exp(0.3 * identity[:, 5])) + _image(0.4 * infection) * (spots + 0.3 * body)
    return np.maximum(np.stack([phase, virus], axis=1), 0.02).astype(np.float32)


def _semi_axes(
    cells: Cells, identity: NDArray[np.float64], infection: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the semi-axes of cells in pixels, the long one first, shape (n, 2); infected cells are rounder."""
    axes = np.array([8.5, 5.5]) * size[:, None] * np.exp(0.1 * identity[:, :2])
    roundness = np.clip(0.4 * infection, 0, 0.9)[:, None]
    return axes + roundness * (axes.mean(axis=1, keepdims=True) - axes)


def _per_track(cells: Cells, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row the value that was drawn for the first row of its track."""
    starts = np.diff(cells.track, prepend=-1) != 0
    return values[np.flatnonzero(starts)][np.cumsum(starts) - 1]


def _image(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a value of each crop as an image of equal pixels."""
    return values.astype(np.float32)[:, None, None]


def _coordinates(
    angle: NDArray[np.float64], center: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how far pixels are from the centers of cells, along and across them, each of shape (n, 32, 32)."""
    distance = np.arange(SIDE) - center[:, :, None]
    y, x = distance[:, 0, :, None].astype(np.float32), distance[:, 1, None].astype(np.float32)
    cosine, sine = _image(np.cos(angle)), _image(np.sin(angle))
    return y * cosine + x * sine, x * cosine - y * sine


def _spots(
    angle: NDArray[np.float64], center: NDArray[np.float64], granules: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return round spots at granules, given along and across cells in pixels, shape (n, n_granules, 2)."""
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    along, across = granules[..., 0], granules[..., 1]
    at = np.stack([along * cosine - across * sine, along * sine + across * cosine], axis=1) + center[:, :, None]
    profile = np.exp(-((np.arange(SIDE) - at[..., None]) ** 2) / 3).astype(np.float32)
    return profile[:, 0].transpose(0, 2, 1) @ profile[:, 1]


def _blur(light: NDArray[np.float32], sigma: NDArray[np.float64]) -> NDArray[np.float32]:
    """Convolve crops with Gaussians of standard deviations `sigma`, shape (n,); pixels beyond the border are reflected.

    A Gaussian is separable: each crop is multiplied by its matrix of weights from the left and from the right.
    """
    distance = np.arange(SIDE, dtype=np.float32)[:, None] - np.arange(-_REACH, SIDE + _REACH, dtype=np.float32)
    beyond = np.exp(distance**2 * _image(-0.5 / sigma**2))
    weights = beyond[:, :, _REACH:-_REACH].copy()
    weights[:, :, :_REACH] += beyond[:, :, :_REACH][:, :, ::-1]
    weights[:, :, -_REACH:] += beyond[:, :, -_REACH:][:, :, ::-1]
    weights /= weights.sum(axis=2, keepdims=True)
    return weights[:, None] @ light @ weights.transpose(0, 2, 1)[:, None]


def _with_debris(camera: Camera, light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return light with that of debris, whose pieces have 4 x 4 pixels."""
    n = SIDE // _DEBRIS
    debris = np.abs(rng.standard_normal((*light.shape[:2], n, n), dtype=np.float32))
    debris *= camera.texture.astype(np.float32)[:, None, None]
    return light + debris.repeat(_DEBRIS, axis=2).repeat(_DEBRIS, axis=3)


def _take(camera: Camera, light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the counts of a camera, shape (n, 2, 32, 32)."""
    gamma, gain, background = (
        values.astype(np.float32)[:, None, None] for values in (camera.gamma, camera.gain, camera.background)
    )
    seen = light.copy()
    seen[:, 1] += np.float32(camera.bleeding) * light[:, 0]
    seen **= gamma
    seen += np.float32(camera.noise) * rng.standard_normal(seen.shape, dtype=np.float32)
    return background + gain * seen
