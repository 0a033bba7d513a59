"""Promises: the laws that a batch sampler claims to satisfy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Columns = str | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What a batch sampler claims; anything left out is not claimed and not checked.

    Parameters
    ----------
    table : pandas.DataFrame
        The table that the samplers of the factory draw from; only its length and the columns named here are used.
    batch_size : int
        Slots of a full batch.
    seeded : bool
        The factory takes ``seed``, a small integer, and different seeds give unrelated sequences.
    epochs : {"set_epoch", "iter"}, optional
        Epochs differ and are unrelated. ``"set_epoch"``: the method of that name, of the batch sampler or of its
        attribute ``sampler``, chooses the epoch. ``"iter"``: each new iteration is the next epoch.
    large_seeds : bool
        The factory takes any non-negative ``seed``, such as ``2**63``.
    epochs_advance : bool
        With ``epochs="set_epoch"``: without ``set_epoch``, each iteration is the epoch after the last one.
    epoch_of_first_draw : bool
        An iterator draws the epoch that is set when its first batch is drawn, not when the iterator is made.
    python_ints : bool
        Batches hold Python ints, and do not change once they were yielded.
    last_batch : {"full", "short"}, optional
        ``"full"``: all batches are full. ``"short"``: the last batch of an epoch holds the remaining anchors.
    length : bool
        ``len`` is the number of batches that the sampler yields.
    distinct : bool
        No anchor is repeated within a batch.
    even_repeats : bool
        Rows of a stratum occur equally often in a batch, to within one. A stratum is a group and a condition, or the
        one of them that is named.
    exchangeable : bool
        The row of a slot does not depend on the slot's position in the batch.
    group_by : str or sequence of str, optional
        Columns that define the groups to which batches are restricted, except for the leak.
    leaky : float, optional
        Fraction of the slots from other groups, in [0, 1): its floor or ceiling in a batch, the exact value on average.
    uniform_leak : bool
        Leak slots are drawn uniformly from the rows of the other groups, independently for each batch. With
        `condition_by`, from the rows of the same condition; with `condition_shares`, each condition has its share.
    group_shares : mapping of group to float, optional
        Fraction of an epoch's batches for each group, to within one batch.
    random_order : bool
        The batches of an epoch are in random order: their index does not say anything about their group, their counts,
        or their focal time. Quotas are rounded up equally often at each index and in each group.
    independent_batches : bool
        Two batches, and two epochs, have no more in common than expected by chance: rows, leak, order of slots.
    condition_by : str or sequence of str, optional
        Columns whose labels have the shares in `condition_shares`.
    condition_shares : mapping of label to float, optional
        Fraction of the slots for each label: its floor or ceiling in a batch, the exact value on average. Labels of
        several columns are tuples.
    condition_slack : int
        Number of slots by which a label may be below the floor or above the ceiling.
    time_by : str, optional
        Column of times in hours.
    window_hours, window_fraction : float, optional
        At least `window_fraction` of the slots, rounded down, are within `window_hours` of one time of the table.
    global_fraction : float, optional
        Of each condition's slots in the home group, exactly this fraction is drawn from all times, the window included,
        and the others from the window: the floor or the ceiling in a batch. A condition without rows in the window is
        drawn from all times.
    focal_turns : bool
        Each time of a group is the focal time of equally many batches of an epoch, to within one.
    coverage : bool
        In one epoch of a single process, rows of a stratum are drawn equally often, to within one. For a leaky sampler,
        only the slots of a batch's home group count.
    rounds : bool
        No row is drawn a second time before every row of its stratum was drawn once, and so on.
    epoch_batches : int, optional
        Every epoch has so many full batches. Coverage and rounds are then those of `round_epochs` successive epochs,
        and so are the shares of the groups. Different rounds are unrelated.
    round_epochs : int, optional
        Epochs of a round; by default as many as hold the full batches of the table.
    anchors_per_condition : int, optional
        A batch of n slots holds ``n // anchors_per_condition`` conditions, or all that its group has, each with the
        floor or the ceiling of its part of the slots; see `choose_targets`. Conditions are chosen in proportion to
        `condition_shares`, to within one batch of a group and epoch, and pairs of them by chance.
    distinct_by : str or sequence of str, optional
        Columns of which no two rows of a batch share a value while the pool of one of them has another.
    locality : int, optional
        A condition's slots are filled by runs of up to so many rows that follow each other in time and place.
    place_by : str or sequence of str, optional
        Columns of the place, by which the rows of one time are sorted.
    without_locality : mapping, optional
        Options of the factory that make the sampler without locality. It has the same counts in every batch.
    row_inclusion : bool
        Every row of a stratum (and time, if it is named) is drawn equally often on average.
    independent_rows : bool
        The rows of a batch are drawn independently of each other: rows that follow each other in the table or in time
        are in the same batch only by chance.
    deterministic : bool
        The same arguments give the same batches, whatever the state of the global generators, and in any process.
        Drawing does not change the global generators or the table.
    digest : str, optional
        Result of `digest_of` for the first epoch of a single process, with seed 0 if the sampler is seeded.
    ranks : {"interleave", "disjoint", "split"}, optional
        ``"interleave"``: rank r of R has the batches r, r + R, ... of the sequence of a single process. ``"disjoint"``:
        no anchor occurs on two ranks. ``"split"``: each rank has its own equal part of the slots of every batch of the
        sequence of a single process; a number of ranks that does not divide `batch_size` is not tried.
    equal_steps : bool
        All ranks have the same number of batches.
    fresh_padding : bool
        Ranks complete their last step with batches that did not occur before, which continue the sequence of a single
        process and are composed like the others.
    complete_ranks : bool
        All ranks together contain every anchor in an epoch, except for `left_out`.
    left_out : int
        Largest number of anchors that complete ranks may leave out.
    rank_cost : bool
        A rank builds its own batches only.
    resume : bool
        ``state_dict`` and ``load_state_dict`` resume a stopped epoch, at any time and as often as needed.
    elastic_resume : bool
        They do so on another number of ranks.
    set_epoch_keeps_state : bool
        ``set_epoch`` with the epoch of a loaded state resumes in it, and with another epoch starts that.
    plain_state : bool
        A state is a small dict that survives JSON.
    refuses_state : sequence of mapping, optional
        Options of the factory that make other samplers, whose states a sampler refuses by a ValueError. If the sampler
        is seeded, the state of another seed is refused, too. For the state of another table, the factory can take an
        option that names one.
    random_access : bool
        ``batch(k)`` is batch k of a single process, also beyond the end of the epoch.
    random_epochs : bool
        ``batch(k, epoch=e)`` is batch k of epoch e, also while the sampler is iterated.
    direct_access : bool
        A batch that is requested by index or resumed from a state costs the same anywhere in an epoch.
    copies : bool
        A copy by `copy.deepcopy` or `pickle` is where the original is.

    Raises
    ------
    ValueError
        If a claim needs another one that is missing, or a value is out of range.
    """

    table: pd.DataFrame
    batch_size: int
    seeded: bool = False
    epochs: Literal["set_epoch", "iter"] | None = None
    large_seeds: bool = False
    epochs_advance: bool = False
    epoch_of_first_draw: bool = False
    python_ints: bool = False
    last_batch: Literal["full", "short"] | None = None
    length: bool = False
    distinct: bool = False
    even_repeats: bool = False
    exchangeable: bool = False
    group_by: Columns | None = None
    leaky: float | None = None
    uniform_leak: bool = False
    group_shares: Mapping[Any, float] | None = None
    random_order: bool = False
    independent_batches: bool = False
    condition_by: Columns | None = None
    condition_shares: Mapping[Any, float] | None = None
    condition_slack: int = 0
    time_by: str | None = None
    window_hours: float | None = None
    window_fraction: float | None = None
    global_fraction: float | None = None
    focal_turns: bool = False
    coverage: bool = False
    rounds: bool = False
    epoch_batches: int | None = None
    round_epochs: int | None = None
    anchors_per_condition: int | None = None
    distinct_by: Columns | None = None
    locality: int | None = None
    place_by: Columns | None = None
    without_locality: Mapping[str, Any] | None = None
    row_inclusion: bool = False
    independent_rows: bool = False
    deterministic: bool = False
    digest: str | None = None
    ranks: Literal["interleave", "disjoint", "split"] | None = None
    equal_steps: bool = False
    fresh_padding: bool = False
    complete_ranks: bool = False
    left_out: int = 0
    rank_cost: bool = False
    resume: bool = False
    elastic_resume: bool = False
    set_epoch_keeps_state: bool = False
    plain_state: bool = False
    refuses_state: Sequence[Mapping[str, Any]] | None = None
    random_access: bool = False
    random_epochs: bool = False
    direct_access: bool = False
    copies: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size!r}")
        if self.leaky is not None and not 0 <= self.leaky < 1:
            raise ValueError(f"leaky must be in [0, 1), got {self.leaky!r}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in (None, *allowed):
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, or None, got {getattr(self, name)!r}")
        for name, needed in _NEEDS.items():
            if _is_claimed(getattr(self, name)) and not _is_claimed(got := getattr(self, needed)):
                raise ValueError(f"{name} needs {needed}, got {got}; give {needed} or leave out {name}")
        for name in _NEED_SET_EPOCH:
            if getattr(self, name) and self.epochs != "set_epoch":
                raise ValueError(f"{name} needs epochs='set_epoch', got {self.epochs!r}; give it or leave out {name}")
        if self.global_fraction is not None and not 0 <= self.global_fraction <= 1:
            raise ValueError(f"global_fraction must be in [0, 1], got {self.global_fraction!r}")
        for name in ("epoch_batches", "round_epochs", "anchors_per_condition", "locality"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        if self.epoch_batches is not None and self.last_batch == "short":
            raise ValueError("epoch_batches needs last_batch='full' or none, got 'short'; its epochs have full batches")
        axes = "group_by", "condition_by", "time_by", "distinct_by", "place_by"
        missing = [name for by in axes for name in self._names(by)]
        missing = [name for name in missing if name not in self.table.columns]
        if missing:
            raise ValueError(f"columns {missing} must be in the table, which has {list(self.table.columns)}")
        for name in ("coverage", "rounds"):
            if getattr(self, name) and self.window_hours is not None:
                raise ValueError(
                    f"{name} cannot be checked with window_hours, which breaks it by design; leave one out"
                )

    @property
    def of_ranks(self) -> bool:
        """Whether anything is claimed about ranks."""
        claimed = self.ranks, self.equal_steps, self.complete_ranks, self.rank_cost, self.elastic_resume
        return any(claim not in (None, False) for claim in claimed)

    @property
    def epochs_of_round(self) -> int:
        """The number of epochs in which the anchors are drawn once: one, unless `epoch_batches` is claimed."""
        if self.epoch_batches is None:
            return 1
        return self.round_epochs or -(-(len(self.table) // self.batch_size) // self.epoch_batches)

    def labels(self, *by: str) -> pd.DataFrame | np.ndarray:
        """Return the label of each row in the columns of some axes; all labels are equal if no axis is named."""
        names = [name for axis in by for name in self._names(axis)]
        if not names:
            return np.zeros(len(self.table), np.int64)
        return self.table[names[0]].to_numpy() if len(names) == 1 else self.table[names]

    def _names(self, axis: str) -> list[str]:
        by = getattr(self, axis)
        return [] if by is None else [by] if isinstance(by, str) else list(by)


def _is_claimed(value: Any) -> bool:
    """Return whether the value of a field is a claim; 0 is one."""
    return value is not None and value is not False


_CHOICES = {
    "epochs": ("set_epoch", "iter"),
    "last_batch": ("full", "short"),
    "ranks": ("interleave", "disjoint", "split"),
}
_NEEDS = {
    "leaky": "group_by",
    "group_shares": "group_by",
    "condition_shares": "condition_by",
    "anchors_per_condition": "condition_by",
    "round_epochs": "epoch_batches",
    "epoch_batches": "epochs",
    "locality": "time_by",
    "place_by": "locality",
    "without_locality": "locality",
    "window_hours": "time_by",
    "window_fraction": "window_hours",
    "global_fraction": "window_hours",
    "focal_turns": "global_fraction",
    "uniform_leak": "leaky",
    "large_seeds": "seeded",
    "independent_rows": "row_inclusion",
    "fresh_padding": "equal_steps",
    "refuses_state": "resume",
    "plain_state": "resume",
    "set_epoch_keeps_state": "resume",
    "random_epochs": "random_access",
}
_NEED_SET_EPOCH = ("epochs_advance", "epoch_of_first_draw", "set_epoch_keeps_state", "random_epochs")
