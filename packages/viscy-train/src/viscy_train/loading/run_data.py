"""Run data: the anchor table of a run, its split, its positives and its batches, without torch."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from viscy_train.anchors.shared_table import LEAST_ROWS, store_of
from viscy_train.anchors.staleness import check_settings
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.checks import require, require_above_0, require_at_least
from viscy_train.config.schema import (
    AugmentationConfig,
    CropSettings,
    FilePath,
    NormalizationConfig,
    PositiveConfig,
    SamplerConfig,
    SplitConfig,
)
from viscy_train.errors import UserError
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.loading.axes import CONDITION, GROUP, add_labels, axis_names, check_axes, columns_of_axes
from viscy_train.loading.batches import RepeatedBatches
from viscy_train.loading.positive_choice import PositiveChoice
from viscy_train.loading.sampler import (
    collect_sampler_warnings,
    drop_excluded,
    make_sampler,
    training_options,
    validation_options,
)
from viscy_train.loading.saved_lineages import saved_lineages
from viscy_train.loading.shared_rows import take_rows
from viscy_train.loading.split import (
    anchors_of_parts,
    count_unpaired,
    drop_unpaired,
    kept_for_validation,
    name_untrained,
    split_warnings,
)
from viscy_train.model.encoder_input import ONE_CHANNEL, EncoderInput
from viscy_train.positives.description import describe_positives, warn_of_labels, warn_of_positives
from viscy_train.positives.rule import Positives, check_labels, make_positives
from viscy_train.remote.path import as_path
from viscy_train.row_slices import distinct_values
from viscy_train.wording import count

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_data import ComposedBatches
    from viscy_train.config.schema import LossConfig

# Columns must exist, also those of an axis that is off; missing values are reported where they are used.
_NO_AXES: Any = dict.fromkeys(("experiment_aware", "condition_balanced", "temporal_enrichment"), False)
_NO_AXES |= {"distinct_by": None, "place_by": None, "locality": 1}
# Anchors for this number of batches are enough, whatever is kept for validation.
_MANY_BATCHES = 100


class RunData:
    """What a run draws its batches from, as the section ``data`` of a configuration describes it.

    Parameters
    ----------
    experiments : path
        YAML file of the experiments, see `viscy_train.experiments.experiments_file.Experiment`.
    anchors : path
        Parquet file of the anchor table, written by ``viscy-train index``.
    crop : int
        Side of the square around a cell, in pixels; at a border of the image, the crop is moved inside.
    z_slices : int
        Number of slices in a crop.
    crop_um : float, optional
        Side of the square in micrometers, resampled to `crop` pixels. By default, a crop has the pixels of the image.
    depth_um : float, optional
        Depth of a crop in micrometers, resampled to `z_slices` slices. By default, a crop has the slices of the image.
    z : {"middle", "sharpest", "random", "maximum"}
        Which slices: those in the middle of the stack; those around the sharpest slice, which ``index`` finds; a random
        range, in training only; or the maximum of all slices.
    normalization : NormalizationConfig
        How intensities are normalized.
    channels : {"all", "one"}
        Whether the encoder sees all channels of a cell, or one: an anchor is then a cell at a time in one channel, and
        experiments may have different numbers of channels.
    positive : PositiveConfig
        Which observations may be the positive of an anchor: of its lineage, or with the same metadata.
    sampler : SamplerConfig
        Composition of the batches.
    split : SplitConfig
        Which anchors are kept for validation.
    augmentation : AugmentationConfig
        Random transforms of the crops, applied on the device.
    num_workers : int
        Number of threads or processes that load batches ahead, for each training process; with 0, it loads them itself.
    workers : {"threads", "processes"}
        Whether threads of the training process load batches ahead, or processes.
    start_method : {"fork", "spawn", "forkserver"}, optional
        How worker processes are started; by default, Python's default.
    cache_mb : int
        Memory for decoded chunks, for all threads of a process together, and for each worker process, in MB.
    store : path, optional
        Crop store, written by ``viscy-train pack``, to read crops from instead of plates: the same pixels, faster.
    stall_warning_seconds : float
        After how many seconds without a batch a line says for which data worker, or which other process, the run waits.
    seed : int
        Seed of all random numbers.

    Notes
    -----
    All that the commands without a model need, which import neither torch nor Lightning.
    `viscy_train.loading.data_module.PairDataModule` is a `RunData` that also loads the crops.
    """

    def __init__(
        self,
        experiments: FilePath,
        anchors: FilePath,
        crop: int = 64,
        z_slices: int = 1,
        crop_um: float | None = None,
        depth_um: float | None = None,
        z: Literal["middle", "sharpest", "random", "maximum"] = "middle",
        normalization: NormalizationConfig = NormalizationConfig(),  # noqa: B008
        channels: Literal["all", "one"] = "all",
        positive: PositiveConfig = PositiveConfig(),  # noqa: B008 (frozen)
        sampler: SamplerConfig = SamplerConfig(),  # noqa: B008
        split: SplitConfig = SplitConfig(),  # noqa: B008
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008
        num_workers: int = 4,
        workers: Literal["threads", "processes"] = "threads",
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        cache_mb: int = 256,
        store: FilePath | None = None,
        stall_warning_seconds: float = 60.0,
        seed: int = 0,
    ) -> None:
        super().__init__()  # PairDataModule is also a Lightning data module
        require_at_least("data.num_workers", num_workers, 0)
        if start_method is not None and workers != "processes":
            raise UserError(
                f"data.start_method has an effect only with data.workers: processes, got {start_method!r} with "
                f"{workers}; remove it, or set data.workers to processes"
            )
        require_at_least("data.cache_mb", cache_mb, 1)
        require_above_0("data.stall_warning_seconds", stall_warning_seconds)
        # The generators of NumPy and scikit-learn accept no larger seed.
        require(0 <= seed < 2**32, "seed_everything must be in [0, 2**32)", seed)
        self.channels_mode: Literal["all", "one"] = channels
        self.experiments = load_experiments(as_path(experiments), channels)
        self.path = as_path(anchors)
        self.store = None if store is None else as_path(store)
        sizes: Any = {"crop": crop, "z_slices": z_slices, "crop_um": crop_um, "depth_um": depth_um}
        self.crops, self.positive = CropSettings(**sizes, z=z, normalization=normalization), positive
        self._options, self.seed = sampler, seed
        self._split, self._augmentation = split, augmentation
        self._num_workers, self._workers, self._start_method = num_workers, workers, start_method
        self.cache_mb = cache_mb
        self.stall_warning_seconds = stall_warning_seconds

    @property
    def n_readers(self) -> int:
        """Number of workers that read; 0 if each training process reads itself."""
        return self._num_workers

    @property
    def crop(self) -> int:
        """Side of a crop, in pixels."""
        return self.crops.crop

    @property
    def z_slices(self) -> int:
        """Number of slices in a crop."""
        return self.crops.z_slices

    @property
    def n_channels(self) -> int:
        """Number of channels of a crop."""
        return len(self.channels)

    @property
    def channels(self) -> list[str]:
        """Names of the channels of a crop: those of the first experiment, unless a crop is of any one channel."""
        return [ONE_CHANNEL] if self.channels_mode == "one" else self.experiments[0].channel_names

    @property
    def encoder_input(self) -> EncoderInput:
        """What an encoder that is trained on these data takes."""
        of_experiments = [list(experiment.markers.values()) for experiment in self.experiments]
        is_any = self.channels_mode == "one"
        markers = [[*chain(*of_experiments)]] if is_any else [*zip(*of_experiments, strict=True)]
        return EncoderInput.of(self.channels, markers, self.crops)

    @cached_property
    def table(self) -> AnchorTable:
        """The anchor table, read on first access.

        Raises
        ------
        UserError
            If the file does not exist, is damaged, or was built with other settings.
        """
        table = AnchorTable.read(self.path)
        check_settings(table, self.experiments, self.positive, self.crops, channels_mode=self.channels_mode)
        # Only the paths of plates and tracks may differ; use the current ones.
        return replace(table, experiments=self.experiments)

    @property
    def train_rows(self) -> NDArray[np.int64]:
        """Rows of the anchor table that are used for training, ascending."""
        return self._split_rows[0]

    @property
    def validation_rows(self) -> NDArray[np.int64]:
        """Rows of the anchor table that are kept for validation, ascending; may be empty."""
        return self._split_rows[1]

    @cached_property
    def is_kept(self) -> NDArray[np.bool_]:
        """Whether each observation, anchor or not, is kept for validation, shape (n_observations,).

        By default what ``data.split`` says. A program that compares runs assigns parts of its own, before it asks for
        anything else.
        """
        is_kept = kept_for_validation(self.table, self._split, self.seed, self.labeled[CONDITION])
        return store_of(self.path).share(is_kept) if self._is_large else is_kept

    def split_warnings(self, world_size: int) -> list[str]:
        """Return warnings about the split on some processes, a sentence for each."""
        warnings = count_unpaired(self._parts, self._split_rows) + self._name_untrained()
        warnings += split_warnings(self._split, len(self._parts[1]))
        n_anchors = len(self._validated_rows)
        if n_anchors and not self.count_validation_batches(world_size):
            warnings.append(
                f"there is no validation, because {world_size} processes cannot share "
                f"{count(n_anchors, 'anchor')}: keep more with data.split"
            )
        return warnings

    def batch_size_warnings(self, n_anchors: int) -> list[str]:
        """Return a warning if a batch needs more anchors than there are for training, which `fit` refuses.

        Parameters
        ----------
        n_anchors : int
            Number of anchors of the table. The table is read, and split, only if they are few.
        """
        size = self._options.batch_size
        if n_anchors > size * _MANY_BATCHES:
            return []
        try:
            n_trained = len(drop_excluded(self._options, self.labeled, self.train_rows))
        except UserError:  # in the split or the composition, as `inspect` and `fit` say
            return []
        if n_trained >= size:
            return []
        largest = f"; set it to {n_trained} or less" if n_trained > 1 else ""
        return [
            f"data.sampler.batch_size is {size}, but there are only {n_trained} anchors for training, so `fit` would "
            f"refuse it{largest}"
        ]

    def _name_untrained(self) -> list[str]:
        # Experiments that are kept for validation are not expected in training.
        parts = self._parts[:1] if self._split.by == "experiment" else self._parts
        expected = [drop_excluded(self._options, self.labeled, rows) for rows in parts]
        return name_untrained(self.labeled[[GROUP, CONDITION]], axis_names(self._options), expected, self.train_rows)

    @cached_property
    def _split_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if not self.positive.match:
            return self._parts
        return self._share(drop_unpaired(self._parts, self.positives.has_positive()))

    @cached_property
    def _parts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return anchors_of_parts(self.table, self.is_kept, store_of(self.path) if self._is_large else None)

    def describe_positives(self, loss: LossConfig | None = None) -> list[str]:
        """Return what a positive is, and notes, a sentence for each; with a loss, also on what it makes of them.

        Raises
        ------
        UserError
            If no whole number of frames of an experiment is permitted, or the loss contradicts the positives.
        """
        sentences = describe_positives(self.experiments, self.positive)
        is_augmented = not self._augmentation.is_off or self.crops.z == "random"
        warnings = warn_of_positives(self.experiments, self.positive, is_augmented=is_augmented)
        if loss is not None:
            check_labels(self.table.observations, self.positive, loss.positives, self._options.condition_by)
            warnings += warn_of_labels(self.positive, loss.positives)
        return [*sentences, *(f"Note: {warning}" for warning in warnings)]

    @cached_property
    def positives(self) -> Positives:
        """The possible positives of each anchor; those by metadata are kept for validation if their anchor is.

        All processes of a machine share the lineages of a large table.
        """
        if self._is_large and not self.positive.match:
            return saved_lineages(store_of(self.path).directory, self.table, self.positive)
        part = self.is_kept.astype(np.int64) if self.positive.match else None
        return make_positives(self.table.observations, self.experiments, self.positive, part)

    @cached_property
    def positive_choice(self) -> PositiveChoice:
        """Chooses the positives of a batch."""
        return self.positive_choice_with(self._options.locality)

    def positive_choice_with(self, locality: int) -> PositiveChoice:
        """Return what chooses the positives of a batch; with locality, those of a position share their frames."""
        return PositiveChoice(self.positives, self.seed, self.table.observations if locality > 1 else None)

    @cached_property
    def options(self) -> SamplerConfig:
        """Composition of the training batches."""
        columns = self.labeled[[GROUP, CONDITION]]
        table_labels = {name: set(distinct_values(columns[name])) for name in columns}
        labels = {name: set(distinct_values(columns[name], self.train_rows)) for name in columns}
        return training_options(self._options, table_labels, labels)

    @cached_property
    def labeled(self) -> pd.DataFrame:
        """The observations, with the labels of the axes of the sampler, see `viscy_train.loading.axes.add_labels`.

        With positives of the same channel, each channel of a cell has a lineage of its own, as in the loss.
        """
        check_axes(self.table.observations, replace(self._options, **_NO_AXES))
        labeled = add_labels(self.table.observations, self._options)
        if self.channels_mode == "one" and self.positive.channel == "same":
            labeled = labeled.assign(lineage_id=labeled.groupby(["lineage_id", "channel"], observed=True).ngroup())
        return labeled

    def train_anchors(self, *, labeled: bool = False) -> pd.DataFrame:
        """Return the anchors used for training, maybe with labels; the sampler yields row numbers of this table."""
        observations = self.labeled if labeled else self.table.observations
        return observations.iloc[self.train_rows].reset_index(drop=True)

    def axes_of_train_anchors(self) -> pd.DataFrame:
        """Return those columns of the anchors used for training that the sampler reads, or all if one is missing."""
        return self._axes_of(self.train_rows)

    def _axes_of(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        observations = self.table.observations
        names = dict.fromkeys((GROUP, *columns_of_axes(self._options, observations)))
        return self._take(observations[list(names)] if set(names) <= set(observations) else observations, rows)

    def labels_of_train_anchors(self) -> pd.DataFrame:
        """Return the labels of the anchors used for training, see `viscy_train.loading.axes.add_labels`."""
        return self._take(self.labeled[[GROUP, CONDITION]], self.train_rows)

    def make_sampler(self, rank: int = 0, world_size: int = 1) -> ComposedBatches:
        """Make the sampler of the training batches of a process; that of a large table maps its sorted anchors.

        Raises
        ------
        UserError
            If the options are invalid or do not match the anchors.
        """
        anchors = self.axes_of_train_anchors()
        return make_sampler(anchors, self.options, self.seed, rank, world_size, saved_in=self._saved_in)

    @property
    def _saved_in(self) -> Path | None:
        """Where the sorted anchors of a large table are saved."""
        return store_of(self.path).directory if self._is_large else None

    @property
    def _is_large(self) -> bool:
        """Whether what follows from the table is shared by all processes of the machine."""
        return len(self.table.observations) >= LEAST_ROWS

    def _take(self, columns: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Return some rows of columns, with a RangeIndex; those of a large table are mapped by all processes."""
        if not self._is_large:
            return columns.iloc[rows].reset_index(drop=True)
        return take_rows(columns, rows, store_of(self.path))

    def _share(self, parts: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows of the table in memory that all processes of the machine share."""
        store = store_of(self.path)
        return (store.share(parts[0]), store.share(parts[1])) if self._is_large else parts

    def count_validation_batches(self, world_size: int) -> int:
        """Return the number of validation batches of each of some processes."""
        batches = self._validation_batches(0, world_size)
        return 0 if batches is None else len(batches)

    @cached_property
    def _validated_rows(self) -> NDArray[np.int64]:
        """Rows of the anchor table that are used for validation, ascending."""
        return drop_excluded(self._options, self.labeled, self.validation_rows)

    def _validation_batches(self, rank: int, world_size: int) -> RepeatedBatches | None:
        rows = self._validated_rows
        options = validation_options(self._options, self._take(self.labeled[[GROUP, CONDITION]], rows), world_size)
        if not options.batch_size:
            return None
        with collect_sampler_warnings():
            sampler = make_sampler(self._axes_of(rows), options, self.seed, rank, world_size, saved_in=self._saved_in)
        return RepeatedBatches(sampler, rows, rank, world_size)
