"""Configuration: the sections of a training configuration, as frozen dataclasses that a YAML file fills."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import path_type

from viscy_train.config.checks import require, require_above_0, require_at_least, require_number

if TYPE_CHECKING:
    type FilePath = Path
else:
    # Relative paths in a config file start at the file, on the command line at the working directory. Whether there
    # is anything at the path is checked where it is used, which can say more than that it is missing.
    FilePath = path_type("", docstring="A path, of something that need not exist.")


@dataclass(frozen=True, kw_only=True)
class PositiveConfig:
    """Which other time of the anchor's lineage is its positive.

    Parameters
    ----------
    min_frames : int
        Fewest frames between anchor and positive, before or after.
    max_frames : int
        Most frames between them.
    """

    min_frames: int = 1
    max_frames: int = 4

    def __post_init__(self) -> None:
        require_at_least("data.positive.min_frames", self.min_frames, 1)
        require_number("data.positive.max_frames", self.max_frames)
        require(
            self.max_frames >= self.min_frames, "data.positive.max_frames must be at least min_frames", self.max_frames
        )


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Composition of the batches: parameters of `viscy_data.FlexibleBatchSampler`, under its names.

    Parameters
    ----------
    batch_size : int
        Anchors in a batch of one process.
    experiment_aware : bool
        Whether the primary part of a batch comes from one experiment alone.
    leaky : float
        Fraction of a batch that comes from the other experiments.
    experiment_weights : str or dict of str to float, optional
        ``proportional``, ``sqrt``, ``uniform``, or a weight for each experiment.
    condition_balanced : bool
        Whether the conditions share a batch equally, or as condition_ratio says.
    condition_ratio : dict of str to float, optional
        Relative share of each condition.
    temporal_enrichment : bool
        Whether the primary part concentrates around a focal time.
    temporal_window_hours : float
        Half-width of the window around the focal time.
    temporal_global_fraction : float
        Fraction of the primary part drawn from all times.
    """

    batch_size: int = 128
    experiment_aware: bool = True
    leaky: float = 0.0
    experiment_weights: dict[str, float] | str | None = None
    condition_balanced: bool = True
    condition_ratio: dict[str, float] | None = None
    temporal_enrichment: bool = False
    temporal_window_hours: float = 2.0
    temporal_global_fraction: float = 0.3


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """What is kept for validation.

    Parameters
    ----------
    by : str
        ``position``: that fraction of the positions of each condition of each experiment, rounded, but never all of
        them; ``experiment``: whole experiments; ``none``: nothing.
    fraction : float
        Of the positions, where they are kept, in [0, 1).
    experiments : list of str
        Names, where experiments are kept.
    """

    by: Literal["position", "experiment", "none"] = "position"
    fraction: float = 0.2
    experiments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_number("data.split.fraction", self.fraction)
        require(0 <= self.fraction < 1, "data.split.fraction must be in [0, 1)", self.fraction)
        if self.by == "experiment":
            rule = "data.split.experiments must name an experiment where data.split.by is experiment"
            require(bool(self.experiments), rule, self.experiments)
        else:
            rule = f"data.split.experiments has no effect where data.split.by is {self.by}; leave it out"
            require(not self.experiments, rule, self.experiments)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which network embeds the crops.

    Parameters
    ----------
    name : str
        ``tiny``, three convolutions that train on a laptop, or a model of timm, such as ``convnext_tiny``.
    width : int
        Feature maps of the first layer of the tiny one; each of the further two layers doubles them.
    features : int
        Length of an embedding of the tiny one, at least 2; that of a model of timm is its own.
    projection : int
        Length of the vector that the loss compares.
    pretrained : bool
        Whether a model of timm starts with its published weights, which are downloaded.
    """

    name: str = "tiny"
    width: int = 16
    features: int = 64
    projection: int = 32
    pretrained: bool = False

    def __post_init__(self) -> None:
        # The report draws two principal components of the features.
        for name, least in (("width", 1), ("features", 2), ("projection", 1)):
            require_at_least(f"model.encoder.{name}", getattr(self, name), least)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What the encoder is trained for.

    Parameters
    ----------
    name : str
        ``supcon``, or ``nt_xent``, which knows pairs alone.
    temperature : float
        Of either.
    positives : str
        Which crops of a batch attract each other: those of one ``lineage``; of one ``pair``, an anchor and its positive
        alone, so that another crop of the same cell repels; or of one ``condition``.
    """

    name: Literal["nt_xent", "supcon"] = "supcon"
    temperature: float = 0.2
    positives: Literal["lineage", "pair", "condition"] = "lineage"

    def __post_init__(self) -> None:
        if self.name == "nt_xent":
            require(self.positives == "pair", "model.loss.positives must be pair for nt_xent", self.positives)
        require_above_0("model.loss.temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its learning rate over the run.

    Parameters
    ----------
    learning_rate : float
        The highest.
    weight_decay : float
        Of AdamW.
    schedule : str
        ``cosine``: it rises from 0 and falls to 0 over the run; ``constant``.
    warmup_fraction : float
        Of the steps of the run in which it rises, in [0, 1).
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: float = 0.05

    def __post_init__(self) -> None:
        require_above_0("model.optimizer.learning_rate", self.learning_rate)
        require_number("model.optimizer.weight_decay", self.weight_decay)
        require(self.weight_decay >= 0, "model.optimizer.weight_decay must be at least 0", self.weight_decay)
        require_number("model.optimizer.warmup_fraction", self.warmup_fraction)
        rule = "model.optimizer.warmup_fraction must be in [0, 1)"
        require(0 <= self.warmup_fraction < 1, rule, self.warmup_fraction)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state of a run is saved.

    Parameters
    ----------
    every_n_steps : int
        Steps after which ``checkpoints/last.ckpt`` is replaced; it also is at the end of each epoch and when the run
        is asked to stop. A run that is killed loses at most so many steps.
    keep_best : int
        How many checkpoints with the least validation loss are kept beside it.
    """

    every_n_steps: int = 100
    keep_best: int = 1

    def __post_init__(self) -> None:
        require_at_least("checkpoint.every_n_steps", self.every_n_steps, 1)
        require_at_least("checkpoint.keep_best", self.keep_best, 0)
