"""Which checkpoint `best` is, and what is said of a checkpoint."""

import pytest
import torch
from torch import nn

from viscy_train.errors import UserError
from viscy_train.run.checkpoint import DATA, Checkpoint, checkpoint_to_evaluate
from viscy_train.run.directory import RunDirectory


def write_checkpoint(path, *, scores, epoch=2, monitor="val/loss"):
    """Write a checkpoint without weights, which knows the scores of those that were kept, by path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: torch.tensor(value) for name, value in scores.items()}
    callbacks = {"ModelCheckpoint{}": {"monitor": monitor, "best_k_models": kept}, "Other": {"state": 1}}
    content = {"state_dict": {}, "loops": {}, "callbacks": callbacks, "global_step": 1200, DATA: {"epoch": epoch}}
    torch.save(content, path)


@pytest.fixture
def run(tmp_path):
    """A run that has been moved, with two of the best checkpoints and the last one."""
    scores = {"/before/best-epoch=1.ckpt": 0.25, "/before/best-epoch=3.ckpt": 0.5}
    directory = RunDirectory(tmp_path)
    write_checkpoint(directory.checkpoints / "best-epoch=1.ckpt", scores=scores)
    write_checkpoint(directory.checkpoints / "best-epoch=3.ckpt", scores=scores, epoch=4)
    write_checkpoint(directory.last_checkpoint, scores=scores, epoch=1)
    return directory


def test_the_best_checkpoint_has_the_lowest_score(run):
    best = checkpoint_to_evaluate(run, "best", nn.Identity())
    assert best.path == run.checkpoints / "best-epoch=1.ckpt"
    assert best.describe() == f"Checkpoint: {best.path} (2 epochs, step 1,200, val/loss 0.2500)"


def test_the_last_checkpoint_has_no_score(run):
    last = checkpoint_to_evaluate(run, "last", nn.Identity())
    assert last.score is None
    assert last.describe() == f"Checkpoint: {run.last_checkpoint} (1 epoch, step 1,200)"


@pytest.mark.parametrize("callbacks", [None, 3, {"a": 3}, {"a": {"best_k_models": [1]}}])
def test_a_checkpoint_of_other_software_has_no_score(tmp_path, callbacks):
    content = {"state_dict": {}, "loops": {}, "callbacks": callbacks, DATA: {}}
    assert Checkpoint(tmp_path / "best-epoch=1.ckpt", content).score is None


def test_a_run_without_validation_has_no_best_checkpoint(run):
    for path in run.checkpoints.glob("best-*"):
        path.unlink()
    with pytest.raises(UserError, match=r"no best checkpoint in .*; use --checkpoint last"):
        checkpoint_to_evaluate(run, "best", nn.Identity())


def test_a_misspelled_choice_is_suggested(run):
    with pytest.raises(UserError, match=r"checkpoint not found: bst; did you mean best\?"):
        checkpoint_to_evaluate(run, "bst", nn.Identity())
