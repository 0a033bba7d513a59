from itertools import product

import numpy as np
import pytest

from viscy_train.loading.rng import Purpose, generator, torch_seed, words


def test_the_words_of_a_slot_do_not_depend_on_the_number_of_slots():
    few, many = (words(7, 1, 2, Purpose.POSITIVE, n, 3) for n in (5, 300))
    np.testing.assert_array_equal(few, many[:5])


def test_an_address_has_the_same_words_each_time():
    assert generator(7, 1, 2, Purpose.POSITIVE).random() == generator(7, 1, 2, Purpose.POSITIVE).random()
    assert torch_seed(7, 1, 2, Purpose.MODEL_NOISE) == torch_seed(7, 1, 2, Purpose.MODEL_NOISE)


def test_words_of_a_release_are_those_of_the_next():
    assert words(1, 2, 3, Purpose.AUGMENTED_ANCHOR, 1, 1)[0, 0] == 0.7252936646523372
    assert torch_seed(1, 2, 3, Purpose.AUGMENTED_ANCHOR) == 1929679308182158081


def test_no_two_addresses_share_their_words():
    addresses = list(product((0, 1, 2**32 - 1), (0, 1), (0, 1, 2), Purpose))
    assert len({words(*address, 1, 1)[0, 0] for address in addresses}) == len(addresses)
    assert len({torch_seed(*address) for address in addresses}) == len(addresses)


def test_a_seed_for_torch_is_one_that_torch_takes():
    assert all(0 <= torch_seed(0, 0, number, Purpose.MODEL_NOISE) < 2**63 for number in range(100))


def test_global_generators_are_left_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    words(1, 2, 3, Purpose.POSITIVE, 10, 2)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("address", [(-1, 0, 0), (2**32, 0, 0), (0, -1, 0), (0, 0, 2**32)])
def test_what_does_not_fit_an_address_is_refused(address):
    with pytest.raises(ValueError, match=r"must be in \[0, 2\*\*32\)"):
        generator(*address, Purpose.POSITIVE)
