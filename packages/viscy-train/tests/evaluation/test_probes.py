"""Linear probes of any column, with error bars."""

import numpy as np
import pandas as pd
import pytest

from viscy_train.errors import UserError
from viscy_train.evaluation.probes import columns_to_probe, probe_columns


@pytest.fixture
def cells():
    """Four experiments of 12 positions with 10 cells; each position has one of two cell lines, in each experiment."""
    rng = np.random.default_rng(0)
    position = np.repeat(np.arange(48), 10)
    frame = pd.DataFrame(
        {
            "experiment": [f"experiment {one // 12}" for one in position],
            "position": [f"A/{one % 12}/0" for one in position],
            "lineage_id": np.arange(480),
            "cell_line": np.where(position % 2 == 0, "A549", "HEK"),
            "hours_post_infection": rng.uniform(0, 10, 480),
        }
    )
    return frame.astype({"experiment": "category", "cell_line": "category"})


def noise(cells, seed=0, n=8):
    return np.random.default_rng(seed).normal(size=(len(cells), n)).astype(np.float32)


def probe(trained, cells, *columns, seed=0):
    return probe_columns(noise(cells, 9), trained, cells, columns or ["cell_line"], seed)


def test_a_column_that_the_embeddings_contain_is_predicted_in_other_positions_and_experiments(cells):
    informative = noise(cells)
    informative[:, 0] += 20 * (cells["cell_line"] == "HEK")
    pooled, apart = probe(informative, cells)
    assert (pooled.column, pooled.n_values, pooled.held_out, pooled.n_units) == ("cell_line", 2, "position", 48)
    assert (apart.held_out, apart.n_units, apart.chance) == ("experiment", 4, 0.5)
    for one in (pooled, apart):
        assert (one.trained.mean, one.trained.error) == (1.0, 0.0)
        assert 0.4 < one.untrained.mean < 0.6


def test_what_holds_within_an_experiment_only_fails_in_another_one(cells):
    """Each experiment shows the cell line in a direction of its own."""
    directions = np.eye(8, dtype=np.float32)[cells["experiment"].cat.codes]
    batch = noise(cells) + 20 * directions * np.where(cells["cell_line"] == "HEK", 1, -1)[:, None]
    pooled, apart = probe(batch.astype(np.float32), cells)
    assert pooled.trained.mean > 0.95
    assert apart.trained.mean < 0.8


def test_probes_of_noise_have_the_accuracy_of_chance_within_their_errors(cells):
    """24 probes: a deviation of more than 5 errors, estimated from 48 positions, has a probability below 1e-4 each."""
    deviations = []
    for seed in range(12):
        pooled = probe_columns(noise(cells, seed), noise(cells, 100 + seed), cells, ["cell_line"], seed)[0]
        deviations += [(one.mean - pooled.chance) / one.error for one in (pooled.untrained, pooled.trained)]
    assert np.abs(deviations).max() < 5
    assert 0.4 < np.std(deviations) < 2.0


def test_the_error_grows_with_the_differences_between_positions(cells):
    """If all cells of a position are predicted alike, the error is that of 48 positions and not that of 480 cells."""
    rng = np.random.default_rng(1)
    alike = noise(cells) * 1e-3
    number = cells.groupby(["experiment", "position"], observed=True).ngroup().to_numpy()
    alike += rng.normal(size=(48, 8))[number].astype(np.float32)
    assert 0.04 < probe(alike, cells)[0].trained.error < 0.11  # 0.5 / sqrt(48) is 0.07
    assert 0.012 < probe(noise(cells), cells)[0].trained.error < 0.04  # 0.5 / sqrt(480) is 0.023


def test_two_experiments_that_agree_by_chance_do_not_make_an_accuracy_certain(cells):
    two = cells[cells["experiment"].cat.codes < 2].reset_index(drop=True)
    for seed in range(3):
        apart = probe_columns(noise(two, seed), noise(two, seed + 10), two, ["cell_line"], 0)[1]
        assert apart.n_units == 2
        assert min(apart.untrained.error, apart.trained.error) > 0.02  # 0.5 / sqrt(240) is 0.03


def test_the_appearance_of_a_position_does_not_help(cells):
    number = cells.groupby(["experiment", "position"], observed=True).ngroup().to_numpy()
    pooled, _ = probe(np.eye(48, dtype=np.float32)[number], cells)
    assert pooled.trained.mean < 0.7


def test_values_of_one_experiment_only_are_not_predicted_in_others(cells):
    (pooled,) = probe(noise(cells), cells, "experiment")
    assert (pooled.held_out, pooled.n_values) == ("position", 4)


def test_wells_of_the_same_name_are_different_in_different_experiments(cells):
    number = cells["position"].astype(str).map({name: n % 2 for n, name in enumerate(cells["position"].unique())})
    wells = cells.assign(well=np.where(number == 0, "A/1", "B/1"))
    (pooled,) = probe(noise(wells), wells, "well")
    n_experiments = cells["experiment"].nunique()
    assert (pooled.column, pooled.n_values, pooled.held_out) == ("well", 2 * n_experiments, "position")


def test_values_of_one_position_are_predicted_in_other_lineages(cells):
    each = cells[cells["experiment"].cat.codes == 0].reset_index(drop=True)
    each = each.assign(stage=np.where(each["position"] == "A/0/0", "mitosis", "other"))
    (pooled,) = probe(noise(each), each, "stage")
    assert pooled.held_out == "lineage"


def test_missing_and_rare_values_are_left_out(cells):
    texts = cells["cell_line"].astype(object)
    texts[::3] = None
    texts[1] = "only here"
    pooled, apart = probe(noise(cells), cells.assign(cell_line=texts.astype("category")))
    assert pooled.n_values == apart.n_values == 2


@pytest.mark.parametrize("values", [["A549"] * 480, [None] * 480, [f"cell {n}" for n in range(480)]])
def test_a_column_without_two_values_that_occur_twice_is_not_probed(cells, values):
    assert probe(noise(cells), cells.assign(cell_line=pd.Categorical(values))) == []


def test_numbers_are_values_or_quarters(cells):
    few, many = cells.assign(dose=cells["cell_line"].cat.codes * 0.5), cells.assign(dose=np.arange(480) % 97 * 1.0)
    assert probe(noise(few), few, "dose")[0].n_values == 2
    pooled, _ = probe(noise(many), many, "dose")
    assert (pooled.column, pooled.n_values) == ("quarter of dose", 4)
    flags = cells.assign(is_control=cells["cell_line"] == "HEK")
    assert probe(noise(flags), flags, "is_control")[0].n_values == 2


def test_of_many_values_the_most_frequent_are_probed(cells):
    many = cells.assign(gene=pd.Categorical([f"gene {n % 60}" for n in range(480)]))
    assert probe(noise(many), many, "gene")[0].n_values == 50


def test_the_same_seed_gives_the_same_numbers(cells):
    assert probe(noise(cells), cells, seed=3) == probe(noise(cells), cells, seed=3)


def test_by_default_the_condition_and_text_columns_of_few_values_are_probed(cells):
    table = cells.assign(
        condition="mock",
        gene=pd.Categorical([f"gene {n % 60}" for n in range(480)]),
        microscope=pd.Categorical(["one"] * 480),
        dose=1.5,
    )
    extra = ["cell_line", "gene", "microscope", "dose"]
    assert columns_to_probe(table, extra, None) == ["condition", "cell_line"]
    assert columns_to_probe(table, extra, "gene") == ["gene"]
    assert columns_to_probe(table, extra, ["dose", "gene", "dose"]) == ["dose", "gene"]
    with pytest.raises(UserError, match=r"evaluation\.probe must name columns of the anchor table \(.*, got 'genes'"):
        columns_to_probe(table, extra, ["genes"])
