import torch

from viscy_train.config import EncoderConfig
from viscy_train.encoder import Encoder


def test_shapes_follow_the_configuration():
    encoder = Encoder(3, EncoderConfig(width=4, features=10, projection=6))
    found = encoder(torch.zeros(5, 3, 24, 24))
    assert found.shape == (5, 10)
    assert encoder.project(found).shape == (5, 6)


def test_an_embedding_does_not_depend_on_the_rest_of_its_batch():
    torch.manual_seed(0)
    encoder = Encoder(2, EncoderConfig(width=4, features=8))
    crops = torch.randn(6, 2, 16, 16)
    torch.testing.assert_close(encoder(crops)[:2], encoder(crops[:2]))
