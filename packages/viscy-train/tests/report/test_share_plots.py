"""Which rows of a composition with many conditions a figure shows, and what is said of the others."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.report.batch_sections import composition_rows
from viscy_train.report.formatting import percent
from viscy_train.report.share_plots import MAX_ROWS_OF_DOTS, choose_rows, describe_others, plot_composition


def composition_of(n):
    """Return targets and observed shares of conditions, of which the last ones are farthest from their target."""
    index = pd.MultiIndex.from_product(
        [["a"], [f"c{number:04d}" for number in range(n)]], names=["experiment", "condition"]
    )
    targets = pd.DataFrame({"anchors": 7, "table_share": 1 / n, "target": 1 / n}, index)
    return targets, targets["target"] * (1 + np.arange(n) / n)


@pytest.mark.parametrize("n", [MAX_ROWS_OF_DOTS, 96, 1000])
def test_the_rows_farthest_from_their_targets_are_shown_and_the_others_are_summarized(shapes_of, n):
    targets, observed = composition_of(n)
    assert choose_rows(targets["target"], observed).tolist() == list(range(n - MAX_ROWS_OF_DOTS, n))
    anchors = targets.index.to_frame(index=False)
    texts = [text.text for text in shapes_of(plot_composition(targets, observed, anchors))("text")]
    assert sum(text.startswith("a, c") for text in texts) == MAX_ROWS_OF_DOTS
    largest = 100 * (n - MAX_ROWS_OF_DOTS - 1) / n**2
    others = f"at most {largest:.2g} percentage points from it." if n > MAX_ROWS_OF_DOTS else ""
    assert describe_others(targets["target"], observed).endswith(others)
    assert bool(describe_others(targets["target"], observed)) == (n > MAX_ROWS_OF_DOTS)


def test_small_shares_are_not_rounded_to_none():
    targets, observed = composition_of(1000)
    (row, *_) = composition_rows(targets, observed * 0.25)
    assert row[3:6] == ["0.1%", "0.1%", "0.025%"]
    assert [percent(share, 1) for share in (0.0, -1e-17, 1e-17, 0.0005, 0.5)] == [
        "0.0%",
        "0.0%",
        "0.0%",
        "0.05%",
        "50.0%",
    ]
