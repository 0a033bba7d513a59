import pytest

from viscy_train.composition.pixel_mixing import SUGGESTED_CROPS, PixelMixing, describe_pixels


def test_what_was_found_is_said_with_the_number_of_crops():
    sentence = describe_pixels(PixelMixing(value=0.123, n_crops=1200), 3)
    assert sentence.startswith("Before any training, the experiments mix at 0.12 in the pixels of 1,200 crops")


def test_without_crops_the_option_that_reads_them_is_named():
    assert f"--crops {SUGGESTED_CROPS}" in describe_pixels(None, 2)
    assert describe_pixels(None, 2, "group").startswith("Whether the groups look alike")


@pytest.mark.parametrize("pixels", [None, PixelMixing(value=1.0, n_crops=10)])
def test_of_one_experiment_nothing_is_said(pixels):
    assert describe_pixels(pixels, 1) == ""
