"""Fixtures of the tests of contact sheets: tables with many conditions, and images whose cells are spots."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from viscy_train.anchors.table import AnchorTable


@pytest.fixture(scope="session")
def many_of(noise: tuple[AnchorTable, object]) -> Callable[[int, int], AnchorTable]:
    """A function that returns a table of so many experiments with so many conditions, whose plates do not exist."""

    def make(n_experiments: int, n_conditions: int) -> AnchorTable:
        table, _ = noise
        experiments = [replace(table.experiments[0], name=f"day {number}") for number in range(n_experiments)]
        experiment, condition, track, t = (one.ravel() for one in np.mgrid[:n_experiments, :n_conditions, :2, :3])
        cells = pd.DataFrame({"track_id": track, "t": t, "y": 5.0 + track, "x": 9.0})
        cells["experiment"] = pd.Categorical.from_codes(experiment, [one.name for one in experiments])
        names = [f"{number:04d} micromolar of a compound" for number in range(n_conditions)]
        cells["condition"] = pd.Categorical.from_codes(condition, names)
        cells["position"] = pd.Categorical.from_codes(
            condition, [f"A/{number + 1}/0" for number in range(n_conditions)]
        )
        intensity = {one.name: table.intensity["monday"] for one in experiments}
        return replace(table, observations=cells, experiments=experiments, intensity=intensity)

    return make


@pytest.fixture(scope="session")
def spots_of() -> Callable[..., tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """A function that returns places y and x of cells, and an image of 200 x 200 pixels in which they are spots."""

    def make(seed: int, n: int = 20, noise: float = 5.0) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        rng = np.random.default_rng(seed)
        places = rng.uniform(10, 190, (n, 2))
        y, x = np.mgrid[:200, :200]
        image = rng.normal(100, noise, (200, 200))
        for cell in places:
            image += 100 * np.exp(-((y - cell[0]) ** 2 + (x - cell[1]) ** 2) / 50)
        return places, image.astype(np.float32)

    return make
