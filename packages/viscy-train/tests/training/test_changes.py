"""Which settings of a resumed run are changed, and which are refused."""

import pytest

from viscy_train.errors import UserError
from viscy_train.training.changes import list_changes

LOSS = {"temperature": 0.2, "learn_temperature": False, "negatives": "batch", "hardness": 0.0}


def changes(before, after):
    return list_changes({"model": {"loss": before}}, {"model": {"loss": after}})


def test_changed_settings_of_the_loss_are_named():
    assert changes(LOSS, LOSS | {"temperature": 0.5, "negatives": "step", "hardness": 1.0}) == [
        "model.loss.temperature 0.5 (was 0.2)",
        "model.loss.negatives step (was batch)",
        "model.loss.hardness 1.0 (was 0.0)",
    ]


def test_the_start_of_a_learned_temperature_has_no_effect_on_a_resumed_run():
    learned = LOSS | {"learn_temperature": True}
    (change,) = changes(learned, learned | {"temperature": 0.5})
    assert change == "model.loss.temperature 0.5 (was 0.2), without effect on a resumed run"


def test_whether_the_temperature_is_learned_cannot_be_changed():
    with pytest.raises(UserError, match="learn_temperature must be that of the checkpoint, False, got True"):
        changes(LOSS, LOSS | {"learn_temperature": True})


def test_a_run_from_before_there_was_a_choice_compared_an_anchor_with_the_step():
    before = {"temperature": 0.2}
    assert changes(before, LOSS) == ["model.loss.negatives batch (was step)"]
    assert changes(before, LOSS | {"negatives": "step"}) == []
    assert list_changes(None, {"model": {"loss": LOSS}}) == []
