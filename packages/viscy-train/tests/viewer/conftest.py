import pytest

from viscy_train.run.directory import RunDirectory
from viscy_train.training.data_cli import DataCLI
from viscy_train.viewer.opened_run import OpenedRun


@pytest.fixture
def run_of(make_project, record_batches, tmp_path):
    """A function that writes the directory of a run as `fit` does, with a record of its first batches."""

    def write(**changes):
        config = make_project(tmp_path, **changes)
        data, run = DataCLI("index", ["--config", str(config)], "").make_data(), RunDirectory(tmp_path / "run")
        text = config.read_text()
        for name in ("experiments.yaml", "anchors.parquet"):
            text = text.replace(f" {name}", f" {tmp_path / name}")
        run.write_config(text)
        run.write_table_fingerprint(data.table.fingerprint)
        sampler = data.make_sampler()
        record_batches(run, [data.train_rows[sampler.batch(k, 0)] for k in range(3)], 1)
        return run.path

    return write


@pytest.fixture
def run(run_of):
    return OpenedRun(run_of())
