"""Opened run: the anchor table of a run and what it recorded, looked up for one position."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import ArgumentParser

from viscy_train.anchors.fingerprint import FINGERPRINT, check_fingerprint
from viscy_train.config.yaml_source import read_yaml
from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch
from viscy_train.loading.run_data import RunData
from viscy_train.run.directory import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from viscy_train.anchors.table import AnchorTable
    from viscy_train.experiments.experiments_file import Experiment
    from viscy_train.run.recorded_batch import RecordedBatch


class OpenedRun:
    """A run, open for viewing.

    Parameters
    ----------
    path : pathlib.Path
        Its directory.

    Raises
    ------
    UserError
        If it is not the directory of a run, or the anchor table is another one than the run's.
    """

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory(path)
        if not self.directory.has_run:
            raise UserError(f"{path} must be the directory of a run, which `viscy-train fit` writes; name another")
        config = read_yaml(self.directory.config)
        if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
            raise UserError(f"{self.directory.config} must be the configuration of a run; restore it")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(RunData, "data")
        section = config["data"] | {"seed": config.get("seed_everything", 0)}
        self.data: RunData = parser.instantiate(parser.parse_object({"data": section})).data
        if (fingerprint := self.directory.read_table_fingerprint()) is not None:
            check_fingerprint({FINGERPRINT: fingerprint}, self.table.fingerprint, f"the run in {path}")

    @property
    def table(self) -> AnchorTable:
        """The anchor table."""
        return self.data.table

    def experiment(self, name: str) -> Experiment:
        """Return an experiment; `UserError` if the table has none of the name."""
        known = {experiment.name: experiment for experiment in self.table.experiments}
        if name not in known:
            raise UserError(f"--experiment must be one of {', '.join(known)}, got {name!r}")
        return known[name]

    def rows(self, experiment: str, position: str) -> NDArray[np.int64]:
        """Return the rows of the table in a position; of a cell in several channels, the first.

        Raises
        ------
        UserError
            If there are none.
        """
        observations = self.table.observations
        is_of = (observations["experiment"] == self.experiment(experiment).name).to_numpy()
        is_here = is_of & (observations["position"] == position).to_numpy()
        if not is_here.any():
            names = ", ".join(map(str, observations["position"][is_of].unique()))
            raise UserError(f"--position must be one of {experiment}, {names}, got {position!r}")
        rows = np.flatnonzero(is_here)
        return rows[~observations.iloc[rows].duplicated(["track_id", "t"]).to_numpy()]

    def choose_position(
        self, experiment: str | None, position: str | None, rows: NDArray[np.int64] | None = None
    ) -> tuple[str, str]:
        """Return experiment and position to show: as given, otherwise those with the most of some rows of the table."""
        everything = self.table.observations
        for part in [everything] if rows is None else [everything.iloc[rows], everything]:
            shown = part if experiment is None else part[part["experiment"] == experiment]
            shown = shown if position is None else shown[shown["position"] == position]
            if len(shown):
                counts = shown.groupby(["experiment", "position"], observed=True, sort=False).size()
                first, second = counts.index[counts.argmax()]
                return str(first), str(second)
        return experiment or self.table.experiments[0].name, position or ""  # which `rows` refuses

    def batch(self, step: int, rank: int = 0) -> tuple[RecordedBatch, NDArray[np.int64]]:
        """Return the batch that a rank trained on in a step, and the row of the positive of each anchor.

        Raises
        ------
        UserError
            If the run has no record of it.
        """
        from viscy_train.run.batch_record import check_rows
        from viscy_train.run.recorded_batch import batch_of_step  # loads Lightning, which takes seconds

        recorded = batch_of_step(self.directory, step, rank)
        check_rows(recorded.rows, self.data.train_rows, self.directory.batches)
        size, key = self.data.options.batch_size, (recorded.epoch, recorded.number)
        batch = Batch.of_rank(recorded.rows, *key, rank=recorded.rank, batch_size=size)
        return recorded, self.data.positive_choice.choose(batch)

    @cached_property
    def embeddings(self) -> NDArray[np.float32] | None:
        """The embedding of each row of the table, shape (n_observations, features); None before ``predict``.

        Raises
        ------
        UserError
            If the file is damaged, or has the embeddings of other observations.
        """
        path = self.directory.embeddings
        if not path.is_file():
            return None
        import h5py

        try:
            with h5py.File(path) as file:
                content: Any = file
                values = np.asarray(content["X"][:], dtype=np.float32)
                own = {name: np.asarray(content["obs"][name][:]) for name in ("t", "track_id")}
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise UserError(f"{path} is not a file of embeddings, or is damaged; run `viscy-train predict`") from error
        observations = self.table.observations
        if any(not np.array_equal(values_of, observations[name].to_numpy()) for name, values_of in own.items()):
            raise UserError(f"{path} has embeddings of other observations than the anchor table; predict again")
        return values
