"""The fingerprint of an anchor table names what differs, and ignores what does not matter."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from viscy_train.anchors.fingerprint import describe_difference
from viscy_train.anchors.observations import COLUMNS
from viscy_train.anchors.table import AnchorTable
from viscy_train.config.schema import CropSettings, PositiveConfig


def with_observations(table, **columns):
    return replace(table, observations=table.observations.assign(**columns))


def reverse(column):
    """Return a function that reverses a column of the table."""
    return lambda table: with_observations(table, **{column: table.observations[column].array[::-1]})


def take(rows):
    """Return a function that selects rows."""
    return lambda table: replace(table, observations=table.observations.iloc[rows].reset_index(drop=True))


def change_intensity(table):
    (mean, std), *others = table.intensity["monday"]
    return replace(table, intensity=table.intensity | {"monday": [[mean * 1.001, std], *others]})


CHANGES = {
    **{column: (reverse(column), f"different column '{column}'") for column in COLUMNS},
    "y and x": (lambda table: reverse("x")(reverse("y")(table)), "different column 'y', column 'x'"),
    "one pixel": (lambda table: with_observations(table, y=table.observations["y"].add(1e-9)), "different column 'y'"),
    "rows": (take(slice(1, None)), "number of rows was 499, is now 498"),
    "order of rows": (take(slice(None, None, -1)), "different column 'experiment', "),
    "crop": (lambda table: replace(table, crops=CropSettings(crop=32)), "crop was 16, is now 32"),
    "slices": (lambda table: replace(table, crops=replace(table.crops, z_slices=2)), "z_slices was 1, is now 2"),
    "range of positives": (
        lambda table: replace(table, positive=PositiveConfig(min_frames=1, max_frames=2)),
        "positive was 1 to 3 frames, is now 1 to 2 frames",
    ),
    "intensity": (change_intensity, "different intensity statistics"),
    "channels": (
        lambda table: replace(
            table, experiments=[replace(one, channels=one.channels[::-1]) for one in table.experiments]
        ),
        "channels was ",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_the_training_data_changes_the_fingerprint(table_with_exclusions, name):
    change, message = CHANGES[name]
    changed = change(table_with_exclusions)
    assert describe_difference(table_with_exclusions.fingerprint, changed.fingerprint).startswith(message)


def recode(table):
    """Return the table with other codes of the same names."""
    observations = table.observations.copy()
    for column in ("experiment", "condition", "well", "position"):
        names = list(observations[column].cat.categories)
        observations[column] = observations[column].cat.set_categories(["unused", *names[::-1]])
    return replace(table, observations=observations)


def move(table):
    """Return the table of the same project in another directory."""
    return replace(table, experiments=[replace(one, plate=Path("/moved"), tracks="/gone") for one in table.experiments])


def round_off(table):
    """Return the table with intensity statistics that another machine may compute."""
    intensity = {
        name: [[value * (1 + 1e-15) for value in channel] for channel in channels]
        for name, channels in table.intensity.items()
    }
    return replace(table, intensity=intensity)


def write_and_read(table, path):
    table.write(path)
    return AnchorTable.read(path)


def test_what_does_not_matter_leaves_the_fingerprint_as_it_is(table, tmp_path):
    written = write_and_read(table, tmp_path / "anchors.parquet")
    smaller = table.observations.astype({"track_id": "int32", "t": "uint8"})
    strings = table.observations.astype({"condition": "str", "well": object})
    same = [written, recode(table), move(table), round_off(table), replace(table, excluded=[], tracks={})]
    same += [replace(table, observations=observations) for observations in (smaller, strings)]
    for other in same:
        assert describe_difference(table.fingerprint, other.fingerprint) == ""


def test_the_fingerprint_is_that_of_other_versions_and_platforms():
    """If this fails, runs of earlier versions can no longer be resumed."""
    from viscy_train.anchors.fingerprint import _hash_column

    columns = {
        "text": (pd.Series(pd.Categorical(["b", "a", "b", "ü"])), "c2abb975ed2004d9"),
        "integers": (pd.Series([1, 2, 2**40]), "f537992fa302fe8c"),
        "floats": (pd.Series([0.5, -1.25, 1e300]), "953527bb1cddb561"),
        "bools": (pd.Series([True, False, True]), "85f90dfea1d8027e"),
    }
    assert {name: _hash_column(values) for name, (values, _) in columns.items()} == {
        name: expected for name, (_, expected) in columns.items()
    }


@pytest.mark.parametrize("saved", [None, "text", {}, [1], {"other": "1"}])
def test_a_damaged_fingerprint_differs_from_any(table, saved):
    assert describe_difference(saved, table.fingerprint).startswith("its fingerprint is damaged")


def test_a_missing_value_is_not_the_last_category(table):
    names = pd.Series(["a", "b"] * len(table.observations)).iloc[: len(table.observations)].astype("category")
    some, all_missing = names.mask(names == "b"), names.mask(names == names)
    columns = [names, some.cat.set_categories(["a", "b"]), all_missing]
    parts = [
        replace(table, observations=table.observations.assign(gene=column)).fingerprint["column 'gene'"]
        for column in columns
    ]
    assert len(set(parts)) == 3
