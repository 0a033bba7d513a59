"""Wording: a number and its noun agree."""

import re
from pathlib import Path

import pytest

import viscy_train
from viscy_train.wording import count


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (1, "row", "1 row"),
        (0, "row", "0 rows"),
        (12345, "batch", "12,345 batches"),
        (1, "batch", "1 batch"),
        (2, "epoch", "2 epochs"),
    ],
)
def test_a_noun_agrees_with_its_number(number, noun, expected):
    assert count(number, noun) == expected


def test_no_message_has_a_fixed_plural_of_rows_or_steps_after_a_number():
    """Messages on a single row are as frequent as on several."""
    pattern = re.compile(r"\} (rows (affected|too many)|steps\{)")
    sources = Path(viscy_train.__file__).parent.rglob("*.py")
    assert [str(path) for path in sources if pattern.search(path.read_text(encoding="utf-8"))] == []
