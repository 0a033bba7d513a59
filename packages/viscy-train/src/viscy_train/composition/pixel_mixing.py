"""Pixel mixing: how much the experiments mix in their pixels, which says what batches of one experiment can gain."""

from __future__ import annotations

from dataclasses import dataclass

SUGGESTED_CROPS = 600
"""Number of crops that suffices: of three experiments, it is within about 0.05 of what all crops give."""


@dataclass(frozen=True, kw_only=True)
class PixelMixing:
    """How much experiments mix before any training.

    Parameters
    ----------
    value : float
        Share of the nearest neighbors that are of another experiment, over what chance gives.
    n_crops : int
        Number of crops that it was computed from.
    """

    value: float
    n_crops: int


def describe_pixels(pixels: PixelMixing | None, n_groups: int, group: str = "experiment") -> str:
    """Return a sentence on the mixing of experiments in their pixels, or on how to find out.

    Parameters
    ----------
    pixels : PixelMixing, optional
        What was found, if crops have been looked at.
    n_groups : int
        Number of experiments.
    group : str
        What the batches are composed by.

    Returns
    -------
    str
        Empty if there is only one experiment.
    """
    if n_groups < 2:
        return ""
    if pixels is None:
        return (
            f"Whether the {group}s look alike before any training was not examined; --crops {SUGGESTED_CROPS} reads so "
            "many crops and says so."
        )
    return (
        f"Before any training, the {group}s mix at {pixels.value:.2f} in the pixels of {pixels.n_crops:,} crops: 0 if "
        f"the nearest neighbors of a crop are all of its own {group}, 1 if they are of any, as by chance."
    )
