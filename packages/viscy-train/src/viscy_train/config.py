"""Configuration: what is trained on what, as frozen dataclasses that a YAML file fills."""

from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import path_type

from viscy_train.checks import require, require_above_0, require_at_least, require_name, require_number

if TYPE_CHECKING:
    type FilePath = Path
else:
    # Relative paths in a config file start at the file, on the command line at the working directory. Whether there
    # is anything at the path is checked where it is used, which can say more than that it is missing.
    FilePath = path_type("", docstring="A path, of something that need not exist.")


# More processes than this are a slip of the keyboard rather than a machine.
_MOST_PROCESSES = 64


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One experiment: a plate, its tracks, and when and with what its wells were infected.

    Parameters
    ----------
    name : str
        Name of the experiment in the anchor table.
    plate : path
        HCS OME-Zarr plate.
    tracks : path
        Folder with a CSV for each position, for position ``A/1/0`` the file ``A/1/0.csv``.
    hours_at_start : float
        Hours post infection of the first frame.
    hours_per_frame : float
        Hours from a frame to the next.
    conditions : dict of str to str
        Wells to use, such as ``A/1``, and the condition of each.
    """

    name: str
    plate: FilePath
    tracks: FilePath
    hours_at_start: float
    hours_per_frame: float
    conditions: dict[str, str]

    def __post_init__(self) -> None:
        require_name("name of an experiment", self.name)
        where = f"of experiment {self.name!r}"
        require(self.plate is not None, f"plate {where} must be a path", self.plate)
        require(self.tracks is not None, f"tracks {where} must be a path", self.tracks)
        object.__setattr__(self, "plate", Path(self.plate))
        object.__setattr__(self, "tracks", Path(self.tracks))
        require_number(f"hours_at_start {where}", self.hours_at_start)
        require_above_0(f"hours_per_frame {where}", self.hours_per_frame)
        require(bool(self.conditions), f"conditions {where} must name a well", self.conditions)
        for well, condition in self.conditions.items():
            require_name(f"condition of well {well!r} {where}", condition)


@dataclass(frozen=True, kw_only=True)
class PositiveConfig:
    """Which other time of the anchor's cell is its positive.

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
        require_at_least("positive.min_frames", self.min_frames, 1)
        require_number("positive.max_frames", self.max_frames)
        require(self.max_frames >= self.min_frames, "positive.max_frames must be at least min_frames", self.max_frames)


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
    drop_last : bool
        Whether to leave out the short last batch of an epoch.
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
    drop_last: bool = True


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Size of the encoder.

    Parameters
    ----------
    width : int
        Feature maps of its first layer; each of the further two layers doubles them.
    features : int
        Length of an embedding, at least 2.
    projection : int
        Length of the vector that the loss compares.
    """

    width: int = 16
    features: int = 64
    projection: int = 32

    def __post_init__(self) -> None:
        # The report draws two principal components of the features.
        for name, least in (("width", 1), ("features", 2), ("projection", 1)):
            require_at_least(f"encoder.{name}", getattr(self, name), least)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the encoder is trained.

    Parameters
    ----------
    epochs : int
        Passes over the anchor table.
    processes : int
        Processes on the CPU, each with batches of its own; at most 64.
    learning_rate : float
        Of AdamW.
    temperature : float
        Of the NT-Xent loss.
    """

    epochs: int = 2
    processes: int = 2
    learning_rate: float = 2e-3
    temperature: float = 0.2

    def __post_init__(self) -> None:
        require_at_least("training.epochs", self.epochs, 1)
        require_at_least("training.processes", self.processes, 1)
        require(
            self.processes <= _MOST_PROCESSES, f"training.processes must be at most {_MOST_PROCESSES}", self.processes
        )
        require_above_0("training.learning_rate", self.learning_rate)
        require_above_0("training.temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run: experiments in, a trained encoder and a report out.

    Parameters
    ----------
    experiments : list of ExperimentConfig
        What to train on.
    channels : list of str
        Channels of the plates that the encoder sees.
    output : path
        Folder for the results, new or empty.
    seed : int
        Of everything random, in [0, 2**32).
    crop : int
        Side of the square around a cell, in pixels.
    positive : PositiveConfig
        Which other time of the anchor's cell is its positive.
    sampler : SamplerConfig
        Composition of the batches.
    encoder : EncoderConfig
        Size of the encoder.
    training : TrainingConfig
        How the encoder is trained.
    """

    experiments: list[ExperimentConfig]
    channels: list[str]
    output: FilePath
    seed: int = 0
    crop: int = 32
    positive: PositiveConfig = field(default_factory=PositiveConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        require(self.output is not None, "output must be a path", self.output)
        object.__setattr__(self, "output", Path(self.output))
        require(bool(self.experiments), "experiments must hold at least one", self.experiments)
        for experiment in self.experiments:
            require(isinstance(experiment, ExperimentConfig), "experiments must hold mappings of keys", experiment)
        names = [experiment.name for experiment in self.experiments]
        require(len(set(names)) == len(names), "experiments must have different names", names)
        require(bool(self.channels), "channels must name at least one", self.channels)
        require_number("crop", self.crop)
        require(self.crop >= 8, "crop must be at least 8 pixels", self.crop)
        require_number("seed", self.seed)
        # NumPy's and scikit-learn's generators take no larger one.
        require(0 <= self.seed < 2**32, "seed must be in [0, 2**32)", self.seed)
        for section in ("positive", "sampler", "encoder", "training"):
            require(
                is_dataclass(getattr(self, section)), f"{section} must be a mapping of keys", getattr(self, section)
            )


def config_parser() -> ArgumentParser:
    """Return a parser of a config file and of options that override its keys.

    Returns
    -------
    jsonargparse.ArgumentParser
        It raises instead of exiting.
    """
    parser = ArgumentParser(exit_on_error=False, description="Train as a config file says.")
    parser.add_argument("--config", action="config", help="YAML file with the keys below")
    parser.add_class_arguments(Config)
    return parser


def config_of(parsed: Any) -> Config:
    """Return the configuration that a parser made by `config_parser` has parsed.

    Parameters
    ----------
    parsed : jsonargparse.Namespace
        Result of the parser.

    Returns
    -------
    Config
        With absolute paths.

    Raises
    ------
    UserError
        If a value is out of its range.
    """
    for section in ("positive", "sampler", "encoder", "training"):
        # Before instantiation, which answers a null or a list with a TypeError.
        require(isinstance(parsed[section], Namespace), f"{section} must be a mapping of keys", parsed[section])
    fields = config_parser().instantiate(parsed)
    return Config(**{name: fields[name] for name in Config.__dataclass_fields__})


def load_config(path: Path) -> Config:
    """Read a configuration from a YAML file.

    Parameters
    ----------
    path : pathlib.Path
        The file; relative paths in it start at its folder.

    Returns
    -------
    Config
        With absolute paths.
    """
    return config_of(config_parser().parse_args(["--config", str(path)]))


def dump_config(config: Config) -> str:
    """Return a configuration as YAML, with absolute paths.

    Parameters
    ----------
    config : Config
        Any.

    Returns
    -------
    str
        What `load_config` reads back as the same configuration.
    """
    content = asdict(config)
    content["output"] = str(config.output)
    for experiment in content["experiments"]:
        experiment.update(plate=str(experiment["plate"]), tracks=str(experiment["tracks"]))
    parser = config_parser()
    return parser.dump(parser.parse_object(content))
