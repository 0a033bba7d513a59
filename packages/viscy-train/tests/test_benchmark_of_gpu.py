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


def test_data_wait_is_what_batches_in_memory_do_not_take(gpu):
    text = gpu.describe(Headroom(loaded=[0.5], in_memory=[0.1]), "a GPU")
    assert text == "Data wait of convnext_tiny in bf16 on a GPU: 80.0% of a batch"
    assert "0.0% of a batch" in gpu.describe(Headroom(loaded=[0.1], in_memory=[0.2]), "a GPU")


@pytest.mark.slow
@pytest.mark.weekly
def test_the_parts_work_on_a_cpu(gpu, tmp_path):
    config = gpu.write_project(tmp_path, encoder="tiny", precision="bf16-mixed", accelerator="cpu", batch_size=16)
    headroom = gpu.measure(config, 2)
    assert len(headroom.loaded) == len(headroom.in_memory) == 2
