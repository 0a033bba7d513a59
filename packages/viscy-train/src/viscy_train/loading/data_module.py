"""Data module: loaders of pairs in batches of a target composition, and the progress of training through them."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from lightning.pytorch import LightningDataModule

from viscy_train.anchors.array_store import share_arrays
from viscy_train.anchors.fingerprint import FINGERPRINT, check_fingerprint
from viscy_train.anchors.shared_table import LEAST_ROWS, store_of
from viscy_train.errors import UserError
from viscy_train.loading.augmentation import Augment
from viscy_train.loading.batches import Batch, SequentialBatches, TrainingBatches
from viscy_train.loading.crop_source import READS
from viscy_train.loading.datasets import CropDataset, PairDataset, finish_batch
from viscy_train.loading.loader import DeferredLoader, Workers, make_loader
from viscy_train.loading.model_noise import seed_model_noise
from viscy_train.loading.progress import Progress
from viscy_train.loading.rng import Purpose, torch_seed
from viscy_train.loading.run_data import RunData
from viscy_train.loading.sampler import collect_sampler_warnings, restore_sampler
from viscy_train.loading.stall import StallWatch
from viscy_train.model.encoder_input import ENCODER_INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch.utils.data import DataLoader

    from viscy_data import ComposedBatches
    from viscy_train.loading.crop_source import CropSource


class PairDataModule(RunData, LightningDataModule):
    """Load pairs of crops: anchors in batches of a target composition, each with a positive.

    The parameters are those of `viscy_train.loading.run_data.RunData`.

    Notes
    -----
    All random numbers of a batch are a function of (seed, epoch, batch index, slot): a batch has the same pixels
    whenever and wherever it is loaded. The state, which Lightning stores in checkpoints, counts the batches of the
    epoch that were used for training, not those that were prefetched. Lightning must not replace the sampler
    (``use_distributed_sampler=False``).
    """

    source: CropSource | None = None
    """What crops are read from instead of plates and store, if a program has assigned it before `setup`."""
    _sampler: ComposedBatches | None = None
    _progress: Progress | None = None

    @cached_property
    def stall_watch(self) -> StallWatch:
        """What says for which data worker, or which other process, the run waits."""
        return StallWatch(self.stall_warning_seconds)

    @cached_property
    def _loaders(self) -> WeakSet[DeferredLoader]:
        return WeakSet()

    def _make_loader(self, dataset: PairDataset | CropDataset, batches: Any) -> DeferredLoader:
        workers = Workers(kind=self._workers, n=self._num_workers, start_method=self._start_method)
        loader = make_loader(dataset, batches, workers, self.stall_watch)
        self._loaders.add(loader)
        return loader

    @cached_property
    def _augment(self) -> Augment:
        return Augment(self._augmentation)

    @property
    def sampler(self) -> ComposedBatches:
        """The sampler of the training batches; exists after `setup`."""
        assert self._sampler is not None
        return self._sampler

    @cached_property
    def n_batches(self) -> int:
        """Number of batches in an epoch, over all processes; known after `setup`."""
        return self.sampler.planned().n_batches

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch for each training process; known after `setup`."""
        return len(self.sampler)

    def setup(self, stage: str) -> None:
        """Create the training dataset and its sampler.

        Raises
        ------
        UserError
            If Lightning is configured to replace the sampler, the sampler options are invalid, or the module does not
            share batches as they say.
        """
        # With few observations, a process may have none to embed.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        if stage == "predict":
            return
        trainer: Any = self.trainer
        self._check_module(getattr(trainer, "lightning_module", None))
        if trainer is not None and trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
            raise UserError(
                "Trainer needs use_distributed_sampler=False, because the sampler distributes batches over ranks itself"
            )
        self._pairs = self.make_pairs()
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        with collect_sampler_warnings():  # already shown before the run
            self._sampler = self.make_sampler(rank, world_size)
        if trainer is not None and stage == "fit":
            self._keep_progress(trainer)

    def make_pairs(self) -> PairDataset:
        """Return the dataset of pairs, which is indexed by `viscy_train.loading.batches.Batch`."""
        pairs = PairDataset(
            self.table,
            self.positives,
            self.seed,
            cache_mb=self.cache_mb,
            labeled=self.labeled,
            store=self.store,
            source=self.source,
            choice=self.positive_choice,
        )
        self._share_arrays(pairs)
        return pairs

    def make_pair_loader(self, batches: Any) -> DeferredLoader:
        """Return a loader of pairs, read ahead as ``data.num_workers`` says, given a sampler of batches."""
        return self._make_loader(self.make_pairs(), batches)

    def _share_arrays(self, dataset: PairDataset | CropDataset) -> None:
        """Let all processes of this machine share the arrays of a large dataset."""
        if len(dataset) >= LEAST_ROWS:
            share_arrays(dataset, store_of(self.path))

    def _check_module(self, module: Any) -> None:
        given, own = getattr(module, "split_batches", None), self._options.split_batches
        if given is not None and given != own:
            raise UserError(f"split_batches of the module must be that of data.sampler, {own}, got {given}")

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the training pairs."""
        return self._make_loader(self._pairs, self.training_batches())

    def training_batches(self) -> TrainingBatches:
        """Return the batches of this process, from the next one to train on; exists after `setup`."""
        trainer: Any = self.trainer
        return TrainingBatches(
            self.sampler,
            self.train_rows,
            trainer.global_rank,
            trainer.world_size,
            self.progress.first_batch,
            is_repeated=trainer.overfit_batches > 0,
        )

    def val_dataloader(self) -> DataLoader | list:
        """Return the loader of the validation pairs, the same batches in every epoch; an empty list without pairs."""
        trainer: Any = self.trainer
        batches = self._validation_batches(trainer.global_rank, trainer.world_size)
        pairs = self._pairs.in_the_middle()
        return [] if batches is None else self._make_loader(pairs, batches)

    def predict_dataloader(self) -> DataLoader:
        """Return the loader of this process's share of all observations, each exactly once."""
        trainer: Any = self.trainer
        batches = SequentialBatches(len(self.table.observations), trainer.global_rank, trainer.world_size)
        crops = CropDataset(self.table, cache_mb=self.cache_mb, store=self.store, source=self.source)
        self._share_arrays(crops)
        return self._make_loader(crops, batches)

    def teardown(self, stage: str) -> None:
        """Stop reading ahead and looking after waits."""
        self._stop()

    def on_exception(self, exception: BaseException) -> None:
        """Stop reading ahead and looking after waits."""
        self._stop()

    def _stop(self) -> None:
        for loader in self._loaders:
            loader.close()
        self.stall_watch.close()

    def load_pairs(self, batch: Batch) -> dict[str, Any]:
        """Load a batch of training pairs in this process, with normalized crops ``anchor`` and ``positive``."""
        return finish_batch(self._pairs.__getitems__(batch))

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Keep the batch's key and rows on the host, where they can be read without waiting for the device."""
        if "batch" in batch:
            batch |= {name: int(batch[name]) for name in ("epoch", "batch", "first_slot")}
        return batch | {name: batch[name].numpy() for name in ("row", "positive_row", READS) if name in batch}

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Normalize and resample the crops on the device; in training, augment them there."""
        trainer: Any = self.trainer
        # Lightning converts floats to the precision of the model before the crops are floats.
        batch = trainer.precision_plugin.convert_input(finish_batch(batch))
        if not trainer.training:
            return batch
        # For the model's own randomness, such as dropout.
        seed = torch_seed(self.seed, batch["epoch"], batch["batch"], Purpose.MODEL_NOISE)
        seed_model_noise(seed ^ batch["first_slot"], trainer.strategy.root_device)
        return self.augment(batch)

    def augment(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with its crops augmented as in training."""
        if self._augment.options.is_off:
            return batch
        key = self.seed, int(batch["epoch"]), int(batch["batch"])
        first_slot = int(batch["first_slot"]) if self._options.split_batches else None
        return batch | {
            "anchor": self._augment(batch["anchor"], torch_seed(*key, Purpose.AUGMENTED_ANCHOR), first_slot),
            "positive": self._augment(batch["positive"], torch_seed(*key, Purpose.AUGMENTED_POSITIVE), first_slot),
        }

    def complete_batch(self, batch: Mapping[str, Any]) -> NDArray[np.int64]:
        """Return the rows of the anchor table in the batch of which a batch of this process may be a part."""
        if not self._options.split_batches:
            return np.asarray(batch["row"])
        return self.train_rows[self.sampler.batch(int(batch["batch"]), int(batch["epoch"]))]

    def state_dict(self) -> dict[str, Any]:
        """Return the cursor after the last batch used for training, and what sampler, table and crops were."""
        own = {FINGERPRINT: self.table.fingerprint, ENCODER_INPUT: asdict(self.encoder_input)}
        return self.sampler.state_dict() | self.progress.state | own

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue after the last batch used for training.

        Raises
        ------
        UserError
            If the state belongs to other anchors or another composition.
        """
        trainer: Any = self.trainer
        if trainer is not None and not trainer.training:
            return  # validation and prediction may use other data than the training run
        check_fingerprint(state_dict, self.table.fingerprint, "the checkpoint")
        restore_sampler(self.sampler, state_dict)
        if self._progress is not None:
            self._progress.load(state_dict)

    @property
    def progress(self) -> Progress:
        """The next batch to train on; exists after `setup` in a trainer."""
        assert self._progress is not None
        return self._progress

    def _keep_progress(self, trainer: Any) -> None:
        """Add the callback that keeps the progress to a trainer; in a later call of ``fit`` it is still there."""
        if self._progress is None or self._progress not in trainer.callbacks:
            self._progress = Progress(self.n_batches, trainer, split_batches=self._options.split_batches)
            others = [callback for callback in trainer.callbacks if not isinstance(callback, Progress)]
            trainer.callbacks[:] = [self._progress, *others]
