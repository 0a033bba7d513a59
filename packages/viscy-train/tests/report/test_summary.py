"""What a report says in a few sentences."""

import numpy as np
import pandas as pd

from viscy_train.report.summary import look_at, said_in_short

LIVES = pd.DataFrame({"step": [0]})


def make_log(loss):
    """Return a log with validations between the steps, whose rows have no loss."""
    steps = pd.DataFrame({"step": range(len(loss)), "loss": loss, "learning rate": 0.1})
    validations = pd.DataFrame({"step": [4, 9], "val/loss": [2.0, 1.9]})
    return pd.concat([steps, validations]).sort_values("step", ignore_index=True)


def test_a_loss_that_fell_needs_no_look():
    log = make_log(np.linspace(4, 2, 20))
    assert look_at([], log, LIVES, [], pd.Series(dtype=float)) == []
    assert "The loss fell from 3.95 to 2.05, on cells that were not trained on to 1.90." in said_in_short(
        [], log, [], [], False
    )


def test_a_loss_that_is_no_number_is_told_with_the_step_to_replay():
    for lost in (np.nan, np.inf):
        loss = np.linspace(4, 2, 20)
        loss[15:] = lost
        log = make_log(loss)
        (note,) = look_at([], log, LIVES, [], pd.Series(dtype=float))
        assert note.startswith("The loss was no number in 5 of 20 logged steps, first in step 15: viscy-train replay")
        # Of mixed precision some may be, and the rest is as good as ever.
        assert "The loss fell from 4.00 to 2.53" in " ".join(said_in_short([], log, [], [], False))
