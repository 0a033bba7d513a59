"""Folders of saved indexes that earlier versions wrote still open."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from viscy_data import AnchorIndex, FlexibleBatchSampler
from viscy_sampling_testkit import make_anchors

TABLE = make_anchors(500, n_experiments=3, seed=1)
OPTIONS = {"batch_size": 16, "temporal_enrichment": True, "leaky": 0.1}
ARRAYS = ("times", "order", "cell_start", "cell_size", "run_key", "run_start")


def write_version_1(folder, index):
    """Write the folder of an index as version 1 did: strata were called cells."""
    folder.mkdir()
    files = {}
    for name in ARRAYS:
        path = folder / f"{name}.npy"
        np.save(path, getattr(index, name.replace("cell_", "stratum_")))
        content = path.read_bytes()
        files[name] = {"bytes": len(content), "checksum": hashlib.blake2b(content, digest_size=16).hexdigest()}
    description = {
        "version": 1,
        "experiment_by": "experiment",
        "condition_by": "condition",
        "time_by": "hours_post_infection",
        "groups": list(index.groups),
        "conditions": list(index.conditions),
        "time_tolerance": index.time_tolerance,
        "digest": index.digest,
        "files": files,
    }
    text = json.dumps(description, sort_keys=True)
    checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    (folder / "index.json").write_text(json.dumps(description | {"checksum": checksum}, indent=1))


@pytest.fixture
def folder(tmp_path):
    """Return the folder of an index of version 1."""
    write_version_1(tmp_path / "index", AnchorIndex.build(TABLE))
    return tmp_path / "index"


@pytest.mark.parametrize("verify", [False, True])
def test_an_index_of_version_1_gives_the_batches_of_its_table(folder, verify):
    index = AnchorIndex.open(folder, verify=verify)
    assert isinstance(index.order.base, np.memmap)
    assert list(FlexibleBatchSampler(index, **OPTIONS)) == list(FlexibleBatchSampler(TABLE, **OPTIONS))


def test_an_index_of_version_1_is_saved_in_the_current_version(folder, tmp_path):
    AnchorIndex.open(folder).save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "index.json").read_text())["version"] == 4
    again = AnchorIndex.open(tmp_path / "again")
    pd.testing.assert_frame_equal(pd.DataFrame(again.stratum_size), pd.DataFrame(AnchorIndex.build(TABLE).stratum_size))


@pytest.mark.parametrize("name", ["cell_start", "cell_size"])
def test_damage_of_an_index_of_version_1_is_found(folder, name):
    path = folder / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}\.npy of the index .* is damaged"):
        AnchorIndex.open(folder)


@pytest.mark.parametrize("version", [0, 5, "1", None])
def test_other_versions_are_refused(folder, version):
    description = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(description | {"version": version}))
    with pytest.raises(ValueError, match="version 4 or earlier; build and save"):
        AnchorIndex.open(folder)


@pytest.mark.parametrize(("version", "lacking"), [(2, ("distinct_by", "place_by")), (3, ("place_by",))])
def test_an_index_of_an_earlier_version_had_no_values_or_no_places(tmp_path, version, lacking):
    AnchorIndex.build(TABLE).save(tmp_path / "index")
    description = json.loads((tmp_path / "index" / "index.json").read_text())
    description = {name: value for name, value in description.items() if name not in (*lacking, "checksum")}
    description["version"] = version
    text = json.dumps(description, sort_keys=True)
    checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    (tmp_path / "index" / "index.json").write_text(json.dumps(description | {"checksum": checksum}))
    index = AnchorIndex.open(tmp_path / "index")
    assert (index.distinct_by, index.place_by) == (None, None)
    assert list(FlexibleBatchSampler(index, **OPTIONS)) == list(FlexibleBatchSampler(TABLE, **OPTIONS))
