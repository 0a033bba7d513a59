"""Locality on the command line: the dry run says how many frames a batch needs, and both loaders use it."""

import re

import pytest

from viscy_train.cli.entry_point import main
from viscy_train.cli.parsing import parse_for_data
from viscy_train.config.schema import PositiveConfig, SamplerConfig
from viscy_train.loading.batches import Batch
from viscy_train.loading.data_module import PairDataModule
from viscy_train.loading.positive_choice import PositiveChoice
from viscy_train.loading.sampler import make_sampler

SENTENCE = r"are\s+in\s+([\d.]+)\s+different\s+frames\s+on\s+average;\s+with\s+their\s+positives,\s+([\d.]+\d)"


def frames_of(path, tmp_path, capsys, *options):
    page = tmp_path / "inspect.html"
    assert main(["inspect", "--config", str(path), "--out", str(page), *options]) == 0
    found = re.search(SENTENCE, capsys.readouterr().out)
    assert found
    anchors, pairs = map(float, found.groups())
    assert f"{anchors:.1f} different frames" in page.read_text(encoding="utf-8")
    return anchors, pairs


def test_inspect_states_the_frames_of_a_batch_which_are_fewer_with_locality(project, tmp_path, capsys):
    plain = frames_of(project, tmp_path, capsys)
    local = frames_of(project, tmp_path, capsys, "--data.sampler.locality", "4")
    assert plain[0] < plain[1]
    assert local[0] < 0.8 * plain[0]
    assert local[1] < 0.8 * plain[1]


def test_pairs_are_chosen_as_the_dry_run_counts_them(project):
    folder = project.parent
    sampler = SamplerConfig(batch_size=16, locality=4)
    paths = folder / "experiments.yaml", folder / "anchors.parquet"
    data = PairDataModule(*paths, crop=16, positive=PositiveConfig(max_frames=3), sampler=sampler)
    data.setup("fit")
    batch = Batch(data.train_rows[data.sampler.batch(0)], 0, 0)
    assert data.sampler.locality == 4
    assert data.load_pairs(batch)["positive_row"].tolist() == data.positive_choice.choose(batch).tolist()
    assert (
        data.positive_choice.choose(batch).tolist() != PositiveChoice(data.positives, data.seed).choose(batch).tolist()
    )


@pytest.mark.parametrize("place_by", [None, "position", '["position", "t"]'])
def test_a_run_composes_the_batches_that_inspect_shows(project, place_by):
    options = [f"--data.sampler.place_by={place_by}"] if place_by else []
    arguments = ["--config", str(project), "--data.sampler.locality", "4", *options]
    data = parse_for_data("inspect", arguments, "", {}).make_data()
    of_run, shown = data.make_sampler(), make_sampler(data.train_anchors(), data.options, data.seed, 0, 1)
    assert of_run.place_by is not None
    assert of_run.place_by == shown.place_by
    assert list(of_run) == list(shown)
