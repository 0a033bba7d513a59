"""Column probes: how well a linear classifier predicts any column of the anchor table, with error bars.

A column is predicted twice: pooled, in positions that the classifier was not fitted to, and, if its values occur in
several experiments, in experiments that it was not fitted to. Where the second number is much lower than the first, the
embeddings contain the values of the column only together with the appearance of an experiment.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from viscy_train.config.suggestions import did_you_mean
from viscy_train.errors import UserError
from viscy_train.evaluation.chance import Chance, measure_chance
from viscy_train.evaluation.discriminant import classify, whiten
from viscy_train.evaluation.interval import interval_of_t
from viscy_train.positives.column_codes import encode_column, with_qualifiers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

_MAX_ANCHORS, _MAX_VALUES, _MAX_FOLDS, _MAX_COLUMNS = 3000, 50, 5, 10
# A column with more different numbers is predicted in quarters.
_MAX_NUMBERS, _QUARTERS = 10, 4
_N_RESAMPLED = 500
_CONDITION = "condition"
# scikit-learn, which takes a second to import, is imported where a classifier is fitted.


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A balanced accuracy, its standard error, and the number of units that it was estimated from."""

    mean: float
    error: float
    n_units: int = field(default=2, compare=False)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval: Student's t of one unit less, cut at 0 and 1."""
        return interval_of_t(self.mean, self.error, self.n_units)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.mean:.0%} ({low:.0%} to {high:.0%})"


@dataclass(frozen=True, kw_only=True)
class ColumnProbe:
    """A linear probe of a column.

    Parameters
    ----------
    column : str
        Name of the column, or ``quarter of`` a column of numbers.
    n_values : int
        Number of different values that are predicted.
    held_out : str
        The unit of cross-validation: ``position``, ``lineage`` or ``experiment``.
    n_units : int
        Number of these units.
    chance : float
        Balanced accuracy of a guess, 1 / `n_values`.
    untrained, trained : Accuracy
        Balanced accuracy before and after training. The error is that of a bootstrap over positions or lineages. With
        experiments held out, the accuracy is the mean over them, and the error is that of this mean, or that of the
        bootstrap if it is larger: of two or three experiments, the former is too uncertain.
    n_anchors : int
        Number of anchors.
    permuted : Chance, optional
        Balanced accuracy after training if the values are permuted among positions or lineages.
    """

    column: str
    n_values: int
    held_out: str
    n_units: int
    chance: float
    untrained: Accuracy
    trained: Accuracy
    n_anchors: int = 0
    permuted: Chance | None = None


class _Units(NamedTuple):
    """Which unit is held out, that of each anchor, the unit that the bootstrap draws, and what that is part of."""

    held_out: str
    groups: NDArray[np.int64]
    resampled: NDArray[np.int64]
    strata: NDArray[np.int64]


def columns_to_probe(observations: pd.DataFrame, extra: Sequence[str], chosen: Sequence[str] | str | None) -> list[str]:
    """Return the columns to probe.

    Parameters
    ----------
    observations : pandas.DataFrame
        The anchor table.
    extra : sequence of str
        Columns of the user.
    chosen : str or sequence of str, optional
        Columns to probe. By default, the condition and the first columns of `extra` that are text of 2 to 50 values, at
        most 10 in total.

    Raises
    ------
    UserError
        If the table has no such column.
    """
    if chosen is None:
        texts = [name for name in extra if isinstance(observations[name].dtype, pd.CategoricalDtype)]
        few = [name for name in texts if 2 <= observations[name].nunique() <= _MAX_VALUES]
        return [_CONDITION, *few][:_MAX_COLUMNS]
    names = [chosen] if isinstance(chosen, str) else list(chosen)
    for name in names:
        if name not in observations:
            raise UserError(
                f"evaluation.probe must name columns of the anchor table ({', '.join(map(str, observations))}), got "
                f"{name!r}{did_you_mean(str(name), map(str, observations))}"
            )
    return list(dict.fromkeys(names))


def probe_columns(
    untrained: NDArray[np.float32],
    trained: NDArray[np.float32],
    anchors: pd.DataFrame,
    columns: Sequence[str],
    seed: int,
) -> list[ColumnProbe]:
    """Fit linear probes of some columns.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings before and after training, shape (n_anchors, features).
    anchors : pandas.DataFrame
        The anchor of each embedding.
    columns : sequence of str
        The columns.
    seed : int
        Seed of the choice of anchors, of the cross-validation and of the bootstrap.

    Returns
    -------
    list of ColumnProbe
        One or two for each column; none for a column with fewer than two values that occur in two units.

    Notes
    -----
    A value counts if it occurs in two units at least: it can then be in both parts of a split. Of more than 50 values,
    the most frequent count, and of more than 3000 anchors a random part. Missing values do not count. Numbers of more
    than 10 values are predicted in quarters.
    """
    return [
        probe
        for column in columns
        for units in (("position", "lineage"), ("experiment",))
        if (probe := _probe(untrained, trained, anchors, column, units, seed)) is not None
    ]


def measure_accuracies(
    untrained: NDArray[np.float32],
    trained: NDArray[np.float32],
    labels: NDArray[np.int64],
    anchors: pd.DataFrame,
    held_out: str,
    seed: int,
) -> tuple[Accuracy, Accuracy, Chance | None]:
    """Return the balanced accuracy of a linear classifier in units that it was not fitted to.

    Parameters
    ----------
    untrained, trained : numpy.ndarray
        Embeddings before and after training, shape (n_anchors, features).
    labels : numpy.ndarray
        What is predicted, numbers from 0, shape (n_anchors,). Each must occur in two units at least.
    anchors : pandas.DataFrame
        The anchor of each embedding.
    held_out : str
        What the units are: ``position``, ``lineage`` or ``experiment``.
    seed : int
        Seed of the cross-validation, of the bootstrap over the units and of the permutations.

    Returns
    -------
    untrained, trained : Accuracy
        The accuracies.
    permuted : Chance or None
        The accuracy after training if labels are permuted.
    """
    resampled = "position" if held_out == "experiment" else held_out
    strata = "experiment" if resampled == "position" else "position"
    units = _Units(held_out, *(_groups(anchors, unit) for unit in (held_out, resampled, strata)))
    before, after = whiten(untrained), whiten(trained)
    accuracies = [_measure(whitened, labels, units, seed) for whitened in (before, after)]
    chance = measure_chance(
        lambda permuted: _score(after, permuted, units, seed), labels, units.resampled, units.strata, seed
    )
    return accuracies[0], accuracies[1], chance


def fit_linear_probe(
    embeddings: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> Pipeline:
    """Return a fitted logistic regression of standardized embeddings.

    Parameters
    ----------
    embeddings : numpy.ndarray
        Shape (n_anchors, features).
    labels : numpy.ndarray
        What is predicted, at least two different numbers, shape (n_anchors,).
    weights : numpy.ndarray, optional
        Weight of each row, shape (n_anchors,). By default, all labels have the same total weight.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    balanced = "balanced" if weights is None else None
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight=balanced, max_iter=200, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe need not be exact
        return classifier.fit(embeddings, labels, logisticregression__sample_weight=weights)


def grouped_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], max_folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the fitted and the tested rows of each fold; a group is in one fold, and labels are spread over the folds.

    Parameters
    ----------
    labels : numpy.ndarray
        What is predicted, numbers from 0, shape (n_rows,).
    groups : numpy.ndarray
        The unit of each row, shape (n_rows,). Each label must occur in two units at least.
    max_folds : int
        Largest number of folds; fewer if a label occurs in fewer units.
    seed : int
        Seed of the folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = [len(np.unique(groups[labels == label])) for label in range(labels.max() + 1)]
    folds = StratifiedGroupKFold(min(max_folds, *numbers), shuffle=True, random_state=seed)
    return list(folds.split(labels, labels, groups))


def _probe(
    untrained: NDArray[np.float32],
    trained: NDArray[np.float32],
    anchors: pd.DataFrame,
    column: str,
    units: Sequence[str],
    seed: int,
) -> ColumnProbe | None:
    """Probe a column with the first of some units that its values allow."""
    name, values = _labels(_values(anchors, column))
    for held_out in units:
        groups = _groups(anchors, held_out)
        rows = _usable_rows(values, groups, seed)
        labels, of_rows = np.unique(values[rows].astype(str), return_inverse=True)
        if len(labels) < 2:
            continue
        before, after, permuted = measure_accuracies(
            untrained[rows], trained[rows], of_rows, anchors.iloc[rows], held_out, seed
        )
        return ColumnProbe(
            column=name,
            n_values=len(labels),
            held_out=held_out,
            n_units=len(np.unique(groups[rows])),
            chance=1 / len(labels),
            untrained=before,
            trained=after,
            n_anchors=len(rows),
            permuted=permuted,
        )
    return None


def _values(anchors: pd.DataFrame, column: str) -> pd.Series:
    """Return a column; instead of names that mean nothing without their experiment, a number for each of them."""
    if with_qualifiers([column]) == [column]:
        return anchors[column]
    codes = encode_column(anchors, column)
    return pd.Series(codes, name=column).astype("str").where(codes >= 0)


def _labels(column: pd.Series) -> tuple[str, NDArray[np.object_]]:
    """Return a name for the values to predict, and a text for each row, None where it is missing."""
    name = str(column.name)
    is_number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    if is_number and column.nunique() > _MAX_NUMBERS:
        ranks = column.rank(method="average", pct=True)
        name, column = f"quarter of {name}", pd.Series(np.ceil(ranks.to_numpy() * _QUARTERS))
    texts = column.astype(object).to_numpy()
    is_missing = column.isna().to_numpy(dtype=bool)
    return name, np.array([None if none else str(text) for text, none in zip(texts, is_missing, strict=True)], object)


def _groups(anchors: pd.DataFrame, held_out: str) -> NDArray[np.int64]:
    """Return the number of the unit of each anchor."""
    columns = {"position": ["experiment", "position"], "lineage": ["lineage_id"], "experiment": ["experiment"]}
    return anchors.groupby(columns[held_out], observed=True).ngroup().to_numpy()


def _usable_rows(values: NDArray[np.object_], groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the rows with values that count, ascending."""
    table = pd.DataFrame({"value": values, "group": groups}).dropna()
    counts = table.groupby("value")["group"].agg(["nunique", "size"])
    frequent = counts[counts["nunique"] >= 2].sort_values("size", ascending=False, kind="stable").index[:_MAX_VALUES]
    rows = table.index[table["value"].isin(frequent)].to_numpy()
    if len(rows) > _MAX_ANCHORS:
        rows = np.sort(np.random.default_rng([seed, 1]).choice(rows, _MAX_ANCHORS, replace=False))
        # A rare value may have lost all but one of its units.
        some = np.full(len(values), None, dtype=object)
        some[rows] = values[rows]
        return _usable_rows(some, groups, seed)
    return rows


def _measure(whitened: NDArray[np.float64], labels: NDArray[np.int64], units: _Units, seed: int) -> Accuracy:
    """Return the balanced accuracy in units that the classifier was not fitted to."""
    hits = _hits(whitened, labels, units, seed)
    error = _bootstrap_error(_count_hits(hits, labels, units.resampled), seed)
    n_units, mean = len(np.unique(units.groups)), _mean(hits, labels, units)
    if units.held_out != "experiment":
        return Accuracy(mean=mean, error=error, n_units=n_units)
    each = _balanced(*_count_hits(hits, labels, units.groups))
    return Accuracy(mean=mean, error=max(error, float(each.std(ddof=1) / np.sqrt(n_units))), n_units=n_units)


def _score(whitened: NDArray[np.float64], labels: NDArray[np.int64], units: _Units, seed: int) -> float:
    return _mean(_hits(whitened, labels, units, seed), labels, units)


def _hits(whitened: NDArray[np.float64], labels: NDArray[np.int64], units: _Units, seed: int) -> NDArray[np.bool_]:
    """Return which anchors are predicted rightly by a classifier that was not fitted to their unit."""
    hits = np.empty(len(labels), dtype=bool)
    for fitted, tested in _splits(labels, units, seed):
        hits[tested] = classify(whitened, labels, fitted, tested) == labels[tested]
    return hits


def _mean(hits: NDArray[np.bool_], labels: NDArray[np.int64], units: _Units) -> float:
    """Return the balanced accuracy, with experiments held out the mean over them."""
    of_units = _count_hits(hits, labels, units.groups)
    pooled = of_units if units.held_out == "experiment" else of_units.sum(axis=1, keepdims=True)
    return float(_balanced(*pooled).mean())


def _count_hits(hits: NDArray[np.bool_], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many anchors of each unit and label were predicted rightly, and how many there are, in this order."""
    _, unit = np.unique(groups, return_inverse=True)
    n_units, n_labels = int(unit.max()) + 1, int(labels.max()) + 1
    place = unit * n_labels + labels
    counts = (np.bincount(place, weights=weights, minlength=n_units * n_labels) for weights in (hits, None))
    return np.stack([count.reshape(n_units, n_labels).astype(float) for count in counts])


def _splits(labels: NDArray[np.int64], units: _Units, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the fitted and the tested rows of each fold: units of each label are spread evenly over the folds."""
    _, first, of_row = np.unique(units.groups, return_index=True, return_inverse=True)
    n_units, of_unit = len(first), labels[first]
    if units.held_out == "experiment":
        fold, n_folds = np.arange(n_units), n_units
    else:
        order = np.random.default_rng([seed, 5]).permutation(n_units)
        order = order[np.argsort(of_unit[order], kind="stable")]
        place = np.arange(n_units) - np.searchsorted(of_unit[order], of_unit[order])  # number within the label
        n_folds = int(min(_MAX_FOLDS, max(2, np.bincount(of_unit)[np.unique(of_unit)].min())))
        fold = np.empty(n_units, dtype=np.int64)
        fold[order] = place % n_folds
    rows = np.arange(len(labels))
    return [(rows[fold[of_row] != one], rows[fold[of_row] == one]) for one in range(n_folds)]


def _balanced(hits: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean accuracy over the labels that occur, for each row of counts of hits, shape (n_rows, n_labels)."""
    occurs = counts > 0
    return np.where(occurs, hits / np.maximum(counts, 1), 0).sum(axis=1) / occurs.sum(axis=1)


def _bootstrap_error(of_units: NDArray[np.float64], seed: int) -> float:
    """Return the standard deviation of the balanced accuracy if units are drawn with replacement."""
    n_units = of_units.shape[1]
    weights = np.random.default_rng([seed, 2]).multinomial(n_units, np.full(n_units, 1 / n_units), _N_RESAMPLED)
    return float(_balanced(*(np.einsum("ru,ul->rl", weights, part) for part in of_units)).std())
