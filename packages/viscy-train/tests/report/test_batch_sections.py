"""Tables of the composition on pages."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.report.batch_sections import MAX_ROWS_OF_PAGE, composition_rows


def make_targets(n):
    index = pd.MultiIndex.from_product([["a"], [f"c{number}" for number in range(n)]])
    return pd.DataFrame({"anchors": 7, "table_share": 1 / n, "target": 1 / n}, index)


@pytest.mark.parametrize(("n", "n_more"), [(MAX_ROWS_OF_PAGE, None), (MAX_ROWS_OF_PAGE + 1, "1"), (50_000, "49,000")])
def test_a_table_of_a_page_says_how_many_rows_it_leaves_out(n, n_more):
    targets = make_targets(n)
    rows = composition_rows(targets, targets["target"], ["2.0"] * n)
    assert rows[0][:3] == ["a", "c0", "7"]
    assert {len(row) for row in rows} == {7}
    assert len(rows) == min(n, MAX_ROWS_OF_PAGE) + bool(n_more)
    assert rows[-1][0] == (f"and {n_more} more" if n_more else "a")


def test_a_share_that_was_not_observed_is_unknown():
    targets = make_targets(2)
    assert [row[-1] for row in composition_rows(targets, targets["target"] * [1, np.nan])] == ["50.0%", "unknown"]
