import pytest

from viscy_train.experiments.interval import contrary_images, contrary_interval


@pytest.mark.parametrize(
    ("stated", "minutes"), [([], 30), ([30], 30), ([30.08, 29.9], 30), ([0.5], 0.5), ([1 / 3], 0.33)]
)
def test_intervals_that_differ_by_what_a_microscope_is_late_do_not_contradict(stated, minutes):
    assert contrary_interval("the images", stated, minutes) is None


@pytest.mark.parametrize(
    ("stated", "span"), [([10], "10"), ([30, 10.0, 10.00001], "10"), ([0.01], "0.01"), ([60, 10, 30], "10 to 60")]
)
def test_other_intervals_are_named_with_that_of_the_experiment(stated, span):
    assert contrary_interval("the images", stated, 30) == (
        f"the images state {span} minutes per frame, but minutes_per_frame is 30; correct the one that is wrong"
    )


def test_images_that_contradict_are_named():
    stated = {"A/1/0": 10.0, "A/1/1": 30.0, "B/1/0": 12.0}
    ((sentence, names),) = contrary_images(stated, 30).items()
    assert (names, "state 10 to 12 minutes" in sentence) == (["A/1/0", "B/1/0"], True)
    assert contrary_images({"A/1/0": 30.0}, 30) == {}
