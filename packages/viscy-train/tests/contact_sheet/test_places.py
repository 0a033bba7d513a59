"""Coordinates that are exchanged or counted from another border are noticed by the pixels, and others are not."""

import numpy as np
import pytest

from viscy_train.contact_sheet.places import Places

SIDE = 24
READINGS = {
    "y and x are exchanged": lambda cells: cells[:, ::-1],
    "y is counted from the lower border": lambda cells: np.stack([199 - cells[:, 0], cells[:, 1]], axis=1),
    "x is counted from the right border": lambda cells: np.stack([cells[:, 0], 199 - cells[:, 1]], axis=1),
}


def warnings_of(frames):
    """Return the warnings of frames, each the cells as they are given and the image."""
    places = Places()
    for number, (cells, image) in enumerate(frames):
        places.add(f"A/1/{number}", np.arange(len(cells)), cells, image, SIDE)
    return places.warnings()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", READINGS)
def test_coordinates_that_are_read_wrongly_are_noticed(spots_of, name, dark):
    frames = [spots_of(seed) for seed in range(3)]
    given = [(READINGS[name](cells), 300 - image if dark else image) for cells, image in frames]
    (warning,) = warnings_of(given)
    assert f"% if {name}; " in warning
    assert warning.endswith("if the contact sheet shows so, too")


@pytest.mark.parametrize("dark", [False, True])
def test_cells_at_their_places_are_right(spots_of, dark):
    for seed in range(0, 60, 3):
        frames = [spots_of(seed + number, n=4 + seed) for number in range(3)]
        assert warnings_of([(cells, 300 - image if dark else image) for cells, image in frames]) == []


def test_cells_that_have_nothing_to_do_with_the_image_are_not_said_to_be_exchanged(spots_of):
    """Other tracks, or images in which cells are not visible: nothing is known of how coordinates are to be read."""
    rng = np.random.default_rng(0)
    for seed in range(60):
        image = spots_of(seed)[1] if seed % 2 else rng.normal(100, 5, (200, 200)).astype(np.float32)
        assert warnings_of([(rng.uniform(0, 199, (60, 2)), image)]) == []


def test_uneven_light_is_not_taken_for_cells():
    """All cells are on the right, and light comes from below."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        image = rng.normal(100, 5, (200, 200)) + 2 * np.arange(200)[:, None]
        cells = np.column_stack([rng.uniform(0, 199, 60), rng.uniform(140, 199, 60)])
        assert warnings_of([(cells, image.astype(np.float32))]) == []


def test_few_tracks_say_nothing(spots_of):
    cells, image = spots_of(0)
    assert warnings_of([(cells[:9, ::-1], image)]) == []


@pytest.mark.parametrize("image", [np.zeros((200, 200)), np.full((200, 200), np.nan), np.ones((30, 30))])
def test_an_image_without_structure_or_too_small_says_nothing(image):
    cells = np.random.default_rng(0).uniform(0, 29, (40, 2))
    assert warnings_of([(cells, image.astype(np.float32))]) == []
