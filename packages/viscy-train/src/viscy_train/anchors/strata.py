"""Strata: whether each condition of each experiment has anchors, and what helps if one has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscy_train.console import warn
from viscy_train.errors import Problems
from viscy_train.positives.description import reason_without
from viscy_train.wording import shorten

if TYPE_CHECKING:
    import pandas as pd

    from viscy_train.anchors.table import Exclusion
    from viscy_train.config.schema import PositiveConfig
    from viscy_train.experiments.experiments_file import Experiment

_OF_EXPERIMENT = ("well", "position")


def check_strata(
    observations: pd.DataFrame, experiments: list[Experiment], excluded: list[Exclusion], positive: PositiveConfig
) -> None:
    """Refuse a stratum without anchors; by metadata, only warn of one whose observations have no partners.

    Parameters
    ----------
    observations : pandas.DataFrame
        The observations of all experiments that are not excluded.
    experiments : list of Experiment
        The experiments, whose conditions must all have anchors.
    excluded : list of Exclusion
        What was excluded, or has no positive.
    positive : PositiveConfig
        Which observations may be positives.

    Raises
    ------
    ProjectError
        If a condition has no anchors; one line for each, with the reasons and a remedy.
    """
    problems, warnings = Problems(), Problems()
    anchors = observations[observations["has_positive"]] if len(observations) else observations
    strata, left = (set(zip(rows["experiment"], rows["condition"], strict=True)) for rows in (anchors, observations))
    for experiment in experiments:
        for condition in dict.fromkeys(experiment.conditions.values()):
            stratum = (experiment.name, condition)
            if stratum in strata:
                continue
            lost = [one for one in excluded if (one.experiment, one.condition) == stratum]
            reasons = "; ".join(f"{one.n_observations} observations {one.reason}" for one in lost)
            what = f"condition {condition!r} has no anchors ({reasons or 'no observations'})"
            subject = f"experiment {experiment.name!r}"
            if positive.match and strata and stratum in left:
                warnings.add(subject, f"{what}; nothing is trained on it, but `predict` embeds it")
                continue
            lacks_positives = any(one.reason == reason_without(positive) for one in lost)
            remedy = f"{_remedy(observations, experiment, condition, positive)}, or " if lacks_positives else ""
            wells = ", ".join(well for well, other in experiment.conditions.items() if other == condition)
            problems.add(subject, f"{what}; {remedy}remove {wells} from `conditions`")
    problems.raise_any()
    for sentence in shorten(warnings.lines(), "{} more conditions have no anchors"):
        warn(sentence)


def _remedy(observations: pd.DataFrame, experiment: Experiment, condition: str, positive: PositiveConfig) -> str:
    """Return the setting that gives observations positives, which are not found farther away if there are no others."""
    if positive.match:
        for name in positive.differ:
            columns = ["experiment", name] if name in _OF_EXPERIMENT else [name]
            if len(observations[columns].drop_duplicates()) == 1:
                return f"all observations have the same {name}, so remove it from `data.positive.differ`"
        return "widen `data.positive`"
    of_experiment = observations[(observations["experiment"] == experiment.name).to_numpy()]
    if positive.channel == "other" and of_experiment["channel"].nunique() == 1:
        usable = " with usable images" * (len(experiment.channels) > 1)
        return f"{experiment.name} has only one channel{usable}, so set `data.positive.channel` to any"
    own = of_experiment[(of_experiment["condition"] == condition).to_numpy()]
    if own.groupby("lineage_id")["t"].nunique().max() == 1:
        name = "min_hours" if positive.in_hours else "min_frames"
        return f"its tracks have one frame each, so set `data.positive.{name}` to 0"
    return "widen `data.positive`"
