from itertools import product

import numpy as np
import pytest

from viscy_train.loading.rng import Purpose, make_generator, random_uniform, torch_seed, uniform_at


def test_the_numbers_of_a_slot_do_not_depend_on_the_number_of_slots():
    few, many = (random_uniform(7, 1, 2, Purpose.POSITIVE, n, 3) for n in (5, 300))
    np.testing.assert_array_equal(few, many[:5])


def test_a_key_always_gives_the_same_numbers():
    assert make_generator(7, 1, 2, Purpose.POSITIVE).random() == make_generator(7, 1, 2, Purpose.POSITIVE).random()
    assert torch_seed(7, 1, 2, Purpose.MODEL_NOISE) == torch_seed(7, 1, 2, Purpose.MODEL_NOISE)


def test_numbers_do_not_change_between_releases():
    assert random_uniform(1, 2, 3, Purpose.AUGMENTED_ANCHOR, 1, 1)[0, 0] == 0.7252936646523372
    assert torch_seed(1, 2, 3, Purpose.AUGMENTED_ANCHOR) == 1929679308182158081


def test_different_keys_give_different_numbers():
    keys = list(product((0, 1, 2**32 - 1), (0, 1), (0, 1, 2), Purpose))
    assert len({random_uniform(*key, 1, 1)[0, 0] for key in keys}) == len(keys)
    assert len({torch_seed(*key) for key in keys}) == len(keys)


def test_seeds_for_torch_are_in_its_range():
    assert all(0 <= torch_seed(0, 0, index, Purpose.MODEL_NOISE) < 2**63 for index in range(100))


def test_global_generators_are_not_changed():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    random_uniform(1, 2, 3, Purpose.POSITIVE, 10, 2)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("key", [(-1, 0, 0), (2**32, 0, 0), (0, -1, 0), (0, 0, 2**32)])
def test_a_key_out_of_range_is_refused(key):
    with pytest.raises(ValueError, match=r"must be in \[0, 2\*\*32\)"):
        make_generator(*key, Purpose.POSITIVE)


def test_numbers_at_counters_depend_on_the_key_and_on_all_counters():
    counters = np.arange(40).repeat(40), np.tile(np.arange(40), 40)
    numbers = uniform_at(7, 1, 2, Purpose.FRAME_OF_POSITIVES, *counters)
    assert len(set(numbers)) == 1600
    assert 0 < numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    np.testing.assert_array_equal(
        uniform_at(7, 1, 2, Purpose.FRAME_OF_POSITIVES, *(counter[::-3] for counter in counters)), numbers[::-3]
    )
    for key in ((8, 1, 2), (7, 2, 2), (7, 1, 3)):
        assert not np.isin(uniform_at(*key, Purpose.FRAME_OF_POSITIVES, *counters), numbers).any()


def test_numbers_at_counters_do_not_change_between_releases():
    numbers = uniform_at(1, 2, 3, Purpose.FRAME_OF_POSITIVES, np.array([5, 2**31 - 1]), np.array([0, 9]))
    assert numbers.tolist() == [0.45236952795117186, 0.19010365042688576]
