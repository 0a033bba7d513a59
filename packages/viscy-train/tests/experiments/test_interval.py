import pytest

from viscy_train.experiments.interval import contrary_intervals


def check(stated, minutes):
    """Return what contradicts, given intervals of positions with the names of their numbers."""
    return contrary_intervals("the images", {str(number): one for number, one in enumerate(stated)}, minutes)


@pytest.mark.parametrize(
    ("stated", "minutes"), [([], 30), ([30], 30), ([30.08, 29.9], 30), ([0.5], 0.5), ([1 / 3], 0.33)]
)
def test_intervals_that_differ_by_what_a_microscope_is_late_do_not_contradict(stated, minutes):
    assert check(stated, minutes) is None


@pytest.mark.parametrize(
    ("stated", "span", "names"),
    [
        ([10], "10", ["0"]),
        ([30, 10.0, 10.00001], "10", ["1", "2"]),
        ([0.01], "0.01", ["0"]),
        ([60, 30, 10], "10 to 60", ["0", "2"]),
    ],
)
def test_other_intervals_are_named_with_that_of_the_experiment(stated, span, names):
    sentence = f"the images state {span} minutes per frame, but minutes_per_frame is 30; correct the one that is wrong"
    assert check(stated, 30) == (sentence, names)
