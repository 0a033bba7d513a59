"""Run results: what the report of a run shows that is not in the run's directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_train.config.schema import PositiveConfig
from viscy_train.loading.axes import HOURS
from viscy_train.report.task import Task, describe_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_data import PlannedComposition
    from viscy_train.composition.frames import FrameCounts
    from viscy_train.composition.step import StepSettings
    from viscy_train.evaluation.embeddings import EncoderEvaluation
    from viscy_train.evaluation.projection import Method
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.report.example_tracks import ExampleTracks
    from viscy_train.report.neighbor_gallery import NeighborGallery


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """The results of a run that are not in its directory.

    Parameters
    ----------
    observations : pandas.DataFrame
        The table whose row numbers the batch record contains.
    labeled : pandas.DataFrame
        The same with the labels of `viscy_train.loading.axes.add_labels`.
    train_rows : numpy.ndarray
        Rows that were trained on, ascending, shape (n_anchors,).
    planned : viscy_data.PlannedComposition
        The plan of the sampler of these rows.
    step : StepSettings
        The processes of the last attempt, and the loss.
    n_processes, seed : int
        Number of processes of the last attempt, and the seed of the run.
    seconds : float
        Training time of all attempts.
    channels : list of str
        Names of the channels.
    examples : ExampleTracks
        Tracks to show.
    crops : numpy.ndarray
        The crops of `examples`, shape (n_tracks, n_times, n_channels, side, side).
    evaluation : EncoderEvaluation
        Embeddings and what they reveal.
    positive : PositiveConfig
        Which observations were the positives.
    experiments : sequence of Experiment
        The experiments of the table.
    frames : FrameCounts, optional
        Frames of a batch.
    time : str
        What the times of `labeled` are.
    hours : str
        What the hours of `observations` are called.
    provenance : sequence of mapping
        From `viscy_train.run.provenance.read_provenance`.
    gallery : NeighborGallery, optional
        Anchors and their nearest neighbors.
    gallery_crops : numpy.ndarray, optional
        Their crops, shape (n_anchors, 1 + n_neighbors, n_channels, side, side).
    projection : {"pca", "umap"}
        How embeddings are shown in two dimensions.
    """

    observations: pd.DataFrame
    labeled: pd.DataFrame
    train_rows: NDArray[np.int64]
    planned: PlannedComposition
    step: StepSettings
    n_processes: int
    seed: int
    seconds: float
    channels: list[str]
    examples: ExampleTracks
    crops: NDArray[np.float32]
    evaluation: EncoderEvaluation
    positive: PositiveConfig = PositiveConfig()  # noqa: RUF009 (frozen)
    experiments: Sequence[Experiment] = ()
    frames: FrameCounts | None = None
    time: str = HOURS
    hours: str = HOURS
    provenance: Sequence[Mapping[str, Any]] = ()
    gallery: NeighborGallery | None = None
    gallery_crops: NDArray[np.float32] | None = None
    projection: Method = "pca"

    @property
    def has_held_out_queries(self) -> bool:
        """Whether recall@1 was measured on cells that the encoder was not trained on."""
        return not np.isin(self.evaluation.rows, self.train_rows).all()

    @property
    def task(self) -> Task:
        """What the encoder was trained to recognize."""
        return describe_task(self.positive, self.step.positives, self.planned.options, self.experiments)
