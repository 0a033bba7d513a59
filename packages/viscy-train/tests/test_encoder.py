import pytest
import torch

from viscy_train.config import EncoderConfig
from viscy_train.encoder import Encoder
from viscy_train.errors import UserError


def test_an_embedding_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    encoder = Encoder(2, 1, EncoderConfig(width=4, features=8, projection=4))
    crops = torch.randn(5, 2, 1, 16, 16)
    together = encoder(crops)
    assert together.shape == (5, 8)
    assert encoder.project(together).shape == (5, 4)
    torch.testing.assert_close(encoder(crops[2:3]), together[2:3])


@pytest.mark.parametrize("name", ["tiny", "resnet10t", "convnext_atto"])
def test_an_encoder_sees_every_slice_of_every_channel(name):
    torch.manual_seed(0)
    encoder = Encoder(2, 3, EncoderConfig(name=name, width=4)).eval()
    crops = torch.randn(1, 2, 3, 32, 32)
    before = encoder(crops)
    assert encoder.project(before).shape == (1, 32)
    for channel in range(2):
        for z in range(3):
            other = crops.clone()
            other[:, channel, z] += torch.randn(32, 32)
            assert not torch.equal(encoder(other), before)


def test_a_network_that_is_not_there_is_told_with_those_of_like_names():
    with pytest.raises(UserError, match=r"did you mean .*convnext_tiny"):
        Encoder(1, 1, EncoderConfig(name="convnxt_tiny"))
