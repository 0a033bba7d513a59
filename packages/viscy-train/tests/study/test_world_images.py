"""Crops of a world show what is true of their cells, and the look of their experiment."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from viscy_train.study.world_cells import make_cells
from viscy_train.study.world_images import SIDE, _blur, draw_crops, make_cameras
from viscy_train.study.worlds import WORLDS, World

WORLD = World(n_tracks=40, n_held_out_tracks=40, rare_share=0.5)
PLAIN = replace(WORLD, look=0.0, noise=0.0, focus=0.0)


@pytest.fixture(scope="module")
def cells():
    return make_cells(WORLD, 0)


def normalized(crops, cells):
    """Return crops with mean 0 and standard deviation 1 in each channel of each experiment."""
    result = np.empty_like(crops)
    for number in np.unique(cells.experiment):
        rows = cells.experiment == number
        own = crops[rows]
        result[rows] = (own - own.mean(axis=(0, 2, 3), keepdims=True)) / own.std(axis=(0, 2, 3), keepdims=True)
    return result


def middle(crops, channel):
    """Return the mean of the 6 x 6 pixels in the middle of a channel, shape (n,)."""
    return crops[:, channel, 13:19, 13:19].mean(axis=(1, 2))


def test_crops_are_a_function_of_the_seed(cells):
    crops = draw_crops(WORLD, cells, 2)
    assert crops.shape == (len(cells), 2, SIDE, SIDE)
    assert crops.dtype == np.float32
    assert np.isfinite(crops).all()
    assert crops.tobytes() == draw_crops(WORLD, cells, 2).tobytes()
    assert not np.array_equal(crops, draw_crops(WORLD, cells, 3))


def test_a_cell_is_brighter_than_what_is_around_it(cells):
    crops = draw_crops(WORLD, cells, 0)
    border = np.concatenate([crops[:, 0, :2].reshape(len(cells), -1), crops[:, 0, -2:].reshape(len(cells), -1)], axis=1)
    assert (middle(crops, 0) > border.mean(axis=1)).mean() > 0.95


def test_infection_brightens_the_virus_channel(cells):
    crops = normalized(draw_crops(WORLD, cells, 0), cells)
    late = cells.hours > 14
    infected, uninfected = (middle(crops, 1)[late & (cells.is_infected == which)].mean() for which in (True, False))
    assert infected > uninfected + 0.5


def test_without_an_effect_infected_cells_look_as_if_they_were_not(cells):
    without = replace(WORLD, effect=0.0)
    healthy = replace(cells, infection=np.zeros_like(cells.infection))
    assert draw_crops(without, cells, 0).tobytes() == draw_crops(without, healthy, 0).tobytes()
    assert draw_crops(WORLD, cells, 0).tobytes() != draw_crops(WORLD, healthy, 0).tobytes()


def test_aging_darkens_the_nucleus(cells):
    crops = draw_crops(replace(PLAIN, effect=0.0, identity=0.0, cycle=0.0, aging=2.0), cells, 0)
    for number in np.unique(cells.experiment):
        rows = cells.experiment == number
        assert np.corrcoef(middle(crops, 0)[rows], cells.hours[rows])[0, 1] < -0.5


def test_without_a_look_experiments_differ_in_nothing_that_normalization_leaves():
    cameras = make_cameras(replace(WORLD, look=0.0), np.random.default_rng(0))
    left = [(c.blur, *c.gamma, c.bleeding, *c.texture, c.noise) for c in cameras]
    assert len({tuple(map(float, one)) for one in left}) == 1
    cameras = make_cameras(WORLD, np.random.default_rng(0))
    left = [(c.blur, *c.gamma, c.bleeding, *c.texture, c.noise) for c in cameras]
    assert len({tuple(map(float, one)) for one in left}) == len(WORLD.names)


def test_focus_blurs_frames(cells):
    sharp = draw_crops(PLAIN, cells, 0)
    blurred = draw_crops(replace(PLAIN, focus=3.0), cells, 0)
    out_of_focus = np.abs(cells.focus) > 1
    assert (blurred.std(axis=(2, 3)) < sharp.std(axis=(2, 3)))[out_of_focus].all()


def test_a_blur_is_that_of_scipy():
    light = np.random.default_rng(0).random((3, 2, SIDE, SIDE)).astype(np.float32)
    sigma = np.array([0.8, 1.3, 2.0])
    expected = [
        gaussian_filter(light[crop], sigma[crop], mode="reflect", radius=8, axes=(1, 2)) for crop in range(len(light))
    ]
    np.testing.assert_allclose(_blur(light, sigma), expected, atol=1e-3)


def test_the_worlds_of_the_study_can_be_drawn():
    for world in WORLDS.values():
        small = replace(world, n_tracks=40, n_held_out_tracks=40)
        assert np.isfinite(draw_crops(small, make_cells(small, 1), 1)).all()
