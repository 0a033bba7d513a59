"""The file of embeddings that `predict` writes."""

import h5py
import numpy as np
import pytest

from viscy_train.errors import UserError
from viscy_train.evaluation.predict import write_embeddings

# anndata 0.13 sets a pandas option that pandas 3 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
METADATA = {"checkpoint": "last.ckpt", "config": "seed_everything: 0\n"}


@pytest.fixture
def write(table, tmp_path):
    """Return a function that writes the embeddings of some rows, and returns the path."""

    def write_rows(rows):
        path = tmp_path / "embeddings.h5ad"
        arrays = {"row": rows, "embeddings": np.ones((len(rows), 4)), "projections": np.ones((len(rows), 2))}
        write_embeddings(path, arrays, table, METADATA)
        return path

    return write_rows


def test_strings_are_plain_so_that_earlier_versions_of_anndata_read_them(write):
    with h5py.File(write(np.arange(3)), "r") as file:
        encodings = {}
        file.visititems(lambda name, item: encodings.update({name: item.attrs["encoding-type"]}))
    assert {encodings[f"{frame}/_index"] for frame in ("obs", "var")} == {"string-array"}
    assert encodings["obs/condition/categories"] == "string-array"
    assert not [name for name, encoding in encodings.items() if "nullable" in encoding]


def test_the_observations_keep_their_values(write, table):
    import anndata

    rows = np.array([5, 2, 9])
    content = anndata.read_h5ad(write(rows))
    expected = table.observations.iloc[rows]
    for column in expected:
        assert content.obs[column].tolist() == expected[column].tolist()
    assert content.obs_names.tolist() == ["5", "2", "9"]
    assert dict(content.uns) == METADATA


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
