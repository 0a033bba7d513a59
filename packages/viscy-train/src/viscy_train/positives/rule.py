"""Positives: the rule by which the positive of an anchor is chosen, along its lineage or by metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from viscy_train.config.checks import require, require_one_of
from viscy_train.errors import UserError
from viscy_train.positives.column_codes import combine_codes, determined_by, encode_column
from viscy_train.positives.frame_range import frame_ranges
from viscy_train.positives.lineages import CHANNEL, FrameDraws, Lineages
from viscy_train.positives.metadata_positives import MetadataPositives, used_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment

# Computed from the positives.
_OTHER_COLUMNS = ("has_positive",)


class Positives(Protocol):
    """The possible positives of each observation of a table."""

    def has_positive(self) -> NDArray[np.bool_]:
        """Return which observations have at least one possible positive, shape (n_observations,)."""
        ...

    def choose(
        self, rows: NDArray[np.int64], draws: NDArray[np.float64], more_draws: NDArray[np.float64], /
    ) -> NDArray[np.int64]:
        """Return the row of a positive for each of some anchors, given two uniform random numbers for each."""
        ...

    def choose_together(
        self,
        rows: NDArray[np.int64],
        draw: FrameDraws,
        draws: NDArray[np.float64],
        more_draws: NDArray[np.float64],
        /,
    ) -> NDArray[np.int64]:
        """Return the same with positives in few frames, given random numbers of frames as well; see `Lineages`."""
        ...


def make_positives(
    observations: pd.DataFrame,
    experiments: Sequence[Experiment],
    positive: PositiveConfig,
    part: NDArray[np.int64] | None = None,
) -> Positives:
    """Return the possible positives of the observations of a table.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations, sorted as in an `AnchorTable`; `has_positive` is not needed.
    experiments : sequence of Experiment
        Experiments of the table.
    positive : PositiveConfig
        Which observations may be positives.
    part : numpy.ndarray, optional
        Number of the part, such as that for training, of each observation, shape (n_observations,). Positives by
        metadata are of the same part as their anchor; a lineage has to be in one part anyway.

    Returns
    -------
    Positives
        The possible positives.

    Raises
    ------
    UserError
        If `positive` names a column that the table does not have, or permits no frame of an experiment.
    """
    check_columns(observations.columns, positive)
    if positive.match:
        return MetadataPositives.of(observations, positive, part)
    return Lineages.of(observations, positive, frame_ranges(experiments, positive))


def check_frames(experiments: Sequence[Experiment], positive: PositiveConfig) -> None:
    """Refuse hours that contain no whole number of frames of an experiment.

    Parameters
    ----------
    experiments : sequence of Experiment
        The experiments.
    positive : PositiveConfig
        Which observations may be positives.

    Raises
    ------
    ProjectError
        If there is such an experiment; one line per experiment.
    """
    if not positive.match:
        frame_ranges(experiments, positive)


def check_columns(names: Iterable[str], positive: PositiveConfig) -> None:
    """Refuse a setting that needs columns that a table does not have.

    Parameters
    ----------
    names : iterable of str
        Columns of the table.
    positive : PositiveConfig
        Which observations may be positives.

    Raises
    ------
    UserError
        If a column is missing; the message names the option and the columns that there are.
    """
    columns = [name for name in names if name not in _OTHER_COLUMNS]
    for option in ("match", "differ"):
        for name in getattr(positive, option):
            rule = f"data.positive.{option} must name columns of the anchor table ({', '.join(columns)})"
            require_one_of(rule, name, columns)
    rule = "data.positive.channel must be same, because data.channels is not one"
    require(positive.channel == "same" or CHANNEL in columns, rule, positive.channel)


def missing_values(observations: pd.DataFrame, positive: PositiveConfig) -> dict[str, NDArray[np.bool_]]:
    """Return which observations have no value in a column that decides positives, for each column with missing values.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations.
    positive : PositiveConfig
        Which observations may be positives.

    Returns
    -------
    dict of str to numpy.ndarray
        Shape (n_observations,). A missing value is neither equal to another value nor different from it, so that these
        observations have no positives, and are none.
    """
    if not positive.match:
        return {}
    columns = [name for names in used_columns(observations, positive) for name in names]
    missing = {name: encode_column(observations, name) < 0 for name in columns}
    return {name: is_missing for name, is_missing in missing.items() if is_missing.any()}


def check_labels(
    observations: pd.DataFrame, positive: PositiveConfig, label: str, condition_by: list[str] | str = "condition"
) -> None:
    """Refuse a loss that contradicts positives by metadata.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations.
    positive : PositiveConfig
        Which observations may be positives.
    label : str
        What crops that attract each other have in common: ``model.loss.positives``.
    condition_by : str or list of str, default "condition"
        Columns that a condition is of: ``data.sampler.condition_by``.

    Raises
    ------
    UserError
        If crops of the same condition attract each other, but a positive may have another condition than its anchor.
    """
    names = [condition_by] if isinstance(condition_by, str) else list(condition_by)
    if label != "condition" or not positive.match or set(names) <= set(positive.match):
        return
    match = combine_codes([encode_column(observations, name) for name in positive.match])
    is_known = match >= 0
    condition = combine_codes([encode_column(observations, name) for name in names])
    if not determined_by(condition[is_known], match[is_known]):
        raise UserError(
            "model.loss.positives condition contradicts data.positive, whose positives may have another condition than "
            f"their anchor: add {', '.join(names)} to data.positive.match, or set model.loss.positives to pair"
        )
