"""Schema: the sections of a training configuration, as frozen dataclasses."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import path_type

from viscy_train.config.checks import require, require_above_0, require_at_least, require_integer, require_number

if TYPE_CHECKING:
    type FilePath = Path
else:
    # Relative paths in a config file start at the directory of the file, on the command line at the working directory.
    # Whether the file exists is checked where it is used, because the error can then say how to create it.
    # A URL stays as it is.
    FilePath = path_type("u", docstring="A path that need not exist.")

MIN_TEMPERATURE = 1e-4
"""Smallest temperature: with a smaller one, gradients may not be finite in float32."""
MIN_LEARNED_TEMPERATURE = 0.01
"""Smallest temperature that is learned: logits are multiplied by 100 at most, as in CLIP (Radford et al. 2021)."""


@dataclass(frozen=True, kw_only=True)
class NormalizationConfig:
    """How the intensities of each channel are normalized: (intensity - center) / spread.

    Parameters
    ----------
    by : str
        Whether center and spread are those of the ``experiment``, of the ``position``, or of the ``frame``, which is
        one position at one time.
    method : str
        ``mean_std``: mean and standard deviation. ``percentiles``: the median, and the range from percentile 1 to 99
        divided by 4.652, which is the standard deviation of a normal distribution and ignores the brightest pixels.
    """

    by: Literal["experiment", "position", "frame"] = "experiment"
    method: Literal["mean_std", "percentiles"] = "mean_std"

    def __post_init__(self) -> None:
        rule = "data.normalization.by must be experiment, position or frame"
        require(self.by in ("experiment", "position", "frame"), rule, self.by)
        rule = "data.normalization.method must be mean_std or percentiles"
        require(self.method in ("mean_std", "percentiles"), rule, self.method)

    def __str__(self) -> str:
        return f"{self.method} by {self.by}"


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """What the crop around a cell contains; everything that decides the pixels of an observation.

    Parameters
    ----------
    crop : int
        Side of the square around a cell, in pixels; at a border of the image, the crop is moved inside.
    z_slices : int
        Number of slices in a crop.
    crop_um : float, optional
        Side of the square in micrometers. It is read at the scale of its image and resampled to `crop` pixels, so that
        crops of all experiments show the same size. By default, a crop has the pixels of the image.
    depth_um : float, optional
        Depth of a crop in micrometers, resampled to `z_slices` slices. By default, a crop has the slices of the image.
    z : str
        Which slices: those in the ``middle`` of the stack; those around the ``sharpest`` slice, which ``index`` finds
        for each position and frame; a ``random`` range, in training only; or the ``maximum`` of all slices.
    normalization : NormalizationConfig
        How intensities are normalized.
    """

    crop: int = 64
    z_slices: int = 1
    crop_um: float | None = None
    depth_um: float | None = None
    z: Literal["middle", "sharpest", "random", "maximum"] = "middle"
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)

    def __post_init__(self) -> None:
        require_at_least("data.crop", self.crop, 8)
        require_at_least("data.z_slices", self.z_slices, 1)
        for name in ("crop_um", "depth_um"):
            if getattr(self, name) is not None:
                require_above_0(f"data.{name}", getattr(self, name))
        rule = "data.normalization must be a mapping of `by` and `method`"
        require(isinstance(self.normalization, NormalizationConfig), rule, self.normalization)
        rule = "data.z must be middle, sharpest, random or maximum"
        require(self.z in ("middle", "sharpest", "random", "maximum"), rule, self.z)
        if self.z == "maximum":
            require(self.z_slices == 1, "data.z_slices must be 1 if data.z is maximum", self.z_slices)


@dataclass(frozen=True, kw_only=True)
class PositiveConfig:
    """Which observations may be the positive of an anchor: others of its lineage, or others with the same metadata.

    Parameters
    ----------
    min_frames : int, optional
        Smallest number of frames between an anchor and its positive, in either direction; 1 by default. With 0, the
        same frame is permitted, that is, the anchor itself with another augmentation.
    max_frames : int, optional
        Largest number of frames between them; 4 by default.
    min_hours : float, optional
        Smallest number of hours between them, instead of frames; by default one frame, or 0 with `match`. Hours are
        converted to frames for each experiment, inward: the range contains the frames that are in it.
    max_hours : float, optional
        Largest number of hours between them; by default unlimited with `match`.
    decay : float
        How much likelier near frames are, at least 0: the weight of a frame that is d away is proportional to
        exp(-decay * (d - min) / (max - min)). With 0, all permitted frames are equally likely.
    match : list of str or str
        Columns of the anchor table, such as ``condition``. If there are any, a positive is not of the anchor's lineage,
        but any other observation with the same values in all of them, each equally likely.
    differ : list of str or str
        Columns in which the positive has another value than its anchor, such as ``well``; needs `match`.
    channel : str
        With ``data.channels: one``, the channel of a positive: the ``same`` as that of the anchor, an ``other``, or
        ``any``.
    """

    min_frames: int | None = None
    max_frames: int | None = None
    min_hours: float | None = None
    max_hours: float | None = None
    decay: float = 0.0
    match: list[str] | str = field(default_factory=list)
    differ: list[str] | str = field(default_factory=list)
    channel: Literal["same", "other", "any"] = "same"

    def __post_init__(self) -> None:
        for name in ("match", "differ"):
            object.__setattr__(self, name, _names(f"data.positive.{name}", getattr(self, name)))
        for name in ("min_frames", "max_frames"):
            if getattr(self, name) is not None:
                require_integer(f"data.positive.{name}", getattr(self, name), 0)
        for name in ("min_hours", "max_hours", "decay"):
            if getattr(self, name) is not None:
                require_at_least(f"data.positive.{name}", getattr(self, name), 0)
        if self.match:
            self._check_metadata()
        else:
            self._check_lineage()
        if self.min_hours is not None and self.max_hours is not None:
            rule = "data.positive.max_hours must be at least min_hours"
            require(self.max_hours >= self.min_hours, rule, self.max_hours)

    @property
    def in_hours(self) -> bool:
        """Whether the distance to the positive is given in hours."""
        return self.min_hours is not None or self.max_hours is not None

    @property
    def frames(self) -> tuple[int, int]:
        """Smallest and largest number of frames along the lineage, unless they are given in hours."""
        return 1 if self.min_frames is None else self.min_frames, 4 if self.max_frames is None else self.max_frames

    def resolved(self) -> "PositiveConfig":
        """Return the same settings with the number of frames in place of a default."""
        if self.match or self.in_hours:
            return self
        return replace(self, min_frames=self.frames[0], max_frames=self.frames[1])

    def _check_metadata(self) -> None:
        for name in ("min_frames", "max_frames"):
            rule = f"data.positive.{name} has no effect with data.positive.match; use hours, or remove it"
            require(getattr(self, name) is None, rule, getattr(self, name))
        require(self.decay == 0, "data.positive.decay has no effect with data.positive.match; remove it", self.decay)
        shared = [name for name in self.match if name in self.differ]
        require(not shared, "data.positive.match and data.positive.differ must name different columns", shared)
        for name in ("channel", "marker"):
            rule = f"data.positive.channel has no effect if data.positive.match or differ names {name}; remove it"
            require(self.channel == "same" or name not in [*self.match, *self.differ], rule, self.channel)

    def _check_lineage(self) -> None:
        require(not self.differ, "data.positive.differ needs data.positive.match", self.differ)
        if self.in_hours:
            given = [name for name in ("min_frames", "max_frames") if getattr(self, name) is not None]
            require(not given, "data.positive must be in frames or in hours, not in both", given)
            require(self.max_hours is not None, "data.positive.max_hours must be given with min_hours", self.max_hours)
            is_range = self.min_hours != self.max_hours
        else:
            smallest, largest = self.frames
            require(largest >= smallest, "data.positive.max_frames must be at least min_frames", largest)
            is_range = smallest != largest
        rule = "data.positive.decay has no effect on a single distance; remove it"
        require(is_range or self.decay == 0, rule, self.decay)


def _names(option: str, value: list[str] | str) -> list[str]:
    """Return the names of columns as a list, which may be given as one text."""
    require(isinstance(value, (str, list, tuple)), f"{option} must name columns, or be left out", value)
    names = [value] if isinstance(value, str) else list(value)
    for name in names:
        require(isinstance(name, str) and bool(name.strip()), f"{option} must name columns", name)
    require(len(set(names)) == len(names), f"{option} must name each column once", names)
    return names


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Composition of the batches, with the parameter names of `viscy_data.FlexibleBatchSampler`.

    Parameters
    ----------
    batch_size : int
        Number of anchors in a batch. Each process trains on a batch of its own, unless `split_batches`.
    experiment_aware : bool
        Whether each batch has an experiment of its own, which fills all slots except the leaked ones. Not for
        experiments of one condition each, where it may hurt.
    leaky : float
        Fraction of a batch that comes from the other experiments, in [0, 1). In a study it undid part of the mixing
        that `experiment_aware` brings.
    experiment_weights : str or dict of str to float, optional
        How often each experiment is chosen: ``proportional`` to its number of anchors, ``sqrt`` (proportional to the
        square root), ``uniform``, or a weight for each experiment. The key ``"..."`` stands for all that are not named.
    condition_balanced : bool
        Whether to balance the conditions in each batch, equally or according to `condition_ratio`.
    condition_ratio : dict of str to float, optional
        Relative share of each condition. The key ``"..."`` stands for all that are not named.
    temporal_enrichment : bool
        Whether the slots that are not leaked concentrate around a focal time. Embeddings may then say less of the time.
    temporal_window_hours : float
        Half-width of the temporal window around the focal time, in hours.
    temporal_global_fraction : float
        Fraction of the slots from the batch's own experiment that is drawn from all times.
    split_batches : bool
        Whether all processes share one batch in each step, of which each trains on an equal part. `batch_size` is then
        that of the step, which the number of processes must divide.
    anchors_per_condition : int, optional
        Anchors that each condition of a batch has at least, so that a loss whose positives are those of the same
        condition has positives where there are many conditions. A batch then has fewer of the conditions.
    epoch_batches : int, optional
        Number of batches in an epoch, over all processes. The next epochs continue with anchors that were not drawn, as
        the rest of a long epoch would. By default, an epoch has as many batches as the table fills.
    distinct_by : str or list of str, optional
        Column of the anchor table, such as ``lineage_id``, or columns: anchors of a batch differ in it, as far as there
        are enough.
    locality : int
        Largest number of anchors that follow each other in time and place and are drawn together, so that a batch needs
        few frames. Their positives share their time step where lineages permit. With 1, every anchor is drawn alone.
    place_by : str or list of str, optional
        Columns of the anchor table that sort the anchors of a time for `locality`, by default position, frame, and
        channel where there is one.
    experiment_by, condition_by : str or list of str
        Columns of the anchor table that take the place of the experiment and of the condition, such as
        ``[experiment, marker]``. The keys of `experiment_weights` and `condition_ratio` are then their labels: the
        values of several columns joined by `` | ``.
        Wells and positions are those of an experiment, as ``[experiment, well]``, and tracks those of a position.
    time_by : str
        Column of times in hours, for `temporal_enrichment` and `locality`.
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
    split_batches: bool = False
    anchors_per_condition: int | None = None
    epoch_batches: int | None = None
    distinct_by: list[str] | str | None = None
    locality: int = 1
    place_by: list[str] | str | None = None
    experiment_by: list[str] | str = "experiment"
    condition_by: list[str] | str = "condition"
    time_by: str = "hours_post_infection"

    def __post_init__(self) -> None:
        for name in ("experiment_weights", "condition_ratio"):
            for key in getattr(self, name) if isinstance(getattr(self, name), dict) else ():
                require(isinstance(key, str), f"data.sampler.{name} must have names in quotes as keys", key)
        for name in ("experiment_by", "condition_by", "distinct_by", "place_by"):
            if name not in ("distinct_by", "place_by") or getattr(self, name) is not None:
                names = _names(f"data.sampler.{name}", getattr(self, name))
                require(bool(names), f"data.sampler.{name} must name columns, or be left out", names)
        rule = "data.sampler.time_by must name a column, or be left out"
        require(isinstance(self.time_by, str) and bool(self.time_by.strip()), rule, self.time_by)


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which anchors are kept for validation.

    Parameters
    ----------
    by : str
        ``position`` keeps a fraction of the positions of each condition of each experiment, rounded, but never all of
        them. ``experiment`` keeps all anchors of some experiments. ``none`` keeps nothing.
    fraction : float
        Fraction of the positions to keep if `by` is ``position``, in [0, 1).
    experiments : list of str
        Names of the experiments to keep if `by` is ``experiment``.
    """

    by: Literal["position", "experiment", "none"] = "position"
    fraction: float = 0.2
    experiments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_number("data.split.fraction", self.fraction)
        require(0 <= self.fraction < 1, "data.split.fraction must be in [0, 1)", self.fraction)
        if self.by == "experiment":
            rule = "data.split.experiments must name an experiment if data.split.by is experiment"
            require(bool(self.experiments), rule, self.experiments)
        else:
            rule = f"data.split.experiments has no effect if data.split.by is {self.by}; remove it"
            require(not self.experiments, rule, self.experiments)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random transforms of crops; 0 turns a transform off.

    All slices and channels of a slot get the same geometric transform. Magnitudes are uniform up to the maximum.

    Parameters
    ----------
    rotation : float
        Maximum angle in degrees, in both directions.
    flip : bool
        Whether to flip crops along y with probability 1/2, and independently along x.
    scale : float
        Maximum relative change of size: sizes are multiplied by 1 - scale to 1 + scale.
    translation : float
        Maximum shift along y and x, as a fraction of the side of a crop.
    gain : float
        Maximum relative change of contrast: pixels of a channel are multiplied by 1 - gain to 1 + gain.
    offset : float
        Maximum change of brightness, in both directions, in standard deviations of the channel.
    noise : float
        Maximum standard deviation of Gaussian noise, in standard deviations of the channel.
    blur : float
        Probability of a Gaussian blur.
    blur_sigma : float
        Maximum standard deviation of the blur, in pixels.
    channel_dropout : float
        Probability that a channel of a slot is replaced by the channel's mean; at least one channel is kept.
    """

    rotation: float = 180.0
    flip: bool = True
    scale: float = 0.1
    translation: float = 0.03
    gain: float = 0.2
    offset: float = 0.2
    noise: float = 0.1
    blur: float = 0.2
    blur_sigma: float = 1.0
    channel_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, maximum in (("rotation", 180), ("translation", 0.5), ("blur", 1)):
            value = self._number(name)
            require(0 <= value <= maximum, f"data.augmentation.{name} must be in [0, {maximum}]", value)
        for name in ("scale", "gain", "channel_dropout"):
            require(0 <= self._number(name) < 1, f"data.augmentation.{name} must be in [0, 1)", self._number(name))
        for name in ("offset", "noise", "blur_sigma"):
            require_at_least(f"data.augmentation.{name}", self._number(name), 0)
        require(isinstance(self.flip, bool), "data.augmentation.flip must be true or false", self.flip)

    @property
    def is_off(self) -> bool:
        """Whether all transforms are off, so that crops stay as they are."""
        magnitudes = ("rotation", "scale", "translation", "gain", "offset", "noise", "channel_dropout")
        is_blurred = self.blur > 0 and self.blur_sigma > 0
        return not self.flip and not is_blurred and all(getattr(self, name) == 0 for name in magnitudes)

    def _number(self, name: str) -> float:
        require_number(f"data.augmentation.{name}", getattr(self, name))
        return getattr(self, name)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The network that embeds the crops.

    Parameters
    ----------
    name : str
        ``tiny``, three convolutional layers that train on a laptop, or a model of timm, such as ``convnext_tiny``.
    width : int
        Number of channels of the first layer of ``tiny``. The second and third layers each double it.
    features : int
        Length of an embedding of ``tiny``, at least 2. Models of timm have a fixed length.
    projection : int
        Length of the projection that the loss compares.
    pretrained : bool
        Whether a model of timm starts from its published weights, which are downloaded.
    """

    name: str = "tiny"
    width: int = 16
    features: int = 64
    projection: int = 32
    pretrained: bool = False

    def __post_init__(self) -> None:
        # The report plots two principal components of the features.
        for name, minimum in (("width", 1), ("features", 2), ("projection", 1)):
            require_at_least(f"model.encoder.{name}", getattr(self, name), minimum)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The contrastive loss.

    Parameters
    ----------
    name : str
        ``supcon``, or ``nt_xent``, which supports pairs only.
    temperature : float
        Temperature of the softmax, at least 0.0001.
    learn_temperature : bool
        Whether the temperature is learned, starting at `temperature`. Its logarithm is a weight of the model, without
        weight decay, and it never falls below 0.01.
    positives : str
        Which crops attract each other: those of the same ``lineage``; those of the same ``pair``, which are an anchor
        and its positive, so that other crops of the same cell repel; or those of the same ``condition``.
    negatives : str
        Which crops an anchor is compared with: those of its ``batch``, on whichever ranks it is, or all of the
        ``step``. They differ only if each rank has a batch of its own.
    hardness : float
        How much negatives that are close to the anchor count more, at least 0: the beta of Robinson et al. 2021.
    """

    name: Literal["nt_xent", "supcon"] = "supcon"
    temperature: float = 0.2
    learn_temperature: bool = False
    positives: Literal["lineage", "pair", "condition"] = "lineage"
    negatives: Literal["batch", "step"] = "batch"
    hardness: float = 0.0

    def __post_init__(self) -> None:
        if self.name == "nt_xent":
            require(self.positives == "pair", "model.loss.positives must be pair for nt_xent", self.positives)
        rule = f"model.loss.temperature must be at least {MIN_TEMPERATURE}"
        require(self.temperature >= MIN_TEMPERATURE, rule, self.temperature)
        if self.learn_temperature:
            rule = f"model.loss.temperature must be at least {MIN_LEARNED_TEMPERATURE} if it is learned"
            require(self.temperature >= MIN_LEARNED_TEMPERATURE, rule, self.temperature)
        require_at_least("model.loss.hardness", self.hardness, 0)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The AdamW optimizer and its learning rate schedule.

    Parameters
    ----------
    learning_rate : float
        Peak learning rate.
    weight_decay : float
        Weight decay coefficient.
    schedule : str
        ``cosine``, a linear warmup from 0 followed by a cosine decay to 0 at the end of the run, or ``constant``.
    warmup_fraction : float
        Fraction of the steps of the run used for the warmup, in [0, 1).
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
class ModelConfig:
    """The section ``model``, which `viscy_train.model.module.ContrastiveModule` takes one by one.

    Parameters
    ----------
    encoder : EncoderConfig
        The network.
    loss : LossConfig
        The loss.
    optimizer : OptimizerConfig
        AdamW and its learning rate schedule.
    init_from : path, optional
        File of the weights that a new run starts from, which ``viscy-train fit`` loads: a checkpoint, an encoder that
        ``viscy-train export`` wrote, or weights of the same network of timm.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    init_from: FilePath | None = None


@dataclass(frozen=True, kw_only=True)
class PlainTrainerOptions:
    """Options of Lightning's trainer that are numbers, texts or booleans, with Lightning's names and our defaults.

    The commands without a model know only these, because importing Lightning takes seconds.
    """

    accelerator: str = "auto"
    devices: list[int] | str | int = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true"] | None = None
    max_epochs: int | None = 50
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_predict_batches: int | float | None = None
    val_check_interval: int | float | None = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = 0
    log_every_n_steps: int | None = 10
    accumulate_grad_batches: int = 1
    gradient_clip_val: int | float | None = None
    benchmark: bool | None = None
    sync_batchnorm: bool = False
    logger: bool | None = None
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = False
    enable_model_summary: bool | None = False


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are saved.

    Parameters
    ----------
    every_n_steps : int
        Number of steps between two writes of ``checkpoints/last.ckpt``, which is also written at the end of each epoch
        and when the run is stopped. A killed run loses at most this many steps.
    keep_best : int
        Number of checkpoints with the lowest validation loss to keep in addition.
    """

    every_n_steps: int = 100
    keep_best: int = 1

    def __post_init__(self) -> None:
        require_at_least("checkpoint.every_n_steps", self.every_n_steps, 1)
        require_at_least("checkpoint.keep_best", self.keep_best, 0)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What the report measures.

    Parameters
    ----------
    probe : str or list of str, optional
        Column of the anchor table, or columns, that linear probes predict from the embeddings. By default, the
        condition and columns of text with 2 to 50 values.
    time : str, default hours post infection
        What the hours of the experiments are called in the report and by ``inspect``, such as ``hours after
        treatment``.
    projection : {"pca", "umap"}
        How the report shows embeddings in two dimensions: by principal components or, with the extra ``umap``, by UMAP.
    """

    probe: list[str] | str | None = None
    time: str = "hours post infection"
    projection: Literal["pca", "umap"] = "pca"

    def __post_init__(self) -> None:
        require(self.projection in ("pca", "umap"), "evaluation.projection must be pca or umap", self.projection)
        rule = "evaluation.time must be a name of the hours, such as `hours after treatment`"
        require(isinstance(self.time, str) and bool(self.time.strip()), rule, self.time)
        if self.probe is not None:
            _names("evaluation.probe", self.probe)
