"""What is misspelled is answered with what was probably meant."""

import pytest

from viscy_train.config.suggestions import did_you_mean, key_meant_by, unknown_key

KEYS = ["output", "trainer.max_epochs", "data.crop", "data.crop_um", "data.sampler.batch_size", "data.sampler.leaky"]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("otput", "output"),
        ("data.corp", "data.crop"),
        ("data.sampler.batchsize", "data.sampler.batch_size"),
        ("data.sampler.BATCH-SIZE", "data.sampler.batch_size"),
        ("batch_size", "data.sampler.batch_size"),  # of another section
        ("data.batch_sizes", "data.sampler.batch_size"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("data.sampler.xyz", None),
        ("microscope", None),
    ],
)
def test_a_key_is_suggested(key, meant):
    assert key_meant_by(key, KEYS) == meant


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("daat.sampler.leaky", "unknown key 'daat'; did you mean data?"),
        ("data.samplr.leaky", "unknown key 'data.samplr'; did you mean data.sampler?"),
        ("data.sampler.leak", "unknown key 'data.sampler.leak'; did you mean data.sampler.leaky?"),
        ("microscope", "unknown key 'microscope'"),
    ],
)
def test_the_outermost_level_that_is_unknown_is_named(key, message):
    assert unknown_key(key, KEYS) == message


def test_a_known_name_is_not_suggested():
    assert did_you_mean("index", ["index"]) == ""
