import logging
import warnings

import pytest

from viscy_train.cli import main
from viscy_train.training.lightning_cli import TrainingCLI
from viscy_train.training.lightning_warnings import quiet_lightning


@pytest.fixture
def process_state():
    """Return warning filters and log levels of this process, which a test may not change."""

    def read():
        names = ("lightning.pytorch", "lightning.fabric")
        return list(warnings.filters), [logging.getLogger(name).level for name in names]

    before = read()
    yield
    assert read() == before


@pytest.mark.usefixtures("process_state")
def test_making_a_run_changes_nothing_process_wide(project):
    TrainingCLI("fit", ["--config", str(project)], "").make_all()


@pytest.mark.slow
@pytest.mark.usefixtures("process_state")
def test_commands_change_nothing_process_wide(project, capsys):
    options = ["--config", str(project)]
    assert main(["fit", *options, "--trainer.max_epochs", "1", "--data.num_workers", "0"]) == 0
    assert main(["validate", *options]) == 0
    assert main(["predict", *options]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("process_state")
def test_only_known_warnings_are_silenced():
    with quiet_lightning():
        warnings.warn("The 'train_dataloader' does not have many workers", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)


@pytest.mark.usefixtures("process_state")
def test_an_error_ends_the_silence():
    with pytest.raises(ZeroDivisionError), quiet_lightning():
        raise ZeroDivisionError
