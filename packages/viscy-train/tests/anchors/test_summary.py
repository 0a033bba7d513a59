"""Summary: the table of strata fits on a screen, however many strata there are."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from viscy_train.anchors import summary
from viscy_train.anchors.table import AnchorTable
from viscy_train.console import make_console
from viscy_train.experiments.typed_columns import type_column


@pytest.mark.parametrize(("n_shown", "more"), [(4, None), (3, "and 1 more"), (1, "and 3 more")])
def test_a_long_table_of_strata_is_cut(table: AnchorTable, monkeypatch: pytest.MonkeyPatch, n_shown: int, more):
    monkeypatch.setattr(summary, "MAX_ROWS", n_shown)
    file = io.StringIO()
    summary.print_summary(table, make_console(file=file, width=80))
    assert len(re.findall(r"^ (?:monday|tuesday) .*infected ", file.getvalue(), re.MULTILINE)) == n_shown
    assert (more in file.getvalue()) if more else ("more" not in file.getvalue())


@pytest.mark.parametrize("is_complete", [True, False])
def test_values_are_written_in_one_way_whether_some_are_missing_or_not(table: AnchorTable, is_complete):
    n = len(table.observations)
    values = [1] * n if is_complete else [*[1] * (n - 1), None]
    columns = {
        "passage": type_column(pd.Series(values, dtype=object)),
        "is_control": type_column(pd.Series([value if value is None else True for value in values], dtype=object)),
        "dose": type_column(pd.Series([value if value is None else 0.5 for value in values], dtype=object)),
    }
    file = io.StringIO()
    described = replace(table, observations=table.observations.assign(**columns))
    summary.print_summary(described, make_console(file=file, width=80))
    rows = [line.split() for line in file.getvalue().splitlines()]
    for name, text in (("passage", "1"), ("is_control", "true"), ("dose", "0.5")):
        assert [name, text, "1", str(int(not is_complete))] in rows


def test_headings_and_hours_are_not_broken_in_80_columns(table: AnchorTable):
    observations = table.observations.copy()
    observations["experiment"] = observations["experiment"].cat.rename_categories(["2026-11-23 HEK", "2026-11-24 HEK"])
    observations["hours_post_infection"] = observations["hours_post_infection"] / 3 - 1
    file = io.StringIO()
    summary.print_summary(replace(table, observations=observations), make_console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    headings, rows = lines[1:3], [line for line in lines if "HEK" in line]
    assert " ".join(headings).split() == [
        *("posi-", "divi-"),
        *("experiment", "condition", "tions", "tracks", "sions", "rows", "anchors", "hours"),
    ]
    assert len(rows) == 4
    assert all(re.fullmatch(r" 2026-11-2\d HEK +(un)?infected +[\d ]+\S+ to \S+ *", row) for row in rows), rows
