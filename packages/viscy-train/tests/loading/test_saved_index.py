"""What follows from a large table is saved next to it: later starts map it, and give the same batches."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

from viscy_data import AnchorIndex
from viscy_train.config.schema import SamplerConfig, SplitConfig
from viscy_train.errors import UserError
from viscy_train.loading import run_data, saved_index
from viscy_train.loading.run_data import RunData
from viscy_train.loading.sampler import make_sampler

OPTIONS = SamplerConfig(batch_size=8, leaky=0.25, temporal_enrichment=True, distinct_by="lineage_id")
N_ROWS = 400


@pytest.fixture
def anchors() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    texts = {"experiment": ["monday", "tuesday"], "condition": ["infected", "uninfected"]}
    columns = {name: pd.Categorical(rng.choice(values, N_ROWS)) for name, values in texts.items()}
    hours = rng.integers(0, 20, N_ROWS) / 2
    return pd.DataFrame(columns | {"hours_post_infection": hours, "lineage_id": rng.integers(0, 99, N_ROWS)})


def batches(anchors, options=OPTIONS, saved_in=None):
    return [*map(list, make_sampler(anchors, options, 3, 0, 1, saved_in=saved_in))]


def refuse_to_build(monkeypatch):
    def build(*_, **__):
        raise AssertionError("the index must be opened")

    monkeypatch.setattr(AnchorIndex, "build", build)


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        SamplerConfig(batch_size=8, experiment_aware=False, condition_balanced=False),
        SamplerConfig(batch_size=8, condition_by=["condition", "lineage_id"], temporal_enrichment=True),
        SamplerConfig(batch_size=8, temporal_enrichment=True, temporal_global_fraction=1.0),
        SamplerConfig(batch_size=8, locality=4, place_by="lineage_id"),
        SamplerConfig(batch_size=8, locality=4, place_by="lineage_id", temporal_enrichment=True),
        SamplerConfig(batch_size=8, place_by="lineage_id"),
    ],
)
def test_a_saved_index_gives_the_batches_of_the_table(anchors, tmp_path, monkeypatch, options):
    expected = batches(anchors, options)
    assert batches(anchors, options, tmp_path / "arrays") == expected
    refuse_to_build(monkeypatch)
    assert batches(anchors, options, tmp_path / "arrays") == expected


@pytest.mark.parametrize("column", ["experiment", "condition", "hours_post_infection", "lineage_id"])
def test_another_table_has_another_index(anchors, tmp_path, column):
    batches(anchors, saved_in=tmp_path)
    changed = anchors.assign(**{column: anchors[column].to_numpy()[::-1]})
    assert batches(changed, saved_in=tmp_path) == batches(changed) != batches(anchors)
    renamed = anchors.assign(condition=anchors["condition"].cat.rename_categories({"infected": "treated"}))
    strata = make_sampler(renamed, OPTIONS, 3, 0, 1, saved_in=tmp_path).planned().strata
    assert {condition for _, condition in strata.index} == {"treated", "uninfected"}


def test_a_damaged_index_is_built_again(anchors, tmp_path, monkeypatch):
    batches(anchors, saved_in=tmp_path)
    for file in tmp_path.rglob("*.npy"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 255
        file.write_bytes(content)
    assert batches(anchors, saved_in=tmp_path) == batches(anchors)
    refuse_to_build(monkeypatch)
    assert batches(anchors, saved_in=tmp_path)


def test_an_index_that_cannot_be_saved_stays_in_memory(anchors, tmp_path):
    (tmp_path / "file").touch()
    assert batches(anchors, saved_in=tmp_path / "file") == batches(anchors)


def test_processes_that_save_the_same_index_at_once_share_one(anchors, tmp_path, monkeypatch):
    """Even on a file system without locks."""
    monkeypatch.setattr(saved_index, "one_at_a_time", nullcontext)
    build = AnchorIndex.build

    def build_after_another(*args, **options):
        monkeypatch.setattr(AnchorIndex, "build", build)
        batches(anchors, saved_in=tmp_path)
        return build(*args, **options)

    monkeypatch.setattr(AnchorIndex, "build", build_after_another)
    assert batches(anchors, saved_in=tmp_path) == batches(anchors)
    assert len([*tmp_path.glob("index-*")]) == 1


def test_invalid_anchors_are_refused_as_without_saving(anchors, tmp_path):
    for saved_in in (None, tmp_path):
        with pytest.raises(UserError, match=r"data\.sampler: .*hours_post_infection"):
            batches(anchors.assign(hours_post_infection=np.inf), saved_in=saved_in)


def test_the_rows_and_the_sampler_of_a_large_project_are_mapped_from_files(project, monkeypatch):
    """On tables of any size, so that the test need not make a large one."""
    paths = [project.parent / name for name in ("experiments.yaml", "anchors.parquet")]
    settings = {"crop": 16, "positive": run_data.PositiveConfig(min_frames=1, max_frames=3), "sampler": OPTIONS}
    settings["split"] = SplitConfig(fraction=0.5)
    small = RunData(*paths, **settings)
    expected = [*map(list, small.make_sampler())]
    assert not (folder := project.parent / ".anchors.parquet.arrays").exists()
    monkeypatch.setattr(run_data, "LEAST_ROWS", 1)
    monkeypatch.setattr("viscy_train.anchors.array_store._LEAST_BYTES", 1)
    large = RunData(*paths, **settings)
    assert [*map(list, large.make_sampler())] == expected
    for rows, same in ((large.train_rows, small.train_rows), (large.validation_rows, small.validation_rows)):
        assert isinstance(rows, np.memmap)
        assert rows.tolist() == same.tolist()
    assert len([*folder.glob("index-*")]) == 1
    small.table.write(paths[1])
    assert not folder.exists()
