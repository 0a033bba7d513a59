"""Fixtures of the tests of the anchor table."""

from dataclasses import replace

import pytest

from viscy_train.anchors.header import Exclusion
from viscy_train.anchors.table import AnchorTable
from viscy_train.positives.lineages import Lineages


@pytest.fixture(scope="session")
def table_with_exclusions(table: AnchorTable) -> AnchorTable:
    """The table of two experiments, without most of its first lineage, so that some observations are not anchors."""
    observations = table.observations
    is_lost = (observations["lineage_id"] == 0) & (observations["t"] % 9 != 0)
    rest = observations[~is_lost].reset_index(drop=True)
    rest["has_positive"] = Lineages.of(rest, table.positive).has_positive()
    excluded = Exclusion(experiment="monday", condition="uninfected", reason="lost", n_observations=int(is_lost.sum()))
    return replace(table, observations=rest, excluded=[excluded])
