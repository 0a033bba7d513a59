"""The file of embeddings that `predict` writes."""

import json
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from viscy_train.errors import UserError
from viscy_train.evaluation.predict import split_of_rows, write_embeddings

# anndata 0.13 sets a pandas option that pandas 3 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
METADATA = {"checkpoint": "last.ckpt", "config": "seed_everything: 0\n", "step": 3, "versions": {"torch": "2"}}
# What anndata 0.10 and the readers of R know.
KNOWN = {
    "anndata 0.1.0",
    "dataframe 0.2.0",
    "dict 0.1.0",
    "array 0.2.0",
    "categorical 0.2.0",
    "string-array 0.2.0",
    "string 0.2.0",
    "numeric-scalar 0.2.0",
}


@pytest.fixture
def write(table, tmp_path):
    """Return a function that writes the embeddings of some rows of a table, and returns the path."""

    def write_rows(rows, *, table=table, name="embeddings.h5ad", split=None):
        path = tmp_path / name
        arrays = {"row": rows, "embeddings": np.ones((len(rows), 4)), "projections": np.ones((len(rows), 2))}
        write_embeddings(path, arrays, table, METADATA, split)
        return path

    return write_rows


@pytest.fixture
def odd_table(table):
    """A table with further columns, of types that pandas and Arrow have and others have not."""
    n = len(table.observations)
    columns = {
        "marker": pd.array(["GFP", None] * n, dtype="string")[:n],
        "dose": pd.array([1, None] * n, dtype="Int64")[:n],
        "is_control": pd.array([True, None] * n, dtype="boolean")[:n],
        "replicate": pd.Categorical([1, 2] * n)[:n],
        "imaged": pd.array([pd.Timestamp("2026-01-02"), None] * n, dtype="datetime64[ns]")[:n],
        "arrow": pd.array(["µ", None] * n, dtype=pd.ArrowDtype(pa.string()))[:n],
        "dose/µM": np.arange(n) / 2,
        "nothing": pd.Series([None] * n, dtype=object),
    }
    return replace(table, observations=table.observations.assign(**columns))


def encodings_of(path):
    encodings = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: encodings.update({name: item.attrs}) or None)
        return {name: f"{x['encoding-type']} {x['encoding-version']}" for name, x in encodings.items()}


def test_all_encodings_are_those_that_earlier_versions_of_anndata_read(write, odd_table):
    encodings = encodings_of(write(np.arange(5), table=odd_table))
    assert set(encodings.values()) <= KNOWN
    assert {encodings[f"{frame}/_index"] for frame in ("obs", "var")} == {"string-array 0.2.0"}
    texts = ("marker", "is_control", "replicate", "imaged", "arrow", "nothing")
    assert {encodings[f"obs/{name}"] for name in texts} == {"categorical 0.2.0"}
    assert encodings["obs/dose"] == encodings["obs/dose_µM"] == "array 0.2.0"


def test_columns_of_any_type_keep_their_values_and_what_is_missing(write, odd_table):
    import anndata

    obs = anndata.read_h5ad(write(np.arange(3), table=odd_table)).obs
    assert obs["marker"].isna().tolist() == [False, True, False]
    assert obs["marker"].tolist()[::2] == ["GFP", "GFP"]
    assert obs["dose"].fillna(-1).tolist() == [1.0, -1.0, 1.0]
    assert obs["is_control"].astype(object).fillna("?").tolist() == ["True", "?", "True"]
    assert obs["replicate"].tolist() == ["1", "2", "1"]
    assert obs["imaged"].astype(object).fillna("?").tolist() == ["2026-01-02T00:00:00", "?", "2026-01-02T00:00:00"]
    assert obs["dose_µM"].tolist() == [0.0, 0.5, 1.0]
    assert obs["nothing"].isna().all()


def test_the_split_and_the_name_of_the_field_of_view_are_columns(write, table):
    import anndata

    n = len(table.observations)
    path = write(np.array([4, 0, 2]), split=split_of_rows(n, np.array([0, 1]), np.array([2])))
    obs = anndata.read_h5ad(path).obs
    assert obs["split"].tolist() == ["none", "training", "validation"]
    assert obs["fov_name"].tolist() == obs["position"].tolist()
    assert obs["track_id"].tolist() == table.observations["track_id"].iloc[[4, 0, 2]].tolist()


def test_each_row_is_one_of_the_tracker(write, table, data_folder):
    """The field of view, the tracker's own number of the track, and the frame lead back to the tracker's file."""
    import anndata

    obs: Any = anndata.read_h5ad(write(np.arange(len(table.observations)))).obs
    keys = ["experiment", "fov_name", "track_id", "t"]
    files = [
        pd.read_csv(data_folder / "tracks" / name / f"{position}.csv").assign(experiment=name, fov_name=position)
        for name, position in obs[keys[:2]].drop_duplicates().itertuples(index=False)
    ]
    of_tracker = pd.concat(files).set_index(keys).loc[pd.MultiIndex.from_frame(obs[keys].astype({"t": int}))]
    for name in ("y", "x", "parent_track_id"):
        np.testing.assert_allclose(obs[name].to_numpy(), of_tracker[name].fillna(-1).to_numpy())
    assert (obs["parent_track_id"] >= 0).any()


def test_a_column_of_the_table_is_not_replaced_by_that_of_the_run(write, table):
    import anndata

    own = replace(table, observations=table.observations.assign(split="mine"))
    n = len(own.observations)
    path = write(np.arange(2), table=own, split=split_of_rows(n, np.array([0]), np.array([1])))
    assert anndata.read_h5ad(path).obs["split"].tolist() == ["mine", "mine"]


def test_a_name_that_ends_in_zarr_is_a_store_of_version_2(write, odd_table):
    import anndata

    rows = np.array([3, 1])
    for _ in range(2):  # it replaces itself
        path = write(rows, table=odd_table, name="embeddings.zarr")
    assert (path / ".zgroup").is_file()
    assert [entry.name for entry in path.parent.iterdir()] == ["embeddings.zarr"]
    encodings = {
        attributes["encoding-type"]
        for file in path.rglob(".zattrs")
        if "encoding-type" in (attributes := json.loads(file.read_text()))
    }
    assert encodings <= {name.split()[0] for name in KNOWN}
    content = anndata.read_zarr(path)
    assert content.obs["t"].tolist() == odd_table.observations["t"].iloc[rows].tolist()
    assert content.obs["marker"].isna().tolist() == [True, True]
    assert content.obsm["projections"].shape == (2, 2)
    assert content.uns["versions"]["torch"] == "2"


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_store_does_not_replace_anything_else(write, tmp_path, kind):
    other = tmp_path / "embeddings.zarr"
    if kind == "directory":
        other.mkdir()
        (other / "notes.txt").write_text("mine")
    else:
        other.write_text("mine")
    with pytest.raises(UserError, match=r"a zarr store of embeddings of viscy-train"):
        write(np.arange(2), name="embeddings.zarr")
    assert (other / "notes.txt" if kind == "directory" else other).read_text() == "mine"


def test_the_observations_keep_their_values(write, table):
    import anndata

    rows = np.array([5, 2, 9])
    content = anndata.read_h5ad(write(rows))
    expected = table.observations.iloc[rows]
    for column in expected:
        assert content.obs[column].tolist() == expected[column].tolist()
    assert content.obs_names.tolist() == ["5", "2", "9"]
    assert {name: content.uns[name] for name in ("checkpoint", "config", "step")} == {
        name: METADATA[name] for name in ("checkpoint", "config", "step")
    }
    assert dict(content.uns["versions"]) == METADATA["versions"]


def test_embeddings_replace_earlier_ones_only(write, tmp_path):
    for rows in (np.arange(3), np.arange(2)):
        path = write(rows)
    with h5py.File(path, "w") as file:
        file["uns/checkpoint"] = "other"
    for content in (path.read_bytes(), path.read_bytes()[:1000], b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a file of embeddings of viscy-train"):
            write(np.arange(3))
        assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["embeddings.csv", "embeddings", "embeddings.h5", "embeddings.parquet"])
def test_a_name_of_another_format_is_refused(write, tmp_path, name):
    with pytest.raises(UserError, match=r"must end in \.h5ad or \.zarr, got .*; name it embeddings\.h5ad"):
        write(np.arange(3), name=name)
    assert not (tmp_path / name).exists()
