from types import SimpleNamespace

import numpy as np
import pytest
import torch

from viscy_train.errors import UserError
from viscy_train.run.batch_record import (
    NEVER,
    BatchRecorder,
    batch_fields,
    check_rows,
    count_batches,
    count_batches_of_epochs,
    count_epochs_until_drawn,
    find_records,
    parse_slots,
    read_slots,
    record_of_rank,
)
from viscy_train.run.directory import RunDirectory
from viscy_train.run.step_csv import format_line


def record_steps(directory, steps, *, rank=0, world_size=1):
    """Record a batch of two rows, step and rank, for each step."""
    recorder = BatchRecorder(directory)

    def trainer_at(step):
        return SimpleNamespace(global_step=step, global_rank=rank, world_size=world_size, is_global_zero=rank == 0)

    recorder.on_train_start(trainer_at(steps[0]), None)
    for step in steps:
        number = torch.tensor(step * world_size + rank)
        batch = {"row": torch.tensor([step, rank]), "batch": number, "epoch": torch.tensor(3)}
        recorder.on_train_batch_start(trainer_at(step), None, batch, 0)
    recorder.teardown(None, None, "fit")


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_slots_are_read_in_the_order_of_the_global_sequence(run):
    record_steps(run.batches, range(2), rank=1, world_size=2)
    record_steps(run.batches, range(2), rank=0, world_size=2)
    slots = run.read_batches()
    assert slots.columns.tolist() == ["step", "epoch", "batch", "rank", "row"]
    assert slots["batch"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert slots["row"].tolist() == [0, 0, 0, 1, 1, 0, 1, 1]
    assert set(slots["epoch"]) == {3}


def test_a_line_has_the_rows_in_one_field(run):
    record_steps(run.batches, range(5, 6))
    assert (run.batches / "rank0.csv").read_text() == "step,epoch,batch,rank,rows\n5,3,5,0,5 0\n"


def test_a_resumed_run_removes_lost_steps_of_any_number_of_ranks(run):
    for rank in range(3):
        record_steps(run.batches, range(10), rank=rank, world_size=3)
    record_steps(run.batches, range(6, 8), rank=0, world_size=1)
    slots = run.read_batches()
    assert slots.groupby("rank")["step"].max().to_dict() == {0: 7, 1: 5, 2: 5}
    assert sorted(slots.query("rank == 0")["step"].unique()) == list(range(8))


def test_a_run_from_the_beginning_removes_everything(run):
    record_steps(run.batches, range(4), rank=1, world_size=2)
    record_steps(run.batches, range(1))
    assert run.read_batches()["step"].tolist() == [0, 0]


@pytest.mark.parametrize("torn", ["4,0,4,0,1 2", "4,0", "4", "\0\0\0\n"])
def test_an_incomplete_line_is_not_a_batch(run, torn):
    record_steps(run.batches, range(4))
    record = find_records(run.batches)[0]
    with record.path.open("a") as file:
        file.write(torn)
    assert run.read_batches()["step"].max() == record.last_step() == 3
    record_steps(run.batches, range(4, 6))
    assert run.read_batches()["step"].drop_duplicates().tolist() == list(range(6))


def test_a_sample_of_a_long_record_covers_all_steps_and_ranks(run):
    for rank in range(2):
        record = record_of_rank(run.batches, rank)
        fields = [batch_fields(step, 0, step * 2 + rank, rank, [step]) for step in range(500)]
        record.rewrite(format_line(batch.values()) for batch in fields)
    slots = run.read_batches(most_batches=100)
    sample = slots.drop_duplicates("batch")
    assert count_batches(run.batches) == 1000
    assert 90 <= len(sample) <= 100
    assert sample["step"].diff().max() <= 20
    assert set(sample["rank"]) == {0, 1}


def record_shared_steps(run, n_steps):
    """Record a batch of the rows 0 to 3 for each step, which two ranks share."""
    for rank in range(2):
        fields = [batch_fields(step, 0, step, rank, [2 * rank, 2 * rank + 1]) for step in range(n_steps)]
        record_of_rank(run.batches, rank).rewrite(format_line(batch.values()) for batch in fields)


def test_the_parts_of_a_batch_that_ranks_share_are_one_batch(run):
    record_shared_steps(run, 100)
    assert count_batches(run.batches) == 100
    for most_batches, n_read in ((None, 100), (10, 10), (7, 7)):
        slots = run.read_batches(most_batches)
        assert slots["row"].tolist() == [0, 1, 2, 3] * n_read
        assert slots["batch"].nunique() == n_read


def test_a_batch_that_is_repeated_in_each_epoch_is_counted_each_time(run):
    fields = [batch_fields(step, 0, step % 2, 0, [1]) for step in range(6)]
    record_of_rank(run.batches, 0).rewrite(format_line(batch.values()) for batch in fields)
    assert count_batches(run.batches) == 6
    assert count_batches_of_epochs(run.batches) == [2, 2, 2]


def test_batches_are_counted_by_epoch_over_the_ranks_of_all_attempts(run):
    """Two ranks have the batches of two epochs; a third rank joins in the middle of the second one, which is cut."""
    batches = {0: [(0, 0, 0), (1, 0, 2), (2, 1, 0), (3, 1, 2)], 1: [(0, 0, 1), (1, 0, 3), (2, 1, 1), (3, 1, 3)]}
    for rank, lines in (batches | {2: [(3, 1, 4)]}).items():
        record_of_rank(run.batches, rank).rewrite(
            format_line(batch_fields(step, epoch, batch, rank, [0]).values()) for step, epoch, batch in lines
        )
    assert count_batches_of_epochs(run.batches) == [4, 5]


def test_the_first_epoch_that_drew_a_row_is_counted_over_all_ranks(run):
    for rank, rows in enumerate([[[3, 4], [0, 1]], [[5], [3]]]):
        fields = [batch_fields(step, 2 * step, 0, rank, part) for step, part in enumerate(rows)]
        record_of_rank(run.batches, rank).rewrite(format_line(batch.values()) for batch in fields)
    assert count_epochs_until_drawn(run.batches, 7).tolist() == [2, 2, NEVER, 0, 0, 0, NEVER]
    with pytest.raises(UserError, match="got 5 "):
        count_epochs_until_drawn(run.batches, 5)


@pytest.mark.parametrize("line", ["0,0,x,0,1", "0,0"])
def test_a_damaged_line_is_a_user_error_also_when_batches_are_counted(run, line):
    record_of_rank(run.batches, 0).rewrite([f"{line}\n"])
    with pytest.raises(UserError, match="damaged line"):
        count_batches(run.batches)


def test_an_empty_record_is_an_empty_table(run):
    assert run.read_batches().empty
    assert count_batches_of_epochs(run.batches) == []


@pytest.mark.parametrize(
    "line", ["0,0,0,0", "0,0,0,0,", "0,0,0,0,1 -5", "0,0,0,0,1 x", "0,0,0,0,1,2", "0,zero,0,0,1", f"0,0,0,0,{2**70}"]
)
def test_a_damaged_line_is_a_user_error(line):
    with pytest.raises(UserError, match=r"the batch record has a damaged line, '0,.*; restore the file") as error:
        parse_slots([f"{line}\n"])
    assert "\n" not in str(error.value)


def test_rows_that_are_not_trained_on_are_a_user_error(tmp_path):
    check_rows(np.array([3, 5, 3]), np.array([3, 4, 5]), tmp_path)
    with pytest.raises(UserError, match=r"must contain rows that are used for training, got 9 \(2 rows affected\)"):
        check_rows(np.array([3, 9, 0]), np.array([3, 4, 5]), tmp_path)


def test_a_record_with_other_columns_is_a_user_error(tmp_path):
    (tmp_path / "rank0.csv").write_text("step,rows\n0,1\n")
    with pytest.raises(UserError, match=r"rank0\.csv is damaged: its columns must be step, epoch, batch, rank, rows"):
        read_slots(tmp_path)
