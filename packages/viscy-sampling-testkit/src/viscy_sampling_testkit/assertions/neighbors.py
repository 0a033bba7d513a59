"""Neighbors: rows that follow each other in the table or in time, and are in the same batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from viscy_sampling_testkit.assertions._bounds import poisson_p_value
from viscy_sampling_testkit.assertions._failure import check_false_alarm, judge
from viscy_sampling_testkit.assertions._home import Homes
from viscy_sampling_testkit.assertions._slots import Batches, Labels, factorize

# Upper limit of the variance of the number of neighbors, in units of its mean: runs of three rows have two neighbors.
_DISPERSION = 2.0


def assert_independent_rows(
    batches: Batches,
    strata: Labels,
    cells: Labels | None = None,
    *,
    groups: Labels | None = None,
    conditions: Labels | None = None,
    times: Sequence[float] | np.ndarray | None = None,
    false_alarm: float = 1e-6,
    seed: int | None = None,
) -> None:
    """Assert that a batch has no more rows that follow each other than expected by chance.

    Two rows are neighbors if no row of their stratum is between them, in the table or in time. Given how many rows of
    each cell a batch has, all rows of a cell are equally likely, and the number of neighbors in all batches has a known
    mean. The test uses Chernoff's bound for a sum of rare events, with a variance of twice the mean, which is more than
    that of independent draws. It looks for too many neighbors only. It has power against runs of rows, and none if each
    cell has a single row.

    Parameters
    ----------
    batches : sequence of sequence of int
        Shape (n_batches, batch_size); some hundreds.
    strata : sequence, array, Series or DataFrame
        The stratum of each row, shape (n_anchors,): rows of different strata are not neighbors.
    cells : sequence, array, Series or DataFrame, optional
        The cell of each row, a part of its stratum: rows of a cell are equally likely in a batch. By default, cells are
        strata. With a temporal window, a cell is a stratum at one time.
    groups : sequence, array, Series or DataFrame, optional
        The group of each row. Rows of other groups than that of most slots are then the leak, which is tested by
        itself: its strata are the rows of all other groups, of one condition if there are conditions.
    conditions : sequence, array, Series or DataFrame, optional
        The condition of each row.
    times : sequence of float, optional
        The time of each row; neighbors in time are then tested as well as neighbors in the table.
    false_alarm : float, default 1e-6
        Largest probability that a correct sampler fails.
    seed : int, optional
        Seed of the sampler, for the failure message.

    Raises
    ------
    AssertionError
        If batches have too many neighbors.
    ValueError
        If `false_alarm` is outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> assert_independent_rows([rng.choice(40, 4, replace=False) for _ in range(100)], ["all"] * 40)
    """
    check_false_alarm(false_alarm)
    pools, n_anchors = factorize(strata)[0], len(strata)
    of_cells = pools if cells is None else factorize(cells)[0]
    homes = Homes(batches, np.zeros(n_anchors, int) if groups is None else groups)
    orders = {"the table": np.arange(n_anchors)}
    if times is not None:
        orders["time"] = np.argsort(np.asarray(times, float), kind="stable")
    parts = {"home slots": [(_drawn(homes, homes.is_home, n_anchors), pools, of_cells)]}
    if groups is not None:
        codes = np.zeros(n_anchors, int) if conditions is None else factorize(conditions)[0]
        parts["leak slots"] = list(_leaks(homes, codes))
    for part, drawn in parts.items():
        for name, order in orders.items():
            counts = np.array([_count_neighbors(*each, order) for each in drawn])
            observed, expected = counts.sum(axis=0).tolist()
            judge(
                f"rows of {part} must follow each other in {name} only by chance",
                poisson_p_value(observed, expected, _DISPERSION) if expected > 0 else 1.0,
                false_alarm / (len(parts) * len(orders)),
                observed=f"{observed:.0f} neighbors",
                expected=f"{expected:.4g} neighbors",
                n=f"{len(homes.of_batch)} batches",
                seed=seed,
            )


def _drawn(homes: Homes, chosen: np.ndarray, n_anchors: int) -> sparse.csr_matrix:
    """Return which rows fill the chosen slots of each batch, 0 or 1, shape (n_batches, n_anchors)."""
    numbers, rows = homes.slots.numbers[chosen], homes.slots.positions[chosen]
    drawn = sparse.csr_matrix((np.ones(len(rows)), (numbers, rows)), shape=(len(homes.of_batch), n_anchors))
    drawn.data[:] = 1.0
    return drawn


def _leaks(homes: Homes, conditions: np.ndarray) -> Iterator[tuple[sparse.csr_matrix, np.ndarray, np.ndarray]]:
    """Yield the leak of the batches of each group: the rows drawn, and the pool of each row, which is also its cell."""
    for group in np.unique(homes.of_batch):
        pools = np.where(homes.codes == group, -1, conditions)
        leaks = ~homes.is_home & (homes.of_batch == group)[homes.slots.numbers]
        yield _drawn(homes, leaks, len(conditions)), pools, pools + 1


def _count_neighbors(
    drawn: sparse.csr_matrix, pools: np.ndarray, cells: np.ndarray, order: np.ndarray
) -> tuple[float, float]:
    """Return the number of neighbors in all batches, and its mean given the number of rows of each cell in each batch.

    Of N rows of a cell, a batch has n. Two of them are both in it with probability n (n - 1) / (N (N - 1)), and rows of
    two cells with probability n / N * n' / N'.
    """
    ordered = order[np.argsort(pools[order], kind="stable")]
    first, second = ordered[:-1], ordered[1:]
    paired = (pools[first] == pools[second]) & (pools[first] >= 0)
    first, second = first[paired], second[paired]
    observed = drawn[:, first].multiply(drawn[:, second]).sum()
    n_rows = np.bincount(cells)
    of_cells = sparse.csr_matrix((np.ones(len(cells)), (np.arange(len(cells)), cells)))
    counts = drawn @ of_cells
    products = (counts.T @ counts).tocsr()
    a, b = cells[first], cells[second]
    same = a == b
    numerators = np.asarray(products[a, b]).ravel() - same * np.asarray(counts.sum(axis=0)).ravel()[a]
    expected = numerators / (n_rows[a] * np.where(same, n_rows[a] - 1, n_rows[b]))
    return float(observed), float(expected.sum())
