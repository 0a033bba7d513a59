import pytest
import torch

from viscy_train.config.schema import EncoderConfig
from viscy_train.errors import UserError
from viscy_train.model.encoder import Encoder


def test_an_embedding_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    encoder = Encoder(2, 1, 16, EncoderConfig(width=4, features=8, projection=4))
    crops = torch.randn(5, 2, 1, 16, 16)
    together = encoder(crops)
    assert together.shape == (5, 8)
    assert encoder.project(together).shape == (5, 4)
    torch.testing.assert_close(encoder(crops[2:3]), together[2:3])


@pytest.mark.parametrize(
    "name",
    [
        "tiny",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("resnet10t", "convnext_atto", "vit_tiny_patch16_224")
        ),
    ],
)
def test_an_embedding_depends_on_every_slice_of_every_channel(name):
    torch.manual_seed(0)
    encoder = Encoder(2, 3, 32, EncoderConfig(name=name, width=4)).eval()
    crops = torch.randn(1, 2, 3, 32, 32)
    before = encoder(crops)
    assert encoder.project(before).shape == (1, 32)
    for channel in range(2):
        for z in range(3):
            other = crops.clone()
            other[:, channel, z] += torch.randn(32, 32)
            assert not torch.equal(encoder(other), before)


@pytest.mark.slow
def test_the_error_for_an_unknown_network_suggests_similar_names():
    with pytest.raises(UserError, match=r"did you mean .*convnext_tiny"):
        Encoder(1, 1, 32, EncoderConfig(name="convnxt_tiny"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_the_length_of_an_embedding_is_taken_from_the_network(name):
    encoder = Encoder(1, 1, 64, EncoderConfig(name=name)).eval()
    assert encoder.project(encoder(torch.zeros(2, 1, 1, 64, 64))).shape == (2, 32)


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_crops_that_a_network_cannot_process_are_refused_at_construction(name):
    with pytest.raises(UserError, match=f"{name}.* cannot process crops of 8 x 8 pixels: .*; choose another encoder"):
        Encoder(1, 1, 8, EncoderConfig(name=name))


def test_the_trial_run_of_a_network_has_no_side_effects():
    """Neither the global generator nor the running statistics of the network."""
    torch.manual_seed(0)
    encoder = Encoder(1, 1, 32, EncoderConfig(name="resnet10t"))
    next_number = torch.rand(1)
    assert all(module.training for module in encoder.modules())
    assert all(name.endswith("_tracked") or value.abs().max() <= 1 for name, value in encoder.named_buffers())
    assert all(not value.any() for name, value in encoder.named_buffers() if name.endswith(("_mean", "_tracked")))
    torch.manual_seed(0)
    Encoder(1, 1, 64, EncoderConfig(name="resnet10t"))
    assert torch.equal(torch.rand(1), next_number)
