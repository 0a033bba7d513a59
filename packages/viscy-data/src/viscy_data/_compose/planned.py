"""The planned composition: which share of an epoch, and of a batch, each stratum is to have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from viscy_data._compose.quotas import list_labels, suggest_label

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from viscy_data._compose.quotas import Quotas
    from viscy_data._options import SamplerOptions
    from viscy_data.index import AnchorIndex


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedComposition:
    """Target composition of a sampler's batches, as `FlexibleBatchSampler.planned` returns it.

    All shares are fractions of 1. They are the exact quotas, before rounding to whole numbers of slots: the mean over
    many batches, on any number of ranks.

    Attributes
    ----------
    strata : pandas.DataFrame
        One row for each stratum (pair of group and condition) that has at least one anchor, in ascending order of the
        labels. The index has the levels ``group`` and ``condition``, with the labels of the table: tuples where an axis
        has several columns; the one label None, which pandas shows as NaN, where the axis is off. The columns:

        - ``anchors``: number of anchors, int64;
        - ``table_share``: their share of the table;
        - ``epoch_share``: target share of an epoch's slots.
    group_shares : pandas.Series
        Target share of an epoch's batches for each group, 0 for an excluded group.
    n_batches : int
        Number of batches in an epoch on all ranks together.
    options : dict
        The options that shape the composition, by the names of the parameters of `FlexibleBatchSampler`, as resolved
        against the table. `experiment_weights` maps each group to its share of the batches, and `condition_ratio` each
        condition to its share before absent conditions give theirs away; both add up to 1. `leaky` is 0.0 where there
        is nothing to leak, and `temporal_enrichment` is False where it has no effect. Options and columns of an axis
        that is off are None.

    Examples
    --------
    >>> import pandas as pd
    >>> from viscy_data import FlexibleBatchSampler
    >>> anchors = pd.DataFrame({
    ...     "experiment": ["monday"] * 60 + ["tuesday"] * 20,
    ...     "condition": ["mock"] * 50 + ["infected"] * 10 + ["mock"] * 20,
    ... })
    >>> planned = FlexibleBatchSampler(anchors, batch_size=8).planned()
    >>> planned.strata  # doctest: +NORMALIZE_WHITESPACE
                       anchors  table_share  epoch_share
    group   condition
    monday  infected        10        0.125       0.375
            mock            50        0.625       0.375
    tuesday mock            20        0.250       0.250
    >>> planned.batch_shares("monday")
    group    condition
    monday   infected     0.5
             mock         0.5
    tuesday  mock         0.0
    Name: batch_share, dtype: float64
    >>> planned.n_batches, planned.options["experiment_weights"]
    (10, {'monday': 0.75, 'tuesday': 0.25})
    """

    strata: pd.DataFrame
    group_shares: pd.Series
    n_batches: int
    options: dict[str, Any]
    _index: AnchorIndex = field(repr=False)
    _quotas: Quotas = field(repr=False)

    @classmethod
    def from_quotas(cls, index: AnchorIndex, quotas: Quotas, options: SamplerOptions) -> PlannedComposition:
        """Tabulate the quotas from which batches are composed."""
        import pandas as pd

        groups, strata = _labels(index)
        present = np.nonzero(index.stratum_size)
        anchors = index.stratum_size[present]
        epoch_share = quotas.epoch_shares()[present]
        return cls(
            strata=pd.DataFrame(
                {"anchors": anchors, "table_share": anchors / len(index), "epoch_share": epoch_share}, index=strata
            ),
            group_shares=pd.Series(quotas.group_share.copy(), index=groups, name="group_share"),
            n_batches=options.n_batches(len(index)),
            options=_resolved(index, quotas, options),
            _index=index,
            _quotas=quotas,
        )

    def batch_shares(self, group: Any = None) -> pd.Series:
        """Return the target share of a batch's slots for each stratum.

        Parameters
        ----------
        group
            Label of the batch's group. Required only if there is more than one group.

        Returns
        -------
        pandas.Series
            Shares with the index of `strata`, adding up to 1.

        Raises
        ------
        ValueError
            If `group` is missing, is not a label of the table, or has no batches because its weight is 0.
        """
        import pandas as pd

        shares = self._quotas.batch_shares(self._code_of(group))
        present = np.nonzero(self._index.stratum_size)
        return pd.Series(shares[present], index=self.strata.index, name="batch_share")

    def _code_of(self, group: Any) -> int:
        labels = self._index.groups
        if group is None and len(labels) == 1:
            return 0
        with_batches = [label for label, share in zip(labels, self._quotas.group_share, strict=True) if share > 0]
        remedy = f"pass one of {list_labels(with_batches)}"
        if group is None:
            raise ValueError(f"group must be given if there is more than one, got None; {remedy}")
        if group not in labels:
            raise ValueError(f"group must be a label of the table, got {group!r}; {suggest_label(group, labels)}")
        if group not in with_batches:
            raise ValueError(f"group must have batches, but experiment_weights gives {group!r} the weight 0; {remedy}")
        return labels.index(group)


def _labels(index: AnchorIndex) -> tuple[pd.Index, pd.MultiIndex]:
    """Return the labels of the groups, and those of the strata that have anchors."""
    import pandas as pd

    codes = np.nonzero(index.stratum_size)
    off = [labels == (None,) for labels in (index.groups, index.conditions)]
    # by default, pandas would make one level per entry of tuple labels
    groups, conditions = (
        pd.Index(labels, dtype=object, tupleize_cols=False) for labels in (index.groups, index.conditions)
    )
    strata = pd.MultiIndex(
        levels=[labels[:0] if is_off else labels for labels, is_off in zip((groups, conditions), off, strict=True)],
        codes=[np.full_like(code, -1) if is_off else code for code, is_off in zip(codes, off, strict=True)],
        names=["group", "condition"],
    )
    return groups.rename("group"), strata


def _resolved(index: AnchorIndex, quotas: Quotas, options: SamplerOptions) -> dict[str, Any]:
    """Return the options that shape the composition, with their defaults filled in."""
    enriched = options.enriched
    return {
        "batch_size": options.batch_size,
        "experiment_aware": options.experiment_aware,
        "leaky": float(quotas.leaky[quotas.group_share > 0].max()),
        "experiment_weights": _by_label(index.groups, quotas.group_share) if options.experiment_aware else None,
        "condition_balanced": options.condition_balanced,
        "condition_ratio": _by_label(index.conditions, quotas.ratio) if options.condition_balanced else None,
        "anchors_per_condition": options.anchors_per_condition if options.condition_balanced else None,
        "temporal_enrichment": enriched,
        "temporal_window_hours": options.temporal_window_hours if enriched else None,
        "temporal_global_fraction": options.temporal_global_fraction if enriched else None,
        "drop_last": options.drop_last,
        "epoch_batches": options.epoch_batches,
        "locality": options.locality,
        **options.axes,
    }


def _by_label(labels: tuple[Any, ...], shares: NDArray[np.float64]) -> Mapping[Any, float]:
    return dict(zip(labels, shares.tolist(), strict=True))
