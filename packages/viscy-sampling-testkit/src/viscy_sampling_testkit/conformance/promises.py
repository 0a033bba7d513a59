"""Promises: what a batch sampler claims, and so is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Columns = str | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What a batch sampler claims; what is not said is not claimed, and not checked.

    Parameters
    ----------
    table : pandas.DataFrame
        The table that the factory's samplers draw from; only its length and the columns named here are used.
    batch_size : int
        Slots of a full batch.
    seeded : bool
        The factory takes ``seed``, a small integer, and different seeds give unrelated sequences.
    epochs : {"set_epoch", "iter"}, optional
        Epochs differ and are unrelated: chosen with ``set_epoch``, of the batch sampler or of its attribute
        ``sampler``; or each new iteration is the next one.
    python_ints : bool
        Batches hold Python ints.
    last_batch : {"full", "short"}, optional
        All batches are full; or the last one of an epoch holds the anchors that are left.
    length : bool
        ``len`` is the number of batches that are yielded.
    distinct : bool
        No anchor comes twice in a batch.
    even_repeats : bool
        Rows of a cell come equally often in a batch, to within one; a cell is a group and condition, as far as named.
    exchangeable : bool
        The place of a slot in its batch says nothing about its row.
    group_by : str or sequence of str, optional
        Columns that batches are restricted to; `leaky` says how strictly.
    leaky : float, optional
        Fraction of the slots, in [0, 1), from other groups: its floor or ceiling in a batch, itself on average.
    group_shares : mapping of group to float, optional
        Fraction of an epoch's batches that each group has, to within one batch.
    condition_by : str or sequence of str, optional
        Columns whose labels have the shares in `condition_shares`.
    condition_shares : mapping of label to float, optional
        Fraction of the slots that each label has: its floor or ceiling in a batch, itself on average. Labels of several
        columns are tuples.
    condition_slack : int
        Slots by which a label may lie beyond floor or ceiling.
    time_by : str, optional
        Column of times in hours.
    window_hours, window_fraction : float, optional
        Of the slots at least this fraction, rounded down, lies within so many hours of a time of the table.
    coverage : bool
        In one epoch of a single process rows of a cell come equally often, to within one; of a leaky sampler, in the
        slots of a batch's own group.
    row_inclusion : bool
        Every row of a cell (and time, where it is named) is drawn equally often on average.
    deterministic : bool
        The same arguments give the same batches, whatever the global generators are.
    digest : str, optional
        What `digest_of` returns for the first epoch of a single process, with seed 0 where there are seeds.
    ranks : {"interleave", "disjoint"}, optional
        Rank r of R has the batches r, r + R, ... of the sequence of a single process; or no anchor comes on two ranks.
    equal_steps : bool
        All ranks have equally many batches.
    complete_ranks : bool
        All ranks together show every anchor in an epoch, but for `left_out`.
    left_out : int
        Most anchors that complete ranks may leave out.
    rank_cost : bool
        A rank builds its own batches only.
    resume : bool
        ``state_dict`` and ``load_state_dict`` continue an epoch where it was left.
    elastic_resume : bool
        They do so on another number of ranks.
    random_access : bool
        ``batch(k)`` is batch k of a single process.

    Raises
    ------
    ValueError
        If a promise cannot be checked without another one, or is out of range.
    """

    table: pd.DataFrame
    batch_size: int
    seeded: bool = False
    epochs: Literal["set_epoch", "iter"] | None = None
    python_ints: bool = False
    last_batch: Literal["full", "short"] | None = None
    length: bool = False
    distinct: bool = False
    even_repeats: bool = False
    exchangeable: bool = False
    group_by: Columns | None = None
    leaky: float | None = None
    group_shares: Mapping[Any, float] | None = None
    condition_by: Columns | None = None
    condition_shares: Mapping[Any, float] | None = None
    condition_slack: int = 0
    time_by: str | None = None
    window_hours: float | None = None
    window_fraction: float | None = None
    coverage: bool = False
    row_inclusion: bool = False
    deterministic: bool = False
    digest: str | None = None
    ranks: Literal["interleave", "disjoint"] | None = None
    equal_steps: bool = False
    complete_ranks: bool = False
    left_out: int = 0
    rank_cost: bool = False
    resume: bool = False
    elastic_resume: bool = False
    random_access: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size!r}")
        if self.leaky is not None and not 0 <= self.leaky < 1:
            raise ValueError(f"leaky must be in [0, 1), got {self.leaky!r}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in (None, *allowed):
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, or None, got {getattr(self, name)!r}")
        for name, needed in _NEEDS.items():
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ValueError(f"{name} needs {needed}: without it there is nothing to check it against")
        missing = [name for by in ("group_by", "condition_by", "time_by") for name in self._names(by)]
        missing = [name for name in missing if name not in self.table.columns]
        if missing:
            raise ValueError(f"columns {missing} must be in the table, which has {list(self.table.columns)}")
        if self.coverage and self.window_hours is not None:
            raise ValueError("coverage cannot be checked with window_hours: a window is not dealt; leave one out")

    @property
    def of_ranks(self) -> bool:
        """Whether anything is claimed about ranks."""
        claimed = self.ranks, self.equal_steps, self.complete_ranks, self.rank_cost, self.elastic_resume
        return any(claim not in (None, False) for claim in claimed)

    def labels(self, *by: str) -> pd.DataFrame | np.ndarray:
        """Return the label of each row in the columns of some axes; all alike where no axis is named."""
        names = [name for axis in by for name in self._names(axis)]
        if not names:
            return np.zeros(len(self.table), np.int64)
        return self.table[names[0]].to_numpy() if len(names) == 1 else self.table[names]

    def _names(self, axis: str) -> list[str]:
        by = getattr(self, axis)
        return [] if by is None else [by] if isinstance(by, str) else list(by)


_CHOICES = {"epochs": ("set_epoch", "iter"), "last_batch": ("full", "short"), "ranks": ("interleave", "disjoint")}
_NEEDS = {
    "leaky": "group_by",
    "group_shares": "group_by",
    "condition_shares": "condition_by",
    "window_hours": "time_by",
    "window_fraction": "window_hours",
}
