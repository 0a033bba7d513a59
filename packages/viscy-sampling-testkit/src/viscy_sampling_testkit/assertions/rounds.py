"""Rounds of short epochs: as many epochs as hold all anchors once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from viscy_sampling_testkit.assertions._failure import fail
from viscy_sampling_testkit.assertions._slots import Batches, Labels
from viscy_sampling_testkit.assertions.exact import assert_batch_sizes, assert_shares
from viscy_sampling_testkit.assertions.pools import assert_drawn_in_rounds


def assert_short_epochs(
    epochs: Sequence[Batches],
    epoch_batches: int,
    batch_size: int,
    *,
    groups: Labels | None = None,
    shares: Mapping[Any, float] | None = None,
) -> None:
    """Assert that each epoch of a round has so many full batches, and each group its share of them.

    The assertion is exact.

    Parameters
    ----------
    epochs : sequence of sequence of sequence of int
        The batches of all epochs of one round.
    epoch_batches : int
        Batches of an epoch.
    batch_size : int
        Slots of each batch.
    groups : sequence, array, Series or DataFrame, optional
        The group of each row, shape (n_anchors,).
    shares : mapping of group to float, optional
        Fraction of the batches for each group: to within one batch, in each epoch and in the round.

    Raises
    ------
    AssertionError
        If an epoch has another number of batches, a batch is not full, or a group has too many or too few batches.

    Examples
    --------
    >>> assert_short_epochs([[[0, 1], [2, 3]], [[4, 5], [0, 2]]], 2, 2)
    """
    lengths = [len(epoch) for epoch in epochs]
    if set(lengths) != {epoch_batches}:
        fail(
            "every epoch must have the same number of batches",
            observed=f"{lengths} batches in successive epochs",
            expected=f"{epoch_batches} in each",
            n=f"{len(epochs)} epochs",
        )
    together = [batch for epoch in epochs for batch in epoch]
    assert_batch_sizes(together, batch_size, batch_size)
    if groups is not None and shares is not None:
        for batches in (*epochs, together):
            assert_shares(batches, groups, shares)


def assert_round_covers(epochs: Sequence[Batches], strata: Labels) -> None:
    """Assert that over the epochs of a round no anchor is drawn again before all anchors of its stratum were.

    The assertion is exact. If only some slots of a batch are drawn that way, pass batches of those slots only.

    Parameters
    ----------
    epochs : sequence of sequence of sequence of int
        The batches of all epochs of one round, in order.
    strata : sequence, array, Series or DataFrame
        The stratum of each row, shape (n_anchors,).

    Raises
    ------
    AssertionError
        If after a batch two anchors of a stratum differ by more than one in how often they were drawn.

    Examples
    --------
    >>> assert_round_covers([[[0, 1]], [[2, 3]]], ["all"] * 4)
    """
    try:
        assert_drawn_in_rounds([batch for epoch in epochs for batch in epoch], strata)
    except AssertionError as error:
        facts = f"  epochs: {[len(epoch) for epoch in epochs]} batches"
        raise AssertionError(f"over the epochs of a round, {error}\n{facts}") from None
