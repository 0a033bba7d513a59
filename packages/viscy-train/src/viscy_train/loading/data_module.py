"""Data module: loaders of pairs in batches of a stated composition, and how much of them was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from viscy_train.anchors.experiments import load_experiments
from viscy_train.anchors.lineages import Lineages
from viscy_train.anchors.staleness import check_table
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.checks import require, require_at_least
from viscy_train.config.schema import FilePath, PositiveConfig, SamplerConfig, SplitConfig
from viscy_train.errors import UserError
from viscy_train.loading.augmentation import Augment, AugmentationConfig
from viscy_train.loading.batches import Batch, NumberedBatches, RowBatches, SameBatches
from viscy_train.loading.datasets import CropDataset, PairDataset, as_loaded
from viscy_train.loading.rng import Purpose, torch_seed
from viscy_train.loading.sampler import (
    collect_sampler_warnings,
    make_sampler,
    options_for_validation,
    restore_sampler,
    with_nonzero_weight,
)
from viscy_train.loading.split import split_anchors
from viscy_train.loading.worker_exit import end_with_trainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_data import FlexibleBatchSampler


class PairDataModule(LightningDataModule):
    """Load pairs of crops: anchors in batches of a stated composition, each with a positive.

    Parameters
    ----------
    experiments : path
        YAML file that names them, see `viscy_train.anchors.experiments.Experiment`.
    anchors : path
        Parquet file of the anchor table, which ``viscy-train index`` writes.
    crop : int
        Side of the square around a cell, in pixels; at a border it is moved into the image.
    z_slices : int
        Slices of a crop, those in the middle of the stack.
    positive : PositiveConfig
        Which other time of the anchor's lineage is its positive.
    sampler : SamplerConfig
        Composition of the batches.
    split : SplitConfig
        What is kept for validation.
    augmentation : AugmentationConfig
        How crops are varied, on the device.
    num_workers : int
        Processes that read ahead, for each process that trains.
    start_method : str, optional
        How they are started: ``fork``, ``spawn`` or ``forkserver``; by default as Python does.
    cache_mb : int
        Megabytes of decoded chunks that each of them keeps.
    seed : int
        Of everything random.

    Notes
    -----
    What is random in a batch is a function of (seed, epoch, number of the batch, slot): the same batch has the same
    pixels whenever, wherever and by whom it is loaded. The state is how many batches of the epoch were trained on, not
    how many were fetched ahead; it goes into Lightning's checkpoints. Lightning must not touch the sampler
    (``use_distributed_sampler=False``).
    """

    def __init__(
        self,
        experiments: FilePath,
        anchors: FilePath,
        crop: int = 64,
        z_slices: int = 1,
        positive: PositiveConfig = PositiveConfig(),  # noqa: B008 (frozen)
        sampler: SamplerConfig = SamplerConfig(),  # noqa: B008
        split: SplitConfig = SplitConfig(),  # noqa: B008
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008
        num_workers: int = 4,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        cache_mb: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_at_least("data.crop", crop, 8)
        require_at_least("data.z_slices", z_slices, 1)
        require_at_least("data.num_workers", num_workers, 0)
        require_at_least("data.cache_mb", cache_mb, 1)
        # NumPy's and scikit-learn's generators take no larger one.
        require(0 <= seed < 2**32, "seed_everything must be in [0, 2**32)", seed)
        self.experiments = load_experiments(Path(experiments))
        self.path = Path(anchors)
        self.crop, self.z_slices, self.positive = crop, z_slices, positive
        self.options, self.seed = sampler, seed
        self._split, self._augment = split, Augment(augmentation)
        self._workers, self._start_method, self._cache_mb = num_workers, start_method, cache_mb
        self._table: AnchorTable | None = None
        self._parts: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        # A process without a share of few cells has none to embed.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._sampler: FlexibleBatchSampler | None = None
        self._place = {"epoch": 0, "position": 0}

    @property
    def n_channels(self) -> int:
        """Channels of a crop."""
        return len(self.experiments[0].channels)

    @property
    def channels(self) -> list[str]:
        """Their names in the first experiment."""
        return self.experiments[0].channels

    @property
    def table(self) -> AnchorTable:
        """The anchor table, read when first asked for.

        Raises
        ------
        UserError
            If it is not there, damaged, or that of another configuration.
        """
        if self._table is None:
            table = AnchorTable.read(self.path)
            check_table(table, self.experiments, self.positive, self.crop, self.z_slices)
            # What the checkpoints and the batches of a run refer to is this table; where its plates are may change.
            self._table = replace(table, experiments=self.experiments)
        return self._table

    @property
    def train_rows(self) -> NDArray[np.int64]:
        """Rows of the table that are trained on, ascending."""
        return self._split_rows()[0]

    @property
    def validation_rows(self) -> NDArray[np.int64]:
        """Rows of the table that are kept for validation, ascending; may be none."""
        return self._split_rows()[1]

    @property
    def notes(self) -> list[str]:
        """What there is to say to the split, in sentences."""
        split = self._split
        if split.by != "position" or not split.fraction or len(self.validation_rows):
            return []
        return [
            f"nothing is kept for validation: no condition of an experiment has positions enough for a "
            f"data.split.fraction of {split.fraction:g}"
        ]

    def _split_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._parts is None:
            self._parts = split_anchors(self.table, self._split, self.seed)
        return self._parts

    def train_anchors(self) -> pd.DataFrame:
        """Return the anchors that are trained on: the sampler's positions are row numbers of this."""
        return self.table.observations.iloc[self.train_rows].reset_index(drop=True)

    def setup(self, stage: str) -> None:
        """Make datasets and samplers.

        Raises
        ------
        UserError
            If Lightning is about to replace the sampler, or the sampler refuses the options or the table.
        """
        trainer: Any = self.trainer
        if trainer is not None and trainer._accelerator_connector.use_distributed_sampler:
            raise UserError(
                "Trainer needs use_distributed_sampler=False: the sampler deals batches to the ranks itself"
            )
        if stage == "predict":
            return
        self._pairs = PairDataset(
            self.table, Lineages.of(self.table.observations, self.positive), self.seed, cache_mb=self._cache_mb
        )
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        with collect_sampler_warnings():  # told before the run, by the plan
            self._sampler = make_sampler(self.train_anchors(), self.options, self.seed, rank, world_size)

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the pairs that are trained on."""
        trainer: Any = self.trainer
        batches = NumberedBatches(self.sampler, self.train_rows, trainer.global_rank, trainer.world_size)
        return self._loader(self._pairs, batches)

    def val_dataloader(self) -> DataLoader | list:
        """Return the loader of the pairs kept for validation, the same batches each time; nothing if there are none."""
        rows = with_nonzero_weight(self.options, self.table.observations, self.validation_rows)
        if not len(rows):
            return []
        trainer: Any = self.trainer
        anchors = self.table.observations.iloc[rows].reset_index(drop=True)
        options = options_for_validation(self.options, anchors)
        with collect_sampler_warnings():
            sampler = make_sampler(anchors, options, self.seed, trainer.global_rank, trainer.world_size)
        return self._loader(self._pairs, SameBatches(sampler, rows, trainer.global_rank, trainer.world_size))

    def predict_dataloader(self) -> DataLoader:
        """Return the loader of this process's share of all cells, each once."""
        trainer: Any = self.trainer
        batches = RowBatches(len(self.table.observations), trainer.global_rank, trainer.world_size)
        return self._loader(CropDataset(self.table, cache_mb=self._cache_mb), batches)

    def pairs_of(self, batch: Batch) -> dict[str, Any]:
        """Return a batch as it is loaded.

        Parameters
        ----------
        batch : Batch
            Rows, epoch and number.

        Returns
        -------
        dict
            As `PairDataset` gives it.
        """
        return self._pairs.__getitems__(batch)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Keep what names the batch on the host, where it can be read without waiting for the device."""
        if "batch" in batch:
            batch |= {name: int(batch[name]) for name in ("epoch", "batch")}
        return batch | {name: batch[name].numpy() for name in ("row", "positive_row") if name in batch}

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Vary the crops that are trained on, on the device, and note how far training has come."""
        trainer: Any = self.trainer
        if not trainer.training:
            return batch
        position = batch["batch"] - trainer.global_rank + trainer.world_size
        self._place = {"epoch": batch["epoch"], "position": min(position, self.n_batches)}
        # What the model draws, as for dropout.
        torch.manual_seed(torch_seed(self.seed, batch["epoch"], batch["batch"], Purpose.MODEL_NOISE))
        return self.augmented(batch)

    def augmented(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with its crops varied as in training."""
        address = self.seed, int(batch["epoch"]), int(batch["batch"])
        return batch | {
            "anchor": self._augment(batch["anchor"], torch_seed(*address, Purpose.AUGMENTED_ANCHOR)),
            "positive": self._augment(batch["positive"], torch_seed(*address, Purpose.AUGMENTED_POSITIVE)),
        }

    @property
    def n_batches(self) -> int:
        """Batches of an epoch, of all processes."""
        return len(self.train_rows) // self.options.batch_size

    @property
    def sampler(self) -> FlexibleBatchSampler:
        """The sampler of the batches that are trained on, after `setup`."""
        assert self._sampler is not None
        return self._sampler

    @property
    def steps_of_epoch(self) -> int:
        """Batches of an epoch for each process that trains."""
        trainer: Any = self.trainer
        return -(-self.n_batches // trainer.world_size)

    def steps_behind(self, state_dict: Mapping[str, Any]) -> int:
        """Return how many steps of its epoch a state has behind it, counted in steps of as many processes as now."""
        trainer: Any = self.trainer
        ahead = -(-(self.n_batches - state_dict["position"]) // trainer.world_size)
        return self.steps_of_epoch - ahead

    def state_dict(self) -> dict[str, Any]:
        """Return epoch and position in its global sequence after the last batch that was trained on."""
        return self.sampler.state_dict() | self._place

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on after the last batch that was trained on.

        Raises
        ------
        UserError
            If the state is that of other anchors or of another composition.
        """
        trainer: Any = self.trainer
        if trainer is not None and not trainer.training:
            return  # what is measured or embedded need not be what was trained on
        self._place = {"epoch": state_dict["epoch"], "position": state_dict["position"]}
        restore_sampler(self.sampler, state_dict)

    def _loader(self, dataset: Any, batches: Any) -> DataLoader:
        loaded: Any = as_loaded
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=loaded,
            num_workers=self._workers,
            multiprocessing_context=self._start_method if self._workers else None,
            worker_init_fn=end_with_trainer,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
