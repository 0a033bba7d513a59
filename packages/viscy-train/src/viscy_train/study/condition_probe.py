"""Condition probe: how well a classifier fitted to some rows predicts the condition of others, at matched hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_train.evaluation.probes import fit_linear_probe
from viscy_train.study.matched_hours import match_hours
from viscy_train.study.neighbors import vote

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    type Classifier = Callable[
        [NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]
    ]


class UndefinedError(Exception):
    """A measure is not defined on these observations; the message says why."""


def linear_scores(
    fitted: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    tested: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the score of each label in each tested row, by a logistic regression, shape (n_test, n_labels).

    Parameters
    ----------
    fitted, tested : numpy.ndarray
        Embeddings, shapes (n_fit, features) and (n_test, features).
    labels : numpy.ndarray
        Label of each fitted row, numbers from 0, shape (n_fit,).
    weights : numpy.ndarray, optional
        See `viscy_train.evaluation.probes.fit_linear_probe`.
    """
    scores = fit_linear_probe(fitted, labels, weights).decision_function(tested)
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def neighbor_scores(
    fitted: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    tested: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the share of the votes of the nearest fitted rows; parameters as for `linear_scores`."""
    return vote(fitted, labels, weights, tested)


def predict_condition(
    embeddings: NDArray[np.float64],
    conditions: NDArray[np.int64],
    hours: NDArray[np.float64],
    experiments: NDArray[np.int64],
    fit: NDArray[np.int64],
    test: NDArray[np.int64],
    classify: Classifier,
) -> float:
    """Return how well the condition is predicted in the tested rows.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_rows, features).
    conditions, hours, experiments : numpy.ndarray
        Of each row, shape (n_rows,).
    fit, test : numpy.ndarray
        Numbers of rows.
    classify : callable
        `linear_scores` or `neighbor_scores`.

    Returns
    -------
    float
        The area under the ROC curve of two conditions; of more, the balanced accuracy. It is measured in each
        experiment of the tested rows in which two conditions occur, and averaged over them: a difference between the
        looks of two experiments does not count. If no experiment has two conditions, all tested rows count as one.

    Raises
    ------
    UndefinedError
        If fewer than two conditions occur among both sets of rows, or at no common hour.

    Notes
    -----
    Hours are matched twice: among all fitted rows, and among the tested rows of each experiment.
    """
    known = np.intersect1d(conditions[fit], conditions[test])
    if len(known) < 2:
        raise UndefinedError(
            f"a probe needs two conditions among the rows that fit it and those that test it, got {len(known)} common "
            "to both"
        )
    fit, test = fit[np.isin(conditions[fit], known)], test[np.isin(conditions[test], known)]
    weights = match_hours(conditions[fit], hours[fit])
    if not weights.any():
        raise UndefinedError("the conditions of the rows that fit the probe have no hours in common")
    labels = np.searchsorted(known, conditions)
    fit, weights = fit[weights > 0], weights[weights > 0]
    scores = classify(embeddings[fit], labels[fit], weights, embeddings[test])
    parts = _parts(conditions[test], experiments[test])
    found = [_score(labels[test[part]], hours[test[part]], scores[part]) for part in parts]
    if all(one is None for one in found):
        raise UndefinedError("the conditions of the rows that test the probe have no hours in common")
    return float(np.mean([one for one in found if one is not None]))


def balanced_accuracy(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> float:
    """Return the mean, over the labels that occur, of the weighted share of rows that are predicted correctly."""
    weights = np.ones(len(labels)) if weights is None else weights
    hits = labels == predicted
    of_labels = [labels == label for label in np.unique(labels)]
    return float(np.mean([np.average(hits[rows], weights=weights[rows]) for rows in of_labels]))


def _parts(conditions: NDArray[np.int64], experiments: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each experiment with two conditions, or else all rows."""
    rows = [np.flatnonzero(experiments == experiment) for experiment in np.unique(experiments)]
    mixed = [part for part in rows if len(np.unique(conditions[part])) > 1]
    return mixed or [np.arange(len(conditions))]


def _score(labels: NDArray[np.int64], hours: NDArray[np.float64], scores: NDArray[np.float64]) -> float | None:
    from sklearn.metrics import roc_auc_score

    weights = match_hours(labels, hours)
    if not weights.any():
        return None
    if scores.shape[1] == 2:
        return float(roc_auc_score(labels, scores[:, 1], sample_weight=weights))
    used = weights > 0
    predicted = scores[used].argmax(axis=1)
    return balanced_accuracy(labels[used], predicted, weights[used])
