import pytest

from viscy_train.errors import UserError
from viscy_train.study.worlds import WORLDS, World


def test_the_worlds_of_the_study_differ_from_base_in_what_their_name_says():
    assert list(WORLDS) == ["base", "weak look", "balanced", "strong aging", "one condition each"]
    base = WORLDS["base"]
    assert base == World()
    assert WORLDS["weak look"].look < base.look / 2
    assert base.rare_share == 0.08
    assert WORLDS["balanced"].rare_share == 0.5
    assert WORLDS["strong aging"].aging > 2 * base.aging
    assert WORLDS["one condition each"].one_condition_per_experiment


def test_a_world_names_the_experiments_to_train_on_first():
    world = World(n_experiments=3, n_held_out=1)
    assert world.trained == ["day1", "day2", "day3"]
    assert world.held_out == ["day4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_experiments": 1}, "n_experiments of a world must be an integer of at least 2, got 1"),
        ({"n_held_out_tracks": 3}, "n_held_out_tracks of a world must be an integer of at least 4, got 3"),
        ({"n_tracks": 10.0}, "n_tracks of a world must be an integer of at least 4, got 10.0"),
        ({"n_positions": 1}, "n_positions of a world must be an integer of at least 2, got 1"),
        ({"track_frames": 13}, "track_frames of a world must be at most n_frames, got 13"),
        ({"hours": 0}, "hours of a world must be above 0, got 0"),
        ({"onset": -1.0}, "onset of a world must be at least 0, got -1.0"),
        ({"look": float("nan")}, "look of a world must be finite, got nan"),
        ({"effect": -0.5}, "effect of a world must be at least 0, got -0.5"),
        ({"rare_share": 0.01}, "rare_share of a world must leave 3 cells or more of each condition, got 0.01"),
        ({"rare_share": 0.99}, "rare_share of a world must leave 3 cells or more of each condition, got 0.99"),
    ],
)
def test_an_invalid_world_is_refused(options, message):
    with pytest.raises(UserError) as error:
        World(**options)
    assert str(error.value) == message
