"""Summary: the table of strata fits on a screen, however many strata there are."""

from __future__ import annotations

import io
import re

import pytest

from viscy_train.anchors import summary
from viscy_train.anchors.table import AnchorTable
from viscy_train.console import make_console


@pytest.mark.parametrize(("n_shown", "more"), [(4, None), (3, "and 1 more"), (1, "and 3 more")])
def test_a_long_table_of_strata_is_cut(table: AnchorTable, monkeypatch: pytest.MonkeyPatch, n_shown: int, more):
    monkeypatch.setattr(summary, "MAX_ROWS", n_shown)
    file = io.StringIO()
    summary.print_summary(table, make_console(file=file, width=80))
    assert len(re.findall(r"^ (?:monday|tuesday) .*infected ", file.getvalue(), re.MULTILINE)) == n_shown
    assert (more in file.getvalue()) if more else ("more" not in file.getvalue())
