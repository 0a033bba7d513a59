"""Made-up cases: the worlds of ``viscy-train study``, one case for each world and seed."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from viscy_train.study.cases import Case
from viscy_train.study.trial import make_trials
from viscy_train.study.world_project import CONFIG, CROPS, write_world
from viscy_train.study.worlds import WORLDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from viscy_train.study.arms import Arm
    from viscy_train.study.sizes import Size
    from viscy_train.study.trial import Trial

HELD_OUT = "held-out experiments"
"""What the worlds hold out."""
AS_IMAGES = "{} as images"
"""Name of a world whose cells are seen as images."""


def made_up_trials(folder: Path, size: Size, arms: Sequence[Arm], n_seeds: int | None = None) -> list[Trial]:
    """Return the trials of a study of made-up worlds.

    Parameters
    ----------
    folder : pathlib.Path
        Where worlds are written, each to a folder of its own, once a trial needs it.
    size : Size
        Worlds, seeds and steps.
    arms : sequence of Arm
        The arms.
    n_seeds : int, optional
        Number of seeds of each world, in place of that of the size.
    """
    cases = [(name, name, False, seed) for name in size.tables for seed in range(n_seeds or size.n_seeds)] + [
        (AS_IMAGES.format(name), name, True, seed)
        for name in size.images
        for seed in range(n_seeds or size.n_seeds_of_images)
    ]
    return [
        trial
        for label, name, as_crops, seed in cases
        for trial in make_trials([_case(folder, label, name, seed, as_crops=as_crops)], arms, [seed], size.n_steps)
    ]


def _case(folder: Path, label: str, name: str, seed: int, *, as_crops: bool) -> Case:
    path = folder / re.sub(r"\W+", "-", f"{label} {seed}")
    return Case(
        world=label,
        fold=HELD_OUT,
        config=path / CONFIG,
        crops=path / CROPS,
        make=partial(write_world, WORLDS[name], seed, path, as_crops=as_crops),
    )
