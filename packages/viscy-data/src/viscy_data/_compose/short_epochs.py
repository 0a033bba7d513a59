"""The schedule of a round of short epochs: each epoch has its groups' shares, and so has the round.

An epoch has a schedule of its own. Its shares are rounded with an offset, and the offsets of the epochs of a round are
equal steps from 0 to 1, in the order of a rotation. So each group has the floor or the ceiling of its share of the
batches in every epoch and in the round, and the number of its batches in all earlier epochs is a closed formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from viscy_data._compose.rotation import Rotation
from viscy_data._compose.rounding import BITS, UNIT, cumulative
from viscy_data._compose.schedule import Schedule, Scheduled
from viscy_data._random.hash import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ShortEpochSchedule:
    """The schedule of a round.

    Parameters
    ----------
    share
        Share of the batches for each group, adding up to 1; shape (n_groups,).
    epoch_batches
        Number of batches of an epoch.
    n_epochs
        Number of epochs of a round.
    key
        Key of the schedule's randomness, shape (1,).

    Attributes
    ----------
    batches_in_cycle
        Number of batches that each group has in the round, shape (n_groups,).
    """

    def __init__(self, share: NDArray[np.float64], epoch_batches: int, n_epochs: int, key: NDArray[np.uint64]) -> None:
        self._share, self._epoch_batches, self._key = share, epoch_batches, key
        self._rotation = Rotation.from_keys(np.array([n_epochs]), key)
        whole, fraction = np.divmod(cumulative(share[None] * epoch_batches, epoch_batches)[0], UNIT)
        self._whole = whole
        # the offsets, as numbers of steps, from which on a bound is carried over to the next whole number
        self._carried_from = -(-(UNIT - fraction) * n_epochs // UNIT)
        self._n_epochs = n_epochs
        self.batches_in_cycle = np.diff(self._bounds_before(np.array(n_epochs)))

    def look_up(self, number: NDArray[np.int64]) -> Scheduled:
        """Return group and index within the group of batches.

        Parameters
        ----------
        number
            Epoch within the round times the number of batches of an epoch, plus the number in the epoch. An epoch
            beyond the last one of the round is a further one, with batches that no epoch of the round has.
        """
        group, index = np.empty((2, len(number)), np.int64)
        epoch, within = np.divmod(number, self._epoch_batches)
        for one in np.unique(epoch):
            which = np.flatnonzero(epoch == one)
            scheduled = self._schedule_of(int(one)).look_up(within[which])
            group[which] = scheduled.group
            index[which] = scheduled.index + np.diff(self._bounds_before(one))[scheduled.group]
        return Scheduled(group, index)

    def _schedule_of(self, epoch: int) -> Schedule:
        step = self._rotation.visit(np.array([epoch]))
        return Schedule(self._share, self._epoch_batches, (step << BITS) // self._n_epochs, derive(self._key, epoch))

    def _bounds_before(self, epoch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sums of the earlier epochs' bounds between groups, shape (n_groups + 1,)."""
        n_steps = self._n_epochs - self._carried_from
        return self._whole * epoch + self._rotation.count(epoch, self._carried_from, n_steps)
