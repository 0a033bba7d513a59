import numpy as np
import pytest

from viscy_train.sample_projects import simulation

MICROSCOPE = simulation.Microscope(gain=1.0, background=100.0, blur=0.8)


def cells_of(seed, infected, n_cells=4):
    return simulation.simulate_cells(np.random.default_rng(seed), n_cells, infected)


def images_of(cells, microscope=MICROSCOPE):
    return simulation.take_images(np.random.default_rng(0), cells, microscope, 3.0)


def virus_signal(cells):
    """Return the summed fluorescence above background in each frame, shape (n_frames,)."""
    return images_of(cells)[:, 1, 0].astype(float).sum(axis=(1, 2)) - 100.0 * simulation.SIDE**2


def test_images_are_a_function_of_the_seed():
    assert np.array_equal(images_of(cells_of(1, True)), images_of(cells_of(1, True)))
    assert not np.array_equal(images_of(cells_of(1, True)), images_of(cells_of(2, True)))


def test_a_position_has_at_least_20_frames_of_two_channels():
    images = images_of(cells_of(1, False))
    assert images.shape == (simulation.N_FRAMES, 2, 1, simulation.SIDE, simulation.SIDE)
    assert simulation.N_FRAMES >= 20
    assert simulation.HOURS_PER_FRAME == 0.5


def test_infected_cells_change_over_time_and_uninfected_cells_do_not():
    infected, uninfected = virus_signal(cells_of(1, True)), virus_signal(cells_of(1, False))
    assert infected[-4:].mean() > 1.5 * infected[:4].mean()
    # One of the four cells divides, and its daughters have their own autofluorescence.
    assert uninfected[-4:].mean() < 1.5 * uninfected[:4].mean()


def test_cells_stay_in_the_image():
    for cell in cells_of(3, False, n_cells=20):
        assert (np.array(cell.path) >= 0).all()
        assert (np.array(cell.path) <= simulation.SIDE - 1).all()


@pytest.mark.parametrize(
    ("microscope", "decreased", "increased"),
    [
        (simulation.Microscope(gain=3.0, background=100.0, blur=0.8), None, "spread"),
        (simulation.Microscope(gain=1.0, background=300.0, blur=0.8), None, "level"),
        (simulation.Microscope(gain=1.0, background=100.0, blur=3.0), "spread", None),
    ],
)
def test_each_property_of_a_microscope_changes_the_images(microscope, decreased, increased):
    cells = cells_of(1, True)
    measures = {"level": np.median, "spread": lambda image: np.percentile(image, 99.9) - np.median(image)}
    for name, sign in ((decreased, -1), (increased, 1)):
        if name:
            before, after = (measures[name](images_of(cells, one)[0, 0, 0]) for one in (MICROSCOPE, microscope))
            assert sign * (after - before) > 0.1 * before
