"""The cells of a world: each number is a function of the seed, and each knob changes what it says, and only that."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from viscy_train.study.world_cells import Cells, features_of, make_cells, observations_of
from viscy_train.study.worlds import WORLDS, World

BASE, BALANCED = WORLDS["base"], WORLDS["balanced"]
PARTS = {"aging": "age", "effect": "infection", "identity": "identity", "cycle": "phase", "focus": "focus"}
FALSE_ALARMS = 1e-6


def make(world, seed=0):
    cells = make_cells(world, seed)
    return cells, features_of(world, cells, seed)


def first_rows(cells):
    """Return one row of each track, so that rows are independent."""
    return np.flatnonzero(np.diff(cells.track, prepend=-1) != 0)


def condition_auroc(world, seed=0):
    """Return the AUROC of a probe on the latest frames of held-out tracks, and the numbers of tracks."""
    cells, features = make(world, seed)
    last = np.flatnonzero(np.diff(cells.track, append=-1) != 0)
    fit, test = (last[(cells.experiment[last] < world.n_experiments) == which] for which in (True, False))
    probe = LogisticRegression(max_iter=1000).fit(features[fit], cells.is_infected[fit])
    is_infected = cells.is_infected[test]
    return roc_auc_score(is_infected, probe.decision_function(features[test])), is_infected.sum(), (~is_infected).sum()


def experiments_recognized(world, seed=0):
    """Return how many of the tracks with an odd number have their experiment recognized, and how many there are."""
    cells, features = make(world, seed)
    rows = first_rows(cells)
    is_test = cells.track[rows] % 2 == 1
    probe = LogisticRegression(max_iter=1000).fit(features[rows[~is_test]], cells.experiment[rows[~is_test]])
    return (probe.predict(features[rows[is_test]]) == cells.experiment[rows[is_test]]).sum(), is_test.sum()


def test_cells_and_features_are_a_function_of_the_seed():
    (cells, features), (again, features_again) = make(BASE, 3), make(BASE, 3)
    assert features.tobytes() == features_again.tobytes()
    for name in Cells.__dataclass_fields__:
        assert getattr(cells, name).tobytes() == getattr(again, name).tobytes()
    assert observations_of(BASE, cells, 3).equals(observations_of(BASE, again, 3))
    other, other_features = make(BASE, 4)
    assert not np.array_equal(other.identity, cells.identity)
    assert not np.array_equal(other_features, features)


def test_a_world_has_some_thousand_observations_in_tracks_of_consecutive_frames():
    cells, features = make(BASE)
    assert 1500 <= len(cells) == len(features) <= 3000
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    frames = cells.frame.reshape(-1, BASE.track_frames)
    assert (np.diff(frames, axis=1) == 1).all()
    assert (frames[:, 0].min(), frames[:, -1].max()) == (0, BASE.n_frames - 1)
    assert cells.hours.max() == pytest.approx(BASE.hours)


@pytest.mark.parametrize("name", ["identity", "is_infected", "position"])
def test_a_track_keeps_its_identity_condition_and_position(name):
    cells, _ = make(BASE)
    values = getattr(cells, name).reshape(-1, BASE.track_frames, *getattr(cells, name).shape[1:])
    assert (values == values[:, :1]).all()


def test_each_condition_of_an_experiment_is_in_two_wells_with_positions_of_their_own():
    cells, _ = make(BASE)
    table = observations_of(BASE, cells, 0)
    wells = table.groupby(["experiment", "condition"], observed=True)["well"].unique()
    assert [sorted(names) for names in wells] == [["B/1", "B/2"], ["A/1", "A/2"]] * len(BASE.names)
    assert (table["position"].astype(str).str.rpartition("/")[0] == table["well"].astype(str)).all()


@pytest.mark.parametrize("share", [0.08, 0.3, 0.5])
def test_the_rare_share_of_the_cells_of_each_experiment_is_infected(share):
    world = World(rare_share=share)
    cells, _ = make(world)
    rows = first_rows(cells)
    for number in range(6):
        is_infected = cells.is_infected[rows][cells.experiment[rows] == number]
        assert len(is_infected) == (world.n_tracks if number < 4 else world.n_held_out_tracks)
        assert abs(is_infected.sum() - share * len(is_infected)) <= 0.5


def test_with_one_condition_each_only_held_out_experiments_have_both():
    world = WORLDS["one condition each"]
    cells, _ = make(world)
    conditions = [set(cells.is_infected[cells.experiment == number].tolist()) for number in range(6)]
    assert conditions == [{False}, {True}, {False}, {True}, {False, True}, {False, True}]


def test_an_infection_grows_after_its_onset_and_uninfected_cells_have_none():
    cells, _ = make(BALANCED)
    assert (cells.infection[~cells.is_infected] == 0).all()
    hours, infection = cells.hours[cells.is_infected], cells.infection[cells.is_infected]
    assert infection[hours < 2].mean() < 0.1
    assert infection[hours > 14].mean() > 0.9
    assert (np.diff(cells.infection.reshape(-1, BALANCED.track_frames), axis=1) >= 0).all()


@pytest.mark.parametrize(("knob", "part"), PARTS.items())
def test_a_knob_of_0_turns_its_part_off_and_no_other(knob, part):
    cells, features = make(BASE)
    without = replace(BASE, **{knob: 0.0})
    blank = replace(cells, **{part: np.zeros_like(getattr(cells, part))})
    off = features_of(without, cells, 0)
    assert off.tobytes() == features_of(without, blank, 0).tobytes()
    assert not np.allclose(off, features, atol=0.1)
    for other in set(PARTS.values()) - {part}:
        scrambled = replace(cells, **{other: getattr(cells, other)[::-1].copy()})
        assert not np.allclose(features_of(without, scrambled, 0), off, atol=0.1)


def test_noise_is_the_only_difference_of_rows_with_equal_truth():
    quiet = {"aging": 0.0, "effect": 0.0, "cycle": 0.0, "focus": 0.0}
    for noise, is_equal in ((0.0, True), (0.3, False)):
        _, features = make(World(noise=noise, **quiet))
        tracks = features.reshape(-1, World().track_frames, features.shape[1])
        assert np.allclose(tracks, tracks[:, :1]) == is_equal


def test_without_any_amplitude_all_cells_of_an_experiment_are_equal():
    cells, features = make(World(aging=0, effect=0, identity=0, cycle=0, focus=0, noise=0))
    first = [features[cells.experiment == number][0] for number in range(6)]
    assert np.isfinite(features).all()
    assert np.allclose(features, np.array(first)[cells.experiment])
    assert not np.allclose(first[0], first[1], atol=0.1)


def test_without_an_effect_conditions_cannot_be_distinguished():
    """False-alarm rate 1e-6: the AUROC of independent tracks is normal with a known spread (Mann and Whitney)."""
    auroc, n_infected, n_uninfected = condition_auroc(replace(BALANCED, effect=0.0))
    spread = np.sqrt((n_infected + n_uninfected + 1) / (12 * n_infected * n_uninfected))
    assert abs(auroc - 0.5) < 4.9 * spread
    auroc, *_ = condition_auroc(BALANCED)
    assert auroc - 0.5 > 4.9 * spread


def test_without_a_look_experiments_cannot_be_distinguished():
    """False-alarm rate 1e-6: of independent tracks, a binomial number is recognized by chance."""
    n_recognized, n = experiments_recognized(replace(BASE, look=0.0))
    bound = binom.isf(FALSE_ALARMS, n, 1 / 6)
    assert n_recognized <= bound
    n_recognized, n = experiments_recognized(BASE)
    assert n_recognized > bound


def test_a_weak_look_is_harder_to_recognize():
    weak, n = experiments_recognized(WORLDS["weak look"])
    strong, _ = experiments_recognized(BASE)
    assert weak < strong - 0.2 * n


@pytest.mark.parametrize("name", WORLDS)
def test_observations_are_sorted_as_an_anchor_table(name):
    world = WORLDS[name]
    cells, _ = make(world)
    observations = observations_of(world, cells, 0)
    order = ["experiment", "position", "track_id", "t"]
    assert observations.sort_values(order, kind="stable").index.equals(observations.index)
    assert list(observations["experiment"].unique()) == world.trained + world.held_out
    assert observations.groupby("lineage_id")["position"].nunique().max() == 1
    n_positions = observations.groupby(["experiment", "condition"], observed=True)["position"].nunique()
    assert (n_positions == world.n_positions).all()
