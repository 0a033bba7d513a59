"""World: made-up experiments whose truth is known, described by the sizes of what varies between their cells."""

from __future__ import annotations

from dataclasses import dataclass

from viscy_train.config.checks import require, require_above_0, require_at_least, require_integer

CONDITIONS = ("uninfected", "infected")
"""The conditions, of which the second is the rare one."""
_LEAST = {
    "n_experiments": 2,
    "n_held_out": 1,
    "n_tracks": 4,
    "n_held_out_tracks": 4,
    "n_frames": 3,
    "track_frames": 2,
    "n_positions": 2,
}
_AMPLITUDES = ("look", "effect", "aging", "identity", "cycle", "focus", "noise")


@dataclass(frozen=True, kw_only=True)
class World:
    """Sizes of what varies between the cells of made-up experiments.

    Parameters
    ----------
    n_experiments, n_held_out : int
        Number of experiments to train on, and of those that are held out.
    n_tracks, n_held_out_tracks : int
        Number of cells of an experiment to train on, and of one that is held out, each a track.
    n_frames, track_frames : int
        Number of frames of an experiment, and of each track, which begins at a random one.
    n_positions : int
        Number of positions of each condition of an experiment.
    hours : float
        Hours from the first frame, at which cells are infected, to the last one.
    rare_share : float
        Fraction of the cells of an experiment that are infected, in (0, 1).
    one_condition_per_experiment : bool
        Whether the cells of each experiment to train on have the same condition: uninfected and infected in turn.
        Experiments that are held out have both.
    look : float
        How much experiments differ in all their cells: what normalization leaves of microscopes and stains.
    effect : float
        How much a cell differs that has been infected for long.
    onset : float
        Hours post infection at which the mean cell has half of the effect, which grows over some hours.
    aging : float
        How much cells change with the hours, in both conditions.
    identity : float
        How much cells differ from each other in what stays the same in a track.
    cycle : float
        How much cells change with their cell cycle.
    focus, noise : float
        How much frames of a cell differ by focus and by noise.

    Notes
    -----
    Amplitudes of features are in standard deviations of a feature that is drawn from all cells of an experiment; 0
    turns a part off. An amplitude of a part that several features share is its length in the space of the features.
    """

    n_experiments: int = 4
    n_held_out: int = 2
    n_tracks: int = 125
    n_held_out_tracks: int = 250
    n_frames: int = 12
    track_frames: int = 3
    n_positions: int = 3
    hours: float = 24.0
    rare_share: float = 0.08
    one_condition_per_experiment: bool = False
    look: float = 1.0
    effect: float = 1.4
    onset: float = 6.0
    aging: float = 1.0
    identity: float = 2.0
    cycle: float = 1.0
    focus: float = 1.0
    noise: float = 0.3

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            require_integer(f"{name} of a world", getattr(self, name), least)
        rule = "track_frames of a world must be at most n_frames"
        require(self.track_frames <= self.n_frames, rule, self.track_frames)
        require_above_0("hours of a world", self.hours)
        require_at_least("onset of a world", self.onset, 0)
        for name in _AMPLITUDES:
            require_at_least(f"{name} of a world", getattr(self, name), 0)
        rule = f"rare_share of a world must leave {self.n_positions} cells or more of each condition"
        for n in (self.n_tracks, self.n_held_out_tracks):
            n_rare = round(self.rare_share * n)
            require(self.n_positions <= n_rare <= n - self.n_positions, rule, self.rare_share)

    @property
    def minutes_per_frame(self) -> float:
        """Minutes between consecutive frames."""
        return 60 * self.hours / (self.n_frames - 1)

    @property
    def names(self) -> list[str]:
        """Names of all experiments, those to train on first."""
        return [f"day{number}" for number in range(1, self.n_experiments + self.n_held_out + 1)]

    @property
    def trained(self) -> list[str]:
        """Names of the experiments to train on."""
        return self.names[: self.n_experiments]

    @property
    def held_out(self) -> list[str]:
        """Names of the experiments that are held out."""
        return self.names[self.n_experiments :]

    def n_cells(self, number: int) -> tuple[int, int]:
        """Return the number of uninfected and of infected cells of an experiment, given by its number, from 0."""
        is_trained = number < self.n_experiments
        n = self.n_tracks if is_trained else self.n_held_out_tracks
        is_mixed = not (self.one_condition_per_experiment and is_trained)
        n_infected = round(self.rare_share * n) if is_mixed else n * (number % 2)
        return n - n_infected, n_infected


WORLDS = {
    "base": World(),
    "weak look": World(look=0.1),
    "balanced": World(rare_share=0.5),
    "strong aging": World(aging=3.0),
    "one condition each": World(one_condition_per_experiment=True, rare_share=0.5),
}
"""The worlds of ``viscy-train study``."""
