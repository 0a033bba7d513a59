"""Data workers in a process whose directory for temporary files has a long path."""

import sys

import pytest

LOAD = """
import sys

import torch

from viscy_train.loading.loader import Workers, make_loader


class Squares:
    def __getitems__(self, indices):
        return torch.tensor(indices) ** 2


if __name__ == "__main__":
    worker = Workers(kind="processes", n=1, start_method=sys.argv[1])
    print([batch.tolist() for batch in make_loader(Squares(), [[0, 1], [2]], worker)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_workers_load_data_though_the_path_of_temporary_files_is_long(run_command, tmp_path, start_method):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    (tmp_path / "load.py").write_text(LOAD)
    loaded = run_command([sys.executable, str(tmp_path / "load.py"), start_method], env={"TMPDIR": str(long)})
    assert loaded.stdout == "[[0, 1], [4]]\n"
    assert list(long.iterdir()) == []
