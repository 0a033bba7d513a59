"""Made-up trials: the worlds of ``viscy-train study``, one case for each world and seed."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from viscy_train.study.cases import Case
from viscy_train.study.hela_nuclei import hela_is_installed
from viscy_train.study.hela_world import write_hela_world
from viscy_train.study.study_project import CONFIG, CROPS
from viscy_train.study.trial import make_trials
from viscy_train.study.world_project import write_world
from viscy_train.study.worlds import WORLDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from viscy_train.study.arms import Arm
    from viscy_train.study.sizes import Size
    from viscy_train.study.trial import Trial

HELD_OUT = "held-out experiments"
"""What the worlds hold out."""
AS_IMAGES = "{} as images"
"""Name of a world whose cells are seen as images."""
HELA = "HeLa"
"""Name of the world of real pixels."""


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
    cases = [_world(folder, name, seed) for name in size.tables for seed in range(n_seeds or size.n_seeds)]
    image_seeds = range(n_seeds or size.n_seeds_of_images)
    cases += [_world(folder, name, seed, as_crops=True) for name in size.images for seed in image_seeds]
    if size.with_hela and hela_is_installed():
        cases += [(_case(folder, HELA, seed, write_hela_world), seed) for seed in image_seeds]
    return [trial for case, seed in cases for trial in make_trials([case], arms, [seed], size.n_steps)]


def _world(folder: Path, name: str, seed: int, *, as_crops: bool = False) -> tuple[Case, int]:
    label = AS_IMAGES.format(name) if as_crops else name
    return _case(folder, label, seed, partial(_write_world, name, as_crops=as_crops)), seed


def _write_world(name: str, seed: int, folder: Path, *, as_crops: bool) -> Path:
    return write_world(WORLDS[name], seed, folder, as_crops=as_crops)


def _case(folder: Path, label: str, seed: int, write: Callable[[int, Path], Path]) -> Case:
    path = folder / re.sub(r"\W+", "-", f"{label} {seed}")
    config, crops = path / CONFIG, path / CROPS
    return Case(world=label, fold=HELD_OUT, config=config, crops=crops, make=partial(write, seed, path))
