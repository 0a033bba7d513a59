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


def made_up_trials(
    folder: Path, size: Size, arms: Sequence[Arm], n_seeds: int | None = None, further: Sequence[Arm] = ()
) -> list[Trial]:
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
    further : sequence of Arm, optional
        Arms of the worlds that the size names.
    """
    seeds, image_seeds, hela_seeds = (
        range(n and (n_seeds or n)) for n in (size.n_seeds, size.n_seeds_of_images, size.n_seeds_of_hela)
    )
    cases = [_world(folder, name, seed) for name in size.tables for seed in seeds]
    cases += [_world(folder, name, seed, as_crops=True) for name in size.images for seed in image_seeds]
    if hela_is_installed():
        cases += [(_case(folder, HELA, seed, write_hela_world), seed) for seed in hela_seeds]
    label = "{}" if size.tables else AS_IMAGES
    in_worlds = {label.format(name): further for name in size.with_further_arms}
    return [
        trial
        for case, seed in cases
        for trial in make_trials([case], [*arms, *in_worlds.get(case.world, ())], [seed], size.n_steps)
    ]


def _world(folder: Path, name: str, seed: int, *, as_crops: bool = False) -> tuple[Case, int]:
    label = AS_IMAGES.format(name) if as_crops else name
    return _case(folder, label, seed, partial(_write_world, name, as_crops=as_crops)), seed


def _write_world(name: str, seed: int, folder: Path, *, as_crops: bool) -> Path:
    return write_world(WORLDS[name], seed, folder, as_crops=as_crops)


def _case(folder: Path, label: str, seed: int, write: Callable[[int, Path], Path]) -> Case:
    path = folder / re.sub(r"\W+", "-", f"{label} {seed}")
    config, crops = path / CONFIG, path / CROPS
    return Case(world=label, fold=HELD_OUT, config=config, crops=crops, make=partial(write, seed, path))
