"""Tests of the state of torch's generators in a training step."""

import traceback

import pytest
import torch

from viscy_train.loading.model_noise import seed_model_noise


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_a_model_draws_the_numbers_of_torchs_own_seed(seed):
    torch.manual_seed(seed)
    expected = torch.rand(5)
    seed_model_noise(seed, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    torch.manual_seed(seed)
    seed_model_noise(seed + 1 if seed == 0 else seed - 1, torch.device("cpu"))
    assert not torch.equal(torch.rand(5), expected)


def test_the_stack_is_not_formatted_for_devices_that_are_not_in_use(monkeypatch):
    monkeypatch.setattr(traceback, "format_stack", lambda *_: pytest.fail("the stack was formatted"))
    seed_model_noise(3, torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_draws_the_numbers_of_torchs_own_seed():
    torch.manual_seed(5)
    expected = torch.rand(5, device="cuda")
    seed_model_noise(5, torch.device("cuda"))
    assert torch.equal(torch.rand(5, device="cuda"), expected)
