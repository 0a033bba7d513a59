from importlib.metadata import version

import pytest

import viscy_sampling_testkit


def test_the_version_is_that_of_the_installed_package():
    assert viscy_sampling_testkit.__version__ == version("viscy-sampling-testkit")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'viscy_sampling_testkit' has no attribute 'make_cells'"):
        _ = viscy_sampling_testkit.make_cells
