"""An anchor table whose values are not those that `viscy-train index` writes is refused when it is read."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from viscy_train.anchors.table import AnchorTable
from viscy_train.errors import UserError


def set_all(**values):
    """Return a function that sets whole columns."""
    return lambda table: table.assign(**values)


def set_first(column, value):
    """Return a function that sets the first value of a column."""

    def change(table):
        values = table[column].tolist()
        return table.assign(**{column: [value, *values[1:]]}).astype({column: table[column].dtype})

    return change


def shift_names(column):
    """Return a function that gives each row the name of another one."""
    return lambda table: table.assign(**{column: table[column].cat.rename_categories(lambda name: f"{name}x")})


def with_positives_everywhere(table):
    return table.assign(has_positive=True)


def swap_conditions(table):
    names = table["condition"].cat.categories
    return table.assign(condition=table["condition"].cat.rename_categories(dict(zip(names, names[::-1], strict=True))))


def make_own_mother(table):
    return table.assign(parent_track_id=table["track_id"])


def merge_lineages(table):
    return table.assign(lineage_id=table["lineage_id"].where(table["lineage_id"] != 1, 0))


CHANGES = {
    "y is missing": (set_all(y=np.nan), "column 'y' must be finite, got nan in row 0 "),
    "y is infinite": (set_first("y", np.inf), r"column 'y' must be finite, got inf in row 0 \(1 row affected\)"),
    "y is far outside": (set_all(y=-1e6), "column 'y' must be at least -0.5, got -1000000.0 in row 0"),
    "x is a little outside": (set_first("x", -0.6), "column 'x' must be at least -0.5, got -0.6"),
    "hours are missing": (set_all(hours_post_infection=np.nan), "'hours_post_infection' must be finite"),
    "hours of another start": (
        lambda table: table.assign(hours_post_infection=table["hours_post_infection"] + 1),
        "hours_post_infection must follow from the frame in experiment 'monday', got 4.0 in row 0",
    ),
    "negative frame": (set_first("t", -1), r"column 't' must be in \[0, 2147483647\], got -1 in row 0"),
    "huge frame": (set_first("t", 2**40), r"column 't' must be in "),
    "negative track": (set_first("track_id", -3), r"column 'track_id' must be in "),
    "negative lineage": (set_all(lineage_id=-1), r"column 'lineage_id' must be in "),
    "unknown experiment": (shift_names("experiment"), r"experiments must be .*monday, tuesday\), got 'mondayx'"),
    "unknown well": (shift_names("well"), "wells must be those of experiment 'monday', got 'A/1x' in row 0"),
    "unknown condition": (shift_names("condition"), "the condition of well A/1 .* 'uninfected', got 'uninfectedx'"),
    "exchanged conditions": (swap_conditions, "the condition of well A/1 .* must be 'uninfected', got 'infected'"),
    "position of another well": (
        lambda table: table.assign(position=table["position"].cat.rename_categories(lambda name: f"C/{name}")),
        "must be in their well",
    ),
    "repeated row": (lambda table: table.iloc[[0, *range(len(table))]], "must be sorted by .*, without repeats, got "),
    "other order": (lambda table: table.iloc[::-1], "rows must be sorted by experiment, position, track_id, t"),
    "exchanged rows": (lambda table: table.iloc[[1, 0, *range(2, len(table))]], r"out of order in row 1; rebuild"),
    "no rows": (lambda table: table.iloc[:0], "at least one observation must have a positive, got none of 0"),
    "no anchors": (set_all(has_positive=False), "at least one observation must have a positive, got none of"),
    "a positive that does not exist": (with_positives_everywhere, "has_positive must be true where .*, got True"),
    "a positive that is denied": (
        lambda table: table.assign(has_positive=table["has_positive"] & (table["t"] != 20)),
        "has_positive must be true where .*, got False in row ",
    ),
    "has_positive as numbers": (set_all(has_positive=1), "column 'has_positive' must be bool .*, got int64"),
    "y as text": (set_all(y="12"), "column 'y' must be float64 without missing values, got"),
    "frames as floats": (lambda table: table.astype({"t": float}), "column 't' must be int64 .*, got float64"),
    "frames with missing values": (
        lambda table: table.assign(t=table["t"].astype("Int64").where(table["t"] > 0)),
        "column 't' must be int64 without missing values, got float64",
    ),
    "names as text": (lambda table: table.astype({"well": "str"}), "column 'well' must be a dictionary of text"),
    "names as numbers": (
        lambda table: table.assign(condition=pd.Categorical(np.ones(len(table), int))),
        "column 'condition' must be a dictionary of text",
    ),
    "missing names": (
        lambda table: table.assign(condition=table["condition"].cat.remove_categories("infected")),
        "column 'condition' must have no missing values",
    ),
    "several mothers": (set_first("parent_track_id", 1), "'parent_track_id' must be the same in all rows of a track"),
    "several lineages": (set_first("lineage_id", 99), "'lineage_id' must be the same in all rows of a track"),
    "a track that is its own mother": (make_own_mother, "a mother must end before her daughter begins"),
    "merged lineages": (merge_lineages, "a lineage must have a single track without a mother"),
    "one lineage for all": (set_all(lineage_id=0), "a lineage must be in a single position"),
    "a missing column": (lambda table: table.drop(columns="x"), "must have the column 'x' once"),
}


@pytest.fixture
def write(table_with_exclusions, tmp_path, monkeypatch):
    """Return a function that writes the table with other observations and returns the path."""

    def write_changed(observations):
        path = tmp_path / "anchors.parquet"
        monkeypatch.setattr("viscy_train.anchors.table.COLUMNS", list(observations.columns))
        replace(table_with_exclusions, observations=observations.reset_index(drop=True)).write(path)
        monkeypatch.undo()
        return path

    return write_changed


@pytest.mark.parametrize("name", CHANGES)
def test_a_value_that_index_does_not_write_is_refused(table_with_exclusions, write, name):
    change, message = CHANGES[name]
    observations = table_with_exclusions.observations
    assert not observations["has_positive"].all()
    path = write(change(observations))
    with pytest.raises(UserError, match=message) as error:
        AnchorTable.read(path)
    assert str(error.value).startswith(f"{path} is not as `viscy-train index` writes it: ")
    assert str(error.value).endswith("; rebuild it with `viscy-train index --config FILE`")
    assert "\n" not in str(error.value)


def test_a_daughter_in_another_lineage_than_her_mother_is_refused(table, write):
    observations = table.observations
    daughters = observations[observations["parent_track_id"] >= 0]
    in_track = (observations[["position", "track_id"]] == daughters[["position", "track_id"]].iloc[0]).all(axis=1)
    changed = observations.assign(lineage_id=observations["lineage_id"].where(~in_track, 999))
    with pytest.raises(UserError, match="a daughter must be in the lineage of her mother, got 999"):
        AnchorTable.read(write(changed))


def test_a_table_of_index_is_accepted_in_any_order_of_columns(table, write):
    pd.testing.assert_frame_equal(
        AnchorTable.read(write(table.observations[table.observations.columns[::-1]])).observations, table.observations
    )


def test_a_lineage_whose_first_track_was_excluded_is_accepted(table, write):
    """A daughter may name a mother that is not in the table."""
    observations = table.observations
    mothers = observations["parent_track_id"][observations["parent_track_id"] >= 0]
    is_mother = observations["track_id"].isin(mothers) & observations["lineage_id"].isin(
        observations["lineage_id"][mothers.index]
    )
    from viscy_train.positives.lineages import Lineages

    rest = observations[~is_mother].reset_index(drop=True)
    rest["has_positive"] = Lineages.of(rest, table.positive).has_positive()
    assert len(AnchorTable.read(write(rest)).observations) == len(rest)
