"""Size: how many worlds and seeds ``viscy-train study`` runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a study of made-up worlds runs.

    Parameters
    ----------
    about : str
        Where it is meant to run, for the help.
    n_seeds : int
        Number of seeds; each makes another world of a kind, other initial weights and other batches.
    tables, images : tuple of str
        Names of the worlds whose cells are seen as tables of features, and as images.
    n_seeds_of_images : int
        Number of seeds of worlds as images.
    n_steps : int
        Number of training steps of each run.
    n_seeds_of_hela : int
        Number of seeds of real pixels, if the extra `hela` is installed.
    with_further_arms : tuple of str
        Worlds of `tables`, or of `images` in the place of tables, in which the arms that come with the package are
        measured beside those of every study.
    """

    about: str
    n_seeds: int
    tables: tuple[str, ...]
    images: tuple[str, ...] = ()
    n_seeds_of_images: int = 0
    n_steps: int
    n_seeds_of_hela: int = 0
    with_further_arms: tuple[str, ...] = ()


_ALL = ("base", "weak look", "balanced", "strong aging", "one condition each")
SIZES = {
    "ci": Size(about="2 minutes on 2 cores", n_seeds=2, tables=_ALL, n_steps=50),
    "laptop": Size(
        about="15 minutes on 2 cores",
        n_seeds=12,
        tables=_ALL,
        images=("base",),
        n_seeds_of_images=8,
        n_steps=100,
        n_seeds_of_hela=8,
        with_further_arms=("base",),
    ),
    "gpu": Size(
        about="45 minutes on a GPU",
        n_seeds=12,
        tables=(),
        images=_ALL,
        n_seeds_of_images=12,
        n_steps=300,
        n_seeds_of_hela=12,
        with_further_arms=("base",),
    ),
}
"""The sizes by name."""
