"""Measures: what the embeddings of evaluation rows say of conditions, experiments, hours and tracks.

Every measure is a number. Where it is not defined, it is NaN, and the reason is kept. All measures that fit something
go through `viscy_train.study.separation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from viscy_train.evaluation.probes import grouped_folds
from viscy_train.evaluation.representation import effective_rank
from viscy_train.evaluation.retrieval import recall_one_frame_later
from viscy_train.study.condition_probe import (
    UndefinedError,
    balanced_accuracy,
    linear_scores,
    neighbor_scores,
    predict_condition,
)
from viscy_train.study.neighbors import mixing
from viscy_train.study.separation import apply_probe

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from viscy_train.study.condition_probe import Classifier

_MAX_FOLDS = 2
# Hours that differ by less are equal.
_SAME_HOURS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure of embeddings.

    Parameters
    ----------
    name : str
        Column of `runs.csv`.
    label : str
        Name for readers.
    about : str
        What it is, in a sentence or two.
    threshold : float, optional
        The smallest difference that matters. Only measures that have one are judged.
    """

    name: str
    label: str
    about: str
    threshold: float | None = None


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            name="condition",
            label="condition AUROC",
            about=(
                "A linear probe of the condition, fitted to trained experiments or positions and tested on held-out "
                "ones, at matched hours, averaged over experiments; balanced accuracy if there are more than two "
                "conditions. 0.5 is chance of two conditions."
            ),
            threshold=0.02,
        ),
        Measure(
            name="mixing",
            label="mixing",
            about=(
                "The share of the 15 nearest neighbors that are of another experiment, over what chance gives, among "
                "trained rows. 1 is chance; rows of the own lineage are left out."
            ),
            threshold=0.05,
        ),
        Measure(
            name="hours_r2",
            label="hours R²",
            about=(
                "A ridge regression of the hours, fitted to trained rows: the share of the variance within a held-out "
                "experiment that it explains, after its mean error there is subtracted."
            ),
            threshold=0.05,
        ),
        Measure(
            name="condition_by_neighbors",
            label="condition by neighbors",
            about="As condition AUROC, with votes of the 15 nearest trained rows in place of the linear probe.",
        ),
        Measure(
            name="condition_within_experiment",
            label="condition within an experiment",
            about="As condition AUROC, fitted to some positions of a trained experiment and tested on its others.",
        ),
        Measure(
            name="experiment_of_unseen_positions",
            label="experiment of unseen positions",
            about="Balanced accuracy of a linear probe of the trained experiment, in positions it was not fitted to.",
        ),
        Measure(
            name="experiment_of_unseen_experiments",
            label="experiment of unseen experiments",
            about="The same among held-out experiments: whether their looks are still encoded.",
        ),
        Measure(
            name="mixing_of_held_out",
            label="mixing of held-out rows",
            about="Mixing among the held-out rows.",
        ),
        Measure(
            name="recall_at_1",
            label="recall@1",
            about="How often the nearest cell of the experiment one frame later is the same track, in held-out rows.",
        ),
        Measure(
            name="effective_rank",
            label="effective rank",
            about="The number of directions that the embeddings use.",
        ),
    )
}
"""All measures by name; the judged ones come first."""


class Measured(NamedTuple):
    """The measures of some embeddings."""

    values: dict[str, float]
    """Each measure in the order of `MEASURES`; NaN where it is not defined."""
    reasons: dict[str, str]
    """Why a measure is NaN."""


class _Rows(NamedTuple):
    """Evaluation rows: the embedding of each, and what is known of it."""

    embeddings: NDArray[np.float64]
    observations: pd.DataFrame
    is_trained: NDArray[np.bool_]
    seed: int

    def number(self, *columns: str) -> NDArray[np.int64]:
        """Return values of some columns as numbers from 0."""
        return self.observations.groupby(list(columns), observed=True).ngroup().to_numpy()

    @property
    def hours(self) -> NDArray[np.float64]:
        return self.observations["hours_post_infection"].to_numpy(dtype=np.float64)

    @property
    def trained(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.is_trained)

    @property
    def held_out(self) -> NDArray[np.int64]:
        return np.flatnonzero(~self.is_trained)

    @property
    def in_trained_experiment(self) -> NDArray[np.bool_]:
        """Which rows are of an experiment of which some rows are trained on."""
        experiments = self.number("experiment")
        return np.isin(experiments, experiments[self.is_trained])


def measure(
    embeddings: NDArray[np.floating], observations: pd.DataFrame, is_trained: NDArray[np.bool_], seed: int
) -> Measured:
    """Measure embeddings.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_rows, features).
    observations : pandas.DataFrame
        The observation of each: `experiment`, `condition`, `position`, `track_id`, `lineage_id`, `t` and
        `hours_post_infection`. Recall@1 needs consecutive frames.
    is_trained : numpy.ndarray
        Which rows are of experiments or positions that were trained on, shape (n_rows,).
    seed : int
        Seed of folds and of the order of equal neighbors.

    Returns
    -------
    Measured
        The same for the same arguments, whatever the number of threads.
    """
    from threadpoolctl import threadpool_limits

    if not np.isfinite(embeddings).all():
        names = list(MEASURES)
        return Measured(dict.fromkeys(names, float("nan")), dict.fromkeys(names, "the embeddings are not finite"))
    rows = _Rows(np.asarray(embeddings, dtype=np.float64), observations, np.asarray(is_trained, dtype=bool), seed)
    values, reasons = {}, {}
    # Sums of matrix products depend on the number of threads.
    with threadpool_limits(1):
        for name in MEASURES:
            try:
                values[name] = _FUNCTIONS[name](rows)
            except UndefinedError as reason:
                values[name], reasons[name] = float("nan"), str(reason)
    return Measured(values, reasons)


def _condition(rows: _Rows, classify: Classifier) -> float:
    return apply_probe(partial(_predict_condition, rows, classify), rows.observations, rows.trained, rows.held_out)


def _predict_condition(rows: _Rows, classify: Classifier, fit: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    numbers = rows.number("condition"), rows.hours, rows.number("experiment")
    return predict_condition(rows.embeddings, *numbers, fit, test, classify)


def _condition_within_experiment(rows: _Rows) -> float:
    experiments = rows.number("experiment")
    found = []
    for experiment in np.unique(experiments[rows.is_trained]):
        inside = np.flatnonzero((experiments == experiment) & rows.is_trained)
        found += _in_folds(rows, inside, "condition", partial(_predict_condition, rows, linear_scores))
    if not found:
        raise UndefinedError("no trained experiment has two conditions each in two positions, at common hours")
    return float(np.mean(found))


def _experiment_of_unseen_positions(rows: _Rows) -> float:
    seen, unseen = rows.trained, np.flatnonzero(rows.in_trained_experiment & ~rows.is_trained)
    if not len(unseen):
        return _experiment_in_folds(rows, seen, "trained")
    return apply_probe(partial(_predict_experiment, rows), rows.observations, seen, unseen)


def _experiment_of_unseen_experiments(rows: _Rows) -> float:
    return _experiment_in_folds(rows, np.flatnonzero(~rows.in_trained_experiment), "held-out")


def _experiment_in_folds(rows: _Rows, inside: NDArray[np.int64], which: str) -> float:
    found = _in_folds(rows, inside, "experiment", partial(_predict_experiment, rows))
    if not found:
        raise UndefinedError(f"a probe of the experiment needs two {which} experiments with two positions each")
    return float(np.mean(found))


def _in_folds(
    rows: _Rows,
    inside: NDArray[np.int64],
    column: str,
    probe: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
) -> list[float]:
    """Return what a probe of a column measures in each fold of positions, of values that occur in two positions."""
    labels, positions = rows.number(column)[inside], rows.number("experiment", "position")[inside]
    often = [label for label in np.unique(labels) if len(np.unique(positions[labels == label])) > 1]
    is_used = np.isin(labels, often)
    if len(often) < 2:
        return []
    used, (_, numbers) = inside[is_used], np.unique(labels[is_used], return_inverse=True)
    found = []
    for fit, test in grouped_folds(numbers, positions[is_used], _MAX_FOLDS, rows.seed):
        try:
            found.append(apply_probe(probe, rows.observations, used[fit], used[test]))
        except UndefinedError:  # such as a fold that lacks a condition
            continue
    return found


def _predict_experiment(rows: _Rows, fit: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    experiments = rows.number("experiment")
    known, labels = np.unique(experiments[fit], return_inverse=True)
    test = test[np.isin(experiments[test], known)]
    if len(known) < 2 or not len(test):
        raise UndefinedError("a probe of the experiment needs two experiments that are also in the rows that test it")
    scores = linear_scores(rows.embeddings[fit], labels, None, rows.embeddings[test])
    return balanced_accuracy(np.searchsorted(known, experiments[test]), scores.argmax(axis=1))


def _hours_r2(rows: _Rows) -> float:
    return apply_probe(partial(_predict_hours, rows), rows.observations, rows.trained, rows.held_out)


def _predict_hours(rows: _Rows, fit: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fit, test = (part[np.isfinite(rows.hours[part])] for part in (fit, test))
    if not len(fit) or np.ptp(rows.hours[fit]) < _SAME_HOURS:
        raise UndefinedError("all trained rows have the same hours")
    regression = make_pipeline(StandardScaler(), Ridge()).fit(rows.embeddings[fit], rows.hours[fit])
    experiments = rows.number("experiment")[test]
    of_experiments = [test[experiments == experiment] for experiment in np.unique(experiments)]
    usable = [part for part in of_experiments if np.ptp(rows.hours[part]) >= _SAME_HOURS]
    if not usable:
        raise UndefinedError("all held-out rows of an experiment have the same hours")
    errors = [rows.hours[part] - regression.predict(rows.embeddings[part]) for part in usable]
    shares = [1 - error.var() / rows.hours[part].var() for error, part in zip(errors, usable, strict=True)]
    return float(np.mean(shares))


def _mixing(rows: _Rows, inside: NDArray[np.int64], which: str) -> float:
    experiments, lineages = rows.number("experiment")[inside], rows.number("lineage_id")[inside]
    found = mixing(rows.embeddings[inside], experiments, lineages, rows.seed)
    if np.isnan(found):
        raise UndefinedError(f"mixing needs {which} rows of two experiments")
    return found


def _recall_at_1(rows: _Rows) -> float:
    found = recall_one_frame_later(rows.embeddings, rows.observations, ~rows.is_trained)
    if found is None:
        raise UndefinedError("no held-out track has two consecutive frames")
    return found


_FUNCTIONS: dict[str, Callable[[_Rows], float]] = {
    "condition": lambda rows: _condition(rows, linear_scores),
    "mixing": lambda rows: _mixing(rows, rows.trained, "trained"),
    "hours_r2": _hours_r2,
    "condition_by_neighbors": lambda rows: _condition(rows, neighbor_scores),
    "condition_within_experiment": _condition_within_experiment,
    "experiment_of_unseen_positions": _experiment_of_unseen_positions,
    "experiment_of_unseen_experiments": _experiment_of_unseen_experiments,
    "mixing_of_held_out": lambda rows: _mixing(rows, rows.held_out, "held-out"),
    "recall_at_1": _recall_at_1,
    "effective_rank": lambda rows: effective_rank(rows.embeddings),
}
