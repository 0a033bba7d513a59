"""The benchmark of a GPU says that there is none, and its parts work on a CPU."""

import pytest
import torch

from viscy_train.training.headroom import Headroom


@pytest.fixture(scope="module")
def gpu(benchmark_module):
    """The module `benchmarks.gpu`."""
    return benchmark_module("gpu")


def test_without_a_gpu_the_benchmark_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main([])
    assert capsys.readouterr().out == "There is no GPU, so its data wait cannot be measured\n"


def test_rounds_leave_out_what_was_read_ahead(gpu):
    setup = gpu.Setup(n_threads=1, rounds=3, n_batches=2)
    headroom = Headroom(loaded=[9.0, 9.0, 1.0, 3.0, 4.0, 4.0, 5.0, 5.0], in_memory=[9.0, 9.0, *[1.0] * 6])
    result = gpu.summarize(headroom, setup)
    assert result == gpu.Result(loaded=[2.0, 4.0, 5.0], in_memory=[1.0, 1.0, 1.0])
    assert result.waits == [0.5, 0.75, 0.8]


def test_data_wait_is_never_negative(gpu):
    assert gpu.Result(loaded=[0.1, 0.4], in_memory=[0.2]).waits == [0.0, 0.5]


def test_the_table_has_the_ways_and_batches_in_memory(gpu):
    setup = gpu.Setup(n_pairs=64)
    results = {gpu.STORE: gpu.Result(loaded=[0.5, 1.0, 2.0], in_memory=[0.5, 0.5, 0.5], memory=3 * 10**9)}
    text = gpu.describe(results, setup, "Machine: a GPU.", [1.0, 2.0, 3.0])
    assert "| crop store | 1 (0.5 to 2) | 128 (64 to 256) | 50 (0 to 75) % | 3.0 |" in text
    assert "| batches in memory | 0.5 (0.5 to 0.5) | 256 (256 to 256) |  |  |" in text


@pytest.mark.slow
@pytest.mark.weekly
@pytest.mark.filterwarnings("default")
def test_the_parts_work_on_a_cpu(gpu, tmp_path):
    page = tmp_path / "page.md"
    size = ["--pairs", "8", "--threads", "1", "--batches", "1", "--small", "--folder", str(tmp_path)]
    gpu.main(["--accelerator", "cpu", "--encoder", "tiny", *size, "--output", str(page)])
    text = page.read_text()
    assert text.startswith("# Training on a GPU\n")
    for way in (*gpu.WAYS, gpu.MEMORY):
        assert f"\n| {way} | " in text
