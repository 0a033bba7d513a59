import pytest

from viscy_train.errors import UserError
from viscy_train.run.directory import RunDirectory
from viscy_train.run.recorded_batch import batch_of_step


def test_the_batch_of_a_step_and_rank_is_found(tmp_path, record_batches):
    run_directory = RunDirectory(tmp_path)
    record_batches(run_directory, [[number, 7] for number in range(6)], world_size=2)
    batch = batch_of_step(run_directory, 2, rank=1)
    assert (batch.step, batch.epoch, batch.number, batch.rank, batch.rows.tolist()) == (2, 0, 5, 1, [5, 7])


def test_a_missing_batch_is_a_user_error(tmp_path, record_batches):
    run_directory = RunDirectory(tmp_path)
    with pytest.raises(UserError, match="has no record of batches"):
        batch_of_step(run_directory, 0)
    record_batches(run_directory, [[1]] * 4, world_size=2)
    with pytest.raises(UserError, match=r"--rank must be a rank of the run \(0 to 1\), got 2"):
        batch_of_step(run_directory, 0, rank=2)
    with pytest.raises(UserError, match="--step must be a recorded step, from 0 to 1 for rank 0, got 9"):
        batch_of_step(run_directory, 9)
