"""A look changes images by four steps, each of which can be turned off, and is a function of random numbers."""

from dataclasses import replace

import numpy as np
import pytest

from viscy_train.study.look import Look

PLAIN = Look(gamma=1.0, blur=0.0, gradient=(0.0, 0.0), noise=0.0)
IMAGES = np.random.default_rng(0).random((2, 20, 30), dtype=np.float32)


def rng():
    return np.random.default_rng(1)


def test_the_plain_look_changes_nothing():
    assert np.array_equal(PLAIN.apply(IMAGES, rng()), IMAGES)


@pytest.mark.parametrize("option", [{"gamma": 1.5}, {"blur": 1.0}, {"gradient": (0.0, 0.2)}, {"noise": 0.05}])
def test_each_part_of_a_look_changes_images(option):
    seen = replace(PLAIN, **option).apply(IMAGES, rng())
    assert seen.dtype == np.float32
    assert seen.shape == IMAGES.shape
    assert not np.allclose(seen, IMAGES, atol=1e-3)


def test_gamma_is_an_exponent_that_keeps_black_and_white():
    values = np.array([[[-0.1, 0.0, 0.25, 1.0]]], dtype=np.float32)
    assert replace(PLAIN, gamma=2.0).apply(values, rng()).ravel().tolist() == [0, 0, 0.0625, 1]


def test_a_gradient_adds_as_much_as_it_takes():
    seen = replace(PLAIN, gradient=(0.3, 0.0)).apply(IMAGES, rng()) - IMAGES
    assert np.allclose(seen[:, 0], -0.15, atol=1e-6)
    assert np.allclose(seen[:, -1], 0.15, atol=1e-6)
    assert abs(seen.mean()) < 1e-6


def test_looks_are_drawn_within_their_limits_and_are_a_function_of_the_seed():
    looks = [Look.draw(np.random.default_rng(seed)) for seed in range(200)]
    assert looks[3] == Look.draw(np.random.default_rng(3))
    gammas = np.array([look.gamma for look in looks])
    assert gammas.min() >= 1 / 2.5
    assert gammas.max() <= 2.5
    assert 0.4 < (gammas > 1).mean() < 0.6
    for values, largest in (
        ([look.blur for look in looks], 2.5),
        ([look.noise for look in looks], 0.25),
        ([np.hypot(*look.gradient) for look in looks], 1.0),
    ):
        assert 0 <= min(values) < 0.1 * largest
        assert 0.9 * largest < max(values) <= largest
