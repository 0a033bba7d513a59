"""The page of benchmarks has the numbers of the present code where they do not depend on the machine."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def step_tables(benchmark_module):
    """The module `benchmarks.step`."""
    return benchmark_module("step")


def test_the_page_has_the_computed_tables(step_tables):
    assert step_tables.describe().strip() in (FOLDER / "BENCHMARKS.md").read_text(encoding="utf-8")


def test_a_step_mixes_experiments_and_a_batch_does_not(step_tables):
    rows = step_tables.negatives_table(step_tables.make_anchors())[1:]
    assert [int(row[0]) for row in rows] == [1, 4, 8, 32]
    planned, counted, batch, split = ([float(row[column]) for row in rows] for column in range(1, 5))
    # If the experiments of all batches were chosen at random; the sampler spreads them evenly.
    at_random = [0.9 * (1 - 1 / n) for n in (1, 4, 8, 32)]
    assert planned == pytest.approx(at_random, abs=0.03)
    assert counted == pytest.approx(planned, abs=0.02)
    assert batch == split == [0, 0, 0, 0]
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{planned[1]:.0%}".replace("%", " % of an anchor's negatives") in readme
    assert f"and {planned[3]:.0%}".replace("%", " % on 32") in readme
