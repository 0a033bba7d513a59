"""Parts: their notation, and what each has."""

import pytest

from viscy_train.errors import UserError
from viscy_train.parts import is_in_part, parse_part


@pytest.mark.parametrize(("text", "part"), [("1/1", (1, 1)), ("2/8", (2, 8)), ("8/8", (8, 8))])
def test_a_part_is_a_number_of_some(text, part):
    assert parse_part(text) == part


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "/", "a/b", "-1/2", "1/2/3", "", "1.0/2"])
def test_an_invalid_part_is_refused(text):
    with pytest.raises(UserError, match=r"--part must be I/N with I from 1 to N, such as 2/8, got '"):
        parse_part(text)


def test_each_item_is_in_one_part():
    owners = [[number for number in range(10) if is_in_part(number, (part, 3))] for part in (1, 2, 3)]
    assert owners == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
