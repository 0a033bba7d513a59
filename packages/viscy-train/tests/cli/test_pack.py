"""A store that `pack` writes: the same after kills, and the same run, embeddings and figures as from plates."""

import anndata
import numpy as np
import pandas as pd
import pytest

from viscy_train.cli.entry_point import main
from viscy_train.exit_codes import EXIT_USER_ERROR
from viscy_train.loading.plate_source import PlateSource
from viscy_train.run.directory import RunDirectory

pytestmark = [
    pytest.mark.slow,
    # anndata 0.13 sets a pandas option that pandas 3 deprecates.
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]
SHORT = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 4, "trainer.limit_val_batches": 1}
SMALL_SHARDS = "from viscy_train.crop_store import crop_array; crop_array._BYTES_PER_SHARD = 20_000\n"
# Time to be killed between writing a file and giving it its name.
SLOW = """
from functools import partial
from time import sleep
os.fsync = lambda file, fsync=os.fsync, wait=partial(sleep, 0.03): (wait(), fsync(file), wait())
"""


def files_of(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def count_shards(path):
    return len(list(path.glob("0/c.*")))


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.weekly)])
def test_a_store_is_the_same_after_any_number_of_kills(
    make_project, start_viscy_train, run_viscy_train, tmp_path, processes
):
    config = make_project(tmp_path)
    command = ["pack", "--config", str(config), "--processes", processes, "--out"]
    run_viscy_train([*command, "whole.zarr"], tmp_path, before=SMALL_SHARDS)
    path, n_shards = tmp_path / "killed.zarr", count_shards(tmp_path / "whole.zarr")
    assert n_shards > 20
    hidden = 0
    for kill in range(6):
        least = kill * n_shards // 8
        with start_viscy_train([*command, "killed.zarr"], tmp_path, before=SMALL_SHARDS + SLOW) as running:
            running.wait_until(lambda: path.exists() and count_shards(path) >= least)  # noqa: B023
            running.kill()
        hidden += len(list(path.rglob(".*.unfinished")))
    assert hidden
    assert main(["inspect", "--config", str(config), "--data.store", str(path)]) == EXIT_USER_ERROR
    finished = run_viscy_train([*command, "killed.zarr"], tmp_path, before=SMALL_SHARDS)
    assert "Done. Wrote killed.zarr" in finished.stdout
    assert files_of(path) == files_of(tmp_path / "whole.zarr")


def test_parts_say_what_others_have_to_pack(project, capsys, error_line):
    pack = ["pack", "--config", str(project), "--part"]
    store = ["--data.store", str(project.parent / "crops.zarr")]
    assert main([*pack, "2/2"]) == 0  # the only shard is in the first part
    assert "Done with this part. 1 shard of other parts is still missing" in capsys.readouterr().out
    assert main(["fit", "--config", str(project), *store]) == EXIT_USER_ERROR
    assert "is unfinished: 1 of 1 shard is missing; run `viscy-train pack" in error_line()
    assert main([*pack, "1/2"]) == 0
    assert f"Done. Wrote {project.parent / 'crops.zarr'}; set data.store" in capsys.readouterr().out
    assert main([*pack, "3/2"]) == EXIT_USER_ERROR
    assert "--part must be I/N with I from 1 to N, such as 2/8, got '3/2'" in error_line()


def fit(config, *options):
    assert main(["fit", "--config", str(config), *options]) == 0


def metrics_of(folder):
    metrics = pd.read_csv(RunDirectory(folder).metrics)
    return metrics[[name for name in metrics if not name.startswith(("time/", "read/"))]]


@pytest.fixture
def without_plates(monkeypatch):
    """A function after which a crop that is read from a plate is an error."""

    def fail(*_):
        raise AssertionError("a crop was read from a plate")

    return lambda: monkeypatch.setattr(PlateSource, "read", fail)


def test_every_command_gives_the_same_from_a_store(make_project, tmp_path, capsys, without_plates):
    config = make_project(tmp_path, **SHORT)
    fit(config)
    commands = {
        "predict": ["--out", "{}.h5ad"],
        "validate": [],
        "replay": ["--step", "2", "--out", "{}.png"],
    }
    printed = {}

    def run_all(name, *options):
        for command, own in commands.items():
            capsys.readouterr()
            arguments = [one.format(tmp_path / name) for one in own]
            assert main([command, "--config", str(config), *options, *arguments]) == 0
            printed[name, command] = capsys.readouterr().out

    run_all("plates")
    assert main(["pack", "--config", str(config)]) == 0
    without_plates()
    store = ["--data.store", str(tmp_path / "crops.zarr")]
    run_all("store", *store)
    assert printed["plates", "validate"] == printed["store", "validate"]
    assert (tmp_path / "store.png").read_bytes() == (tmp_path / "plates.png").read_bytes()
    embeddings = [anndata.read_h5ad(tmp_path / f"{name}.h5ad").X for name in ("plates", "store")]
    np.testing.assert_array_equal(*embeddings)
    assert main(["inspect", "--config", str(config), *store]) == 0
    fit(config, *store, "--output", str(tmp_path / "other"))
    expected = metrics_of(tmp_path / "run")
    pd.testing.assert_frame_equal(metrics_of(tmp_path / "other"), expected, check_exact=True)
    assert main(["report", "--config", str(config), *store]) == 0


def test_a_run_may_be_resumed_with_or_without_a_store(make_project, tmp_path, without_plates, monkeypatch):
    monkeypatch.setattr("viscy_train.report.write.evaluate_and_write_page", lambda *_: None)
    config = make_project(tmp_path, **SHORT | {"model.optimizer.schedule": "constant"})
    fit(config, "--trainer.max_epochs", "3", "--output", str(tmp_path / "plates"))
    assert main(["pack", "--config", str(config), "--out", str(tmp_path / "store.zarr")]) == 0
    fit(config)
    store = ["--ckpt_path", "last", "--data.store", str(tmp_path / "store.zarr"), "--trainer.max_epochs"]
    without_plates()
    fit(config, *store, "2")
    fit(config, *store, "3")
    pd.testing.assert_frame_equal(metrics_of(tmp_path / "run"), metrics_of(tmp_path / "plates"), check_exact=True)


def test_a_store_of_other_crops_is_refused_before_training(make_project, tmp_path, error_line, capsys):
    config = make_project(tmp_path)
    assert main(["pack", "--config", str(config)]) == 0
    assert main(["index", "--config", str(config), "--data.crop", "20"]) == 0
    capsys.readouterr()
    options = ["--config", str(config), "--data.crop", "20", "--data.store", str(tmp_path / "crops.zarr")]
    for command in ("fit", "inspect"):
        assert main([command, *options]) == EXIT_USER_ERROR
        line = error_line()
        assert "has the crops of another anchor table (crop was 16, is now 20); delete it, and pack again" in line
    assert not RunDirectory(tmp_path / "run").metrics.exists()
    assert main(["pack", *options]) == EXIT_USER_ERROR
    assert "or give another --out" in error_line()
