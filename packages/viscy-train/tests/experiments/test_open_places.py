import pytest
import yaml

from viscy_train.errors import UserError
from viscy_train.experiments.open_places import check_filled_in


def check(path, *experiments):
    path.write_text(yaml.safe_dump({"experiments": list(experiments)}, sort_keys=False))
    check_filled_in(path, list(experiments))


def test_all_empty_values_are_named_with_their_lines(tmp_path):
    first = {"name": "a", "tracks": None, "conditions": {"A/1": None, "B/1": "mock"}}
    message = r"3 empty values; fill in line 3: tracks, line 5: A/1 of conditions, line 8: plate$"
    with pytest.raises(UserError, match=message):
        check(tmp_path / "experiments.yaml", first, {"name": "b", "plate": None})


def test_many_empty_values_are_counted(tmp_path):
    wells = {f"A/{column}": None for column in range(1, 13)}
    with pytest.raises(UserError, match=r"has 12 empty values; .*, line 11: A/8 of conditions, and 4 more$"):
        check(tmp_path / "experiments.yaml", {"name": "a", "conditions": wells})


def test_keys_that_are_not_needed_may_be_empty(tmp_path):
    check(tmp_path / "experiments.yaml", {"name": "a", "micrometers_per_pixel": None, "metadata": {"dose": None}})
