"""A worker of a data loader that cannot continue ends, so that the training process does not wait for it."""

import resource

import pytest
import torch

from viscy_train.loading.loader import Workers, make_loader
from viscy_train.loading.stall import StallWatch


class LargeBatches(torch.utils.data.Dataset):
    """Each batch is larger than a file may be in the worker, as where the shared memory is full."""

    def __len__(self):
        return 4

    def __getitems__(self, numbers):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
        return torch.zeros(len(numbers), 2**16)


# Python warns about threads in a parent that forks.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.slow
def test_a_batch_that_cannot_be_handed_over_is_not_waited_for(capfd):
    loader = make_loader(
        LargeBatches(), [[0, 1], [2, 3]], Workers(kind="processes", n=1, start_method="fork"), StallWatch(60)
    )
    with pytest.raises(RuntimeError, match=r"DataLoader worker .* exited unexpectedly"):
        list(loader)
    assert "a data worker cannot hand over a batch" in capfd.readouterr().err
