import logging
import warnings
from contextlib import contextmanager

import pytest

from viscy_train.cli import main
from viscy_train.training.lightning_cli import TrainingCLI
from viscy_train.training.lightning_warnings import quiet_lightning


def read_process_state():
    """Return the warning filters and log levels of this process."""
    levels = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
    return list(warnings.filters), levels


@contextmanager
def process_state_unchanged():
    """Fail if the block changes warning filters or log levels; pytest itself restores filters only after a test."""
    before = read_process_state()
    yield
    assert read_process_state() == before


def test_a_changed_filter_would_be_noticed():
    with pytest.raises(AssertionError), process_state_unchanged():
        warnings.filterwarnings("ignore", message="anything")


def test_making_a_run_changes_nothing_process_wide(project):
    with process_state_unchanged():
        TrainingCLI("fit", ["--config", str(project)], "").make_all()


@pytest.mark.slow
# anndata 0.13 sets a pandas option that pandas 3 deprecates.
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
def test_commands_change_nothing_process_wide(project, capsys):
    for command in (["fit", "--trainer.max_epochs", "1"], ["validate"], ["predict"]):
        with process_state_unchanged():
            assert main([*command, "--config", str(project)]) == 0
    assert capsys.readouterr().err == ""


def test_only_known_warnings_are_silenced():
    with process_state_unchanged(), quiet_lightning():
        warnings.warn("The 'train_dataloader' does not have many workers", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)


def test_an_error_ends_the_silence():
    with process_state_unchanged(), pytest.raises(ZeroDivisionError), quiet_lightning():
        raise ZeroDivisionError
