"""Task: what the encoder of a run was trained to recognize, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from viscy_train.loading.axes import SEPARATOR, axis_names
from viscy_train.positives.description import describe_recognized, permits_other_timepoints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment


@dataclass(frozen=True, kw_only=True)
class Task:
    """What an encoder was trained to recognize.

    Parameters
    ----------
    recognized : str
        For example ``a tracked cell at another timepoint``.
    is_retrieval : bool
        Whether that is the track of a cell at other timepoints, whose share recall@1 measures.
    """

    recognized: str
    is_retrieval: bool


def describe_task(
    positive: PositiveConfig, label: str, options: Mapping[str, Any], experiments: Sequence[Experiment] = ()
) -> Task:
    """Return the task of a run.

    Parameters
    ----------
    positive : PositiveConfig
        Which observations were the positives.
    label : str
        What crops that attract each other have in common: ``model.loss.positives``.
    options : mapping
        The options of the sampler, which name the columns of the condition.
    experiments : sequence of Experiment
        The experiments, whose intervals turn hours into frames.

    Returns
    -------
    Task
        The task.
    """
    recognized = describe_recognized(positive, experiments)
    condition = axis_names(options)[1]
    if label == "condition" and condition != SEPARATOR.join(positive.match):
        recognized += f" or another cell with the same {condition}"
    is_retrieval = (
        label != "condition" and positive.channel != "other" and permits_other_timepoints(positive, experiments)
    )
    return Task(recognized=recognized, is_retrieval=is_retrieval)
