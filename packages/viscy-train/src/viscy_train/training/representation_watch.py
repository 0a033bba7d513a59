"""Representation watch: measures the embeddings of each validation, logs what they say, and warns of a collapse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch.distributed as dist
from lightning.pytorch import Callback

from viscy_train.console import warn
from viscy_train.evaluation.representation import (
    Representation,
    describe_representation,
    rows_to_watch,
    warn_of_collapse,
)
from viscy_train.run.metrics_csv import EFFECTIVE_RANK, SMOOTHNESS

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from numpy.typing import NDArray
    from torch import Tensor

    from viscy_train.loading.data_module import PairDataModule

MAX_ANCHORS = 4096
"""Tracks are chosen until they have this many anchors of the validation."""


class RepresentationWatch(Callback):
    """Log effective rank and temporal smoothness of the embeddings of each validation, and warn once of a collapse.

    Parameters
    ----------
    data : PairDataModule
        The data.

    Notes
    -----
    The embeddings are those that the validation computes anyway, of its anchors and their positives, each observation
    once. Of a large validation, only complete tracks with about `MAX_ANCHORS` anchors are kept. Batches and tracks are
    the same in each validation, so that the numbers can be compared over a run and its attempts. Batches that only fill
    the last step of several processes do not count: the numbers are those of one process, up to rounding.
    """

    def __init__(self, data: PairDataModule) -> None:
        self._data = data
        self._watched: NDArray[np.int64] | None = None
        self._n_batches = 0
        self._group: Any = None
        self._hook: Any = None
        self._embeddings: Tensor | None = None
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        self._has_warned = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the embeddings of a validation that did not end, and observe what the encoder returns."""
        self._remove_hook()
        self._parts, self._embeddings = [], None
        self._hook = cast("Any", pl_module).encoder.register_forward_hook(self._observe)
        if self._watched is None:
            data = self._data
            observations, rows = data.table.observations, data.validation_rows
            self._watched = rows_to_watch(observations, rows, MAX_ANCHORS, data.seed)
            self._n_batches = data.count_validation_batches(1)
        if trainer.world_size > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo")  # does not wait for the device

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the embeddings of a batch."""
        embeddings, self._embeddings = self._embeddings, None
        if embeddings is None or self._watched is None or int(batch["batch"]) >= self._n_batches:
            return
        rows = np.concatenate([np.asarray(batch["row"]), np.asarray(batch["positive_row"])])
        places = np.flatnonzero(np.isin(rows, self._watched))
        if len(places):
            self._parts.append((rows[places], embeddings[places].float().cpu().numpy()))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Observe the encoder no longer."""
        self._remove_hook()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Observe the encoder no longer."""
        self._remove_hook()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the embeddings of all processes say."""
        found = self._describe(trainer)
        self._parts = []
        if found is None:
            return
        metrics = {EFFECTIVE_RANK: found.effective_rank, SMOOTHNESS: found.temporal_smoothness}
        # All processes have the same numbers; Lightning warns of numbers that are not averaged over them.
        pl_module.log_dict({name: value for name, value in metrics.items() if value is not None}, sync_dist=True)
        warning = warn_of_collapse(found)
        if warning is not None and not self._has_warned and trainer.is_global_zero:
            warn(warning)
        self._has_warned = self._has_warned or warning is not None

    def _observe(self, encoder: Any, crops: Any, embeddings: Tensor) -> None:
        self._embeddings = embeddings.detach()

    def _remove_hook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = self._embeddings = None

    def _describe(self, trainer: Trainer) -> Representation | None:
        """Return what the embeddings say, in every process, computed by the one of rank 0."""
        if self._group is None:
            return self._describe_parts(self._parts)
        gathered: Any = [None] * trainer.world_size if trainer.is_global_zero else None
        dist.gather_object(self._parts, gathered, dst=0, group=self._group)
        found = [self._describe_parts([part for parts in gathered for part in parts]) if gathered else None]
        dist.broadcast_object_list(found, src=0, group=self._group)
        return found[0]

    def _describe_parts(self, parts: list[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> Representation | None:
        if not parts:
            return None
        rows, places = np.unique(np.concatenate([rows for rows, _ in parts]), return_index=True)
        embeddings = np.concatenate([embeddings for _, embeddings in parts])[places]
        return describe_representation(embeddings, self._data.table.observations.iloc[rows])
