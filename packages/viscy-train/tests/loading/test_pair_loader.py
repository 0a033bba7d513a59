"""A pair loader gives a loop of the user's own the batches, pixels and positions of a run of Lightning."""

from itertools import islice

import numpy as np
import pytest
import torch
import yaml

from viscy_train.config.schema import AugmentationConfig, PositiveConfig, SamplerConfig
from viscy_train.errors import UserError
from viscy_train.loading.batches import Batch
from viscy_train.loading.data_module import PairDataModule
from viscy_train.loading.pair_loader import PairLoader


@pytest.fixture
def make_data(project):
    config = yaml.safe_load(project.read_text())["data"]

    def make(seed=5, num_workers=0, **options):
        return PairDataModule(
            project.parent / "experiments.yaml",
            project.parent / "anchors.parquet",
            crop=config["crop"],
            positive=PositiveConfig(**config["positive"]),
            sampler=SamplerConfig(**{"batch_size": 16} | options),
            augmentation=AugmentationConfig(noise=0.2),
            num_workers=num_workers,
            seed=seed,
        )

    return make


def rows_of(batches):
    return [batch["row"].tolist() for batch in batches]


def expected_rows(data, epoch, numbers):
    sampler = data.make_sampler()
    return [data.train_rows[sampler.batch(k, epoch)].tolist() for k in numbers]


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_rank_has_its_own_batches_of_the_epoch(make_data, n_ranks, num_workers):
    data = make_data(num_workers=num_workers)
    for rank in range(n_ranks):
        loader = PairLoader(data, rank=rank, num_replicas=n_ranks)
        loader.set_epoch(3)
        n = len(loader)
        assert rows_of(loader) == expected_rows(data, 3, range(rank, n * n_ranks, n_ranks))
        assert rows_of(loader) == expected_rows(data, 4, range(rank, n * n_ranks, n_ranks))


def test_ranks_that_share_batches_have_parts_of_each(make_data):
    data = make_data(split_batches=True)
    parts = [rows_of(islice(PairLoader(data, rank=rank, num_replicas=2), 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == expected_rows(data, 0, range(2))


def test_a_batch_has_the_pixels_of_training(make_data):
    data = make_data()
    batch = next(iter(PairLoader(data)))
    data.setup("fit")
    rows = np.array(expected_rows(data, 0, [0])[0])
    expected = data.augment(data.load_pairs(Batch(rows, 0, 0)))
    assert torch.equal(batch["anchor"], expected["anchor"])
    assert torch.equal(batch["positive"], expected["positive"])


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_a_state_counts_what_was_returned_and_resumes_on_any_number_of_ranks(make_data, before, after):
    data = make_data(num_workers=2)
    loaders = [PairLoader(data, rank=rank, num_replicas=before) for rank in range(before)]
    for loader in loaders:
        loader.set_epoch(2)
        assert len(list(islice(loader, 2))) == 2
    states = [loader.state_dict() for loader in loaders]
    assert states == [states[0]] * before
    resumed, later = [], []
    for rank in range(after):
        loader = PairLoader(data, rank=rank, num_replicas=after)
        loader.load_state_dict(states[0])
        loader.set_epoch(2)
        resumed += rows_of(islice(loader, 1))
        later.append(loader.state_dict()["position"])
    assert later == [2 * before + after] * after
    assert resumed == expected_rows(data, 2, range(2 * before, 2 * before + after))


def test_the_state_after_an_epoch_is_the_start_of_the_next(make_data):
    loader = PairLoader(make_data())
    assert len(list(loader)) == len(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (1, 0)


def test_a_state_of_another_composition_is_refused(make_data):
    state = PairLoader(make_data()).state_dict()
    with pytest.raises(UserError, match="the checkpoint belongs to other data or batches"):
        PairLoader(make_data(leaky=0.25)).load_state_dict(state)
